"""Prompts whose tokens only the engine can tell are routed by load, never refused and never guessed."""

import json

import pytest
from kvpool_api.wire import UntokenizedCause
from kvpool_router.requests.peek import peek
from kvpool_router.requests.prompts import ChatPrompt, OpaquePrompt, TextPrompt, TokenPrompt
from kvpool_router.tokens.protocol import Untokenizable
from kvpool_router.tokens.template import ChatTemplate

HI = {"role": "user", "content": "hi"}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"

MALFORMED, MEDIA, EMBEDDINGS = UntokenizedCause.MALFORMED, UntokenizedCause.MEDIA, UntokenizedCause.EMBEDDINGS
ENGINE_ONLY, TRUNCATION = UntokenizedCause.ENGINE_ONLY, UntokenizedCause.TRUNCATION
OWN_TEMPLATE, STORED_RESPONSE = UntokenizedCause.OWN_TEMPLATE, UntokenizedCause.STORED_RESPONSE

OPAQUE = [
    (CHAT, {}, MALFORMED, "no messages"),
    (CHAT, {"messages": []}, MALFORMED, "empty"),
    (CHAT, {"messages": ["hi"]}, MALFORMED, "role"),
    (CHAT, {"messages": [IMAGE]}, MEDIA, "more than text"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "uuid": "1"}]}]},
        MEDIA,
        "more than text",
    ),
    (CHAT, {"messages": [{"role": "user", "content": 3}]}, MEDIA, "more than text"),
    (CHAT, {"messages": [HI], "chat_template": "{{ 1 }}"}, OWN_TEMPLATE, "template of its own"),
    (CHAT, {"messages": [HI], "truncate_prompt_tokens": 5}, TRUNCATION, "truncates"),
    (CHAT, {"messages": [HI], "tools": [{"type": "custom"}]}, ENGINE_ONLY, "not a function"),
    (CHAT, {"messages": [HI], "tools": [{"type": "function"}]}, ENGINE_ONLY, "not a function"),
    (CHAT, {"messages": [HI], "add_generation_prompt": "maybe"}, MALFORMED, "judge"),
    (TEXT, {}, MALFORMED, "not made of text"),
    (TEXT, {"prompt": "x", "prompt_embeds": "AA"}, EMBEDDINGS, "vectors"),
    (TEXT, {"prompt": "x", "suffix": "y"}, ENGINE_ONLY, "fill in"),
    (CHAT, {"messages": [HI], "mm_processor_kwargs": {"fps": 1}}, MEDIA, "processor"),
    (CHAT, {"messages": [HI], "media_io_kwargs": {}}, MEDIA, "processor"),
    (CHAT, {"messages": [HI], "kv_transfer_params": {"prompt_token_ids": [1]}}, ENGINE_ONLY, "another engine"),
    (RESPONSES, {"input": "x", "kv_transfer_params": {"prompt_token_ids": [1]}}, ENGINE_ONLY, "another engine"),
    (MESSAGES, {"messages": [HI], "kv_transfer_params": {"prompt_token_ids": [1]}}, ENGINE_ONLY, "another engine"),
    (TEXT, {"prompt": "x", "truncate_prompt_tokens": 5}, TRUNCATION, "truncates"),
    (TEXT, {"prompt": [1, "x"]}, MALFORMED, "32 bits"),
    (TEXT, {"prompt": [-1]}, MALFORMED, "32 bits"),
    (TEXT, {"prompt": [2**32]}, MALFORMED, "32 bits"),
    (TEXT, {"prompt": [{"a": 1}]}, MALFORMED, "neither"),
    (RESPONSES, {"input": "x", "previous_response_id": "resp_1"}, STORED_RESPONSE, "stored response"),
    (RESPONSES, {"input": "x", "truncation": "auto"}, TRUNCATION, "truncate"),
    (RESPONSES, {}, ENGINE_ONLY, "other than text"),
    (RESPONSES, {"input": ["x"]}, ENGINE_ONLY, "other than text"),
    (RESPONSES, {"input": [{"type": "reasoning"}]}, ENGINE_ONLY, "other than text"),
    (
        RESPONSES,
        {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]},
        ENGINE_ONLY,
        "other than text",
    ),
    (RESPONSES, {"input": [{"type": "reasoning", "summary": ["x"]}]}, ENGINE_ONLY, "other than text"),
    (RESPONSES, {"input": [{**HI, "status": "incomplete"}]}, ENGINE_ONLY, "other than text"),
    (RESPONSES, {"input": [{"type": "function_call", "namespace": "n"}]}, ENGINE_ONLY, "other than text"),
    (RESPONSES, {"input": [{"role": "assistant", "content": [{}]}]}, ENGINE_ONLY, "other than text"),
    (
        RESPONSES,
        {"input": [{"role": "assistant", "content": "x"}, {"role": "assistant", "content": 3}]},
        ENGINE_ONLY,
        "other than",
    ),
    (RESPONSES, {"input": "x", "tools": [{"type": "web_search"}]}, ENGINE_ONLY, "not functions"),
    (MESSAGES, {"messages": ["x"]}, MALFORMED, "no object"),
    (MESSAGES, {"messages": [{"role": "user"}]}, MALFORMED, "no content"),
    (MESSAGES, {"messages": [{"role": "user", "content": ["x"]}]}, MALFORMED, "no object"),
    (MESSAGES, {"messages": [{"role": "tool", "content": "x"}]}, MALFORMED, "role"),
    (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, MEDIA, "more than text"),
    (
        MESSAGES,
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]},
        ENGINE_ONLY,
        "no id",
    ),
    (
        MESSAGES,
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image"}]}]}]},
        MEDIA,
        "more than text",
    ),
    (MESSAGES, {"messages": [HI], "tools": [{"type": "bash", "name": "bash"}]}, ENGINE_ONLY, "not functions"),
    (MESSAGES, {}, MALFORMED, "empty"),
]


@pytest.mark.parametrize(("path", "body", "cause", "why"), OPAQUE)
def test_what_only_the_engine_can_judge_is_opaque_with_its_reason(
    path: str, body: object, cause: UntokenizedCause, why: str
) -> None:
    (prompt,) = peek(path, json.dumps(body).encode()).prompts
    assert isinstance(prompt, OpaquePrompt)
    assert prompt.cause is cause
    assert why in prompt.reason


def test_a_batch_gives_one_prompt_each_in_the_clients_order() -> None:
    found = peek(TEXT, b'{"prompt": ["a", "b"], "add_special_tokens": false}').prompts
    assert found == (TextPrompt("a", False), TextPrompt("b", False))
    ids = peek(TEXT, b'{"prompt": [[1], [2, 258]]}').prompts
    assert ids == (TokenPrompt(b"\x01\0\0\0"), TokenPrompt(b"\x02\0\0\0\x02\x01\0\0"))


def test_token_ids_become_little_endian_uint32() -> None:
    assert peek(TEXT, b'{"prompt": [1, 4294967295]}').prompts == (TokenPrompt(b"\x01\0\0\0\xff\xff\xff\xff"),)


def test_what_routing_needs_is_read_and_the_rest_ignored() -> None:
    raw = json.dumps(
        {
            "model": "m",
            "messages": [HI],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 5,
            "max_completion_tokens": 7,
            "cache_salt": "s",
            "anything": {"else": []},
        }
    ).encode()
    found = peek(CHAT, raw)
    assert (found.model, found.stream, found.include_usage) == ("m", True, True)
    assert found.namespace == (None, "s")
    assert found.raw is raw


def test_a_field_of_an_odd_type_leaves_model_and_stream_readable() -> None:
    found = peek(CHAT, b'{"model": "m", "stream": true, "n": "many", "messages": []}')
    assert (found.model, found.stream, found.include_usage) == ("m", True, True)


def test_template_arguments_that_replace_the_request_are_not_guessed_at() -> None:
    template = ChatTemplate({"default": "{{ messages }}"}, {})
    with pytest.raises(Untokenizable, match="replace"):
        template.render(ChatPrompt([HI], template_arguments={"tools": []}))  # type: ignore[list-item]
    with pytest.raises(Untokenizable, match="no chat template"):
        ChatTemplate({}, {}).render(ChatPrompt([HI]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        (ChatPrompt([{"role": "user", "content": "x"}], continue_final_message=True), "begins one"),
        (ChatPrompt([{"role": "user"}], add_generation_prompt=False, continue_final_message=True), "drops the text"),
        (
            ChatPrompt([{"role": "user", "content": []}], add_generation_prompt=False, continue_final_message=True),
            "no text",
        ),
    ],
)
def test_a_message_that_cannot_be_continued_is_left_to_the_engine(prompt: ChatPrompt, why: str) -> None:
    parts = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
    template = ChatTemplate({"default": "nothing of it" if why == "drops the text" else parts}, {})
    with pytest.raises(Untokenizable, match=why):
        template.render(prompt)


def test_tool_use_has_a_template_of_its_own_where_the_model_brings_one() -> None:
    template = ChatTemplate({"default": "plain", "tool_use": "tools"}, {})
    message: dict[str, object] = {"role": "user", "content": "x"}
    assert template.render(ChatPrompt([message])) == "plain"  # type: ignore[list-item]
    assert template.render(ChatPrompt([message], tools=[{}])) == "tools"  # type: ignore[list-item]


def test_a_template_knows_todays_date() -> None:
    template = ChatTemplate({"default": "{{ strftime_now('%Y') }}"}, {})
    assert template.render(ChatPrompt([{"role": "user", "content": "x"}])).isdigit()


@pytest.mark.parametrize(
    ("path", "body", "is_one"),
    [
        ("/v1/completions", {"prompt": [1, 2]}, True),
        ("/v1/completions", {"prompt": [[1], [2]]}, False),
        ("/v1/completions", {"prompt": "x", "n": 2}, False),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": 1}, True),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": 3}, False),
    ],
)
def test_a_request_for_several_answers_is_told_from_one_for_one(path: str, body: dict[str, object], is_one: bool):
    assert peek(path, json.dumps(body).encode()).is_one_sequence is is_one
