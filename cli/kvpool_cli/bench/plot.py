"""Plots of TTFT. matplotlib is asked for only here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvpool_cli.bench.outcome import Outcome
from kvpool_cli.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")


def checked_path(path: Path) -> Path:
    """The path, if a plot can be written there. Raises UserError before anything is started."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--plot {path}: the name must end with {' or '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise UserError(f"--plot {path}: there is no folder {path.parent}")
    _figure(1, 1)
    return path


def plot_run(path: Path, outcomes: Sequence[Outcome], title: str) -> None:
    """TTFT as a distribution and over time."""
    figure, (left, right) = _figure(1, 2)
    figure.suptitle(title, fontsize=9)
    distribution(left, {"TTFT": ttfts(outcomes)})
    timed = [(outcome.due_s, outcome.ttft_s) for outcome in outcomes if outcome.ttft_s is not None]
    right.scatter([due for due, _ in timed], [ttft for _, ttft in timed], s=6)
    right.set(xlabel="scheduled arrival, s", ylabel="time to first token (TTFT), s", yscale="log")
    figure.savefig(path)


def plot_comparison(path: Path, panels: Mapping[str, Mapping[str, Sequence[Outcome]]]) -> None:
    """One panel a scenario, one line a strategy; all panels have the same axes, so that they can be read together."""
    figure, axes = _figure(1, len(panels), same_axes=True)
    for axis, (scenario, runs) in zip(axes, panels.items(), strict=True):
        axis.set_title(scenario, fontsize=9)
        distribution(axis, {name: ttfts(outcomes) for name, outcomes in runs.items()})
        axis.axhline(0.9, color="grey", linestyle=":", linewidth=1, label="p90")
        axis.legend(fontsize=8)
    figure.savefig(path)


def ttfts(outcomes: Sequence[Outcome]) -> list[float]:
    return sorted(outcome.ttft_s for outcome in outcomes if outcome.ttft_s is not None)


def distribution(axis: "Axes", lines: Mapping[str, Sequence[float]]) -> None:
    """The share of requests whose first token came within so long; a line without values is named as such."""
    for name, values in lines.items():
        if values:
            axis.ecdf(values, label=name)
        else:
            axis.plot([], [], label=f"{name}: no answer")
    axis.set(xlabel="time to first token (TTFT), s", ylabel="share of requests", xscale="log", ylim=(0, 1))
    axis.grid(visible=True, alpha=0.3)


def _figure(rows: int, columns: int, *, same_axes: bool = False) -> "tuple[Figure, list[Axes]]":
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--plot needs matplotlib: pip install 'kvpool[bench]'") from None
    figure = Figure(figsize=(5 * columns, 4 * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharex=same_axes, sharey=same_axes).flat)
