"""`kubectl apply -k` and Helm install the same, valid, restricted objects; one place says where images come from."""

import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from install_manifests import (
    DEPLOY,
    NAMESPACE,
    ROOT,
    NotRendered,
    Object,
    by_name,
    environment,
    from_chart,
    kustomized,
    one,
    pod_specs,
)
from kubectl import Kubectl, Refused, until
from kvnode import control_plane
from kvpool_operator.build.access import role
from pod_security import refusals
from pool_world import pool

KUBERNETES = "1.37"
MODES = {"cluster": (DEPLOY, ()), "namespaced": (DEPLOY / "namespaced", ("watchNamespaces={default}",))}
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:kvpool-operator"


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> tuple[list[Object], list[Object]]:
    """(kustomize's objects, Helm's objects)"""
    folder, values = MODES[request.param]
    return kustomized(folder), from_chart(*values)


def comparable(objects: list[Object]) -> list[Object]:
    """Without what only one of them can have: the namespace is Helm's caller's, what is kept is Helm's."""
    kept = [each for each in objects if each["kind"] != "Namespace"]
    for each in kept:
        each["metadata"].pop("annotations", None)
        for spec in pod_specs([each]):
            spec["containers"][0]["env"].sort(key=lambda variable: variable["name"])
    return kept


def test_kustomize_and_helm_install_the_same_objects(mode):
    kustomize, helm = (by_name(comparable(objects)) for objects in mode)
    assert kustomize.keys() == helm.keys()
    assert kustomize == helm


def test_kubernetes_schemas_accept_every_object(mode):
    for found in (*mode[0], *mode[1]):
        assert kubernetes_validate.validate(found, KUBERNETES, strict=True) == KUBERNETES


def test_every_pod_passes_the_restricted_level(mode):
    specs = pod_specs([*mode[0], *mode[1]])
    assert len(specs) == 2, "one operator each"
    assert [refusals(spec) for spec in specs] == [[], []]
    for spec in specs:
        assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in spec["containers"])


def test_its_namespace_enforces_the_restricted_level(mode):
    labels = one(mode[0], "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_image_is_one_that_is_built_here(mode):
    built = {
        f"localhost/kvpool/{folder.name}"
        for folder in (DEPLOY / "images").iterdir()
        if (folder / "Dockerfile").exists()
    }
    named = {each["image"] for spec in pod_specs([*mode[0], *mode[1]]) for each in spec["containers"]}
    named |= {environment(one(objects, "Deployment"))["KVPOOL_ROUTER_IMAGE"] for objects in mode}
    assert {image.rpartition(":")[0] for image in named} <= built
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert {image.rpartition(":")[2] for image in named} == {version[1]}


IMAGE = "registry.example:5000/operator/kvpool/{}:9.9"


def test_one_line_of_kustomize_says_where_all_images_come_from(tmp_path: Path):
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    shutil.copytree(ROOT / "crds", tmp_path / "crds")
    base = tmp_path / "deploy/base/kustomization.yaml"
    told = yaml.safe_load(base.read_text())
    told["images"] = [{"name": "localhost/kvpool/operator", "newName": IMAGE.format("operator")[:-4], "newTag": "9.9"}]
    base.write_text(yaml.safe_dump(told))
    for folder in ("deploy", "deploy/namespaced"):
        assert images(kustomized(tmp_path / folder)) == (IMAGE.format("operator"), IMAGE.format("router"))


def test_an_overlay_as_the_guide_has_it_says_where_all_images_come_from(tmp_path: Path):
    shown = next(block for block in yaml_blocks(ROOT / "docs/install.md") if "replacements:" in block)
    place = tmp_path / "mine"
    place.mkdir()
    shutil.copytree(DEPLOY, tmp_path / "kvpool/deploy")
    shutil.copytree(ROOT / "crds", tmp_path / "kvpool/crds")
    (place / "kustomization.yaml").write_text(shown)
    operator, router = images(kustomized(place))
    assert operator == "registry.example/team/kvpool/operator:0.1.0"
    assert router == "registry.example/team/kvpool/router:0.1.0"


def yaml_blocks(page: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S)


def test_one_value_of_helm_says_where_all_images_come_from():
    told = from_chart("image.registry=registry.example:5000/operator", "image.tag=v9.9")
    assert images(told) == (
        IMAGE.format("operator").replace("9.9", "v9.9"),
        IMAGE.format("router").replace("9.9", "v9.9"),
    )


def images(objects: list[Object]) -> tuple[str, str]:
    """The operator's and the routers'."""
    deployment = one(objects, "Deployment")
    own: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return own, environment(deployment)["KVPOOL_ROUTER_IMAGE"]


def test_the_metrics_namespace_is_said_once(tmp_path: Path):
    told = from_chart("metricsNamespace=observability")
    assert environment(one(told, "Deployment"))["KVPOOL_METRICS_NAMESPACE"] == "observability"
    assert one(told, "NetworkPolicy")["spec"]["ingress"][0]["from"][0]["namespaceSelector"]["matchExpressions"] == [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["observability"]}
    ]


def test_helm_gives_pull_secrets_to_the_operator():
    (spec,) = pod_specs(from_chart("imagePullSecrets[0].name=team"))
    assert spec["imagePullSecrets"] == [{"name": "team"}]


@pytest.mark.parametrize(
    "value", ["imageRegistry=x", "image.registry=https://x", "watchNamespaces={Team}", "image.tag=1"]
)
def test_helm_refuses_what_it_does_not_know(value):
    with pytest.raises(NotRendered, match="schema"):
        from_chart(value)


def test_an_uninstalled_chart_keeps_the_pools():
    found = one(from_chart(), "CustomResourceDefinition")
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_namespaced_operator_has_no_right_elsewhere():
    for objects in (kustomized(DEPLOY / "namespaced"), from_chart("watchNamespaces={a,b}")):
        rights = [each for each in objects if each["apiVersion"].startswith("rbac.authorization.k8s.io")]
        rights = [each for each in rights if each["metadata"]["name"] == "kvpool-operator"]
        assert {each["kind"] for each in rights} == {"Role", "RoleBinding"}
        assert {each["metadata"]["namespace"] for each in rights} in ({"default"}, {"a", "b"})


def test_the_operator_holds_what_it_gives_to_routers(mode):
    """Else the API server refuses the Role: nobody gives away what they do not have."""
    for objects in mode:
        (held,) = [each for each in objects if each.get("rules") and each["metadata"]["name"] == "kvpool-operator"]
        assert rights(role(pool())) <= rights(held)


def rights(found: Object) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in found.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, admin: Kubectl) -> Iterator[Kubectl]:
    """kubectl for an API server of its own: what is installed here disturbs no other test."""
    with control_plane.start(tmp_path_factory.mktemp("install") / "state") as running:
        yield Kubectl(admin.program, running.kubeconfig)


def test_an_api_server_takes_it_and_a_second_apply_changes_nothing(plane):
    first = plane("apply", "--kustomize", str(DEPLOY))
    assert first.count("created") == 9
    again = plane("apply", "--kustomize", str(DEPLOY))
    assert again.count("unchanged") == 9
    operator = partial(plane, "--as", ACCOUNT)
    operator("create", "role", "routers", "--verb=get,list,watch", "--resource=pods")
    with pytest.raises(Refused, match="attempting to grant RBAC permissions not currently held"):
        operator("create", "role", "more", "--verb=delete", "--resource=secrets")
    with pytest.raises(Refused, match="cannot delete resource"):
        operator("delete", "namespace", "default")


def test_who_may_edit_a_namespace_may_edit_its_pools(plane):
    plane("apply", "--kustomize", str(DEPLOY))
    for verb in ("view", "edit"):
        plane("create", "rolebinding", verb, f"--clusterrole={verb}", f"--user={verb}er", "--namespace=default")
    pools = "inferencepools.kvpool.dev"
    until(lambda: may(plane, "editer", "create", pools) and may(plane, "viewer", "list", pools))
    assert may(plane, "editer", "patch", pools, "--subresource=scale")
    assert not may(plane, "viewer", "patch", pools)
    assert not may(plane, "editer", "patch", pools, "--subresource=status")


def may(kubectl: Kubectl, user: str, verb: str, resource: str, *options: str) -> bool:
    try:
        return kubectl("--as", user, "auth", "can-i", verb, resource, "--namespace=default", *options).strip() == "yes"
    except Refused:
        return False
