import re

import pytest
from kvnode import build, versions


def test_versions_are_those_that_the_module_files_require():
    assert re.fullmatch(r"1\.\d+\.\d+", versions.kubernetes())
    assert versions.required("containerd", "github.com/containerd/containerd/v2").startswith("2.")


def test_a_module_that_is_not_required_is_named():
    with pytest.raises(LookupError, match=r"kubernetes/go\.mod requires no example\.org/none"):
        versions.required("kubernetes", "example.org/none")


def test_staging_modules_have_the_minor_and_patch_of_kubernetes():
    text = (versions.MODULES / "kubernetes" / "go.mod").read_text()
    replaced = set(re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ v0\.(\S+)", text, re.M))
    assert replaced == {versions.kubernetes().removeprefix("1.")}


@pytest.mark.parametrize("part", build.PARTS, ids=lambda part: part.name)
def test_each_module_folder_names_the_programs_that_are_built_from_it(part):
    text = (versions.MODULES / part.name / "go.mod").read_text()
    tools = set(re.findall(r"^(?:tool )?\s*([a-z0-9.]+\.[a-z]+/\S+)$", text, re.M))
    assert tools == {package for package in part.packages if package != "."}


def test_go_sums_stand_beside_every_module_that_needs_others():
    lacking = [
        part.name
        for part in build.PARTS
        if "require" in (versions.MODULES / part.name / "go.mod").read_text()
        and not (versions.MODULES / part.name / "go.sum").exists()
    ]
    assert lacking == []


def test_the_folder_of_programs_changes_with_what_they_are_built_from(tmp_path, monkeypatch):
    before = build.folder(tmp_path)
    assert before == build.folder(tmp_path)
    monkeypatch.setattr(versions, "digest_of", lambda _: "another")
    assert build.folder(tmp_path) != before


def test_what_is_built_is_not_built_again(tmp_path, monkeypatch):
    target = build.folder(tmp_path)
    target.mkdir(parents=True)
    for part in build.PARTS:
        (target / f"{part.name}.built").touch()
    monkeypatch.setenv("PATH", "")
    assert build.ensure(tmp_path) == target / "bin"


def test_a_missing_or_old_go_is_said_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.go_is_missing() == f"Go is not on PATH; {build.GO_MEND}"
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.19.8\n")
    go.chmod(0o755)
    assert build.go_is_missing() == f"{go} is go1.19.8; {build.GO_MEND}"
    go.write_text("#!/bin/sh\necho go1.27rc1\n")
    assert build.go_is_missing() is None
