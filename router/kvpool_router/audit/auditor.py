"""Audits each answer against the map, and takes credit from a worker whose map has gone wrong.

placed ─> watched ─> first token (or the end, if not streamed) ─> a moment for late events ─> looked away
─> the answer's end, with what the engine found ─> time for a dead connection to show ─> compared
"""

import logging
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Protocol

from kvpool_api.wire import EventState
from kvpool_api.wire import MapTrust as Trust

from kvpool_router.audit.comparison import Evidence, Finding, MapsWord, Outcome, compare, evidence
from kvpool_router.audit.suspicion import UNSUSPECTED, Opinion, at, weighed
from kvpool_router.index.namespace import Namespace
from kvpool_router.index.watches import Watch
from kvpool_router.requests.prompts import token_count
from kvpool_router.requests.usage import Usage
from kvpool_router.workers import WorkerId

LOG = logging.getLogger(__name__)

GRACE_S = 0.25
"""Events of the step in which a request was scheduled may come after its first token."""
CONFIRMED_S = 4.0
"""A connection that is silent because it is cut is known to be lost after 3 s; what was watched on it is worthless."""
WATCHED_AT_ONCE = 16
"""Of one worker; what it is sent beyond is not audited. That bounds what the audit costs."""
WINDOW_ANSWERS = 256
"""The accuracy that is told is over so many of a worker's last answers."""


class WatchedMap(Protocol):
    """What the audit needs of the cache map."""

    def watch(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> Watch: ...
    def look_away(self, worker: WorkerId, watch: Watch) -> None: ...
    def unwatch(self, worker: WorkerId, watch: Watch) -> None: ...
    def distrust(self, worker: WorkerId) -> None: ...
    def trust(self, worker: WorkerId) -> None: ...
    def is_hybrid(self, worker: WorkerId) -> bool: ...
    def block_tokens(self, worker: WorkerId) -> int: ...


class Standing(Protocol):
    """How the events of a worker stand."""

    @property
    def state(self) -> EventState: ...
    @property
    def synced(self) -> bool: ...
    @property
    def replaying(self) -> bool: ...
    @property
    def gaps(self) -> int: ...


class Events(Protocol):
    """What the audit needs of the event plane."""

    def standing(self, worker: WorkerId) -> Standing | None: ...

    def begin_again(self, worker: WorkerId, *, whole: bool) -> None:
        """Forgets what the worker's events said, and reads its history anew, or goes on without one."""


@dataclass(slots=True)
class Account:
    """One worker's answers so far."""

    opinion: Opinion = UNSUSPECTED
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    """Since this process of the engine was first seen."""
    latest: deque[Outcome] = field(default_factory=lambda: deque(maxlen=WINDOW_ANSWERS))
    """Those that could be compared."""
    over_blocks: int = 0
    under_blocks: int = 0
    gaps: int = 0
    """Of the worker's events, as last seen."""
    whole_since: float = 0.0
    """What was placed before may have been watched while events were missing."""
    watched: int = 0
    """Requests at the worker that are watched now."""
    details: bool | None = None
    """Whether the engine tells cached tokens; None while that is not known."""

    def take(self, finding: Finding) -> None:
        self.outcomes[finding.outcome] += 1
        self.over_blocks += finding.over_blocks
        self.under_blocks += finding.under_blocks
        if finding.outcome is not Outcome.UNKNOWN:
            self.latest.append(finding.outcome)

    def cached_tokens(self, usage: Usage) -> int | None:
        """As reported. Releases before 0.27 leave a zero out, so silence is a zero where the engine has told others."""
        if usage.cached_tokens is None:
            return 0 if self.details else None
        return usage.cached_tokens

    @property
    def equal_answers(self) -> int:
        """Of the latest."""
        return self.latest.count(Outcome.EQUAL)

    @property
    def true_answers(self) -> int:
        """Of the latest: the credit was right, or the map knows by events why it was not."""
        return sum(each not in (Outcome.MISSED, Outcome.FALSE) for each in self.latest)


@dataclass(slots=True, eq=False)
class Case:
    """One prompt at one worker, from its placing until it is compared."""

    worker: WorkerId
    account: Account
    prompt_tokens: int
    predicted: int | None
    """Blocks that were credited; None where the worker is given no credit."""
    watch: Watch
    placed_at: float
    watching: bool = True
    due: float | None = None
    """When to look away: the engine has looked into its cache, and its events have had time to come."""
    usage: Usage | None = None
    confirmed_at: float = 0.0


class Audit:
    """Keeps an account of every worker. No task and no clock of its own: whoever asks or tells brings the time."""

    def __init__(self, cache: WatchedMap, events: Events) -> None:
        self._map = cache
        self._events = events
        self._accounts: dict[WorkerId, Account] = {}
        self._pausing: set[WorkerId] = set()
        self._looked_up: deque[Case] = deque()
        """Cases that are watched a moment longer, in the order of `due`."""
        self._answered: deque[Case] = deque()
        """Cases that wait to be compared, in the order of `confirmed_at`."""

    def placed(
        self, worker: WorkerId, tokens: bytes, namespace: Namespace, *, predicted_tokens: int, now: float
    ) -> Case | None:
        """Begins to watch a prompt that a worker has been chosen for, before it is sent; None: not this one."""
        self.settle(now)
        account = self._accounts.setdefault(worker, Account())
        if account.watched >= WATCHED_AT_ONCE:
            return None
        account.watched += 1
        watch = self._map.watch(worker, tokens, namespace)
        trusted = account.opinion.trust is not Trust.DISTRUSTED
        predicted = predicted_tokens // self._map.block_tokens(worker) if trusted else None
        return Case(worker, account, token_count(tokens), predicted, watch, now)

    def first_token(self, case: Case, now: float) -> None:
        """The engine has begun to answer, so it has looked into its cache."""
        if case.due is None:
            case.due = now + GRACE_S
            self._looked_up.append(case)

    def answered(self, case: Case, usage: Usage | None, now: float) -> None:
        """The answer has ended; `usage` is None where it failed, or told none."""
        if usage is None:
            self._look_away(case)
            self._map.unwatch(case.worker, case.watch)
            return
        self.first_token(case, now)
        case.usage = usage
        case.confirmed_at = now + CONFIRMED_S
        self._answered.append(case)

    def settle(self, now: float) -> None:
        """Compares what has waited long enough, and lets pauses end."""
        while self._looked_up and (due := self._looked_up[0].due) is not None and due <= now:
            self._look_away(self._looked_up.popleft())
        while self._answered and self._answered[0].confirmed_at <= now:
            case = self._answered.popleft()
            self._map.unwatch(case.worker, case.watch)
            self._compare(case, now)
        for worker in tuple(self._pausing):
            account = self._accounts[worker]
            self._change(worker, account, at(account.opinion, now, reread=self._is_reread(worker)))

    def account(self, worker: WorkerId) -> Account:
        """What is known of the worker; an empty account for one that has answered nothing yet."""
        return self._accounts.get(worker) or Account()

    def is_trusted(self, worker: WorkerId) -> bool:
        """Whether the worker's map is good enough to be handed on."""
        return self.account(worker).opinion.trust is Trust.TRUSTED

    def forget(self, worker: WorkerId) -> None:
        """The worker is gone, or its process is a new one."""
        self._accounts.pop(worker, None)
        self._pausing.discard(worker)
        self._map.trust(worker)

    def _is_reread(self, worker: WorkerId) -> bool:
        standing = self._events.standing(worker)
        return standing is not None and standing.synced

    def _look_away(self, case: Case) -> None:
        if case.watching:
            case.watching = False
            self._map.look_away(case.worker, case.watch)
            case.account.watched -= 1

    def _compare(self, case: Case, now: float) -> None:
        account, usage, watch = case.account, case.usage, case.watch
        if usage is None or self._accounts.get(case.worker) is not account:
            return
        self._learn_details(case, usage)
        cached = account.cached_tokens(usage)
        if cached is None or watch.lost or usage.prompt_tokens != case.prompt_tokens:
            account.take(Finding(Outcome.UNKNOWN))
            return
        found = cached // self._map.block_tokens(case.worker)
        predicted = watch.at_first if case.predicted is None else case.predicted
        said = MapsWord(predicted, watch.at_first, watch.least, watch.most)
        account.take(compare(said, found))
        weighty = [each for each in evidence(said, found) if self._counts(case, each, now)]
        self._change(case.worker, account, weighed(account.opinion, weighty, now))

    def _counts(self, case: Case, found: Evidence, now: float) -> bool:
        """Only a map that has every event can be blamed for what it does not know, and none for what a gap hid.

        Of a hybrid model a hit ends where any of its groups ends it, and the map follows one group.
        """
        standing = self._events.standing(case.worker)
        if standing is None or standing.replaying:
            return False
        if standing.gaps != case.account.gaps:
            case.account.gaps, case.account.whole_since = standing.gaps, now
        if case.placed_at < case.account.whole_since:
            return False
        if found in (Evidence.HOLDING_KNOWN, Evidence.HOLDING_UNKNOWN):
            return standing.state is EventState.EXACT
        return found is Evidence.CREDIT_HELD or not self._map.is_hybrid(case.worker)

    def _learn_details(self, case: Case, usage: Usage) -> None:
        """Silence is told of once, and only where the engine should have found something."""
        account = case.account
        if usage.cached_tokens is not None:
            account.details = True
        elif account.details is None and case.watch.least > 0:
            account.details = False
            LOG.warning(
                "the engine reports no cached tokens, so its map cannot be audited;"
                " it needs --enable-prompt-tokens-details",
                extra={"worker": case.worker},
            )

    def _change(self, worker: WorkerId, account: Account, opinion: Opinion) -> None:
        before, account.opinion = account.opinion, opinion
        if before.trust is opinion.trust and before.until == opinion.until:
            return
        if opinion.trust is Trust.DISTRUSTED:
            LOG.warning("%s", opinion.reason, extra={"worker": worker})
            self._pausing.add(worker)
            self._map.distrust(worker)
            # a history that was read anew and made the map wrong again is of no use
            self._events.begin_again(worker, whole=opinion.falls == 1)
            return
        self._pausing.discard(worker)
        LOG.info("%s", opinion.reason or "The map has proved itself and is trusted.", extra={"worker": worker})
        self._map.trust(worker)
