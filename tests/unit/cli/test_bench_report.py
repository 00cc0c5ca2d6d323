import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_cli.bench.outcome import Outcome
from kvpool_cli.bench.plot import checked_path, plot_comparison, plot_run
from kvpool_cli.bench.predictions import Predictions
from kvpool_cli.bench.report import as_json, as_table
from kvpool_cli.bench.stream import Usage
from kvpool_cli.bench.summary import percentile, summarize
from kvpool_cli.errors import UserError
from matplotlib.figure import Figure
from rich.console import Console

GOOD = Outcome(0.0, 0.001, 0.2, 1.2, usage=Usage(100, 11, 60))
SILENT = Outcome(1.0, 1.0, 1.4, 1.4, usage=Usage(50, 1, None))
FAILED = Outcome(2.0, 2.0, None, 4.0, error="HTTP 503: Overloaded")


def text(*outcomes, predictions=None):
    console = Console(width=200, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(as_table(summarize(outcomes, predictions), "a load"))
    return captured.get()


def test_the_hit_rate_counts_only_prompts_whose_cached_tokens_the_engine_told():
    summary = summarize([GOOD, SILENT, FAILED], None)
    assert summary.hit_percent == 60
    assert (summary.prompt_tokens, summary.output_tokens, summary.cached_tokens) == (150, 12, 60)


def test_errors_are_counted_by_kind_and_wait_in_no_percentile():
    summary = summarize([GOOD, FAILED, FAILED], None)
    assert (summary.requests, summary.errors) == (3, 2)
    assert summary.errors_by_kind == {"HTTP 503: Overloaded": 2}
    assert summary.ttft_ms.p99 == summary.ttft_ms.mean == pytest.approx(200)
    assert summary.tpot_ms.p50 == pytest.approx(100)


def test_throughput_is_over_the_time_until_the_last_byte():
    summary = summarize([GOOD, FAILED], None)
    assert summary.duration_s == 4.0
    assert (summary.requests_per_s, summary.output_tokens_per_s) == (0.25, 2.75)


def test_what_was_not_measured_is_null_and_never_zero():
    found = json.loads(as_json(summarize([], None), "nothing"))
    assert {"hit_percent", "ttft_p90_ms", "tpot_mean_ms", "predicted_hit_percent", "client_lateness_p99_ms"} <= {
        name for name, value in found.items() if value is None
    }


def test_json_has_units_in_its_names():
    found = json.loads(as_json(summarize([GOOD], Predictions(1, 100, 48, 0)), "a load"))
    assert found["workload"] == "a load"
    assert found["ttft_p90_ms"] == 200.0
    assert found["predicted_hit_percent"] == 48.0
    assert found["predicted_equals_cached_percent"] == 0.0
    assert found["predictions"] == 1


def test_the_table_says_what_a_reader_asks_first():
    shown = text(GOOD, FAILED, predictions=Predictions(1, 100, 60, 1))
    assert "60.0 % of prompt tokens" in shown
    assert "1 (1 x HTTP 503: Overloaded)" in shown
    assert "equal to the engine's count in whole blocks on 100.0 % of 1 requests" in shown
    assert "p90 200 ms" in shown


def test_the_table_says_how_predictions_would_become_known():
    shown = text()
    assert "--admin-token-file" in shown
    assert "TTFT" in shown


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_a_percentile_lies_between_least_and_greatest(values, percent):
    ordered = sorted(values)
    assert ordered[0] <= percentile(ordered, percent) * (1 + 1e-9)
    assert percentile(ordered, percent) <= ordered[-1] * (1 + 1e-9)


def test_percentiles_are_interpolated():
    assert [percentile([0.0, 10.0], percent) for percent in (0, 50, 100)] == [0, 5, 10]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_plot_of_one_run_and_of_a_comparison_is_written(tmp_path, suffix):
    path = checked_path(tmp_path / f"plot.{suffix}")
    plot_run(path, [GOOD, SILENT, FAILED], "a load")
    assert path.stat().st_size > 1000
    plot_comparison(path, {"one": {"round_robin": [GOOD], "cache_aware": [SILENT]}, "two": {"x": [FAILED]}})
    assert path.stat().st_size > 1000


def test_panels_of_a_comparison_have_the_same_axes(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, _: drawn.append(figure))
    slow = Outcome(0.0, 0.0, 90.0, 91.0, usage=GOOD.usage)
    plot_comparison(tmp_path / "p.png", {"one": {"a": [GOOD], "b": [GOOD]}, "two": {"a": [slow], "b": [FAILED]}})
    one, two = drawn[0].axes
    assert one.get_xlim() == two.get_xlim()
    assert one.get_ylim() == two.get_ylim()
    assert "b: no answer" in [text.get_text() for text in two.get_legend().get_texts()]


def test_a_plot_that_cannot_be_written_is_refused_before_the_run(tmp_path):
    with pytest.raises(UserError, match=r"\.png or \.svg"):
        checked_path(tmp_path / "plot.jpeg")
    with pytest.raises(UserError, match="there is no folder"):
        checked_path(tmp_path / "none" / "plot.png")


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'kvpool\[bench\]'"):
        checked_path(tmp_path / "plot.png")
