"""Reads of a body only what routing needs, and never refuses what only the engine can judge.

A field of a type that the router does not expect makes the prompt opaque, not the request invalid: vLLM's own
validation is laxer here and stricter there, and its answer is the one that clients know.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from kvpool_api.wire import UntokenizedCause
from msgspec import UNSET, Raw, Struct, UnsetType

from kvpool_router.index.namespace import Namespace
from kvpool_router.requests import anthropic, responses
from kvpool_router.requests.chat import chat_prompt, normalized_message, normalized_tool, template_arguments
from kvpool_router.requests.prompts import Json, OpaquePrompt, Prompt, TextPrompt, TokenPrompt, decode_json, packed
from kvpool_router.requests.refusal import Refusal
from kvpool_router.requests.request import InferenceRequest


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Minimal(Struct):
    model: Raw | UnsetType = UNSET
    stream: Raw | UnsetType = UNSET


class _Completion(Struct):
    model: str | None = None
    prompt: str | list[Any] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    add_special_tokens: bool = True
    cache_salt: str | None = None
    suffix: Any = None
    truncate_prompt_tokens: int | None = None
    prompt_embeds: Any = None


class _Chat(Struct):
    model: str | None = None
    messages: Raw | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    prompt_logprobs: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[Any] | None = None
    reasoning_effort: str | None = None
    tool_choice: Any = None
    cache_salt: str | None = None
    truncate_prompt_tokens: int | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, Any] | None = None
    kv_transfer_params: Any = None


class _Responses(Struct):
    model: str | None = None
    input: Raw | UnsetType = UNSET
    instructions: str | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    stream: bool | None = None
    previous_response_id: str | None = None
    reasoning: dict[str, Any] | None = None
    truncation: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    cache_salt: str | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, Any] | None = None
    kv_transfer_params: Any = None


class _Messages(Struct):
    model: str | None = None
    messages: Raw | UnsetType = UNSET
    system: Any = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    stream: bool | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    cache_salt: str | None = None
    kv_transfer_params: Any = None


_completion = msgspec.json.Decoder(_Completion)
_chat = msgspec.json.Decoder(_Chat)
_responses = msgspec.json.Decoder(_Responses)
_messages = msgspec.json.Decoder(_Messages)
_minimal = msgspec.json.Decoder(_Minimal)


def peek(path: str, raw: bytes) -> InferenceRequest:
    """What routing needs of one body.

    Raises Refusal: 400 where the body is no JSON object, or names a model that is no string.
    """
    try:
        return _PEEKS[path](path, raw)
    except UnicodeDecodeError:
        raise Refusal(400, "The body is not valid UTF-8, as JSON has to be.") from None
    except msgspec.ValidationError as error:
        return _only_model(path, raw, str(error))
    except msgspec.DecodeError as error:
        raise Refusal(400, f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise Refusal(400, "The body is nested too deeply to be read as JSON.") from None


def _only_model(path: str, raw: bytes, why: str) -> InferenceRequest:
    try:
        found = _minimal.decode(raw)
        model = None if found.model is UNSET else decode_json(found.model)
    except UnicodeDecodeError:
        raise Refusal(400, "The body is not valid UTF-8, as JSON has to be.") from None
    except msgspec.DecodeError:
        raise Refusal(400, "The body must be a JSON object.") from None
    if model is not None and not isinstance(model, str):
        raise Refusal(400, "'model' must be a string.", param="model")
    return InferenceRequest(
        path=path,
        model=model,
        stream=found.stream is not UNSET and decode_json(found.stream) is True,
        include_usage=True,  # its options could not be read, so nothing is taken out of its stream
        prompts=(OpaquePrompt(UntokenizedCause.MALFORMED, f"the engine has to judge it: {why}"),),
        namespace=Namespace(None, None),
        raw=raw,
    )


def _peek_completion(path: str, raw: bytes) -> InferenceRequest:
    body = _completion.decode(raw)
    return InferenceRequest(
        path,
        body.model,
        bool(body.stream),
        _asked(body.stream_options),
        _completion_prompts(body),
        Namespace(None, body.cache_salt),
        raw,
        choices=body.n or 1,
        reads_cache=body.prompt_logprobs is None and not (body.echo and body.logprobs is not None),
    )


def _peek_chat(path: str, raw: bytes) -> InferenceRequest:
    body = _chat.decode(raw)
    return InferenceRequest(
        path,
        body.model,
        bool(body.stream),
        _asked(body.stream_options),
        (_chat_prompt(body),),
        Namespace(None, body.cache_salt),
        raw,
        choices=body.n or 1,
        reads_cache=body.prompt_logprobs is None,
    )


def _peek_responses(path: str, raw: bytes) -> InferenceRequest:
    body = _responses.decode(raw)
    prompt: Prompt
    if body.previous_response_id is not None:
        prompt = OpaquePrompt(UntokenizedCause.STORED_RESPONSE, "it continues a stored response")
    elif body.truncation not in (None, "disabled"):
        prompt = OpaquePrompt(UntokenizedCause.TRUNCATION, "the engine may truncate it")
    elif (special := _special_arguments(body)) is not None:
        prompt = special
    else:
        given = None if body.input is UNSET else decode_json(body.input)
        effort = (body.reasoning or {}).get("effort")
        extra = template_arguments(body.chat_template_kwargs, effort if isinstance(effort, str) else None)
        prompt = responses.to_chat(
            body.instructions, given, body.tools, extra, calls_no_tool=body.tool_choice == "none"
        )
    return InferenceRequest(
        path,
        body.model,
        bool(body.stream),
        True,
        (prompt,),
        Namespace(None, body.cache_salt),
        raw,
        body.previous_response_id,
    )


def _peek_messages(path: str, raw: bytes) -> InferenceRequest:
    body = _messages.decode(raw)
    given = None if body.messages is UNSET else decode_json(body.messages)
    prompt: Prompt
    if _forwards_ids(body.kv_transfer_params):
        prompt = _FORWARDED
    else:
        no_thinking = (body.thinking or {}).get("type") == "disabled"
        effort = None if no_thinking else (body.output_config or {}).get("effort")
        extra = template_arguments(body.chat_template_kwargs, effort if isinstance(effort, str) else None)
        prompt = anthropic.to_chat(
            body.system,
            given,
            body.tools,
            extra,
            calls_no_tool=isinstance(body.tool_choice, dict) and body.tool_choice.get("type") == "none",
            no_thinking=no_thinking,
        )
    return InferenceRequest(
        path,
        body.model,
        bool(body.stream),
        True,
        (prompt,),
        Namespace(None, body.cache_salt),
        raw,
    )


_PEEKS: dict[str, Callable[[str, bytes], InferenceRequest]] = {
    "/v1/completions": _peek_completion,
    "/v1/chat/completions": _peek_chat,
    "/v1/responses": _peek_responses,
    "/v1/messages": _peek_messages,
}


def _asked(options: _StreamOptions | None) -> bool:
    return options is not None and bool(options.include_usage)


_FORWARDED = OpaquePrompt(UntokenizedCause.ENGINE_ONLY, "it brings token ids of another engine with it")


def _forwards_ids(kv_transfer_params: Json) -> bool:
    """A decode engine takes the ids that the prefill engine made; they stand in no field that is read here."""
    return isinstance(kv_transfer_params, dict) and kv_transfer_params.get("prompt_token_ids") is not None


def _special_arguments(body: _Chat | _Responses) -> OpaquePrompt | None:
    if body.mm_processor_kwargs is not None or body.media_io_kwargs is not None:
        return OpaquePrompt(UntokenizedCause.MEDIA, "it brings arguments for the processor of images")
    return _FORWARDED if _forwards_ids(body.kv_transfer_params) else None


def _chat_prompt(body: _Chat) -> Prompt:
    if body.messages is UNSET:
        return OpaquePrompt(UntokenizedCause.MALFORMED, "it has no messages")
    if body.chat_template is not None:
        return OpaquePrompt(UntokenizedCause.OWN_TEMPLATE, "it brings a chat template of its own")
    if body.truncate_prompt_tokens is not None:
        return OpaquePrompt(UntokenizedCause.TRUNCATION, "the engine truncates it")
    if (special := _special_arguments(body)) is not None:
        return special
    messages = decode_json(body.messages)
    tools = None if body.tools is UNSET else decode_json(body.tools)
    extra = template_arguments(body.chat_template_kwargs, body.reasoning_effort)
    if body.documents is not None:
        extra["documents"] = body.documents
    return chat_prompt(
        [normalized_message(each) for each in messages] if isinstance(messages, list) else messages,
        [normalized_tool(each) for each in tools] if isinstance(tools, list) else None,
        extra,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
        add_special_tokens=body.add_special_tokens,
        calls_no_tool=body.tool_choice == "none",
    )


def _completion_prompts(body: _Completion) -> tuple[Prompt, ...]:
    given = body.prompt
    if body.prompt_embeds is not None:
        return (OpaquePrompt(UntokenizedCause.EMBEDDINGS, "it is made of vectors"),)
    if given is None:
        return (OpaquePrompt(UntokenizedCause.MALFORMED, "it is not made of text or token ids"),)
    if body.suffix is not None:
        return (OpaquePrompt(UntokenizedCause.ENGINE_ONLY, "it is a text to fill in"),)
    if body.truncate_prompt_tokens is not None:
        return (OpaquePrompt(UntokenizedCause.TRUNCATION, "the engine truncates it"),)
    if isinstance(given, list) and given and not isinstance(given[0], int):
        return tuple(_one_prompt(each, body.add_special_tokens) for each in given)
    return (_one_prompt(given, body.add_special_tokens),)


def _one_prompt(given: Json, add_special_tokens: bool) -> Prompt:
    if isinstance(given, str):
        return TextPrompt(given, add_special_tokens)
    if isinstance(given, list):
        return _token_prompt(given)
    return OpaquePrompt(UntokenizedCause.MALFORMED, "it is neither text nor token ids")


def _token_prompt(given: list[Any]) -> Prompt:
    try:
        return TokenPrompt(packed(given))
    except (TypeError, OverflowError):
        return OpaquePrompt(UntokenizedCause.MALFORMED, "its token ids are not all unsigned integers of 32 bits")
