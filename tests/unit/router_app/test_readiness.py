import pytest
from engine_pods import engine_pod
from kvpool_router.membership.pods import members_of
from kvpool_router.readiness import Readiness
from kvpool_router.workers import Roster


class Seen:
    """What a router's readiness looks at."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.synced: set[str] = set()
        self.tokenizer = True
        self.trouble: str | None = None
        self.now = 0.0
        self.readiness = Readiness(
            self.roster,
            lambda worker: worker.id.pod in self.synced,
            lambda: self.tokenizer,
            lambda: self.trouble,
            lambda: self.now,
            10.0,
        )

    def pods(self, *pods: object) -> None:
        self.roster.replace(members_of(pods).workers)

    def judge(self) -> tuple[bool, str]:
        return self.readiness.judge()


@pytest.fixture
def seen():
    return Seen()


def test_unknown_members_are_waited_for_without_end(seen):
    seen.now, seen.trouble = 99.0, "no file"
    assert seen.judge() == (False, "The pool's workers are not known yet: no file.")


EMPTY = "Ready, but no engine takes requests now; clients get 503 until one does."


def test_an_empty_pool_is_ready_and_says_what_its_clients_get(seen):
    seen.pods()
    assert seen.judge() == (True, EMPTY)
    seen.pods(engine_pod("a", ready=False))
    assert seen.judge() == (True, EMPTY)


def test_ready_engines_are_waited_for_until_they_are_replayed(seen):
    seen.pods(engine_pod("a"), engine_pod("b", ready=False))
    assert seen.judge() == (False, "Waiting for the KV events of a/0.")
    seen.synced.add("a")
    assert seen.judge() == (True, "Ready.")


def test_the_tokenizer_is_waited_for(seen):
    seen.pods()
    seen.tokenizer = False
    assert seen.judge() == (False, "Waiting for the model's tokenizer.")


def test_nothing_is_waited_for_longer_than_the_time_out(seen):
    seen.pods(engine_pod("a"))
    seen.now = 10.0
    assert seen.judge() == (True, "Ready without the KV events of a/0.")
    seen.synced.add("a")
    assert seen.judge() == (True, "Ready.")


def test_a_late_worker_does_not_take_readiness_back(seen):
    seen.pods()
    seen.judge()
    seen.pods(engine_pod("late"))
    assert seen.judge() == (True, "Ready without the KV events of late/0.")


def test_a_router_that_is_stopping_is_not_ready(seen):
    seen.pods()
    seen.judge()
    seen.readiness.stop()
    assert seen.judge() == (False, "The router is stopping.")


def test_a_list_of_engines_that_cannot_be_renewed_is_said_and_refuses_no_traffic(seen):
    seen.pods(engine_pod("a"))
    seen.synced.add("a")
    seen.trouble = "the API server is away; keeping the last known workers"
    assert seen.judge() == (True, "Ready. But the API server is away; keeping the last known workers.")
