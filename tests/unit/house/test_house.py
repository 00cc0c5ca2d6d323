"""Rules of the house that no other tool enforces."""

import ast
import graphlib
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("kvpool_api", "kvpool_operator", "kvpool_router", "kvpool_sim", "kvpool_cli")
MACHINE_PATH = re.compile(r"/(?:work|farm)/|/root/")
REGISTRY_HOST = re.compile(r"(?:pypi|pythonhosted|npmjs|crates|maven|proxy\.golang)\.(?:org|io|com)", re.IGNORECASE)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_nothing_shadows_the_standard_library_operator():
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert [path for path in python_files() if path.name == "__init__.py" and ROOT / "tests" in path.parents] == []


def test_no_file_is_over_600_lines():
    assert {str(p): n for p in python_files() if (n := p.read_text().count("\n")) > 600} == {}


def test_no_function_is_over_60_lines_and_the_median_is_at_most_9():
    product = [path for path in python_files() if ROOT / "tests" not in path.parents]
    assert [(str(p), name, n) for p in python_files() for name, n in functions(p) if n > 60] == []
    assert statistics.median(n for path in product for _, n in functions(path)) <= 9


def test_no_import_cycle():
    graph = grimp.build_graph(*PACKAGES)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as cycle:
        pytest.fail(" -> ".join(cycle.args[1]))


def test_no_committed_file_names_this_machine_or_a_registry():
    this_file = Path(__file__).resolve()
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        if path != this_file and path.suffix not in {".png", ".jsonl"}
        for pattern in (MACHINE_PATH, REGISTRY_HOST)
        if (match := pattern.search(path.read_text(errors="ignore")))
    ]
    assert found == []


def test_the_makefile_has_at_most_12_targets_and_help_is_the_default():
    makefile = (ROOT / "Makefile").read_text()
    assert len(re.findall(r"^[a-z-]+:.*## ", makefile, re.MULTILINE)) <= 12
    assert ".DEFAULT_GOAL := help" in makefile
