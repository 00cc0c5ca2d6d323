import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_cli.bench.stream import StreamReading, Usage

TOKEN = b'data: {"choices":[{"index":0,"text":"a"}]}\n\n'
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":3,"prompt_tokens_details":'
    b'{"cached_tokens":16}}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def read(*pieces):
    reading = StreamReading()
    for at, piece in enumerate(pieces):
        reading.feed(piece, float(at))
    return reading


@given(st.lists(st.integers(0, 250), max_size=20))
def test_however_a_stream_is_cut_the_count_and_the_usage_are_the_same(cuts):
    stream = b": waiting\n\n" + 3 * TOKEN + USAGE + DONE
    places = [0, *sorted(cuts), len(stream)]
    reading = read(*(stream[a:b] for a, b in itertools.pairwise(places)))
    assert reading.events == 5
    assert reading.ending() == Usage(40, 3, 16)


def test_a_keep_alive_is_not_the_first_token():
    reading = read(b": waiting\n\n", TOKEN, TOKEN)
    assert (reading.first_at, reading.last_at) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("stream", "ending"),
    [
        (b"", "stream cut off"),
        (TOKEN, "stream cut off"),
        (TOKEN + b'data: {"choices":[{"ind', "stream cut off"),
        (TOKEN + b'data: {"error":{"type":"EngineGone"}}\n\n', "stream error: EngineGone"),
        (TOKEN + b'data: {"error":{"code":502}}\n\n' + DONE, "stream error: 502"),
        (TOKEN + b'data: {"error":{}}\n\n', "stream error: unnamed"),
        (TOKEN + b'data: {"error":"plain"}\n\n', "stream error: plain"),
        (DONE, "no usage in the stream"),
        (TOKEN + DONE, "no usage in the stream"),
        (b"data: 17\n\n" + DONE, "no usage in the stream"),
        (b'data: {"usage":{"prompt_tokens":null}}\n\n' + DONE, "no usage in the stream"),
    ],
)
def test_a_stream_without_usage_says_what_it_lacks(stream, ending):
    assert read(stream).ending() == ending


def test_an_engine_that_does_not_tell_cached_tokens_leaves_them_unknown():
    usage = json.dumps({"usage": {"prompt_tokens": 4, "completion_tokens": 1}}).encode()
    assert read(TOKEN + b"data: " + usage + b"\n\n" + DONE).ending() == Usage(4, 1, None)
