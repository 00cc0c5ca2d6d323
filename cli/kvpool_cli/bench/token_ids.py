"""Prompts as token ids, straight as JSON; a segment's ids depend on its key alone, so equal prefixes stay equal."""

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache

from kvpool_cli.bench.workload import Planned, Segment

RESERVED_IDS = 100
"""The lowest ids, which tokenizers give to special tokens and single bytes."""
DRAWS = 1 << 16


class TokenIds:
    """Encodes segments within a vocabulary.

    A segment's ids are drawn from an extendable hash of its key: a shorter segment with the same key is a prefix of the
    longer one, which is what equal hash ids mean. Encoded segments are kept, since shared ones are asked for again and
    again (`kept` of them: 512 tokens are about 2.5 kB).
    """

    def __init__(self, vocabulary: int, *, kept: int = 16_384) -> None:
        span = vocabulary - RESERVED_IDS
        self._words = tuple(b"%d" % (RESERVED_IDS + draw % span) for draw in range(DRAWS))
        self._encode = lru_cache(kept)(self._encoded)

    def json_list(self, segments: Iterable[Segment]) -> bytes:
        """`[17,4711,...]`"""
        return b"[" + b",".join(map(self._encode, segments)) + b"]"

    def _encoded(self, segment: Segment) -> bytes:
        draws = memoryview(hashlib.shake_128(segment.key.encode()).digest(2 * segment.tokens)).cast("H")
        return b",".join(map(self._words.__getitem__, draws))


class Bodies:
    """Bodies of `/v1/completions` requests that always run to their full length."""

    def __init__(self, model: str, ids: TokenIds) -> None:
        self._model = json.dumps(model).encode()
        self._ids = ids

    def body(self, planned: Planned) -> bytes:
        return (
            b'{"model":%b,"max_tokens":%d,"ignore_eos":true,"temperature":0,"stream":true,'
            b'"stream_options":{"include_usage":true},"prompt":%b}'
        ) % (self._model, planned.output_tokens, self._ids.json_list(planned.segments))
