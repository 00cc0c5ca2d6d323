"""Every reason code that the operator can write: read from its source, so that none is forgotten in the runbook."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import kvpool_operator
from kvpool_api.wire import EventState
from kvpool_operator.status import causes, log_causes, workload

PACKAGE = Path(kvpool_operator.__file__).parent
MAKERS = frozenset({"because", "_true"})
"""Functions whose first argument is a code."""


def reason_codes() -> set[str]:
    """All of status, plan and report; what a Pod's status may say itself (such as Evicted) is not known beforehand."""
    found = {code for path in sorted(PACKAGE.rglob("*.py")) for code in _of_module(path)}
    found |= set(causes._WAITING_CAUSES)
    found |= {code for code, _, _ in log_causes._LOG_CAUSES}
    mute = log_causes.only_echoes("RuntimeError: Engine core initialization failed. See root cause above.")
    found |= {workload.ENGINES_STARTING, mute[0] if mute else ""}
    return found | {state.value.capitalize() for state in EventState}


def _of_module(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    makes = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in MAKERS and call.args]
    if makes:
        module = importlib.import_module(
            ".".join(("kvpool_operator", *path.relative_to(PACKAGE).with_suffix("").parts))
        )
        for call in makes:
            yield from _codes(call.args[0], module)


def _codes(node: ast.expr, module: ModuleType) -> Iterator[str]:
    """A literal, a constant of the module, any of several; any other expression passes a code on."""
    if isinstance(node, ast.IfExp):
        yield from (*_codes(node.body, module), *_codes(node.orelse, module))
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _codes(value, module)
    elif isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.Name) and isinstance(getattr(module, node.id, None), str):
        yield getattr(module, node.id)
