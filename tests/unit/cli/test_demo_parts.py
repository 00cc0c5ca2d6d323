import json

import pytest
from kvpool_api.crd import custom_resource_definition
from kvpool_api.spec import Strategy
from kvpool_api.validation import Admission
from kvpool_cli import demo
from kvpool_cli.bench.outcome import Outcome
from kvpool_cli.bench.predictions import Predictions
from kvpool_cli.bench.stream import Usage
from kvpool_cli.bench.summary import summarize
from kvpool_cli.demo_report import COLUMNS, LEGEND, Comparison, Run, as_json, as_table, by_panel, legend
from kvpool_cli.demo_scenarios import STRATEGIES, manifest, scenarios
from kvpool_cli.errors import UserError
from rich.console import Console


def test_the_loads_are_what_the_demo_says():
    conversation, calm, busy = (scenario.workload() for scenario in scenarios())
    assert conversation.last_arrival_s == pytest.approx(75, abs=1)
    assert len(conversation.requests) == pytest.approx(449, abs=15)
    assert (len(calm.requests), len(busy.requests)) == (540, 842)
    assert {planned.prompt_tokens for planned in calm.requests} == {7200}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_pool_of_the_demo_is_one_that_the_api_accepts(strategy):
    admission = Admission(custom_resource_definition())
    for scenario in scenarios():
        admitted = admission.admit(manifest(scenario, strategy))
        assert admitted["spec"]["router"]["scheduling"]["strategy"] == strategy


def run(strategy, ttft_s, cached, scenario=None, error=None, equal=1):
    outcomes = [Outcome(0.0, 0.0, ttft_s, ttft_s + 1, None if error else Usage(100, 11, cached), error)]
    predictions = None if error else Predictions(1, 100, cached, equal)
    return Run(scenario or scenarios()[0], strategy, "a load", outcomes, summarize(outcomes, predictions), 1.25)


def comparison(**told):
    return Comparison(run(Strategy.ROUND_ROBIN, 2.0, 10, **told), run(Strategy.CACHE_AWARE, 0.5, 40, equal=0))


def test_the_table_sets_both_strategies_side_by_side_with_the_gain():
    console = Console(width=80)
    with console.capture() as captured:
        console.print(as_table([comparison()]))
    shown = captured.get()
    for words in ("conversation", "round_robin", "cache_aware", "10.0", "100.0", "2,000", "500", "4.0 x", "1.2"):
        assert words in shown


def test_each_column_of_the_table_is_explained_in_a_line_of_80_columns():
    console = Console(width=80)
    with console.capture() as captured:
        console.print(legend())
    lines = captured.get().splitlines()
    assert len(lines) == len(LEGEND)
    assert not any("…" in line for line in lines)
    explained = " ".join(LEGEND)
    assert all(heading.split("\n")[0].split(" ms")[0] in explained for heading in COLUMNS)


def test_a_strategy_that_only_failed_has_no_figures_and_no_gain():
    failed = comparison(error="HTTP 503")
    assert (failed.ttft_p90_ratio, failed.hit_ratio) == (None, None)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(as_table([failed]))
    assert ".0 x" not in captured.get()
    assert as_json([failed], 1.0)["loads"]["conversation"]["ttft_p90_ratio"] is None


def test_json_has_one_entry_a_load_and_one_honesty_over_all():
    found = json.loads(json.dumps(as_json([comparison()], 400.04)))
    assert (found["duration_s"], found["predicted_equals_cached_percent"]) == (400.0, 50.0)
    entry = found["loads"]["conversation"]
    assert (entry["ttft_p90_ratio"], entry["hit_ratio"]) == (4.0, 4.0)
    assert entry["cache_aware"]["ttft_p90_ms"] == 500.0
    assert entry["round_robin"]["step_lateness_p99_ms"] == 1.25


def test_without_predictions_the_honesty_is_unknown():
    only_failures = Comparison(*(run(strategy, 1.0, 0, error="x") for strategy in STRATEGIES))
    assert as_json([only_failures], 1.0)["predicted_equals_cached_percent"] is None


def test_the_plot_has_a_panel_a_load_and_a_line_a_strategy():
    ((title, lines),) = by_panel([comparison()]).items()
    assert title == scenarios()[0].title
    assert list(lines) == ["round_robin", "cache_aware"]


def test_the_demo_refuses_a_word_that_it_does_not_know_before_it_starts_anything():
    with pytest.raises(UserError, match="--quik is not known; the options are --quick and --in-turn"):
        demo.main(["--quik"])
