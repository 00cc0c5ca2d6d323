r"""Text to token ids piece by piece, so that what was tokenized before costs a look-up.

A conversation's next request repeats all earlier turns, and tenants share long system prompts. Whole prompts never
repeat and templates rewrite earlier turns, so a cache over whole texts is of no use. This one is over pieces:

    <|im_start|> system\nYou are … rules of the house … <|im_end|> \n <|im_start|> user\nhi <|im_end|>
    └─ special ─┘└──────── pieces of about 2,000 characters ───────┘

Cuts are made at special tokens, where every tokenizer cuts, and in long texts between two words, where tokenizers that
split words first cut too. Whether this one does is tried on a sample text at the start; if not, texts stay whole.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer

from kvpool_router.requests.prompts import TokenIds, packed

PIECE_CHARS = 2048
"""Shorter pieces cost look-ups (about 1 us each), longer ones are tokenized anew where a text grows in its last one."""

CACHE_CHARS = 64 << 20
"""Characters of cached pieces; their ids take about as many bytes."""

_SAMPLE = (
    "The pool's engines don't share memory; they re-use 3 prefixes\n\n  each, e.g. `x = f(a, b)` or 漢字 and Ünïcode "
    "words in one line\tthen tabs, URLs like https://example.org/a?b=c and numbers 12345 67 8 in a row END Of It all\n"
    "def prefill(tokens):\n    return [t for t in tokens if t > 0]  # comment here\n" * 3
)


class Segments:
    """Cached encoding with one tokenizer. Not thread-safe but for `encoded`, which touches no cache."""

    def __init__(self, tokenizer: Tokenizer, *, piece_chars: int = PIECE_CHARS, cache_chars: int = CACHE_CHARS) -> None:
        self._tokenizer = tokenizer
        self._cache: OrderedDict[str, TokenIds] = OrderedDict()
        self._cached_chars = 0
        self._limit = cache_chars
        self._piece_chars = piece_chars
        self._special = _plain_specials(tokenizer)
        pattern = "|".join(re.escape(each) for each in sorted(self._special, key=len, reverse=True))
        self._split = re.compile(f"({pattern})") if pattern else None
        if not self._agrees():
            self._split, self._piece_chars = None, 0

    @property
    def in_pieces(self) -> bool:
        """Whether this tokenizer allows cuts."""
        return self._piece_chars > 0

    def pieces(self, text: str) -> list[str]:
        """The text cut where it may be; deterministic from its start, so that equal beginnings give equal pieces."""
        if not self._piece_chars:
            return [text] if text else []
        found: list[str] = []
        for part in self._split.split(text) if self._split is not None else (text,):
            if len(part) <= self._piece_chars:
                if part:
                    found.append(part)
            else:
                self._cut(part, found)
        return found

    def known(self, pieces: Sequence[str]) -> list[TokenIds | None]:
        """Ids of each piece; None where it has to be encoded. What is asked for now is forgotten last."""
        cache, special = self._cache, self._special
        found: list[TokenIds | None] = []
        for piece in pieces:
            ids = special.get(piece)
            if ids is None:
                ids = cache.get(piece)
                if ids is not None:
                    cache.move_to_end(piece)
            found.append(ids)
        return found

    def encoded(self, pieces: Sequence[str]) -> list[TokenIds]:
        """Encodes outside the cache, on all cores. A thread may do it: the interpreter's lock is let go meanwhile."""
        batch = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
        return [packed(each.ids) for each in batch]

    def keep(self, encoded: Mapping[str, TokenIds]) -> None:
        """Remembers pieces; forgets those that were not asked for longest, where it gets too much."""
        cache = self._cache
        for piece, ids in encoded.items():
            if piece not in cache:
                self._cached_chars += len(piece)
            cache[piece] = ids
        while self._cached_chars > self._limit and cache:
            self._cached_chars -= len(cache.popitem(last=False)[0])

    def _cut(self, text: str, found: list[str]) -> None:
        start = 0
        at = text.find(" ", self._piece_chars)
        while at > 0 and at + 1 < len(text):
            if _is_letter(text[at - 1]) and _is_letter(text[at + 1]):
                found.append(text[start:at])
                start = at
                at = text.find(" ", start + self._piece_chars)
            else:
                at = text.find(" ", at + 1)
        found.append(text[start:])

    def _agrees(self) -> bool:
        """Tries cuts at every place where one is allowed, and around the special tokens."""
        kept, self._piece_chars = self._piece_chars, 1
        specials = list(self._special)[:8]
        sample = _SAMPLE + "".join(f"{each}{text}" for each in specials for text in ("word", "\nline", " space ", ""))
        pieces = self.pieces(sample)
        alone = [each for each in pieces if each not in self._special]
        ids = dict(zip(alone, self.encoded(alone), strict=True)) | self._special
        (whole,) = self.encoded([sample])
        self._piece_chars = kept
        return b"".join(ids[each] for each in pieces) == whole


def _is_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _plain_specials(tokenizer: Tokenizer) -> dict[str, TokenIds]:
    """Special tokens that match anywhere as they stand; others eat spaces or need word boundaries around them."""
    return {
        token.content: packed([number])
        for number, token in tokenizer.get_added_tokens_decoder().items()
        if token.special and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
    }
