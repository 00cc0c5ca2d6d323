"""However the network cuts a stream, its events come out whole, in order, and the usage is found."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.requests.refusal import Dialect
from kvpool_router.requests.usage import asking_for_usage, usage_of
from kvpool_router.sse import MAX_HELD_BYTES, EventStream
from tiny_engine import chat_event, chat_events

WHOLE = b"".join(chat_events())
USAGE_EVENT = chat_events()[3]


def passed(stream: EventStream, raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    pieces = [stream.feed(raw[a:b]) for a, b in itertools.pairwise(edges)]
    return [piece for piece in [*pieces, stream.close()] if piece]


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_any_cut_of_a_stream_loses_nothing_but_the_unasked_usage(cuts: list[int]) -> None:
    stream = EventStream(Dialect.OPENAI, drops_usage=True)
    pieces = passed(stream, WHOLE, cuts)
    assert b"".join(pieces) == WHOLE.replace(USAGE_EVENT, b"")
    assert all(piece.endswith(b"\n\n") for piece in pieces)
    assert stream.usage() == (32, 3, 16)


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_a_client_that_asked_gets_every_byte(cuts: list[int]) -> None:
    stream = EventStream(Dialect.OPENAI, drops_usage=False)
    assert b"".join(passed(stream, WHOLE, cuts)) == WHOLE
    assert stream.usage() == (32, 3, 16)


@given(st.binary(max_size=400), st.lists(st.integers(0, 10_000), max_size=5))
def test_bytes_that_are_no_events_pass_too(raw: bytes, cuts: list[int]) -> None:
    assert b"".join(passed(EventStream(Dialect.OPENAI, drops_usage=True), raw, cuts)) == raw


ENDING = b'data: {"id":"c","choices":[{"index":0,"text":"b","finish_reason":"stop"}]}\n\n'
SIGNED_USAGE = (
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2},"system_fingerprint":"v-1"}\n\n'
)
DONE = b"data: [DONE]\n\n"


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_the_engines_fingerprint_is_in_the_last_event_that_the_client_gets(cuts: list[int]) -> None:
    """As vLLM 0.32 writes it where usage is not asked for."""
    first = chat_event(choices=[{"index": 0, "text": "a", "finish_reason": None}])
    told = b"".join(passed(EventStream(Dialect.OPENAI, drops_usage=True), first + ENDING + SIGNED_USAGE + DONE, cuts))
    assert told == first + ENDING.replace(b"}]}", b'}],"system_fingerprint":"v-1"}') + DONE
    asked = EventStream(Dialect.OPENAI, drops_usage=False)
    assert b"".join(passed(asked, first + ENDING + SIGNED_USAGE, cuts)) == first + ENDING + SIGNED_USAGE


def test_the_end_of_one_of_several_choices_waits_for_the_next_event_and_no_longer() -> None:
    stream = EventStream(Dialect.OPENAI, drops_usage=True)
    other = chat_event(choices=[{"index": 1, "text": "x", "finish_reason": None}])
    assert stream.feed(other + ENDING) == other
    assert stream.feed(other) == ENDING + other
    assert stream.feed(ENDING) == b""
    assert stream.close() == ENDING


def test_a_token_that_looks_like_usage_is_no_usage() -> None:
    event = chat_event(choices=[{"delta": {"content": '"choices":[]'}}])
    stream = EventStream(Dialect.OPENAI, drops_usage=True)
    assert stream.feed(event) == event
    odd = b'data: {"choices":[], broken\n\n'
    assert stream.feed(odd) == odd
    assert stream.usage() is None


def test_an_endless_event_is_passed_on_in_pieces() -> None:
    stream = EventStream(Dialect.OPENAI, drops_usage=True)
    assert stream.feed(b"data: ") == b""
    assert len(stream.feed(b"x" * (MAX_HELD_BYTES + 1))) == MAX_HELD_BYTES + 7


def test_usage_is_read_in_each_apis_words_and_absent_where_there_is_none() -> None:
    chat = {"usage": {"prompt_tokens": 5, "completion_tokens": None}}
    anthropic = {"message": {"usage": {"input_tokens": 3, "output_tokens": 2, "cache_creation_input_tokens": 1}}}
    responses = {"response": {"usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 8}}}}
    assert usage_of(json.dumps(chat).encode()) == (5, 0, None)
    assert usage_of(json.dumps(anthropic).encode()) == (4, 2, None)
    assert usage_of(json.dumps(responses).encode()) == (9, 0, 8)
    for none in (b"{}", b'{"usage": null}', b'{"usage": {}}', b"not json", b'{"response": {}}'):
        assert usage_of(none) is None


@given(
    st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.text(max_size=9), st.lists, max_leaves=4)),
    st.sampled_from(["", '"stream_options"', '{"stream_options":null}']),
    st.none() | st.dictionaries(st.sampled_from(["include_usage", "x"]), st.booleans()),
)
def test_a_body_is_asked_for_usage_once_and_keeps_all_else(
    more: dict[str, object], text: str, options: dict[str, bool] | None
) -> None:
    body = {"stream_options": options, **more, "prompt": text, "stream": True}
    asked = json.loads(asking_for_usage(json.dumps(body, indent=1).encode()), object_pairs_hook=_unrepeated)
    assert asked == {**body, "stream_options": {"include_usage": True}}
    del body["stream_options"]
    raw = json.dumps(body).encode() + b" \n"
    asked = json.loads(asking_for_usage(raw), object_pairs_hook=_unrepeated)
    assert asked == {**body, "stream_options": {"include_usage": True}}


def _unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)
