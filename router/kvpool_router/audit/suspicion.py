"""When a worker's map is believed no longer, and when again, from one answer after the other. Pure.

    TRUSTED ──a chart reaches its limit──► DISTRUSTED ──the pause is over──► ON_TRIAL ──answers agree──► TRUSTED
                                               ▲                                 │
                                               └──── a chart reaches its limit ──┘     each time with twice the pause

Two CUSUM charts a worker, one of false credit and one of unknown holdings. A chart adds the logarithm of how much more
likely an answer is from a wrong map than from a true one, and never falls below 0. Whenever, given all answers before,
each one contradicts a true map with a probability of at most `honest`, the exponential of such a sum is a
supermartingale: it reaches e^limit from any one start with a probability of at most e^-limit (Ville). So a true map is
distrusted within n answers with a probability of at most n * e^-limit, here n * 1e-9.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import log

from kvpool_api.wire import MapTrust as Trust

from kvpool_router.audit.comparison import Evidence

FALSE_ALARM_ODDS = 1e-9
LIMIT = -log(FALSE_ALARM_ODDS)
TRIAL_HANDICAP = LIMIT / 2
"""Where the charts begin on trial: half the evidence is enough then."""
FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 1280.0
AGREEMENTS = 16
"""So much evidence for the map, without a relapse, ends a trial. An answer may bring two pieces."""
FORGIVING_AGREEMENTS = 1000
"""The same that makes a former fall forgotten."""


@dataclass(frozen=True, slots=True)
class Chart:
    """How one kind of contradiction is weighed."""

    honest: float
    """The share of answers that may contradict a true map: events that are on their way, and the like."""
    wrong: float
    """The share at which a map is called wrong. What lies well between the two is found late, or never."""

    @property
    def against(self) -> float:
        return log(self.wrong / self.honest)

    @property
    def supporting(self) -> float:
        return log((1 - self.wrong) / (1 - self.honest))


FALSE_CREDIT = Chart(honest=0.01, wrong=0.2)
UNKNOWN_HOLDING = Chart(honest=0.02, wrong=0.2)
"""Less certain: what the map does not know harms less than what it makes up."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What is thought of one worker's map."""

    trust: Trust = Trust.TRUSTED
    reason: str = ""
    """Why it is not trusted, in a sentence; empty while it is."""
    false_credit: float = 0.0
    unknown_holding: float = 0.0
    falls: int = 0
    """How often it was distrusted, less what is forgiven."""
    until: float = 0.0
    """When the pause ends."""
    agreed: int = 0
    """Pieces of evidence for the map since it was last distrusted or forgiven."""
    contradicted: int = 0
    """Answers against it since the charts were last at 0."""


UNSUSPECTED = Opinion()


def weighed(opinion: Opinion, found: Iterable[Evidence], now: float) -> Opinion:
    """The opinion after one more answer."""
    for each in found:
        match each:
            case Evidence.CREDIT_FALSE:
                chart = opinion.false_credit + FALSE_CREDIT.against
                opinion = replace(opinion, false_credit=chart, contradicted=opinion.contradicted + 1)
            case Evidence.HOLDING_UNKNOWN:
                chart = opinion.unknown_holding + UNKNOWN_HOLDING.against
                opinion = replace(opinion, unknown_holding=chart, contradicted=opinion.contradicted + 1)
            case Evidence.CREDIT_HELD:
                chart = max(0.0, opinion.false_credit + FALSE_CREDIT.supporting)
                opinion = _agreeing(replace(opinion, false_credit=chart))
            case Evidence.HOLDING_KNOWN:
                chart = max(0.0, opinion.unknown_holding + UNKNOWN_HOLDING.supporting)
                opinion = _agreeing(replace(opinion, unknown_holding=chart))
    if opinion.false_credit >= LIMIT:
        why = "its engine did not find what the map held for it"
    elif opinion.unknown_holding >= LIMIT:
        why = "its engine found what the map knew nothing of"
    else:
        return opinion
    return _fallen(opinion, why, now)


def at(opinion: Opinion, now: float, *, reread: bool) -> Opinion:
    """The opinion once the time is `now`: a trial begins when the pause is over and the map is `reread`."""
    if opinion.trust is not Trust.DISTRUSTED or now < opinion.until or not reread:
        return opinion
    return Opinion(
        Trust.ON_TRIAL,
        f"The map was wrong and has been read anew; it is on trial until answers have borne it out {AGREEMENTS} times.",
        TRIAL_HANDICAP,
        TRIAL_HANDICAP,
        falls=opinion.falls,
    )


def _agreeing(opinion: Opinion) -> Opinion:
    agreed = opinion.agreed + 1
    quiet = not (opinion.false_credit or opinion.unknown_holding)
    opinion = replace(opinion, agreed=agreed, contradicted=0 if quiet else opinion.contradicted)
    if opinion.trust is Trust.ON_TRIAL and agreed >= AGREEMENTS:
        return Opinion(falls=opinion.falls)
    if opinion.trust is Trust.TRUSTED and agreed >= FORGIVING_AGREEMENTS:
        return replace(opinion, falls=max(0, opinion.falls - 1), agreed=0)
    return opinion


def _fallen(opinion: Opinion, why: str, now: float) -> Opinion:
    pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**opinion.falls)
    reason = (
        f"The map is not believed: in {opinion.contradicted} answers {why};"
        f" it is read anew and counts for nothing for {pause_s:g} s."
    )
    return Opinion(Trust.DISTRUSTED, reason, falls=opinion.falls + 1, until=now + pause_s)
