from dataclasses import replace

from kvpool_cli.engine_pods import EnginePod
from kvpool_cli.render import all_tables, live_table, plain_line, status_report
from kvpool_cli.router_facts import RouterFacts
from kvpool_cli.view import Served, standing, view, why
from pool_facts import READY, URL, condition, decision, facts, pool, worker
from rich.console import Console


def shown(*renderables):
    console = Console(width=160)
    with console.capture() as captured:
        console.print(*renderables, sep="\n")
    return captured.get()


def test_a_pool_shows_its_sums_of_five_minutes_and_its_queue():
    found = view(pool(READY), facts(worker()), {}, URL)
    assert found.served == Served(60.0, 59.0, 12.0, 34.0)
    assert (found.ready, found.why, found.queue, found.url) == (True, "", 3, URL)


def test_a_pool_that_serves_while_it_is_paused_is_ready_and_says_that_it_is_paused():
    paused = condition("Paused", "True", "Paused", "nothing is made")
    found = view(pool(READY, paused), facts(worker()), {}, URL)
    assert (found.standing, found.why) == ("ready", "Paused: nothing is made")
    assert why(pool(READY, condition("Paused", "False"))) == ""


def test_a_worker_shows_its_own_share_of_the_last_decisions():
    answers = [decision(), decision(ttft=40.0), decision(cached=None, ttft=None), decision(pod=None)]
    (line,) = view(pool(READY), facts(worker(), decisions=answers), {}, URL).workers
    assert line.served == Served(50.0, 48.0, 40.0, 40.0)
    assert (line.state, line.events, line.blocks) == ("ready", "EXACT", 1234)


def test_each_state_of_a_worker_has_its_word():
    states = [
        worker("a", ready=False),
        worker("b", draining=True),
        worker("c", circuit_open=True),
        worker("d", rank=1),
    ]
    lines = view(pool(READY), facts(*states), {}, URL).workers
    assert [line.state for line in lines] == ["starting", "draining", "failing", "ready"]
    assert lines[3].name == "d rank 1"


def test_engines_that_the_router_does_not_know_yet_are_listed_all_the_same():
    lines = view(
        pool(), facts(worker("a")), {"a": EnginePod(state="ready"), "b": EnginePod(state="Pending")}, URL
    ).workers
    assert [(line.name, line.state) for line in lines] == [("a", "ready"), ("b", "Pending")]


def test_a_router_that_does_not_answer_leaves_unknowns():
    found = view(pool(READY), RouterFacts(trouble="no"), {"a": EnginePod(state="starting")}, URL)
    assert (found.queue, found.served) == (None, Served())


def test_nothing_served_yet_is_unknown_and_not_zero():
    assert view(pool(READY), facts(window=(0, 0, 0, 0)), {}, URL).served.hit_percent is None


def test_why_is_the_first_cause_of_not_being_ready_else_of_being_degraded():
    degraded = condition("Degraded", "True", "EventsLost", "replay is under way.")
    assert why(pool(condition("Ready", "False"), degraded)) == "Because: of this."
    assert why(pool(READY, degraded)) == "EventsLost: replay is under way."
    assert why(pool(condition("Ready", "False", message=""))) == "Because"
    assert why(pool(READY, condition("Degraded", "False"))) == ""
    assert why(pool()) == why(pool(READY, generation=2)) == "the operator has not looked at it yet"


def test_the_live_table_has_a_line_a_worker_the_sums_and_why():
    found = view(pool(condition("Ready", "False")), facts(worker()), {}, URL)
    text = shown(live_table(found))
    assert "qwen  serving with 1 of 1 engines  http://127.0.0.1:8000" in text
    for word in (" 1-0 ", "EXACT", "1,234", "60.0", "59.0", "34", "Because: of this."):
        assert word in text
    assert "ready" in shown(all_tables([found, view(pool(READY), facts(), {}, URL)]))


def test_the_plain_line_says_the_same_in_one_line():
    line = plain_line(view(pool(condition("Ready", "False")), facts(worker()), {}, URL))
    assert line == (
        "qwen: serving with 1 of 1 engines: Because: of this. | qwen-1-0 ready EXACT | hit 60.0 %, predicted 59.0 %"
    )
    assert plain_line(view(pool(READY), RouterFacts(), {}, URL)) == (
        "qwen: ready when last heard of; the router does not answer now | no engines yet | hit - %, predicted - %"
    )


def test_status_reports_every_condition_in_its_own_words():
    text = shown(*status_report(view(pool(READY, condition("Degraded", "False")), facts(worker()), {}, URL)))
    assert "AllReady" in text
    assert "of this." in text


def test_status_says_which_tokenizer_routers_use_and_how_the_pool_is_called_among_many():
    found = view(pool(READY), facts(worker()), {}, URL)
    told = replace(found, tokenizer="asks an engine's /tokenize for every text: the hub is away")
    text = shown(*status_report(told, "team/qwen"))
    assert "tokenizer: asks an engine's /tokenize for every text: the hub is away\n" in text
    assert text.startswith("team/qwen  ready")
    assert " 1-0 " in text


NOT_READY, DEGRADED = condition("Ready", "False", "Killed", "2 of 4 engines serve."), condition("Degraded", "True")


def said_standing(*conditions, engines, asked=4):
    return standing(pool(*conditions, replicas=asked), engines)


def test_what_clients_get_is_said_whatever_ready_means():
    assert said_standing(READY, engines=4) == "ready"
    assert said_standing(READY, engines=None) == "ready when last heard of; the router does not answer now"
    assert said_standing(READY, DEGRADED, engines=3) == "serving with 3 of 4 engines, 1 away"
    assert said_standing(NOT_READY, DEGRADED, engines=2) == "serving with 2 of 4 engines, 2 away"
    assert said_standing(condition("Ready", "False", "EnginesStarting"), engines=1) == (
        "serving with 1 of 4 engines, 3 starting"
    )
    unseen = pool(READY, replicas=4, generation=2)
    assert standing(unseen, 3) == "serving with 3 of 4 engines, 1 asked for"
    assert said_standing(NOT_READY, engines=4) == "serving with 4 of 4 engines"
    assert said_standing(NOT_READY, DEGRADED, engines=0) == "not ready"
    assert said_standing(NOT_READY, engines=None) == "not ready"
    assert standing(pool(NOT_READY, replicas=4, routable=0), 4) == "not ready"
    assert said_standing(READY, engines=0, asked=0) == "scaled to zero"


def test_an_engine_serves_only_when_its_pod_its_router_and_all_its_ranks_say_so():
    workers = (worker("a"), worker("b"), worker("b", rank=1, ready=False), worker("c"), worker("d", circuit_open=True))
    pods = {"c": EnginePod(state="CrashLoopBackOff"), "e": EnginePod(state="ready")}
    found = view(pool(NOT_READY, DEGRADED, replicas=5), facts(*workers), pods, URL)
    assert found.standing == "serving with 1 of 5 engines, 4 away"
    assert [line.state for line in found.workers] == [
        *("ready", "ready", "starting", "CrashLoopBackOff", "failing", "ready")
    ]


def test_refused_connections_of_the_first_start_are_not_told_but_later_ones_are():
    words = "0 of 1 routers are ready; ClientConnectorError"
    starting = condition("Ready", "False", "RoutersStarting", words)
    assert why(pool(starting, condition("Degraded", "False"))) == "the router is starting"
    assert words in why(pool(starting, DEGRADED))


def test_causes_that_why_does_not_tell_stand_below_the_table_three_at_most():
    pods = {name: EnginePod(state="Error", cause=f"{name} was killed.") for name in "abcde"}
    told = condition("Ready", "False", "Killed", "2 of 4 engines serve; a was killed.")
    found = view(pool(told), facts(), pods, URL)
    text = shown(live_table(found))
    assert text.count("a was killed.") == 1
    assert "d was killed." in text
    assert "e was killed." not in text
    assert "and 1 more" in text


def test_a_router_of_a_ready_pool_that_does_not_answer_is_named():
    found = view(pool(READY), RouterFacts(trouble="the router's admin endpoint is silent"), {}, URL)
    assert found.causes == ("the router's admin endpoint is silent",)


def test_failed_requests_are_counted_for_people():
    found = view(pool(READY), facts(worker(), errors=3), {}, URL)
    assert "10 requests in 5 min, 3 failed" in shown(live_table(found))
    assert plain_line(found).endswith("predicted 59.0 %, 3 of 10 requests failed")
    assert "failed" not in plain_line(view(pool(READY), facts(worker()), {}, URL))
