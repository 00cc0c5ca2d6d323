import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.siblings.frames import FrameReader, FrameWriter, Refused

PAYLOADS = st.lists(st.binary(max_size=40), min_size=1, max_size=5)


def written(payloads, kind="bookings"):
    writer = FrameWriter(kind)
    return b"".join(writer.frame(payload) for payload in payloads)


def read(stream, kind="bookings"):
    reader = FrameReader(kind)
    found = list(reader.feed(stream))
    if reader.amid:
        raise Refused("torn")
    return found


@given(PAYLOADS, st.data())
def test_what_was_written_is_read_however_it_is_cut_into_pieces(payloads, data):
    stream = written(payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, found = FrameReader("bookings"), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[begin:end])
    assert found == payloads
    assert not reader.amid


@given(PAYLOADS, st.data())
def test_a_byte_that_is_wrong_anywhere_is_refused(payloads, data):
    stream = bytearray(written(payloads))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused):
        read(bytes(stream))


@given(PAYLOADS, st.data())
def test_a_stream_cut_within_a_frame_is_seen_to_be_cut(payloads, data):
    whole = [written(payloads[:count]) for count in range(len(payloads) + 1)]
    end = data.draw(st.integers(0, len(whole[-1])).filter(lambda end: end not in map(len, whole)))
    with pytest.raises(Refused):
        read(whole[-1][:end])


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=5), st.data())
def test_a_frame_that_is_missing_or_out_of_place_is_refused(payloads, data):
    writer = FrameWriter("bookings")
    frames = [writer.frame(payload) for payload in payloads]
    moved = data.draw(st.permutations(frames))
    if moved == frames:
        moved = frames[1:]
    with pytest.raises(Refused):
        read(b"".join(moved))


def test_a_stream_of_another_kind_is_refused():
    with pytest.raises(Refused):
        read(written([b"x"], "snapshot"))
