"""A real API server holds pools to the rules of the CRD, in the words and at the fields that the rules name."""

import json
from urllib.error import HTTPError

import pytest
from control_planes import kubectl_of
from kubectl import Kubectl, Refused
from kvnode.api import Api
from kvnode.control_plane import Running
from kvpool_api.rules import REFUSED_ARGUMENTS
from rule_examples import EXAMPLES, Example, engine, pool, source

POOLS = "inferencepools.kvpool.dev"
DRY_RUN = "/apis/kvpool.dev/v1alpha1/namespaces/default/inferencepools?dryRun=All&fieldValidation=Strict"
BOTH_ZERO = "maxSurge and maxUnavailable may not both be 0, or no engine could ever be replaced: raise one of them"


@pytest.fixture(scope="module")
def api(plane: Running) -> Api:
    return Api(plane.kubeconfig)


@pytest.fixture(scope="module")
def kubectl(plane: Running) -> Kubectl:
    return kubectl_of(plane)


def refusals(api: Api, manifest: object) -> list[tuple[str, str]]:
    """Field and message of each cause."""
    with pytest.raises(HTTPError) as caught:
        api.post(DRY_RUN, manifest)  # type: ignore[arg-type]
    told = json.load(caught.value)
    return [(cause["field"], cause["message"]) for cause in told["details"]["causes"]]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: f"{each.field}-{each.message}")
def test_a_rule_refuses_with_its_message_at_its_field_and_accepts_the_neighbour(api: Api, example: Example):
    ((field, message),) = refusals(api, pool(example.refused, example.name))
    assert field == example.field
    assert example.message in message
    api.post(DRY_RUN, pool(example.accepted))


def test_arguments_that_the_operator_owns_are_refused_with_the_field_to_set(api: Api):
    for argument in REFUSED_ARGUMENTS:
        found = refusals(api, pool(engine(args=[argument.flag.replace("*", "x")])))
        assert [(field, message.partition(": ")[2]) for field, message in found] == [
            ("spec.engine.args", argument.message)
        ]


def test_a_rollout_that_could_never_move_is_refused_with_the_mend(kubectl: Kubectl):
    with pytest.raises(Refused, match=BOTH_ZERO):
        applied(kubectl, "still", {"rollout": {"maxSurge": 0, "maxUnavailable": 0}})


def applied(kubectl: Kubectl, name: str, spec: dict[str, object], *words: str) -> str:
    return kubectl("apply", *words, "--filename", "-", stdin=json.dumps(pool(spec, name)))


def source_of(kubectl: Kubectl, name: str) -> object:
    return kubectl.get(POOLS, name)["spec"]["model"]["source"]


def test_another_source_of_weights_takes_the_null_that_the_message_names(kubectl: Kubectl):
    applied(kubectl, "merged", {})
    with pytest.raises(Refused, match=r"set the one that stood before to null, such as `hub: null`"):
        applied(kubectl, "merged", source(path="/models/m"))
    applied(kubectl, "merged", source(hub=None, path="/models/m"))
    assert source_of(kubectl, "merged") == {"path": "/models/m"}
    applied(kubectl, "made-so", source(hub=None, path="/models/m"))
    assert source_of(kubectl, "made-so") == {"path": "/models/m"}


def test_another_source_of_weights_needs_no_null_with_server_side_apply(kubectl: Kubectl):
    applied(kubectl, "by-fields", {}, "--server-side")
    applied(kubectl, "by-fields", source(path="/models/m"), "--server-side")
    assert source_of(kubectl, "by-fields") == {"path": "/models/m"}


def test_pausing_is_a_field_that_everybody_sees(kubectl: Kubectl):
    applied(kubectl, "paused", {"paused": True})
    assert kubectl.get(POOLS, "paused")["spec"]["paused"] is True
    kubectl("patch", POOLS, "paused", "--type=merge", "--patch", '{"spec":{"paused":null}}')
    assert kubectl.get(POOLS, "paused")["spec"]["paused"] is False
