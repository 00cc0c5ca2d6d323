"""Messages as vLLM 0.32 hands them to the chat template (`renderers/chat_utils.py`, `chat_completion/protocol.py`)."""

from kvpool_api.wire import UntokenizedCause

from kvpool_router.requests.prompts import ChatPrompt, Json, Message, OpaquePrompt, Prompt

TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "thinking"})
_TOOL_FIELDS = ("name", "description", "parameters")
_OPTIONAL_TOOL_FIELDS = ("strict", "defer_loading")


def chat_prompt(
    messages: Json,
    tools: list[Json] | None,
    template_arguments: dict[str, Json],
    *,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    add_special_tokens: bool = False,
    calls_no_tool: bool = False,
    late_system: bool = False,
    no_thinking: bool = False,
) -> Prompt:
    """The prompt, or why its tokens cannot be told here."""
    if not isinstance(messages, list) or not messages:
        return OpaquePrompt(UntokenizedCause.MALFORMED, "its messages are no list, or an empty one")
    checked: list[Message] = []
    for each in messages:
        if not isinstance(each, dict) or not isinstance(each.get("role"), str):
            return OpaquePrompt(UntokenizedCause.MALFORMED, "a message is no object with a role")
        if not _is_text(each.get("content")):
            return OpaquePrompt(UntokenizedCause.MEDIA, "a message holds more than text")
        checked.append(each)
    if tools is not None and any(each is None for each in tools):
        return OpaquePrompt(UntokenizedCause.ENGINE_ONLY, "a tool is not a function")
    return ChatPrompt(
        checked,
        tools,
        template_arguments,
        add_generation_prompt,
        continue_final_message,
        add_special_tokens,
        calls_no_tool,
        late_system,
        no_thinking,
    )


def template_arguments(given: dict[str, Json] | None, reasoning_effort: str | None) -> dict[str, Json]:
    """The template's further variables; a requested effort also switches thinking, as the engine does."""
    found = dict(given or {})
    if reasoning_effort is not None:
        found["reasoning_effort"] = reasoning_effort
        found.setdefault("enable_thinking", reasoning_effort != "none")
    return found


def normalized_tool(tool: Json) -> Json:
    """A function tool with the fields, defaults and order in which the engine prints it; None for other tools."""
    if not isinstance(tool, dict) or tool.get("type", "function") != "function":
        return None
    function = tool.get("function")
    if not isinstance(function, dict):
        return None
    deferred = tool.get("defer_loading")
    if deferred is not None and function.get("defer_loading") is None:
        function = {**function, "defer_loading": deferred}
    printed: dict[str, Json] = {"type": "function", "function": printed_function(function)}
    if deferred is not None:
        printed["defer_loading"] = deferred
    return printed


def normalized_message(message: Json) -> Json:
    """A message whose tool calls have the order in which the engine prints them; what is no such message stays.

    vLLM reads them into typed dictionaries of the OpenAI library: known fields first, in the order of their definition.
    """
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_normalized_call(each) for each in calls]}


def _normalized_call(call: Json) -> Json:
    if not isinstance(call, dict) or not isinstance(function := call.get("function"), dict):
        return call
    return _led_by(("id", "function", "type"), {**call, "function": _led_by(("arguments", "name"), function)})


def _led_by(first: tuple[str, ...], fields: dict[str, Json]) -> dict[str, Json]:
    return {name: fields[name] for name in (*first, *fields) if name in fields}


def printed_function(function: dict[str, Json]) -> dict[str, Json]:
    printed = {name: function.get(name) for name in _TOOL_FIELDS}
    printed.update({name: function[name] for name in _OPTIONAL_TOOL_FIELDS if function.get(name) is not None})
    return printed


def _is_text(content: Json) -> bool:
    if content is None or isinstance(content, str):
        return True
    return isinstance(content, list) and all(_is_text_part(part) for part in content)


def _is_text_part(part: Json) -> bool:
    if isinstance(part, str):
        return True
    return isinstance(part, dict) and part.get("type") in TEXT_PARTS and "uuid" not in part
