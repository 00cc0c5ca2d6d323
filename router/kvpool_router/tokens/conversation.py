"""Messages of the API as the template gets them: what vLLM 0.32 and transformers 5 do between the two."""

import json
from collections.abc import Sequence

from kvpool_router.requests.chat import TEXT_PARTS
from kvpool_router.requests.prompts import Json, Message

_BILLING_HEADER = "x-anthropic-billing-header"
_KNOWN_PART_FIELDS = frozenset({"type", "text", "refusal", "thinking", "closed", "name", "annotations", "logprobs"})


def conversation(messages: Sequence[Message], *, takes_parts: bool, knows_developer: bool) -> list[Message]:
    """The template's `messages`: one form of content, tool arguments as objects, no key without a value."""
    found = [_message(each, takes_parts) for each in messages]
    if not knows_developer and any(each["role"] == "developer" for each in found):
        found = _one_system([_as_system(each) for each in found])
    return [{name: value for name, value in each.items() if value is not None} for each in found]


def _message(message: Message, takes_parts: bool) -> Message:
    role = message["role"]
    parts = _parts(message.get("content"), role == "system")
    texts = [text for each in parts if (text := _text(each)) or takes_parts]
    content: Json = [_part(each) for each in parts] if takes_parts else "\n".join(texts)
    found: Message = {"role": role, "content": content}
    if role == "assistant":
        _add_assistant(found, message)
    elif role == "tool":
        found["content"] = "\n".join(texts)
        found["tool_call_id"] = message.get("tool_call_id")
    for name in ("name", "task"):
        if isinstance(message.get(name), str):
            found[name] = message[name]
    if role == "developer":
        found["tools"] = message.get("tools")
    return found


def _parts(content: Json, is_system: bool) -> list[Json]:
    """Content as a list; a client's attribution line at a system text's head is dropped, as it changes every time."""
    parts: list[Json] = [] if content is None else [content]
    if isinstance(content, list):
        parts = content
    if is_system:
        parts = [kept for each in parts if (kept := _without_billing(each)) is not None]
    return [each for each in parts if not isinstance(each, dict) or each.get(_text_field(each)) is not None]


def _without_billing(part: Json) -> Json:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
    if not isinstance(text, str) or not text.startswith(_BILLING_HEADER):
        return part
    rest = text.partition("\n")[2]
    if not rest:
        return None
    return {**part, "text": rest} if isinstance(part, dict) else rest


def _text_field(part: dict[str, Json]) -> str:
    kind = part.get("type")
    return kind if kind in ("refusal", "thinking") and kind in TEXT_PARTS else "text"


def _text(part: Json) -> str:
    text = part.get(_text_field(part)) if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


def _part(part: Json) -> Json:
    extra = {} if not isinstance(part, dict) else {k: v for k, v in part.items() if k not in _KNOWN_PART_FIELDS}
    return {"type": "text", "text": _text(part), **extra}


def _add_assistant(found: Message, message: Message) -> None:
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        found["tool_calls"] = [_call(each) for each in calls]
    reasoning = message.get("reasoning")
    if reasoning is None:
        reasoning = message.get("reasoning_content")
    if reasoning is not None:
        found["reasoning"] = found["reasoning_content"] = found["thinking"] = reasoning


def _call(call: Json) -> Json:
    if not isinstance(call, dict) or not isinstance(function := call.get("function"), dict):
        return call
    return {**call, "function": {**function, "arguments": _arguments(function.get("arguments"))}}


def _arguments(given: Json) -> dict[str, Json]:
    """Templates want an object; whatever is none becomes an empty one."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return {}
    return given if isinstance(given, dict) else {}


def _as_system(message: Message) -> Message:
    if message["role"] != "developer":
        return message
    return {**{name: value for name, value in message.items() if name != "tools"}, "role": "system"}


def _one_system(messages: list[Message]) -> list[Message]:
    """All system messages merged into one at the head, where one stands elsewhere or there are several."""
    places = [place for place, each in enumerate(messages) if each["role"] == "system"]
    if places in ([], [0]):
        return messages
    texts = [_joined(messages[place].get("content")) for place in places]
    merged: Message = {"role": "system", "content": "\n\n".join(text for text in texts if text)}
    return [merged, *(each for each in messages if each["role"] != "system")]


def _joined(content: Json) -> str:
    return "\n".join(_text(part) for part in content) if isinstance(content, list) else _text(content)
