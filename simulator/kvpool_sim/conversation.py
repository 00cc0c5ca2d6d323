"""Conversations of the chat APIs as the chat template gets them, converted the way vLLM 0.32 does.

    /v1/messages  ──┐
    /v1/responses ──┴─> messages of a chat ── for_template ─> one text each, tool arguments as objects

The router converts them on its own, so that it foretells what the engine will find cached. Where the two differ, so do
the tokens: tests hold both to what vLLM's own code made of the same bodies. The template takes a message's content as
a string (vLLM's content format "string"), which is all that the simulated model's template needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kvpool_sim.refusal import Refusal, named

Object: TypeAlias = Mapping[str, Any]
Message: TypeAlias = dict[str, Any]

_TEXT_FIELDS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_ATTRIBUTION = "x-anthropic-billing-header"
"""A client's line that changes with every request; the engine drops it, since it would spoil every prefix."""
_CUT_SHORT = ("in_progress", "incomplete")


class NotText(Exception):
    """A part of a message is an image or the like."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What one body gives to the chat template."""

    messages: list[Message]
    tools: list[Message] | None = None
    arguments: Object = field(default_factory=dict)
    """Further variables of the template."""
    add_generation_prompt: bool = True
    continue_final_message: bool = False


def template_arguments(given: Object | None, effort: str | None, documents: Sequence[Object] | None = None) -> Message:
    """Effort switches thinking, too, for templates that know it, unless the client says otherwise."""
    found = dict(given or {})
    if documents is not None:
        found["documents"] = documents
    if effort is not None:
        found["reasoning_effort"] = effort
        found.setdefault("enable_thinking", effort != "none")
    return found


def for_template(messages: Sequence[Object], *, knows_developers: bool = False) -> list[Message]:
    """Messages as the template gets them. Raises NotText, or Refusal: a tool call is not one of a function."""
    found = [_plain(message) for message in messages]
    if not knows_developers and any(each["role"] == "developer" for each in found):
        return _one_system([{**each, "role": "system"} if each["role"] == "developer" else each for each in found])
    return found


def check_parts(messages: Sequence[Object]) -> None:
    """Raises Refusal: a part of a message of `/v1/chat/completions` is of a kind that its role cannot have."""
    for message in messages:
        content, allowed = message.get("content"), _PARTS_OF_ROLES.get(message["role"])
        if allowed is None or not isinstance(content, list):
            continue
        for place, part in enumerate(content):
            if not isinstance(part, dict) or part.get("type") not in allowed:
                text = f"1 validation error for ValidatorIterator\n{place}\n  Input should be a part of a message of"
                raise Refusal(400, f"{text} role {message['role']!r}: {', '.join(sorted(allowed))}")


_PARTS_OF_ROLES = {
    "user": {"text", "image_url", "input_audio", "file"},
    "assistant": {"text", "refusal"},
    "system": {"text"},
    "developer": {"text"},
    "tool": {"text"},
}


def from_responses(given: str | Sequence[Object], instructions: str | None) -> list[Message]:
    """Input items of `/v1/responses` as messages of a chat; calls and reasoning join the assistant's message before."""
    messages: list[Message] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    items: list[Message] = []
    for item in given:
        _append_item(items, item)
    return messages + items


def is_cut_short(given: str | Sequence[Object]) -> bool:
    """Whether the last input item of `/v1/responses` is to be continued."""
    if isinstance(given, str) or not given:
        return False
    last = given[-1]
    return last.get("type", "message") in ("message", "reasoning") and last.get("status") in _CUT_SHORT


def from_anthropic(messages: Sequence[Object], system: str | Sequence[Object] | None) -> list[Message]:
    """Messages of `/v1/messages` as those of a chat: blocks split into text, tool calls and tool results."""
    head = system if isinstance(system, str) else _system_text(system or ())
    found: list[Message] = [{"role": "system", "content": head}] if head else []
    for message in messages:
        found += _from_blocks(message["role"], message["content"])
    return found


def _plain(message: Object) -> Message:
    role = message["role"]
    texts = list(_texts(message.get("content")))
    if role == "system":
        texts = [kept for text in texts if (kept := _without_attribution(text)) is not None]
    found: Message = {"role": role, "content": "\n".join(text for text in texts if text)}
    if role == "assistant" and message.get("tool_calls"):
        found["tool_calls"] = [_called(call) for call in message["tool_calls"]]
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    if role == "assistant" and reasoning is not None:
        found["reasoning"] = found["reasoning_content"] = reasoning
    for name in ("name", "tool_call_id"):
        if isinstance(message.get(name), str):
            found[name] = message[name]
    return found


def _texts(content: str | Sequence[Any] | None) -> Iterator[str]:
    for part in [content] if isinstance(content, str) else content or ():
        if isinstance(part, str):
            yield part
            continue
        name = _TEXT_FIELDS.get(part.get("type", "text"))
        if name is None:
            raise NotText(part["type"])
        if isinstance(part.get(name), str):
            yield part[name]


def _without_attribution(text: str) -> str | None:
    return text if not text.startswith(_ATTRIBUTION) else text.partition("\n")[2] or None


def _called(call: Object) -> Message:
    """Templates want a call's arguments as an object; whatever is none becomes an empty one."""
    function = call.get("function")
    if call.get("type", "function") != "function" or not isinstance(function, dict):
        raise named("tool_calls", "chat completions only support assistant tool_calls of type 'function'.")
    return {**call, "function": {**function, "arguments": _arguments(function.get("arguments"))}}


def _arguments(given: object) -> Object:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return {}
    return given if isinstance(given, dict) else {}


def _one_system(messages: Sequence[Message]) -> list[Message]:
    """What systems say as one message at the head, unless it is one there already."""
    told = [each["content"] for each in messages if each["role"] == "system"]
    if len(told) == 1 and messages[0]["role"] == "system":
        return list(messages)
    others = [each for each in messages if each["role"] != "system"]
    return [{"role": "system", "content": "\n\n".join(filter(None, told))}, *others]


def _append_item(messages: list[Message], item: Object) -> None:
    kind = item.get("type", "message")
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "function": function, "type": "function"}
        _open_assistant(messages, "never").setdefault("tool_calls", []).append(call)
    elif kind == "reasoning":
        told = item.get("content") or item.get("summary") or [{"text": ""}]
        _open_assistant(messages, "reasoning")["reasoning"] = told[0].get("text", "")
    elif kind == "function_call_output":
        messages.append({"role": "tool", "content": item.get("output"), "tool_call_id": item.get("call_id")})
    elif "role" not in item:
        raise named("input", f"Unsupported input item type: {kind}")
    elif item["role"] == "assistant" and (text := _first_text(item.get("content"))) is not None:
        _open_assistant(messages, "content")["content"] = text
    else:
        messages.append({key: value for key, value in item.items() if key != "type"})


def _open_assistant(messages: list[Message], lacking: str) -> Message:
    """The assistant's message at the end that lacks something still, else a new one."""
    if not messages or messages[-1]["role"] != "assistant" or messages[-1].get(lacking) is not None:
        messages.append({"role": "assistant"})
    return messages[-1]


def _first_text(content: object) -> str | None:
    first = content[0] if isinstance(content, list) and content else content
    text = first.get("text") if isinstance(first, dict) else first
    return text if isinstance(text, str) else None


def _system_text(blocks: Sequence[Object]) -> str:
    texts = [str(block["text"]) for block in blocks if block.get("type") == "text" and block.get("text")]
    return "".join(text for text in texts if not text.startswith(_ATTRIBUTION))


def _from_blocks(role: str, content: str | Sequence[Object]) -> Iterator[Message]:
    if role == "system":
        told = content if isinstance(content, str) else _system_text(content)
        if told and not told.startswith(_ATTRIBUTION):
            yield {"role": role, "content": told}
    elif isinstance(content, str):
        yield {"role": role, "content": content}
    else:
        if role == "user":
            yield from (_result(block) for block in content if block["type"] == "tool_result")
        own = _own_message(role, content)
        if role != "user" or "content" in own:
            yield own


def _own_message(role: str, blocks: Sequence[Object]) -> Message:
    """A message's own text, thoughts and calls; results of tools became messages of their own."""
    own: Message = {"role": role}
    parts = [part for block in blocks if (part := _part(role, block)) is not None]
    thoughts = [block["thinking"] for block in blocks if block["type"] == "thinking" and block.get("thinking")]
    calls = [_tool_call(block) for block in blocks if block["type"] == "tool_use"]
    if thoughts:
        own["reasoning"] = "".join(thoughts)
    if calls:
        own["tool_calls"] = calls
    if parts:
        own["content"] = parts
    return own


def _part(role: str, block: Object) -> Message | None:
    if block["type"] == "text" and block.get("text"):
        return {"type": "text", "text": block["text"]}
    if block["type"] == "image" and block.get("source"):
        return {"type": "image_url"}
    if block["type"] == "tool_result" and role != "user":
        return {"type": "text", "text": f"Tool result: {block.get('content') or ''}"}
    return None


def _tool_call(block: Object) -> Message:
    function = {"arguments": json.dumps(block.get("input") or {}), "name": block.get("name") or ""}
    return {"id": block.get("id"), "function": function, "type": "function"}


def _result(block: Object) -> Message:
    content = block.get("content") or ""
    if not isinstance(content, str):
        content = "\n".join(str(item.get("text", "")) for item in content if item.get("type") == "text")
    return {"role": "tool", "content": content, "tool_call_id": block.get("tool_use_id") or ""}
