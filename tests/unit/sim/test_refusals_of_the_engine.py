"""Bad values of parameters, refused in vLLM's words."""

import pytest
from kvpool_sim.asks import FORMS, Reader
from kvpool_sim.forms.base import Form
from kvpool_sim.refusal import Refusal, invalid, parsed
from kvpool_sim.sampling import Sampling, check_salt, check_sampling
from kvpool_sim.vocabulary import ChatTemplate, Vocabulary
from sim_engine import VOCABULARY, settings, sim_engine

USER = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f"}}
CALLS_TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
SAMPLING = [
    (Sampling(n=0), "n must be at least 1, got 0."),
    (Sampling(n=20_000), "n must be at most 16384, got 20000."),
    (Sampling(temperature=0.0, n=2), "n must be 1 when using greedy sampling, got 2."),
    (Sampling(presence_penalty=3.0), r"presence_penalty must be in \[-2, 2\], got 3.0."),
    (Sampling(frequency_penalty=-3.0), r"frequency_penalty must be in \[-2, 2\], got -3.0."),
    (Sampling(repetition_penalty=0.0), "repetition_penalty must be greater than zero, got 0.0."),
    (Sampling(repetition_penalty=float("inf")), "repetition_penalty must be a finite number, got inf."),
    (Sampling(temperature=float("nan")), "temperature must be a finite number, got nan."),
    (Sampling(temperature=-1.0), "temperature must be non-negative, got -1.0."),
    (Sampling(temperature=3.0), r"temperature must be in \[0, 2\], got 3.0."),
    (Sampling(top_p=0.0), r"top_p must be in \(0, 1\], got 0.0."),
    (Sampling(top_k=-2), r"top_k must be 0 \(disable\), or at least 1, got -2."),
    (Sampling(min_p=2.0), r"min_p must be in \[0, 1\], got 2.0."),
    (Sampling(max_tokens=0), r"max_tokens must be at least 1, got 0. \(parameter=max_tokens, value=0\)"),
    (Sampling(min_tokens=-1), "min_tokens must be greater than or equal to 0, got -1."),
    (Sampling(max_tokens=2, min_tokens=3), "min_tokens must be less than or equal to max_tokens=2, got 3."),
    (Sampling(logprobs=-2), "logprobs must be non-negative or -1, got -2."),
    (Sampling(stop=("",)), "stop cannot contain an empty string."),
]


@pytest.mark.parametrize(("sampling", "words"), SAMPLING)
def test_a_bad_value_is_refused_in_vllms_words(sampling, words):
    with pytest.raises(Refusal, match=words):
        check_sampling(sampling)


def test_what_is_not_asked_for_is_not_refused():
    check_sampling(Sampling())
    check_sampling(Sampling(max_tokens=4, min_tokens=4, temperature=2.0, top_p=1.0, top_k=-1, min_p=1.0, n=16_384))
    check_salt(None)
    check_salt("a" * 128)


@pytest.mark.parametrize("salt", ["", 5, "a" * 129, "a/b", "a@b", "a\\b", "a\0"])
def test_a_salt_that_cannot_be_a_key_is_refused(salt):
    with pytest.raises(Refusal, match="cache_salt"):
        check_salt(salt)


CHATS = [
    ({"tools": []}, "`tools` must not be an empty array."),
    ({"tool_choice": "auto"}, "When using `tool_choice`, `tools` must be set."),
    ({"top_logprobs": 2}, "when using `top_logprobs`, `logprobs` must be set to true."),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "does not match any of the specified `tools`",
    ),
    ({"chat_template": "x"}, "Refused request with untrusted chat template."),
    ({"chat_template_kwargs": {"chat_template": "x"}}, "Refused request with untrusted chat template."),
    ({"stop": list("abcde")}, "List should have at most 4 items"),
    ({"tools": [{"type": "search"}]}, "tools.0.type"),
]


@pytest.mark.parametrize(("more", "words"), CHATS)
def test_a_chat_that_makes_no_sense_is_refused(more, words):
    with pytest.raises(Refusal, match=words.replace("[", r"\[")):
        Reader(settings(*CALLS_TOOLS), VOCABULARY).read("chat", {"messages": USER, **more})


CHOICES = [
    ("chat", {"tools": [TOOL]}, '"auto" tool choice requires --enable-auto-tool-choice'),
    ("chat", {"tools": [TOOL], "tool_choice": "required"}, 'tool_choice="required" requires --tool-call-parser'),
    (
        "chat",
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        'tool_choice=function "f" requires --tool-call-parser',
    ),
    ("chat", {"tools": [TOOL], "tool_choice": "none"}, None),
    ("chat", {"tools": [TOOL], "tool_choice": None}, None),
    ("messages", {"tools": [{"name": "f", "input_schema": {}}]}, '"auto" tool choice requires'),
    ("messages", {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "any"}}, '"required" requires'),
    (
        "messages",
        {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "f"}},
        'function "f" requires',
    ),
    ("messages", {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "none"}}, None),
]


@pytest.mark.parametrize(("api", "more", "words"), CHOICES)
def test_tools_need_a_parser_of_their_calls_where_the_model_may_call_them(api, more, words):
    body = {"model": "tiny", "messages": USER, "max_tokens": 1, **more}
    Reader(settings(*CALLS_TOOLS), VOCABULARY).read(api, body)
    engine = Reader(settings(), VOCABULARY)
    if words is None:
        engine.read(api, body)
    else:
        with pytest.raises(Refusal, match=words):
            engine.read(api, body)


def test_a_deferred_tool_is_printed_as_such():
    body = {"messages": USER, "tools": [{**TOOL, "defer_loading": True}]}
    form = FORMS["chat"].model_validate(body)
    (printed,) = form.talk().tools
    assert printed["defer_loading"] is True
    assert printed["function"]["defer_loading"] is True


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt"])
def test_a_clients_arguments_of_the_template_do_not_replace_what_the_request_itself_says(name):
    reader = Reader(settings(), VOCABULARY)
    plain = reader.read("chat", {"messages": USER}).prompts
    assert reader.read("chat", {"messages": USER, "chat_template_kwargs": {name: []}}).prompts == plain


def test_what_a_template_refuses_is_the_clients_mistake():
    body = {"messages": USER, "tools": [TOOL], "tool_choice": "none"}
    with pytest.raises(Refusal, match="can only concatenate") as refused:
        Reader(settings(), Odd()).read("chat", body)
    assert refused.value.status == 400


class Odd(Vocabulary):
    def chat(self, talk):
        return ChatTemplate("{{ messages[0].content + 5 }}").render(talk)


def test_many_errors_are_told_in_part():
    errors = [{"type": "missing", "loc": ("a", number), "msg": "m", "input": "x" * 300} for number in range(12)]
    refusal = invalid(errors)
    assert refusal.message.endswith("...and 2 more errors")
    assert refusal.param == "body.a.0"
    assert "...[truncated]" in refusal.message


def test_json_that_only_pythons_parser_takes_is_taken():
    assert list(parsed(b'{"temperature": NaN}')) == ["temperature"]


def test_a_form_says_what_it_lacks():
    form = Form()
    assert (form.listed(), form.echoes(), form.limit_field, form.wants_usage()) == (
        None,
        "nothing",
        "max_tokens",
        (False, False),
    )
    for asked in (form.sampling, form.talk):
        with pytest.raises(NotImplementedError):
            asked()


async def test_tokens_of_messages_are_counted_as_they_will_be_read():
    async with sim_engine() as engine:
        body = {"model": "tiny", "messages": USER, "system": "be brief"}
        counted = await engine.post("/v1/messages/count_tokens", body)
        answer = await engine.post("/v1/messages", {**body, "max_tokens": 1})
        assert counted["input_tokens"] == answer["usage"]["input_tokens"]
        assert counted["context_management"] == {"original_input_tokens": counted["input_tokens"]}
        refused = await engine.post("/v1/messages/count_tokens", {**body, "model": "nope"}, status=404)
        assert refused["type"] == "error"
        assert await engine.post("/detokenize", {"tokens": [199_999]}) == {"prompt": ""}
        async with engine.http.post(engine.url + "/ping") as pinged:
            assert pinged.status == 200
