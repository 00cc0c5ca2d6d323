"""What vLLM refuses, in its words and shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec
from pydantic_core import ErrorDetails

BAD_REQUEST = "Bad Request"
_MOST_TOLD = 10
_MOST_CHARACTERS = 200
_OF_TYPES = re.compile(r"[][(){}]")
_TYPE_NAMES = frozenset({"str", "int", "float", "bool", "none"})

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param

    def body(self, *, anthropic: bool) -> bytes:
        """As JSON. A body of the wrong form is refused in OpenAI's shape to Anthropic's clients, too."""
        if anthropic and self.kind != BAD_REQUEST:
            return msgspec.json.encode({"type": "error", "error": {"type": self.kind, "message": self.message}})
        told = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return msgspec.json.encode({"error": told})


class Unserved(Refusal):
    """What the HTTP framework in front of the APIs refuses."""

    def body(self, *, anthropic: bool) -> bytes:
        """The same for all clients."""
        return msgspec.json.encode({"detail": self.message})


def named(param: str, text: str, value: float | str | None = None) -> Refusal:
    """A parameter that the engine does not take, told with its name and, where there is one, its value."""
    told = f"parameter={param}" if value is None else f"parameter={param}, value={value}"
    return Refusal(400, f"{text} ({told})", param=param)


def unknown_model(asked: str, served: tuple[str, ...]) -> Refusal:
    message = f"The model `{asked}` does not exist. Valid aliases: {', '.join(served)}."
    return Refusal(404, message, kind="NotFoundError", param="model")


def unknown_response(response_id: str) -> Refusal:
    """Always: an engine keeps no responses unless a variable of its environment tells it to."""
    text = f"Response with id '{response_id}' not found."
    return Refusal(404, text, kind="invalid_request_error", param="response_id")


def parsed(body: bytes) -> dict[str, Json]:
    """The body's JSON object. Raises Refusal in the words of the slower parser, which tells the place."""
    try:
        found: Json = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = _read_slowly(body)
    if found is None:
        raise invalid([{"type": "missing", "loc": (), "msg": "Field required", "input": None}])
    if not isinstance(found, dict):
        text = "Input should be a valid dictionary or object to extract fields from"
        raise invalid([{"type": "model_attributes_type", "loc": (), "msg": text, "input": found}])
    return found


def invalid(errors: Sequence[ErrorDetails]) -> Refusal:
    """A body that is not of the form that its API takes, from pydantic's errors."""
    some = "error" if len(errors) == 1 else "errors"
    told = [f"{len(errors)} validation {some}:", *(f"  {_line(error)}" for error in errors[:_MOST_TOLD])]
    if len(errors) > _MOST_TOLD:
        told.append(f"  ...and {len(errors) - _MOST_TOLD} more {some}")
    return Refusal(400, "\n".join(told), kind=BAD_REQUEST, param=_place(errors[0]["loc"]))


def _read_slowly(body: bytes) -> Json:
    try:
        found: Json = json.loads(body or b"null")
    except json.JSONDecodeError as error:
        place, told = (error.pos,), {"error": error.msg}
        raise invalid(
            [{"type": "json_invalid", "loc": place, "msg": "JSON decode error", "input": {}, "ctx": told}]
        ) from None
    except UnicodeDecodeError:
        raise Unserved(400, "There was an error parsing the body") from None
    return found


def _line(error: ErrorDetails) -> str:
    told: dict[str, object] = {
        "type": error["type"],
        "loc": _place(error["loc"]),
        "msg": error["msg"],
        "input": _summary(error["input"]),
    }
    if "ctx" in error:
        told["ctx"] = error["ctx"]
    return str(told)


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in the body, without the names of types that were tried there."""
    parts = [str(part) for part in loc]
    return ".".join(["body", *(part for part in parts if not _OF_TYPES.search(part) and part not in _TYPE_NAMES)])


def _summary(value: object) -> str:
    """Short, however large the value is."""
    if isinstance(value, list | Mapping):
        return f"<{'dict' if isinstance(value, Mapping) else 'list'} of {len(value)} items>"
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}...[truncated]"
