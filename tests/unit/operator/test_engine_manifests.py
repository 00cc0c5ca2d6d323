"""The engine Pod, against its golden manifests and Kubernetes' own schema."""

import json

import kubernetes_validate
import pytest
from kvpool_operator.build.engine_arguments import tensor_parallel_size
from kvpool_operator.build.engine_pod import ENGINE_USER, engine_pod
from kvpool_operator.manifests import name_of
from pool_world import pool
from syrupy.extensions.json import JSONSnapshotExtension

HUB = {"revision": "abc123", "secretRef": {"name": "hf"}}
POOLS = {
    "six_lines": {"resources": {"limits": {"nvidia.com/gpu": 2}}},
    "data_parallel_4": {"engine": {"dataParallelSize": 4}, "resources": {"limits": {"nvidia.com/gpu": 8}}},
    "cpu_offload": {
        "engine": {"dataParallelSize": 2, "cpuOffload": {"size": "100Gi"}},
        "resources": {"limits": {"nvidia.com/gpu": 2, "memory": "160Gi"}},
    },
    "tensor_parallel_2": {"engine": {"tensorParallelSize": 2}},
    "from_the_hub": {
        "model": {
            "name": "meta-llama/Llama-3.1-8B-Instruct",
            "servedNames": ["llama"],
            "source": {"hub": HUB},
            "cache": {"claimName": "weights"},
            "chatTemplate": {"name": "templates", "key": "llama.jinja"},
        }
    },
    "from_a_claim": {
        "model": {"name": "m", "source": {"persistentVolumeClaim": {"claimName": "weights", "path": "llama/8b"}}}
    },
    "from_an_image": {"model": {"name": "m", "source": {"image": {"reference": "registry.example/weights:1"}}}},
    "from_a_folder": {"model": {"name": "m", "source": {"path": "/models/m"}}},
    "all_dials": {
        "engine": {
            "args": ["--max-model-len", "8192"],
            "env": [
                {"name": "HF_HOME", "value": "/weights"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ],
            "blockSize": 32,
            "startupTimeoutSeconds": 601,
            "imagePullPolicy": "Always",
        },
        "resources": {"limits": {"memory": "65536Mi", "cpu": 8}, "requests": {"cpu": "0.5"}},
        "kvEvents": {"eventsPort": 6000, "replayPort": 6100},
        "drain": {"preStopSeconds": 0, "shutdownTimeoutSeconds": 120},
        "podTemplate": {
            "metadata": {"labels": {"team": "search"}, "annotations": {"note": "x"}},
            "spec": {
                "nodeSelector": {"gpu": "h100"},
                "priorityClassName": "high",
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "containers": [
                    {"name": "engine", "securityContext": {"readOnlyRootFilesystem": True}, "livenessProbe": None},
                    {"name": "sidecar", "image": "sidecar:1"},
                ],
                "volumes": [{"name": "shared-memory", "emptyDir": {"sizeLimit": "8Gi"}}],
            },
        },
    },
}


@pytest.fixture
def golden(snapshot):
    return snapshot.use_extension(JSONSnapshotExtension)


def engine_of(**spec):
    pod = engine_pod(pool(1, **spec), 0, "1")
    return pod, pod["spec"]["containers"][0]


@pytest.mark.parametrize("case", POOLS)
def test_the_pod_is_as_agreed_and_valid_for_kubernetes_1_37(case, golden):
    pod, _ = engine_of(**POOLS[case])
    kubernetes_validate.validate(pod, "1.37", strict=True)
    assert pod == golden(name=case)


@pytest.mark.parametrize("case", [case for case in POOLS if case != "from_a_folder"])
def test_the_pod_keeps_to_the_restricted_pod_security_level(case):
    """A folder of the host does not: nobody can mount one under that level."""
    pod, _ = engine_of(**POOLS[case])
    context = pod["spec"]["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"]) == (True, ENGINE_USER)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    engine = pod["spec"]["containers"][0]["securityContext"]
    assert (engine["allowPrivilegeEscalation"], engine["capabilities"]) == (False, {"drop": ["ALL"]})
    allowed = {"configMap", "emptyDir", "image", "persistentVolumeClaim", "secret"}
    assert {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"} <= allowed


def test_every_rank_has_its_two_ports_and_the_first_port_of_each_is_named_in_the_arguments():
    _, engine = engine_of(engine={"dataParallelSize": 4})
    ports = {port["name"]: port["containerPort"] for port in engine["ports"]}
    assert [ports[name] for name in ("kv-events", "kv-events-1", "kv-events-2", "kv-events-3")] == [
        5557,
        5558,
        5559,
        5560,
    ]
    assert [ports[name] for name in ("kv-replay", "kv-replay-3")] == [5657, 5660]
    assert len(set(ports.values())) == len(engine["ports"]) == 9
    config = json.loads(engine["args"][engine["args"].index("--kv-events-config") + 1])
    assert (config["endpoint"], config["replay_endpoint"]) == ("tcp://*:5557", "tcp://*:5657")


@pytest.mark.parametrize(
    ("size", "ranks", "gibibytes"),
    [("64Gi", 1, "64"), ("100Gi", 8, "12.5"), (2**30, 1, "1"), ("512Mi", 1, "0.5"), ("100G", 1, "93.132257461")],
)
def test_offloaded_memory_is_told_in_gibibytes_and_shared_by_the_ranks(size, ranks, gibibytes):
    _, engine = engine_of(engine={"cpuOffload": {"size": size}, "dataParallelSize": ranks})
    args = engine["args"]
    assert args[args.index("--kv-offloading-size") + 1] == gibibytes
    assert args[args.index("--kv-offloading-backend") + 1] == "native"


def test_the_same_offloaded_memory_in_another_writing_is_the_same_engine():
    def name(size):
        return name_of(engine_of(engine={"cpuOffload": {"size": size}})[0])

    assert name("64Gi") == name("65536Mi")
    assert name("64Gi") != name("32Gi")


def test_the_topic_names_the_pod_and_the_model():
    pod, engine = engine_of()
    config = json.loads(engine["args"][engine["args"].index("--kv-events-config") + 1])
    assert config["topic"] == f"kv@{name_of(pod)}@Qwen/Qwen3-32B"


def test_tensor_parallelism_is_what_the_gpus_leave_to_each_model_copy():
    def size(gpus=None, resource="nvidia.com/gpu", **engine):
        limits = {resource: gpus} if gpus is not None else {}
        return tensor_parallel_size(pool(1, engine=engine, resources={"limits": limits}))

    assert (size(), size(2), size("8", dataParallelSize=4), size(4, "amd.com/gpu")) == (1, 2, 2, 4)
    assert size(8, tensorParallelSize=4) == 4
    assert size(2, dataParallelSize=4) == 1


def test_the_grace_period_covers_the_last_requests():
    for pre_stop, shutdown in ((0, 0), (5, 30), (600, 3600)):
        pod, engine = engine_of(drain={"preStopSeconds": pre_stop, "shutdownTimeoutSeconds": shutdown})
        assert pod["spec"]["terminationGracePeriodSeconds"] > pre_stop + shutdown
        assert engine["args"][engine["args"].index("--shutdown-timeout") + 1] == str(shutdown)
        assert ("lifecycle" in engine) == bool(pre_stop)


def test_loading_may_take_the_whole_startup_timeout():
    for timeout in (10, 601, 86400):
        _, engine = engine_of(engine={"startupTimeoutSeconds": timeout})
        probe = engine["startupProbe"]
        assert timeout <= probe["periodSeconds"] * probe["failureThreshold"] < timeout + probe["periodSeconds"]


def test_a_variable_of_the_user_replaces_ours_and_no_name_comes_twice():
    _, engine = engine_of(engine={"env": [{"name": "HF_HOME", "value": "/weights"}]})
    names = [variable["name"] for variable in engine["env"]]
    assert len(names) == len(set(names))
    assert {"name": "HF_HOME", "value": "/weights"} in engine["env"]


def test_names_tell_template_and_slot_apart():
    def name(slot=0, revision="1", **spec):
        return name_of(engine_pod(pool(**spec), slot, revision))

    assert name(replicas=1) == name(replicas=7)
    assert name().startswith("qwen-")
    assert name(1).endswith("-1")
    others = {name(), name(1), name(revision="2"), name(engine={"blockSize": 32})}
    assert len(others) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"drain": {"timeoutSeconds": 1}},
        {"kvEvents": {"syncTimeoutSeconds": 1}},
        {"rollout": {"maxSurge": 3}},
        {"router": {"replicas": 2}},
    ],
)
def test_what_engines_do_not_know_renames_none(change):
    assert name_of(engine_pod(pool(1, **change), 0, "1")) == name_of(engine_pod(pool(1), 0, "1"))
