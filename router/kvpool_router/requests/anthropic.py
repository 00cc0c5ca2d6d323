"""`/v1/messages` bodies as chats, for those that convert without loss (vLLM 0.32, `anthropic/serving.py`)."""

import json

from kvpool_api.wire import UntokenizedCause

from kvpool_router.requests.chat import chat_prompt, printed_function
from kvpool_router.requests.prompts import Json, Message, OpaquePrompt, Prompt

_BILLING_HEADER = "x-anthropic-billing-header"
"""A client's attribution line that changes with every request; the engine drops it too."""
_IGNORED = ("redacted_thinking", "tool_reference")


class _NotConvertible(Exception):
    """A block whose rendering depends on what only the engine knows."""

    def __init__(self, cause: UntokenizedCause, why: str) -> None:
        super().__init__(why)
        self.cause = cause


def to_chat(
    system: Json,
    messages: Json,
    tools: list[Json] | None,
    template_arguments: dict[str, Json],
    *,
    calls_no_tool: bool = False,
    no_thinking: bool = False,
) -> Prompt:
    """The chat that the engine makes of it: blocks split into content, tool calls and tool results."""
    try:
        converted = _system(system)
        for message in messages if isinstance(messages, list) else []:
            converted += _message(message)
        printed = None if tools is None else [_tool(each) for each in tools]
    except _NotConvertible as found:
        return OpaquePrompt(found.cause, str(found))
    return chat_prompt(
        [*converted],
        printed,
        template_arguments,
        calls_no_tool=calls_no_tool,
        late_system=any(each["role"] == "system" for each in converted[1:]),
        no_thinking=no_thinking,
    )


def _system(system: Json) -> list[Message]:
    parts = [system] if isinstance(system, str) else []
    if isinstance(system, list):
        texts = (_text(block) for block in system)
        parts = [text for text in texts if not text.startswith(_BILLING_HEADER)]
    joined = "".join(parts)
    return [{"role": "system", "content": joined}] if joined else []


def _text(block: Json) -> str:
    text = block.get("text") if isinstance(block, dict) and block.get("type") == "text" else None
    return text if isinstance(text, str) else ""


def _message(message: Json) -> list[Message]:
    if not isinstance(message, dict):
        raise _NotConvertible(UntokenizedCause.MALFORMED, "a message is no object")
    role, content = message.get("role"), message.get("content")
    if role == "system":
        return _system([{"type": "text", "text": content}] if isinstance(content, str) else content)
    if role not in ("user", "assistant"):
        raise _NotConvertible(UntokenizedCause.MALFORMED, "a message has a role of its own")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list):
        raise _NotConvertible(UntokenizedCause.MALFORMED, "a message has no content")
    return _blocks(role, content)


def _blocks(role: str, content: list[Json]) -> list[Message]:
    results: list[Message] = []
    texts: list[str] = []
    calls: list[Json] = []
    thoughts: list[str] = []
    for block in content:
        if not isinstance(block, dict):
            raise _NotConvertible(UntokenizedCause.MALFORMED, "a message holds a block that is no object")
        kind = block.get("type")
        if kind == "text":
            texts += filter(None, [_text(block)])
        elif kind == "thinking" and isinstance(thought := block.get("thinking"), str):
            thoughts.append(thought)
        elif kind == "tool_use":
            calls.append(_call(block))
        elif kind == "tool_result" and role == "user":
            results.append(_result(block))
        elif kind not in _IGNORED:
            raise _NotConvertible(UntokenizedCause.MEDIA, "a message holds more than text and tool calls")
    own = _own_message(role, texts, calls, thoughts)
    return results if role == "user" and not texts else [*results, own]


def _own_message(role: str, texts: list[str], calls: list[Json], thoughts: list[str]) -> Message:
    own: Message = {"role": role}
    if thoughts:
        own["reasoning"] = "".join(thoughts)
    if calls:
        own["tool_calls"] = calls
    if texts:
        parts: list[Json] = [{"type": "text", "text": text} for text in texts]
        own["content"] = parts if len(parts) > 1 else texts[0]
    return own


def _call(block: dict[str, Json]) -> Json:
    if not block.get("id"):
        raise _NotConvertible(UntokenizedCause.ENGINE_ONLY, "a tool call has no id, so the engine makes one")
    arguments = json.dumps(block.get("input") or {})
    return {
        "id": block["id"],
        "function": {"arguments": arguments, "name": block.get("name") or ""},
        "type": "function",
    }


def _result(block: dict[str, Json]) -> Message:
    content = block.get("content")
    if isinstance(content, list):
        if any(not isinstance(item, dict) or item.get("type") != "text" for item in content):
            raise _NotConvertible(UntokenizedCause.MEDIA, "a tool result holds more than text")
        content = "\n".join(_text(item) for item in content)
    return {"role": "tool", "tool_call_id": block.get("tool_use_id") or "", "content": content or ""}


def _tool(tool: Json) -> Json:
    schema = tool.get("input_schema") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or not isinstance(schema, dict):
        raise _NotConvertible(UntokenizedCause.ENGINE_ONLY, "it brings tools that are not functions")
    parameters = schema if "type" in schema else {**schema, "type": "object"}
    return {"type": "function", "function": printed_function({**tool, "parameters": parameters})}
