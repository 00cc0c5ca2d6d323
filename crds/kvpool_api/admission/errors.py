"""Errors about fields, worded as the API server words them (apimachinery's `field.Error`, kubectl's `CheckErr`)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

ROOT: Final = "<nil>"
"""How the API server prints the path of the object itself."""
LONGEST_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class FieldError:
    """One mistake: where, and what the API server says about it."""

    path: str
    message: str
    blocks_rules: bool = False
    """The API server evaluates no CEL rule on an object with such an error."""
    mend: str = ""
    """What the API server leaves out: the value that was given, and what to write instead."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"

    @property
    def for_people(self) -> str:
        """The API server's line, and behind it the mend."""
        return f"{self} ({self.mend})" if self.mend else str(self)


class UnknownField(FieldError):
    """A field that the schema does not have; an API server prunes it, strict validation refuses it."""

    def __str__(self) -> str:
        return self.message


class Invalid(ValueError):
    """An object that the API server would refuse. The text is kubectl's with each mend, one line an error."""

    def __init__(self, errors: Sequence[FieldError], *, kind: str, name: str, resource: str) -> None:
        self.errors = tuple(errors)
        self.kind = kind
        self.name = name
        self._resource = resource
        super().__init__(self._as_kubectl_prints())

    def _as_kubectl_prints(self) -> str:
        """Without the remark that rules were not checked: who mends the errors above it will see."""
        prefix = f"The {self.kind} {quoted(self.name)} is invalid:"
        lines = [each.for_people for each in self.errors if each != RULES_NOT_CHECKED]
        if len(lines) == 1:
            return f"{prefix} {lines[0]}"
        return "\n".join([prefix, *(f"* {each}" for each in lines)])

    @property
    def server_message(self) -> str:
        """The `message` of the API server's Status answer."""
        texts = [str(each) for each in self.errors]
        listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        return f"{self._resource} {quoted(self.name)} is invalid: {listed}"


def quoted(text: str) -> str:
    """A text in double quotes, escaped as Go's %q does for what can be printed."""
    return json.dumps(text, ensure_ascii=False)


def shown(value: JsonValue) -> str:
    """A value as it stands in an error."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def shortened(value: JsonValue) -> str:
    """A value of any size in part of a line."""
    text = shown(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def invalid(path: str, value: JsonValue, detail: str) -> FieldError:
    return FieldError(path, f"Invalid value: {shown(value)}: {detail}")


def invalid_without_value(path: str, detail: str) -> FieldError:
    """For objects and lists, which would fill a screen."""
    return FieldError(path, f"Invalid value: {detail}")


def wrong_type(path: str, expected: str, found: str, mend: str = "") -> FieldError:
    detail = f"{path or ROOT} in body must be of type {expected}: {quoted(found)}"
    return FieldError(path or ROOT, f"Invalid value: {quoted(found)}: {detail}", blocks_rules=True, mend=mend)


def required(path: str, detail: str = "") -> FieldError:
    return FieldError(path, f"Required value: {detail}" if detail else "Required value", blocks_rules=True)


def unsupported(path: str, value: JsonValue, choices: Sequence[JsonValue]) -> FieldError:
    listed = ", ".join(quoted(each if isinstance(each, str) else shown(each)) for each in choices)
    told = f"Unsupported value: {shown(value)}: supported values: {listed}"
    near = next((each for each in choices if _letters(each) == _letters(value)), None)
    mend = "" if near is None else f"did you mean {shown(near)}?"
    return FieldError(path, told, blocks_rules=True, mend=mend)


def _letters(value: JsonValue) -> str:
    """The value without what people write differently: `round_robin`, `round-robin` and `RoundRobin` are one."""
    return shown(value).casefold().replace("_", "").replace("-", "")


def too_long(path: str, limit: int) -> FieldError:
    unit = "byte" if limit == 1 else "bytes"
    return FieldError(path, f"Too long: may not be more than {limit} {unit}", blocks_rules=True)


def too_many(path: str, count: int, limit: int) -> FieldError:
    unit = "item" if limit == 1 else "items"
    return FieldError(path, f"Too many: {count}: must have at most {limit} {unit}", blocks_rules=True)


def duplicate(path: str, value: JsonValue) -> FieldError:
    return FieldError(path, f"Duplicate value: {shown(value)}")


def forbidden(path: str, detail: str) -> FieldError:
    return FieldError(path, f"Forbidden: {detail}")


RULES_NOT_CHECKED: Final = invalid(
    ROOT,
    None,
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)
