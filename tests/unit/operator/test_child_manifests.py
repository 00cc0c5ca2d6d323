"""What a pool owns beside its engines: golden manifests, valid by Kubernetes' own schema; who may reach which port."""

import json

import kubernetes_validate
import pytest
from kvpool_api.wire import RouterConfig
from kvpool_operator.build.access import admin_secret
from kvpool_operator.build.children import children
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.build.services import service_url
from kvpool_operator.manifests import name_of
from network_rules import Peer, may
from pool_world import SETTINGS, pool
from syrupy.extensions.json import JSONSnapshotExtension

POOLS = {
    "six_lines": {},
    "all_dials": {
        "model": {
            "name": "m",
            "servedNames": ["n"],
            "source": {"path": "/models/m"},
            "chatTemplate": {"name": "templates", "key": "m.jinja"},
        },
        "engine": {"dataParallelSize": 2, "blockSize": 32},
        "router": {
            "replicas": 3,
            "image": "registry.example/router:2",
            "resources": {"limits": {"memory": "2048Mi"}, "requests": {"cpu": "1500m"}},
            "scheduling": {"strategy": "RoundRobin"},
            "maxBodyBytes": 1024,
            "podTemplate": {
                "metadata": {"labels": {"team": "a"}},
                "spec": {
                    "imagePullSecrets": [{"name": "registry"}],
                    "nodeSelector": {"pool": "cpu"},
                    "tolerations": [{"key": "cpu", "operator": "Exists"}],
                    "containers": [{"name": "router", "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]}],
                },
            },
        },
        "kvEvents": {"syncTimeoutSeconds": 3},
        "rollout": {"maxUnavailable": 2},
    },
    "gated": {"model": {"name": "m", "source": {"hub": {"revision": "r1", "secretRef": {"name": "hf", "key": "k"}}}}},
}


def made(**spec):
    return {(child["kind"], name_of(child)): child for child in children(pool(**spec), SETTINGS)}


@pytest.mark.parametrize("case", POOLS)
def test_children_are_as_agreed_and_valid_for_kubernetes_1_37(case, snapshot):
    found = children(pool(2, **POOLS[case]), SETTINGS)
    for child in found:
        kubernetes_validate.validate(child, "1.37", strict=True)
    assert found == snapshot.use_extension(JSONSnapshotExtension)(name=case)


def test_the_admin_secret_is_valid_and_holds_the_token():
    secret = admin_secret(pool(), "token")
    kubernetes_validate.validate(secret, "1.37", strict=True)
    assert secret["data"] == {"token": "dG9rZW4="}


def test_everything_is_owned_by_the_pool_and_goes_with_it():
    for child in (*children(pool(), SETTINGS), admin_secret(pool(), "t"), engine_pod(pool(), 0, "1")):
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("InferencePool", "pool-uid", True)


def test_the_router_reads_the_pods_of_its_namespace_and_nothing_else():
    role = made()["Role", "qwen-router"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]


def test_the_router_understands_its_configuration():
    spec = POOLS["all_dials"]
    config = made(**spec)["ConfigMap", "qwen-router"]["data"]["router.json"]
    read = RouterConfig.model_validate_json(config)
    assert (read.model, read.served_names, read.block_tokens, read.max_body_bytes) == ("m", ["n"], 32, 1024)
    assert read.tokenizer.path == "/models/m"
    assert read.tokenizer.chat_template_path == "/etc/kvpool/chat-template/m.jinja"
    assert json.loads(config)["strategy"] == "RoundRobin"


def test_a_changed_configuration_rolls_the_routers_and_more_engines_do_not():
    def template(**spec):
        return made(**spec)["Deployment", "qwen-router"]["spec"]["template"]

    assert template() == template(replicas=5)
    assert template() != template(router={"scheduling": {"strategy": "Random"}})


def test_the_url_is_that_of_the_service():
    assert service_url(pool()) == "http://qwen.default.svc"
    (port,) = made()["Service", "qwen"]["spec"]["ports"]
    assert port["port"] == 80


ENGINE = Peer("default", {"kvpool.dev/pool": "qwen", "kvpool.dev/role": "engine"})
ROUTER = Peer("default", {"kvpool.dev/pool": "qwen", "kvpool.dev/role": "router"})
PEERS = {
    "own router": ROUTER,
    "own engine": ENGINE,
    "another pool's router": Peer("default", {"kvpool.dev/pool": "other", "kvpool.dev/role": "router"}),
    "a namesake's router": Peer("elsewhere", ROUTER.labels),
    "operator": Peer(SETTINGS.operator_namespace),
    "prometheus": Peer(SETTINGS.metrics_namespace),
    "neighbour": Peer("default"),
    "stranger": Peer("elsewhere"),
}
EVERYBODY = set(PEERS)
DOORS = [
    (ENGINE, 8000, {"own router", "prometheus"}),
    (ENGINE, 5557, {"own router"}),
    (ENGINE, 5558, {"own router"}),
    (ENGINE, 5657, {"own router"}),
    (ENGINE, 5658, {"own router"}),
    (ENGINE, 5559, set()),
    (ENGINE, 22, set()),
    (ROUTER, 8000, EVERYBODY),
    (ROUTER, 8001, {"own router", "operator"}),
    (ROUTER, 22, set()),
    (Peer("default"), 22, EVERYBODY),
]


@pytest.mark.parametrize(("target", "port", "welcome"), DOORS)
def test_each_port_is_open_to_those_who_need_it(target, port, welcome):
    found = children(pool(2, engine={"dataParallelSize": 2}), SETTINGS)
    policies = [child for child in found if child["kind"] == "NetworkPolicy"]
    assert {name for name, peer in PEERS.items() if may(policies, peer, target, port)} == welcome


def test_an_eviction_takes_as_many_engines_as_a_rollout_may_and_one_at_least():
    def at_once(**rollout):
        return made(rollout=rollout)["PodDisruptionBudget", "qwen"]["spec"]["maxUnavailable"]

    assert (at_once(), at_once(maxUnavailable=3)) == (1, 3)
