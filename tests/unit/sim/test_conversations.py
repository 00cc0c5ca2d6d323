"""Conversations as the chat template gets them, beside what vLLM's own code made of the same bodies."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kvpool_sim.asks import FORMS
from kvpool_sim.conversation import NotText, Talk, check_parts, for_template, from_anthropic, from_responses
from kvpool_sim.conversation import template_arguments as arguments
from kvpool_sim.forms.base import filled
from kvpool_sim.forms.openai import ChatForm
from kvpool_sim.refusal import Refusal
from kvpool_sim.vocabulary import ChatTemplate, Untemplatable

CHATS = Path(__file__).parents[1] / "tokens" / "chats"
CASES = json.loads((CHATS / "vllm_0_32.json").read_text("utf-8"))
TEMPLATE = (CHATS / "strings.jinja").read_text("utf-8")
APIS = {"/v1/chat/completions": "chat", "/v1/messages": "messages", "/v1/responses": "responses"}
USER = {"role": "user", "content": "x"}


def talk_of(path, body):
    """Past the checks of an HTTP body, which vLLM's code was not asked for either."""
    if path != "/v1/chat/completions":
        return filled(FORMS[APIS[path]], {"model": "tiny", **body}).talk()
    form = filled(ChatForm, {**body, "messages": [USER], "continue_final_message": False})
    given = arguments(body.get("chat_template_kwargs"), body.get("reasoning_effort"), body.get("documents"))
    talk = Talk(body["messages"], form.talk().tools, given, body.get("add_generation_prompt", True))
    return replace(talk, continue_final_message=body.get("continue_final_message", False))


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_a_conversation_is_rendered_as_vllm_renders_it(case):
    template = ChatTemplate(TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", ""))
    talk = talk_of(case["path"], case["body"])
    messages = for_template(talk.messages)
    if case["strings"] is None:
        with pytest.raises(Untemplatable):
            template.render(replace(talk, messages=messages))
    else:
        assert template.render(replace(talk, messages=messages)) == case["strings"]


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_arguments_of_a_call_become_an_object(arguments):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    (message,) = for_template([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert message["tool_calls"][0]["function"]["arguments"] == {"a": 1}


@pytest.mark.parametrize("arguments", ["{bad", "[]", "", None, 5])
def test_arguments_that_are_no_object_become_an_empty_one(arguments):
    call = {"function": {"name": "f", "arguments": arguments}}
    (message,) = for_template([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert message["tool_calls"][0]["function"]["arguments"] == {}


def test_a_call_of_something_else_than_a_function_is_refused():
    with pytest.raises(Refusal, match="of type 'function'"):
        for_template([{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}])


def test_the_order_in_which_a_client_writes_a_call_does_not_matter():
    called = [{"name": "f", "arguments": "{}"}, {"arguments": "{}", "name": "f"}]
    talks = [
        filled(
            ChatForm,
            {"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": f}]}]},
        ).talk()
        for f in called
    ]
    assert json.dumps(talks[0].messages) == json.dumps(talks[1].messages)
    assert list(talks[0].messages[1]["tool_calls"][0]["function"]) == ["arguments", "name"]


def test_an_image_is_no_text():
    with pytest.raises(NotText):
        for_template([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])
    with pytest.raises(NotText):
        for_template(from_anthropic([{"role": "user", "content": [{"type": "image", "source": {"data": ""}}]}], None))


@pytest.mark.parametrize("part", ["a", 5, {"type": "input_text", "text": "a"}, {"text": "a"}])
def test_a_part_that_its_role_cannot_have_is_refused(part):
    with pytest.raises(Refusal, match="ValidatorIterator"):
        check_parts([{"role": "user", "content": [part]}])
    check_parts([{"role": "stranger", "content": [part]}])


def test_an_attribution_line_is_dropped_wherever_a_system_says_it():
    line = "x-anthropic-billing-header: cch=1"
    assert for_template([{"role": "system", "content": line}])[0]["content"] == ""
    assert from_anthropic([{"role": "system", "content": line}, USER], None) == [USER]
    inline = {"role": "system", "content": [{"type": "text", "text": line}, {"type": "text", "text": "be brief"}]}
    assert from_anthropic([inline], None) == [{"role": "system", "content": "be brief"}]


def test_an_assistants_tool_result_is_told_in_words():
    block = {"type": "tool_result", "content": "12"}
    (message,) = from_anthropic([{"role": "assistant", "content": [block]}], None)
    assert for_template([message])[0]["content"] == "Tool result: 12"


def test_reasoning_and_calls_join_the_assistants_message_before_them():
    items = [
        {"type": "reasoning", "summary": [{"text": "hm"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "so"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"role": "assistant", "content": "and"},
        {"type": "reasoning", "content": [], "summary": []},
    ]
    first, second = from_responses(items, None)
    assert (first["reasoning"], first["content"], len(first["tool_calls"])) == ("hm", "so", 1)
    assert (second["content"], second["reasoning"]) == ("and", "")


def test_an_input_item_that_is_no_message_is_refused():
    with pytest.raises(Refusal, match="Unsupported input item type: item_reference"):
        from_responses([{"type": "item_reference", "id": "x"}], None)


@pytest.mark.parametrize("status", ["in_progress", "incomplete"])
def test_an_answer_that_was_cut_short_is_continued(status):
    last = {"type": "message", "role": "assistant", "status": status, "content": [{"type": "output_text", "text": "s"}]}
    continued = filled(FORMS["responses"], {"input": [{"role": "user", "content": "x"}, last]}).talk()
    assert (continued.continue_final_message, continued.add_generation_prompt) == (True, False)
    begun = filled(FORMS["responses"], {"input": []}).talk()
    assert (begun.continue_final_message, begun.add_generation_prompt) == (False, True)


def test_a_template_that_drops_what_is_to_be_continued_is_refused():
    talk = Talk([{"role": "assistant", "content": "so"}], continue_final_message=True)
    with pytest.raises(Untemplatable, match="drops the text"):
        ChatTemplate("nothing").render(talk)
    with pytest.raises(Untemplatable, match="users first"):
        ChatTemplate("{{ raise_exception('users first') }}").render(talk)


def test_a_template_that_trims_messages_trims_the_one_that_is_continued():
    talk = Talk([{"role": "assistant", "content": "so  "}], continue_final_message=True)
    assert ChatTemplate("{{ messages[0].content | trim }}!").render(talk) == "so"
    assert ChatTemplate("{{ messages[0].content }}!").render(talk) == "so  "
