"""The demo, with loads of seconds: every figure is there and the prediction is honest."""

import json

from kvpool_cli import demo
from kvpool_cli.demo_scenarios import conversation, tenants


def short(scale=1.0):
    return (conversation(8 * scale), tenants(9, 4 * scale))


def test_the_demo_ends_in_a_table_a_plot_and_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "scenarios", short)
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "out")
    assert demo.main([]) == 0
    shown = capsys.readouterr().out
    assert "round_robin" in shown
    assert "cache_aware" in shown
    found = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert set(found["loads"]) == {"conversation", "tenants_9_per_s"}
    for entry in found["loads"].values():
        for strategy in ("round_robin", "cache_aware"):
            assert entry[strategy]["errors"] == 0
            assert entry[strategy]["predictions"] == entry[strategy]["requests"]
            assert entry[strategy]["step_lateness_p99_ms"] is not None
    assert found["predicted_equals_cached_percent"] > 90
    assert (tmp_path / "out" / "demo.png").stat().st_size > 10_000


def test_in_turn_the_second_strategy_waits_for_the_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "scenarios", lambda scale=1.0: (tenants(4, 2),))
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "out")
    assert demo.main(["--in-turn", "--quick"]) == 0
    assert "one after the other" in " ".join(capsys.readouterr().out.split())
