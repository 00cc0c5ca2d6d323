"""CEL rules of a schema (`x-kubernetes-validations`), compiled once and evaluated as the API server does."""

from collections.abc import Iterator
from dataclasses import dataclass

import cel
from pydantic import JsonValue

from kvpool_api.admission.errors import ROOT, FieldError, forbidden, invalid, invalid_without_value
from kvpool_api.admission.quantities import FUNCTIONS
from kvpool_api.manifest import as_list, as_map, as_text


@dataclass(frozen=True, slots=True)
class CelRule:
    """One rule: `self` is the value it stands at, `oldSelf` the value before the write."""

    program: cel.Program
    message: str
    field_path: str
    reason: str
    is_transition: bool


def compiled_rules(validations: JsonValue) -> tuple[CelRule, ...]:
    """Rules of one schema node. Raises ValueError where an expression does not parse."""
    return tuple(_compiled(as_text(each.get("rule")), each) for each in map(as_map, as_list(validations)))


def _compiled(expression: str, rule: dict[str, JsonValue]) -> CelRule:
    program = cel.compile(expression)
    return CelRule(
        program=program,
        message=as_text(rule.get("message")),
        field_path=as_text(rule.get("fieldPath")),
        reason=as_text(rule.get("reason")),
        is_transition="oldSelf" in program.variables(),
    )


def broken_rules(rules: tuple[CelRule, ...], value: JsonValue, old: JsonValue, path: str) -> Iterator[FieldError]:
    """An error for each rule that the value breaks. Transition rules are silent without an old value."""
    for rule in rules:
        if rule.is_transition and old is None:
            continue
        try:
            holds = rule.program.execute({"self": value, "oldSelf": old, **FUNCTIONS})
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            yield invalid_without_value(path or ROOT, f"{error} evaluating rule: {rule.message}")
        else:
            if holds is not True:
                yield _error(rule, value, f"{path}{rule.field_path}".removeprefix(".") or ROOT)


def _error(rule: CelRule, value: JsonValue, path: str) -> FieldError:
    if rule.reason == "FieldValueForbidden":
        return forbidden(path, rule.message)
    if isinstance(value, dict | list):
        return invalid_without_value(path, rule.message)
    return invalid(path, value, rule.message)
