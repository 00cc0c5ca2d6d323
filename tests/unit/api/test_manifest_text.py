"""Manifests as text: read as kubectl reads them, and each mistake with its line."""

import pytest
from kvpool_api.validation import UnreadableManifest, load_manifest


def test_documents_come_one_by_one_and_empty_ones_are_left_out() -> None:
    assert load_manifest("a: 1\n---\n# nothing\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]
    assert load_manifest("") == []


def test_json_is_a_manifest_too() -> None:
    assert load_manifest('{"a": {"b": [1, "x", null, true]}}') == [{"a": {"b": [1, "x", None, True]}}]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-02", "2026-01-02"),
        ("12:30", "12:30"),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        ("0x10", 16),
        ("0", 0),
        ("-7", -7),
        ("1Gi", "1Gi"),
        ("'3'", "3"),
        ("~", None),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_are_those_of_json(text: str, value: object) -> None:
    assert load_manifest(f"a: {text}") == [{"a": value}]


def test_keys_are_texts() -> None:
    assert load_manifest("1: a\ntrue: b") == [{"1": "a", "true": "b"}]


def test_a_key_twice_is_a_mistake_with_both_lines() -> None:
    with pytest.raises(UnreadableManifest, match=r'line 4, column 3: key "replicas" is set again \(first on line 2\)'):
        load_manifest("spec:\n  replicas: 1\n  model: x\n  replicas: 2\n")


def test_merge_keys_give_way_to_own_keys() -> None:
    text = "base: &b {x: 1, y: 2}\nown:\n  <<: *b\n  x: 3\n"
    assert load_manifest(text)[0]["own"] == {"x": 3, "y": 2}


def test_a_tab_is_named_with_its_line_and_the_mend() -> None:
    with pytest.raises(UnreadableManifest, match=r"line 2, column 1: .*indent with spaces"):
        load_manifest("spec:\n\treplicas: 1\n")


def test_a_broken_structure_is_named_with_its_line() -> None:
    with pytest.raises(UnreadableManifest, match=r"line 3, column "):
        load_manifest("spec:\n  a: [1, 2\n  b: 3\n")


def test_a_control_character_is_named_with_its_place() -> None:
    with pytest.raises(UnreadableManifest, match=r"^line 2, column 4: the character U\+0000 is not allowed"):
        load_manifest("x: 1\na: \x00")


@pytest.mark.parametrize(
    "scalar",
    ["!!int x", "!!bool x", "!!float x", "0o", "1e999", "9" * 20, "9" * 5000, '"\\ud800"'],
    ids=lambda text: text[:9],
)
def test_a_value_that_json_cannot_hold_is_one_line_and_not_a_crash(scalar: str) -> None:
    told = r"^line 1, column 4: '.{1,42}' is no (number|true or false|text) "
    with pytest.raises(UnreadableManifest, match=told) as caught:
        load_manifest(f"a: {scalar}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tag", ["binary aGVs", "set {x}", "omap [x: 1]", "timestamp 2026-01-02"])
def test_types_that_json_does_not_know_are_refused(tag: str) -> None:
    with pytest.raises(UnreadableManifest, match=r"line 1, column 4: !!\w+ is not of JSON"):
        load_manifest(f"a: !!{tag}")


def test_a_pair_of_surrogates_is_the_character_that_json_means() -> None:
    assert load_manifest('{"a": "\\ud83d\\ude00"}') == [{"a": "\U0001f600"}]
    assert load_manifest("a: =") == [{"a": "="}]


def nested(levels: int, inner: str = "") -> str:
    return "[" * levels + inner + "]" * levels


@pytest.mark.parametrize(
    "text",
    [
        f"a: {nested(3000)}",
        "\n".join(f"{' ' * level}a:" for level in range(1000)),
        f"a: &a {nested(60)}\nb: {nested(60, '*a')}",
    ],
    ids=["flow", "block", "by an alias"],
)
def test_what_is_nested_beyond_all_manifests_is_refused_before_it_is_built(text: str) -> None:
    with pytest.raises(UnreadableManifest, match=r"^line \d+, column \d+: more than 100 maps and lists stand within"):
        load_manifest(text)


def test_what_a_manifest_may_nest_is_kept() -> None:
    assert load_manifest(f"a: {nested(98)}")


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)),
    ],
    ids=["lists", "merge keys"],
)
def test_aliases_that_would_fill_the_memory_are_refused(text: str) -> None:
    with pytest.raises(UnreadableManifest, match=r"^line \d+, column \d+: more than 100,000 values"):
        load_manifest(text)


def test_an_alias_within_what_it_repeats_is_refused() -> None:
    with pytest.raises(UnreadableManifest, match=r"line 1, column 8: \*a stands inside of what it repeats"):
        load_manifest("a: &a [*a]")


def test_an_alias_is_still_what_it_repeats() -> None:
    assert load_manifest("a: &a [1]\nb: *a\nc: [*a, *a]") == [{"a": [1], "b": [1], "c": [[1], [1]]}]


def test_a_text_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(UnreadableManifest, match="more than 1,000,000 characters"):
        load_manifest("x" * 1_000_001)


def test_python_objects_are_refused() -> None:
    with pytest.raises(UnreadableManifest, match="could not determine a constructor"):
        load_manifest("a: !!python/object/apply:os.system [x]")


def test_a_text_or_a_list_is_no_manifest() -> None:
    with pytest.raises(UnreadableManifest, match=r"document 2 is a list, not a map; .*apiVersion"):
        load_manifest("a: 1\n---\n- b\n")
