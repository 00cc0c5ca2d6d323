"""What to do with the next numbered batch of an engine's event stream. Pure: no sockets, no clock, no map."""

from collections import deque
from enum import Enum, auto
from hashlib import blake2b
from typing import NamedTuple

KEPT_DIGESTS = 1024
DIGEST_BYTES = 8
"""Batches are told apart by it, not protected: whoever can publish them can publish anything."""


class Frame(NamedTuple):
    """One numbered batch, still encoded."""

    sequence: int
    payload: bytes


def digest(payload: bytes) -> bytes:
    """Names a batch by its content, the same in every process."""
    return blake2b(payload, digest_size=DIGEST_BYTES).digest()


class Verdict(Enum):
    APPLY = auto()
    """It is the next one."""
    SKIP = auto()
    """It is applied already."""
    GAP = auto()
    """Batches before it are missing: ask for them."""
    LOST = auto()
    """Batches before it are missing, and the engine no longer has them."""
    RESTART = auto()
    """It is not of the stream whose batches are applied: forget them and begin again."""


class Watermarks:
    """How far one stream is applied, and how far it has been seen live.

        replay, asked from `applied` on      live
        first ─────────── applied │├───────────┤ seen ├────►
                                   └── the gap ─┘

    Live batches and replayed ones overlap; whichever comes second is skipped. A stream carries no name of the process
    that numbers it, so a restarted engine is known by its batches: a number that goes back within one connection, or
    a number that is applied already but with other content. Content is compared by its digest, kept for the newest
    batches, since every batch carries its own time.
    """

    __slots__ = ("_digests", "applied", "first", "seen")

    def __init__(self) -> None:
        self.first = 0
        """Lowest applied sequence; above 0, what was before is unknown."""
        self.applied = -1
        """Highest applied sequence; everything from `first` to here is applied once."""
        self.seen = -1
        """Highest live sequence of this connection."""
        self._digests: deque[bytes] = deque(maxlen=KEPT_DIGESTS)

    @property
    def complete(self) -> bool:
        return self.first == 0

    @property
    def last_digest(self) -> bytes | None:
        """Of the batch `applied`; None while nothing is."""
        return self._digests[-1] if self._digests else None

    def resume(self, first: int, applied: int, last_digest: bytes) -> None:
        """Another follower of the same stream has applied what lies between."""
        self.forget()
        self.first, self.applied = first, applied
        self._digests.append(last_digest)

    def connected(self) -> None:
        """Live numbers of an earlier connection say nothing about this one."""
        self.seen = -1

    def live(self, frame: Frame) -> Verdict:
        """Judges a batch from the live socket, and remembers that it came."""
        went_back = frame.sequence <= self.seen
        self.seen = frame.sequence
        return Verdict.RESTART if went_back else self.judge(frame)

    def judge(self, frame: Frame) -> Verdict:
        if frame.sequence > self.applied:
            return Verdict.APPLY if frame.sequence == self.applied + 1 else Verdict.GAP
        return Verdict.RESTART if self.contradicts(frame) else Verdict.SKIP

    def contradicts(self, frame: Frame) -> bool:
        """The applied batch of that number was another one, or there is none because the history begins later."""
        age = self.applied - frame.sequence
        return frame.sequence < self.first or (
            0 <= age < len(self._digests) and self._digests[-1 - age] != digest(frame.payload)
        )

    def advance(self, frame: Frame) -> None:
        """The batch is applied; one that does not follow the last begins a new, incomplete history."""
        if frame.sequence != self.applied + 1:
            self.first = frame.sequence
            self._digests.clear()
        self.applied = frame.sequence
        self._digests.append(digest(frame.payload))

    def forget(self) -> None:
        """Nothing is applied any more; what was seen live in this connection stays seen."""
        self.first, self.applied = 0, -1
        self._digests.clear()


class Answer:
    """Judges one replay answer, batch by batch.

    It is asked from the last applied batch on, inclusive. If the first batch that comes has that number but is another,
    or if none comes, the engine is another process. If it has a higher number, the engine's buffer has turned over
    since, in the same process or in another one. With nothing applied the answer is asked from 0, and begins wherever
    the engine's buffer still begins.
    """

    __slots__ = ("_marks", "_recognised", "asked_from")

    def __init__(self, marks: Watermarks) -> None:
        self._marks = marks
        self._recognised = False
        self.asked_from = max(marks.applied, 0)

    def batch(self, frame: Frame) -> Verdict:
        """GAP means that the answer has a hole: what follows the hole is of no use, ask again."""
        if self._recognised:
            return self._following(frame)
        self._recognised = True
        if self._marks.applied < 0:
            return Verdict.APPLY
        if frame.sequence > self._marks.applied:
            return Verdict.LOST
        same = frame.sequence == self._marks.applied and not self._marks.contradicts(frame)
        return Verdict.SKIP if same else Verdict.RESTART

    def _following(self, frame: Frame) -> Verdict:
        verdict = self._marks.judge(frame)
        return Verdict.RESTART if verdict is Verdict.SKIP else verdict

    def end(self) -> Verdict:
        """SKIP: all is well. RESTART: the engine does not have the last applied batch."""
        return Verdict.SKIP if self._recognised or self._marks.applied < 0 else Verdict.RESTART
