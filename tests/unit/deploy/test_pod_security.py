"""What a pool runs passes the `restricted` Pod Security level, and the check would notice if it did not."""

import copy

import pytest
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.build.router_deployment import router_deployment
from pod_security import refusals
from pool_world import pool


def engine() -> dict:
    return copy.deepcopy(engine_pod(pool(), 0, "1")["spec"])


def test_engines_and_routers_pass_the_restricted_level():
    assert refusals(engine()) == []
    assert refusals(router_deployment(pool(), "router:1")["spec"]["template"]["spec"]) == []


def container(**fields: object) -> dict:
    """An engine Pod whose container is changed."""
    found = engine()
    found["containers"][0].update(fields)
    return found


def security(**fields: object) -> dict:
    found = engine()
    found["containers"][0]["securityContext"].update(fields)
    return found


def of_pod(**fields: object) -> dict:
    found = engine()
    found["securityContext"].update(fields)
    return found


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (security(privileged=True), "engine is privileged"),
        (security(allowPrivilegeEscalation=True), "engine may gain privileges"),
        (security(capabilities={"drop": ["NET_RAW"]}), "engine has capabilities"),
        (security(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "engine has capabilities"),
        (security(runAsUser=0), "engine may run as root"),
        (of_pod(runAsNonRoot=False), "engine may run as root"),
        (of_pod(seccompProfile={"type": "Unconfined"}), "engine has no seccomp profile"),
        (container(ports=[{"containerPort": 1, "hostPort": 1}]), "engine takes a port of the node"),
        ({**engine(), "hostNetwork": True}, "hostNetwork is true"),
        ({**engine(), "volumes": [{"name": "root", "hostPath": {"path": "/"}}]}, "volume root is a hostPath"),
        ({**engine(), "initContainers": [{"name": "first"}]}, "first may gain privileges"),
    ],
)
def test_whatever_the_level_forbids_is_noticed(spec, why):
    assert why in refusals(spec)
