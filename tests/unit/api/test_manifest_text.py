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


def test_a_control_character_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(UnreadableManifest, match="not YAML"):
        load_manifest("a: \x00")


def test_a_number_that_is_none_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(UnreadableManifest):
        load_manifest("a: !!int x")


def test_python_objects_are_refused() -> None:
    with pytest.raises(UnreadableManifest, match="could not determine a constructor"):
        load_manifest("a: !!python/object/apply:os.system [x]")


def test_a_text_or_a_list_is_no_manifest() -> None:
    with pytest.raises(UnreadableManifest, match=r"document 2 is a list, not an object; .*apiVersion"):
        load_manifest("a: 1\n---\n- b\n")
