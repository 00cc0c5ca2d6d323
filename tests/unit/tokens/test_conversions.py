"""`/v1/responses` and `/v1/messages` become the chats that vLLM makes of them, and its probes come to the same end.

`chats/vllm_0_32_conversions.json` is recorded by `chats/record_conversions.py`.
"""

import json
from pathlib import Path

import pytest
from kvpool_router.requests.peek import peek
from kvpool_router.requests.prompts import ChatPrompt
from kvpool_router.tokens.probes import effort_without_thinking, wants_system_first, with_system_first
from kvpool_router.tokens.template import ChatTemplate

CHATS = Path(__file__).parent / "chats"
CASES = json.loads((CHATS / "vllm_0_32_conversions.json").read_text("utf-8"))
ANY_ORDER = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
SYSTEM_FIRST = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('first') }}"
SYSTEM_FIRST += "{% endif %}{{ m.role }}:{{ m.content }};{% endfor %}"


def chat(path: str, body: dict[str, object]) -> ChatPrompt:
    (prompt,) = peek(path, json.dumps(body).encode()).prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_a_body_becomes_the_messages_that_vllm_makes_of_it(case: dict[str, object]) -> None:
    prompt = chat(str(case["path"]), case["body"])
    assert prompt.messages == case["messages"]
    if prompt.late_system:
        assert with_system_first(prompt.messages) == case["system_first"]
    else:
        assert case.get("system_first", prompt.messages) == prompt.messages


@pytest.mark.parametrize(
    ("template", "refuses"),
    [
        (ANY_ORDER, False),
        (SYSTEM_FIRST, True),
        (ANY_ORDER + "{{ strftime_now('%Y') }}", True),
        ("{% generation %}{% endgeneration %}", True),
        ("{% for %}", True),
    ],
)
def test_a_template_wants_system_first_where_vllms_bare_trial_of_it_fails(template: str, refuses: bool) -> None:
    assert wants_system_first([ANY_ORDER, template]) is refuses


def test_late_system_messages_are_merged_at_the_head_only_where_the_template_wants_that() -> None:
    late = [{"role": role, "content": role[0]} for role in ("user", "system", "user")]
    prompt = chat("/v1/messages", {"system": "t", "messages": late})
    assert ChatTemplate({"default": ANY_ORDER}, {}).render(prompt) == "system:t;user:u;system:s;user:u;"
    assert ChatTemplate({"default": SYSTEM_FIRST}, {}).render(prompt) == "system:ts;user:u;user:u;"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ enable_thinking }} {{ reasoning_effort }}", "False none"),
        ("{{ reasoning_effort in ['low', 'medium'] }} {{ reasoning_effort }}", "False none"),
        ("{% if reasoning_effort == 'none' %}{{ raise_exception('no') }}{% endif %}{{ reasoning_effort }}", "low"),
        ("nothing of it{% if reasoning_effort == 'low' %} low{% endif %}", "nothing of it low"),
    ],
)
def test_disabled_thinking_is_the_effort_that_the_template_honours(template: str, text: str) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "thinking": {"type": "disabled"}}
    tried = ChatTemplate({"default": template}, {})
    assert [tried.render(chat("/v1/messages", body)) for _ in range(2)] == [text] * 2


def test_disabled_thinking_yields_to_the_templates_own_argument_and_outweighs_an_effort() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "thinking": {"type": "disabled"}}
    asked = {**body, "chat_template_kwargs": {"enable_thinking": True}, "output_config": {"effort": "high"}}
    template = ChatTemplate({"default": "{{ enable_thinking }} {{ reasoning_effort }}"}, {})
    assert template.render(chat("/v1/messages", asked)) == "True none"


def test_no_effort_counts_as_switching_off_where_another_renders_alike() -> None:
    assert effort_without_thinking({"none": "a", "max": "a"}.get) == "low"
    assert effort_without_thinking({"none": "a", "max": "b"}.get) == "none"
    assert effort_without_thinking({"max": "b"}.get) == "low"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tool_choice": "none"}),
        ("/v1/responses", {"input": "x", "tool_choice": "none"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "tool_choice": {"type": "none"}}),
    ],
)
def test_a_client_that_forbids_calls_is_known_for_it(path: str, body: dict[str, object]) -> None:
    assert chat(path, body).calls_no_tool
    assert not chat(path, {name: value for name, value in body.items() if name != "tool_choice"}).calls_no_tool
