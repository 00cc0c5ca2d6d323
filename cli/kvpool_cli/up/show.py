"""How `kvpool up` shows what it runs: a table that is redrawn, lines when something changes, or nothing."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal, Protocol

from rich.console import Console
from rich.live import Live

from kvpool_cli.render import all_tables, plain_line
from kvpool_cli.up.pools import LocalPool
from kvpool_cli.view import PoolView

Shown = Literal["live", "lines", "quiet"]


class Show(Protocol):
    """Told the views again and again."""

    def __call__(self, views: Sequence[PoolView]) -> None: ...


def shown(how: Shown, console: Console) -> AbstractContextManager[Show]:
    """A table needs a terminal; without one the same facts come as lines."""
    if how == "live" and console.is_terminal:
        return _live(console)
    show: Show = _nothing if how == "quiet" else _Lines(console)
    return nullcontext(show)


@contextmanager
def _live(console: Console) -> Iterator[Show]:
    with Live(console=console, auto_refresh=False) as live:
        yield lambda views: live.update(all_tables(views), refresh=True)


class _Lines:
    """A line a pool whenever its state, its cause or one of its engines changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, tuple[object, ...]] = {}

    def __call__(self, views: Sequence[PoolView]) -> None:
        for found in views:
            news = (found.standing, found.why, *((line.name, line.state, line.events) for line in found.workers))
            if self._last.get(found.name) != news:
                self._last[found.name] = news
                self._console.print(plain_line(found), soft_wrap=True, highlight=False, markup=False)


def _nothing(views: Sequence[PoolView]) -> None:
    return None


def greeting(views: Sequence[PoolView], pools: Sequence[LocalPool], file: Path, more: str) -> Iterator[str]:
    """Where each pool answers, a line to try it, where the logs are, how to change it; `more` is what shows it."""
    for found, local in zip(views, pools, strict=True):
        yield from _asked(found, local) if local.pool.spec.replicas else _scaled_to_zero(found, file)
        admin = f"admin {local.door.admin_url}, its token in {local.folder.token_file}"
        yield f"  also /health, /ready, /metrics; {admin}"
    yield f"  logs: {pools[0].folder.logs}; {file} is read again when it changes; `{more}` tells more"


def _asked(found: PoolView, local: LocalPool) -> Iterator[str]:
    yield f"{found.name} is ready: {found.url} (OpenAI's and Anthropic's API; Ctrl-C ends it)"
    model = local.pool.spec.model.name
    question = f'{{"model":"{model}","messages":[{{"role":"user","content":"Hello"}}],"max_tokens":16}}'
    yield f"  curl {found.url}/v1/chat/completions -H 'Content-Type: application/json' -d '{question}'"


def _scaled_to_zero(found: PoolView, file: Path) -> Iterator[str]:
    yield f"{found.name} is scaled to zero: {found.url} refuses requests, for no engine runs (Ctrl-C ends it)"
    yield f"  set spec.replicas in {file} to 1 or more: the change is taken up at once"
