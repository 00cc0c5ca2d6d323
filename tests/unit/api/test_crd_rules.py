"""Every CEL rule accepts what it should and refuses what it should, at the field and with the message it names."""

import re

import pytest
from kvpool_api.crd import custom_resource_definition
from kvpool_api.manifest import as_map
from kvpool_api.rules import REFUSED_ARGUMENTS, RefusedArgument, rules
from kvpool_api.validation import Admission, Invalid
from rule_examples import EXAMPLES, Example, engine, pool


@pytest.fixture(scope="module")
def admission() -> Admission:
    return Admission(custom_resource_definition())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: f"{each.field}-{each.message}")
def test_a_rule_refuses_with_its_message_at_its_field_and_accepts_the_neighbour(
    admission: Admission, example: Example
) -> None:
    with pytest.raises(Invalid) as caught:
        admission.admit(pool(example.refused, example.name))
    (error,) = caught.value.errors
    assert error.path == example.field
    assert example.message in error.message
    admission.admit(pool(example.accepted))


def test_every_rule_has_an_example() -> None:
    arguments = {each.message for each in REFUSED_ARGUMENTS}
    bare = [rule for rule in rules() if rule.message not in arguments and "oldSelf" not in rule.expression]
    for rule in bare:
        field = f"{rule.path}{rule.field}".removeprefix(".")
        assert any(each.message in rule.message and re.sub(r"\d", "", each.field) == field for each in EXAMPLES), rule


def forms(argument: RefusedArgument) -> list[str]:
    """The ways in which `vllm serve` takes the flag: with a value behind `=`, with underscores, in short, negated."""
    flag = argument.flag.replace("*", "x")
    long = [flag, f"{flag}=1", flag.replace("-", "_").replace("__", "--", 1)]
    short = [f"-{argument.short}", f"-{argument.short}=2"] if argument.short.isalpha() else []
    negated = [flag.replace("--", "--no-", 1)] if "(no-)" in argument.pattern else []
    return [*long, *short, *negated]


@pytest.mark.parametrize("argument", REFUSED_ARGUMENTS, ids=lambda each: each.flag)
def test_an_argument_that_the_operator_owns_is_refused_in_every_form(
    admission: Admission, argument: RefusedArgument
) -> None:
    for form in forms(argument):
        with pytest.raises(Invalid) as caught:
            admission.admit(pool(engine(args=["--enforce-eager", form])))
        assert str(caught.value).endswith(f"spec.engine.args: Forbidden: {argument.message}"), form


@pytest.mark.parametrize(
    "flag",
    [
        "--kv-events",
        "--served-model",
        "--tensor-parallel",
        "--data-parallel-rank=1",
        "-dpl",
        "--kv-events-config.topic",
    ],
)
def test_an_abbreviation_or_a_part_of_an_owned_argument_is_refused(admission: Admission, flag: str) -> None:
    with pytest.raises(Invalid, match="Forbidden"):
        admission.admit(pool(engine(args=[flag, "1"])))


def test_arguments_that_only_look_alike_are_accepted(admission: Admission) -> None:
    mine = [
        "--chat-template-content-format=openai",
        "--model-impl",
        "auto",
        "--kv-cache-dtype=fp8",
        "--max-model-len",
        "8192",
        "-O3",
        "--no-enable-prefix-caching",
        "--num-gpu-blocks-override=512",
    ]
    admitted = admission.admit(pool(engine(args=mine)))
    assert as_map(as_map(admitted["spec"])["engine"])["args"] == mine


def test_the_model_of_a_pool_never_changes_but_all_else_may(admission: Admission) -> None:
    old = admission.admit(pool({}))
    with pytest.raises(Invalid, match=r'spec\.model\.name: Invalid value: "other": a pool serves one model for life'):
        admission.admit(pool({"model": {"name": "other"}}), old)
    admission.admit(pool({"model": {"name": "m", "servedNames": ["n"]}, "replicas": 7}), old)


def test_messages_say_what_to_do_and_end_without_a_stop() -> None:
    for rule in rules():
        assert 15 < len(rule.message) < 160, rule
        assert not rule.message.endswith("."), rule
