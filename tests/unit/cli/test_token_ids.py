import json

from hypothesis import given
from hypothesis import strategies as st
from kvpool_cli.bench.token_ids import RESERVED_IDS, Bodies, TokenIds
from kvpool_cli.bench.workload import Planned, Segment

IDS = TokenIds(4000)
segments = st.lists(st.builds(Segment, st.text(max_size=8), st.integers(1, 200)), min_size=1, max_size=5)


def ids_of(parts):
    return json.loads(IDS.json_list(parts))


@given(segments)
def test_a_prompt_has_as_many_ids_as_asked_for_all_within_the_vocabulary(parts):
    ids = ids_of(parts)
    assert len(ids) == sum(part.tokens for part in parts)
    assert all(RESERVED_IDS <= token < 4000 for token in ids)


@given(st.text(max_size=8), st.integers(1, 300), st.integers(1, 300))
def test_segments_of_one_key_begin_alike(key, one, other):
    shared = min(one, other)
    assert ids_of([Segment(key, one)])[:shared] == ids_of([Segment(key, other)])[:shared]


@given(segments, segments)
def test_equal_first_segments_give_equal_first_ids(head, tail):
    assert ids_of([*head, *tail])[: len(ids_of(head))] == ids_of(head)


def test_another_key_gives_other_ids():
    assert ids_of([Segment("block 1", 16)]) != ids_of([Segment("block 2", 16)])


def test_the_ids_of_a_key_never_change_between_releases():
    assert ids_of([Segment("block 0", 6)]) == [2470, 1172, 3067, 1963, 2741, 3492]


def test_a_body_streams_to_its_full_length_with_usage():
    body = json.loads(Bodies('a "model"', IDS).body(Planned(0, (Segment("x", 3),), 7)))
    assert body.pop("prompt") == ids_of([Segment("x", 3)])
    assert body == {
        "model": 'a "model"',
        "max_tokens": 7,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
