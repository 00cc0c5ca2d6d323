"""`/v1/responses` bodies as chats, for those that convert without loss (vLLM 0.32, `openai/responses/utils.py`)."""

from kvpool_api.wire import UntokenizedCause

from kvpool_router.requests.chat import chat_prompt, printed_function
from kvpool_router.requests.prompts import Json, Message, OpaquePrompt, Prompt

_PARTIAL = ("in_progress", "incomplete")


def to_chat(
    instructions: str | None,
    given: Json,
    tools: list[Json] | None,
    template_arguments: dict[str, Json],
    *,
    calls_no_tool: bool = False,
) -> Prompt:
    """Instructions become a system message; texts, thoughts, function calls and their outputs keep their order."""
    messages: list[Message] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    elif not isinstance(given, list) or not all(_append(messages, item) for item in given):
        return OpaquePrompt(UntokenizedCause.ENGINE_ONLY, "it holds items other than text and function calls")
    printed = [_printed_tool(each) for each in tools or []]
    if any(each is None for each in printed):
        return OpaquePrompt(UntokenizedCause.ENGINE_ONLY, "it brings tools that are not functions")
    return chat_prompt([*messages], printed or None, template_arguments, calls_no_tool=calls_no_tool)


def _append(messages: list[Message], item: Json) -> bool:
    """Adds one input item; False where only the engine knows how to read it."""
    if not isinstance(item, dict) or item.get("status") in _PARTIAL:
        return False
    kind = item.get("type", "message")
    if kind == "function_call":
        return _append_call(messages, item)
    if kind == "reasoning":
        return _append_thought(messages, item)
    if kind == "function_call_output" and isinstance(item.get("output"), str | list):
        messages.append({"role": "tool", "content": item["output"], "tool_call_id": item.get("call_id")})
        return True
    if kind != "message" or not isinstance(item.get("role"), str):
        return False
    return _append_assistant(messages, item) if item["role"] == "assistant" else _append_plain(messages, item)


def _append_plain(messages: list[Message], item: dict[str, Json]) -> bool:
    messages.append({name: value for name, value in item.items() if name != "type"})
    return True


def _append_call(messages: list[Message], item: dict[str, Json]) -> bool:
    if item.get("namespace"):
        return False
    call: Json = {
        "id": item.get("call_id"),
        "function": {"name": item.get("name"), "arguments": item.get("arguments")},
        "type": "function",
    }
    last = messages[-1] if messages else None
    if last is None or last.get("role") != "assistant":
        messages.append({"role": "assistant", "tool_calls": [call]})
        return True
    calls = last.setdefault("tool_calls", [])
    if isinstance(calls, list):
        calls.append(call)
    return isinstance(calls, list)


def _append_thought(messages: list[Message], item: dict[str, Json]) -> bool:
    content, summary = item.get("content") or [], item.get("summary")
    if item.get("encrypted_content") or not isinstance(content, list) or not isinstance(summary, list):
        return False
    parts = content or summary
    first = parts[0] if parts else {"text": ""}
    text = first.get("text") if isinstance(first, dict) else None
    if not isinstance(text, str):
        return False
    _say(messages, "reasoning", text)
    return True


def _append_assistant(messages: list[Message], item: dict[str, Json]) -> bool:
    content = item.get("content")
    first = content[0] if isinstance(content, list) and content else content
    text = first.get("text") if isinstance(first, dict) else first
    if not isinstance(text, str):
        return False
    _say(messages, "content", text)
    return True


def _say(messages: list[Message], field: str, text: str) -> None:
    """In the assistant's last message, where that has nothing there yet."""
    last = messages[-1] if messages else None
    if last is not None and last.get("role") == "assistant" and last.get(field) is None:
        last[field] = text
    else:
        messages.append({"role": "assistant", field: text})


def _printed_tool(tool: Json) -> Json:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return None
    return {"type": "function", "function": printed_function(tool)}
