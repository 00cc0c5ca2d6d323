"""Where the API server is and who we are, as files tell."""

import json

import pytest
from aiohttp import TraceConfig
from api_front import api_front, refusing
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import NoCredentials, connect
from store_cluster import StoreCluster


def kubeconfig(path, server, **user):
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("here", "there")],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(config))
    return path


async def test_a_kubeconfig_tells_where_and_who_and_each_call_is_traced(tmp_path):
    seen = []

    async def ended(session, context, params) -> None:
        seen.append((params.method, params.response.status))

    trace = TraceConfig()
    trace.on_request_end.append(ended)
    async with api_front(StoreCluster()) as front:
        config = kubeconfig(tmp_path / "config", front.url, token="secret")
        for context in (None, "there"):
            async with connect(config, context, trace_configs=[trace]) as cluster:
                assert (await cluster.list(seam.POD, namespace=None, labels={})).items == ()
        assert [each.headers["Authorization"] for each in front.seen] == ["Bearer secret"] * 2
    assert seen == [("GET", 200)] * 2


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("bypass", [False, True])
async def test_a_proxy_of_the_environment_is_used_unless_it_is_said_not_to(tmp_path, monkeypatch, bypass):
    async with api_front(StoreCluster()) as front:
        server = front.url if bypass else "http://kubernetes.invalid"
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1" if bypass else front.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1" if bypass else "other.invalid")
        async with connect(kubeconfig(tmp_path / "config", server, token="secret")) as cluster:
            assert (await cluster.list(seam.POD, namespace=None, labels={})).items == ()


async def test_a_token_that_has_rotated_is_read_when_the_old_one_is_refused(tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    async with api_front(StoreCluster()) as front:
        async with connect(kubeconfig(tmp_path / "config", front.url, tokenFile=str(token))) as cluster:
            token.write_text("second")
            front.troubles.append(refusing(401))
            await cluster.list(seam.POD, namespace=None, labels={})
        assert [each.headers["Authorization"] for each in front.seen] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("text", "context", "why"),
    [
        (None, None, "there is no such file"),
        ("[", None, "kubeconfig"),
        ("{}", None, "Expected key current-context"),
        ("", "nowhere", "Expected object with name nowhere"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_says_why_and_what_to_name(tmp_path, text, context, why):
    path = tmp_path / "config"
    if text == "":
        kubeconfig(path, "http://127.0.0.1:1")
    elif text is not None:
        path.write_text(text)
    with pytest.raises(NoCredentials, match=why) as told:
        async with connect(path, context):
            raise AssertionError("connected")
    assert f"kubectl --kubeconfig {path} get ns" in str(told.value)


async def test_outside_a_pod_and_without_a_kubeconfig_the_mend_is_told(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoCredentials, match="no service account of a Kubernetes Pod"):
        async with connect():
            raise AssertionError("connected")
