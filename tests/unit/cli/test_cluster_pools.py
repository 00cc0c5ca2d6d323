import re
from dataclasses import replace

import pytest
from aiohttp import web
from fake_pool_api import (
    OPERATOR,
    PODS,
    POOLS,
    SECRET,
    admin_port,
    engine,
    fake_pool_api,
    router_pod,
    write_kubeconfig,
)
from kvpool_cli.errors import UserError
from kvpool_cli.kubectl_access import Access, access
from kvpool_cli.kubectl_pools import found_in_cluster
from kvpool_cli.view import view
from pool_facts import READY, decision, worker

FORWARD = f"{PODS}/qwen-router-1/portforward"


@pytest.fixture
async def cluster(tmp_path):
    async with fake_pool_api(tmp_path) as (api, where):
        yield api, where


@pytest.fixture
def api(cluster):
    """Pool `qwen` with one engine, and a router that runs but is not served yet."""
    api, _ = cluster
    api.put_pool(conditions=[READY])
    api.pods = [engine("qwen-1-0"), router_pod()]
    return api


@pytest.fixture
def where(cluster):
    return cluster[1]


async def only(where, pool="qwen"):
    (found,) = (await found_in_cluster(pool, where, 50)).pools
    return found


async def refusal(where, pool="qwen"):
    with pytest.raises(UserError) as refused:
        await found_in_cluster(pool, where, 50)
    assert "\n" not in str(refused.value)
    return refused.value


async def test_a_pool_of_a_cluster_is_seen_as_one_that_runs_here_its_router_through_a_port_forward(api, where):
    async with admin_port(worker(), decisions=[decision()]) as port:
        api.admin_ports["qwen-router-1"] = port
        found = await only(where)
    shown = view(found.pool, found.facts, found.pods, found.url)
    assert (shown.ready, shown.standing) == (True, "ready")
    assert [(line.name, line.state, line.blocks) for line in shown.workers] == [("qwen-1-0", "ready", 1234)]
    assert [each.request_id for each in found.facts.decisions] == ["r"]
    assert found.notes == ()


async def test_without_a_name_all_pools_of_the_namespace_are_found(api, where):
    api.put_pool("other", conditions=[READY])
    found = await found_in_cluster(None, where, 50)
    assert [each.pool.metadata.name for each in found.pools] == ["qwen", "other"]
    assert f"GET {POOLS}" in api.seen


async def test_several_routers_are_told_as_one(api, where):
    api.pods.append(router_pod("qwen-router-2"))
    api.pods.append(router_pod("qwen-router-3"))
    async with admin_port(worker(), decisions=[decision()]) as first, admin_port(decisions=[decision()] * 2) as second:
        api.admin_ports |= {"qwen-router-1": first, "qwen-router-2": second}
        async with admin_port(token="another") as third:
            api.admin_ports["qwen-router-3"] = third
            found = await only(where)
    assert found.facts.state.window.requests == 20
    assert found.facts.state.queue == 2
    assert len(found.facts.decisions) == 3
    assert [each.pod for each in found.facts.state.workers] == ["qwen-1-0"]
    assert found.facts.trouble == (
        "router qwen-router-3 does not take the token of the Secret qwen-admin (401): a changed Secret reaches it "
        "within about two minutes; if this stays, `kubectl -n team rollout restart deploy qwen-router`"
    )


async def test_a_pool_that_is_not_there_is_refused_with_those_that_are(api, where):
    error = await refusal(where, "nope")
    assert str(error) == "namespace team of context here has no pool nope; it has: qwen"
    assert error.exit_code == 2
    api.objects = {}
    assert "it has: none" in str(await refusal(where, "nope"))
    api.refuse(POOLS, "list", "inferencepools")
    assert "(not to be told: ann may not list inferencepools in namespace team)" in str(await refusal(where, "nope"))


async def test_pools_of_all_namespaces_are_told_with_theirs(api, where):
    api.objects["/apis/kvpool.dev/v1alpha1/inferencepools"] = {
        "metadata": {"resourceVersion": "1"},
        "items": [api.objects[f"{POOLS}/qwen"]],
    }
    everywhere = replace(where, namespace=None)
    found = await found_in_cluster(None, everywhere, 50)
    assert [found.title(each) for each in found.pools] == ["team/qwen"]
    assert list(found.pools[0].pods) == ["qwen-1-0"]
    error = await refusal(everywhere, "qwen")
    assert str(error) == "--all-namespaces may find several pools qwen; say which one with --namespace"
    api.objects["/apis/kvpool.dev/v1alpha1/inferencepools"]["items"] = []
    assert str(await refusal(everywhere, None)) == (
        "context here has no pool; apply one, or look elsewhere with --context"
    )


async def test_a_namespace_without_pools_is_said_with_where_else_to_look(api, where):
    api.objects = {}
    assert "has no pool; apply one, or look elsewhere with --namespace" in str(await refusal(where, None))


@pytest.mark.parametrize("words", ["the server could not find the requested resource", "404 page not found"])
async def test_a_cluster_that_does_not_know_the_resource_needs_kvpool_installed(api, where, words):
    api.refusals |= {f"{POOLS}/qwen": (404, words), POOLS: (404, words)}
    for pool in ("qwen", None):
        error = await refusal(where, pool)
        assert "does not know inferencepools.kvpool.dev: kvpool is not installed there" in str(error)
        assert error.exit_code == 1


@pytest.mark.parametrize(
    ("path", "verb", "resource"), [(f"{POOLS}/qwen", "get", "inferencepools"), (PODS, "list", "pods")]
)
async def test_lacking_rights_are_said_with_those_that_are_needed(api, where, path, verb, resource):
    api.refuse(path, verb, resource)
    error = await refusal(where)
    assert f"context here: ann may not {verb} {resource} in namespace team; ask for a Role with get and list" in str(
        error
    )
    assert "operator's Role" not in str(error)


@pytest.mark.parametrize(
    ("path", "verb", "resource", "words"),
    [
        (SECRET, "get", "secrets", "the routers cannot be asked: ann may not get secrets in namespace team"),
        (
            FORWARD,
            "create",
            "pods/portforward",
            "router qwen-router-1 cannot be asked: ann may not create pods/portforward",
        ),
    ],
)
async def test_a_pool_is_shown_without_its_router_where_rights_to_ask_it_are_lacking(
    api, where, path, verb, resource, words
):
    api.refuse(path, verb, resource)
    found = await only(where)
    assert words in found.notes[0]
    assert list(found.pods) == ["qwen-1-0"]


async def test_a_right_that_the_api_server_does_not_name_is_named(api, where):
    api.refusals[FORWARD] = (403, 'pods "qwen-router-1" is forbidden: ')
    (note,) = (await only(where)).notes
    assert note.endswith(
        'cannot be asked: pods "qwen-router-1" is forbidden; it takes get and create of pods/portforward'
    )


async def test_a_pod_that_no_node_runs_cannot_be_forwarded_to_and_that_is_said(api, where):
    api.refusals[FORWARD] = (400, "pod qwen-router-1 does not have a host assigned")
    (note,) = (await only(where)).notes
    assert note == "router qwen-router-1 cannot be asked: pod qwen-router-1 does not have a host assigned"


async def test_a_handshake_that_fails_without_words_is_told_by_its_status(api, where):
    async def forward(request, pod):
        return web.Response(status=502 if "Upgrade" in request.headers else 200)

    api.forward = forward
    assert (await only(where)).notes == ("router qwen-router-1 cannot be asked: the API server answered 502",)


async def test_an_api_server_that_leaves_meanwhile_is_said(api, where):
    async def forward(request, pod):
        request.transport.abort()

    api.forward = forward
    assert "cannot be asked: the API server cannot be reached" in (await only(where)).notes[0]


async def test_the_kubelets_words_about_a_port_that_nobody_listens_on_are_told(api, where):
    api.kubelet_says = "error forwarding port 8001 to pod c81d: dial tcp4 127.0.0.1:8001: connect: connection refused"
    assert (await only(where)).notes == ("router qwen-router-1 cannot be asked: it does not listen on port 8001 yet",)
    api.kubelet_says = "the node is on fire"
    assert (await only(where)).notes == ("router qwen-router-1 cannot be asked: the node is on fire",)


async def test_a_lost_secret_is_said(api, where):
    del api.objects[SECRET]
    assert (await only(where)).notes == ("the routers cannot be asked: there is no Secret qwen-admin",)


async def test_a_router_that_does_not_run_is_said_with_its_cause(api, where):
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    statuses = [{"name": "router", "ready": False, "state": {"waiting": waiting}}]
    api.pods = [engine("qwen-1-0"), router_pod(phase="Pending", containerStatuses=statuses)]
    (note,) = (await only(where)).notes
    assert note.startswith("no router Pod of pool qwen runs: qwen-router-1: ")
    assert "pulling image" in note
    api.pods = []
    assert (await only(where)).notes == ("no router Pod of pool qwen runs",)


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        (None, "there is no Deployment kvpool-operator in namespace kvpool-system; install it"),
        ({"status": {}}, "no Pod of its Deployment kvpool-operator in namespace kvpool-system is ready"),
        ({"status": {"readyReplicas": 1}}, "though it is ready: see that it watches this namespace"),
        ("forbidden", "ask whoever runs the cluster whether it is installed"),
    ],
)
async def test_a_pool_that_no_operator_looks_at_says_where_the_operator_is(api, where, operator, words):
    api.put_pool(observed=0)
    api.objects[f"{POOLS}/qwen"]["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    if operator == "forbidden":
        api.refuse(OPERATOR, "get", "deployments")
    elif operator is not None:
        api.objects[OPERATOR] = operator
    notes = (await only(where)).notes
    assert notes[0].startswith("no operator has looked at pool qwen")
    assert words in notes[0]


@pytest.mark.parametrize(("operator", "told"), [(None, True), ({"status": {"readyReplicas": 1}}, False)])
async def test_a_spec_that_nobody_has_looked_at_says_where_the_operator_is_unless_it_is_there(
    api, where, operator, told
):
    api.put_pool(conditions=[READY], generation=2)
    api.objects[f"{POOLS}/qwen"]["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    if operator is not None:
        api.objects[OPERATOR] = operator
    notes = (await only(where)).notes
    words = "no operator has looked at the newest spec of pool qwen: there is no Deployment"
    assert any(note.startswith(words) for note in notes) is told


async def test_a_pool_that_has_just_been_applied_is_not_wondered_at(api, where):
    api.put_pool(observed=0)
    assert not any("operator" in note for note in (await only(where)).notes)
    assert f"GET {OPERATOR}" not in api.seen


async def test_a_pool_of_another_release_is_said(api, where):
    api.objects[f"{POOLS}/qwen"]["spec"]["colour"] = "red"
    assert "pool qwen is of another release of kvpool (spec.colour: " in str(await refusal(where))


async def test_a_cluster_that_does_not_answer_is_said_with_its_context(tmp_path):
    error = await refusal(access(write_kubeconfig(tmp_path), None, None))
    assert re.match(r"context here: GET /apis/kvpool.dev/.*cannot be reached.*--context$", str(error))
    assert error.exit_code == 1


async def test_a_server_error_keeps_its_words(api, where):
    api.refusals[f"{POOLS}/qwen"] = (400, "who are you talking to?")
    assert str(await refusal(where)) == "context here: who are you talking to?"


def test_the_namespace_is_the_one_told_else_the_contexts_else_default(tmp_path):
    file = write_kubeconfig(tmp_path)
    assert access(file, None, None) == Access(file, "here", "team")
    assert access(file, "bare", None) == Access(file, "bare", "default")
    assert access(file, "bare", "x") == Access(file, "bare", "x")


@pytest.mark.parametrize(
    ("changes", "context", "words"),
    [
        ({}, "nope", "has no context nope; it has: bare, here"),
        ({"current-context": ""}, None, "has no current context; choose one with --context (it has: bare, here)"),
        ({"contexts": []}, None, "has no context here; it has: none"),
        ({"contexts": "x"}, None, "has no context here; it has: none"),
    ],
)
def test_a_context_that_is_not_there_is_refused_with_those_that_are(tmp_path, changes, context, words):
    with pytest.raises(UserError, match=re.escape(words)):
        access(write_kubeconfig(tmp_path, **changes), context, None)


@pytest.mark.parametrize("content", ["", "- a", "{", "x: y"])
def test_a_file_that_is_no_kubeconfig_is_said(tmp_path, content):
    (tmp_path / "config").write_text(content)
    with pytest.raises(UserError, match=r"is no kubeconfig|has no current context"):
        access(tmp_path / "config", None, None)


def test_no_kubeconfig_is_said_with_both_mends(tmp_path):
    with pytest.raises(
        UserError, match="there is no such file; name one with --kubeconfig or KUBECONFIG, or start a pool"
    ):
        access(tmp_path / "none", None, None)


async def test_a_context_whose_cluster_is_missing_is_one_line(tmp_path):
    error = await refusal(access(write_kubeconfig(tmp_path, clusters=[]), None, None))
    assert "kubeconfig" in str(error)
    assert error.exit_code == 1
