"""Pieces give the ids of the whole, and what was seen before is not tokenized again."""

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st
from kvpool_router.tokens.segments import Segments
from tiny_tokenizer import SPECIALS, TEXT, tiny_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

TOKENIZER = tiny_tokenizer()
WORDS = st.sampled_from([*TEXT[0].split(), "x", "  ", "\n", "é", "漢", "don't", "3.14", *SPECIALS])
TEXTS = st.lists(WORDS, max_size=60).map(" ".join)


def encode(segments: Segments, text: str) -> bytes:
    pieces = segments.pieces(text)
    missing = unknown(segments, text)
    segments.keep(dict(zip(missing, segments.encoded(missing), strict=True)))
    return b"".join(ids or b"" for ids in segments.known(pieces))


def unknown(segments: Segments, text: str) -> list[str]:
    pieces = segments.pieces(text)
    return [piece for piece, ids in zip(pieces, segments.known(pieces), strict=True) if ids is None]


@given(TEXTS | st.text(max_size=200))
@settings(deadline=None)
def test_pieces_give_the_ids_of_the_whole_text(text: str) -> None:
    whole = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert array("I", encode(Segments(TOKENIZER, piece_chars=16), text)).tolist() == whole


@given(TEXTS, TEXTS, TEXTS)
@settings(deadline=None)
def test_texts_with_one_beginning_share_their_pieces_up_to_near_its_end(start: str, one: str, other: str) -> None:
    segments = Segments(TOKENIZER, piece_chars=16)
    first, second = segments.pieces(start + one), segments.pieces(start + other)
    shared = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    rest = start[len("".join(first[:shared])) :]
    longest = max(map(len, rest.split(" ")), default=0)
    assert len(rest) <= 16 + 3 * longest + 64 or not any(c.isascii() and c.isalpha() for c in rest)


def test_a_growing_conversation_tokenizes_only_its_new_text() -> None:
    segments = Segments(TOKENIZER)
    turns = [f"<|im_start|>user\n{text} {number}<|im_end|>\n" for number, text in enumerate(TEXT[:6])]
    encode(segments, "".join(turns[:5]))
    assert unknown(segments, "".join(turns)) == [f"user\n{TEXT[5]} 5"]


def test_the_cache_forgets_the_longest_unused_and_stays_within_its_bound() -> None:
    segments = Segments(TOKENIZER, cache_chars=100)
    for number in range(50):
        encode(segments, f"text number {number}")
    assert unknown(segments, "text number 49") == []
    assert unknown(segments, "text number 0") == ["text number 0"]
    assert segments._cached_chars <= 100


def test_a_tokenizer_that_joins_words_is_never_cut() -> None:
    joined = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("▁", -2.0)], unk_id=0, byte_fallback=False))
    joined.normalizer = normalizers.Prepend("▁")
    joined.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    segments = Segments(joined)
    assert not segments.in_pieces
    long = "a a a a " * 1000
    assert segments.pieces(long) == [long]
    assert segments.pieces("") == []
