"""What the end of a log says about why its process ended: errors, each as one line, without what only looks like one.

    (Worker pid=7) ERROR 11-24 14:32:46 [executor.py:953] Traceback …        its logger's prefix on each line
    (Worker pid=7) ERROR 11-24 14:32:46 [executor.py:953] ValueError: …  <-- the root cause
    RuntimeError: Engine core initialization failed. See root cause above.   its echo in a parent process
    /usr/lib/…/resource_tracker.py:254: UserWarning: …                       noise: the last line is rarely the cause

Python writes an exception last in its traceback and unindented; its message may go on for several lines (a pydantic
error tells the field only there). A line of a logger or of an access log is never one, whatever it contains.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST = 400
"""So many characters of an error are told."""
_MOST_LINES = 8

_LOGGED = re.compile(
    r"^(?P<who>\([^()]*pid=\d+[^()]*\) ?)?"
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)(?:: +| \d\d-\d\d \d\d:\d\d:\d\d[.\d]* \[[^\]]*\] ?)"
)
_WHO = re.compile(r"^\([^()]*pid=\d+[^()]*\) ")
_QUIET = frozenset({"DEBUG", "INFO", "WARNING"})

_TRACEBACK = "Traceback (most recent call last)"
_NAMED = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?::|$)")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception)(?:: |$)")
_ARGPARSE = re.compile(r"^\S+: error: ")
_NO_PART = re.compile(
    r"^During handling of|^The above exception|^Exception ignored|Warning: |^ *warnings\.warn\("
    r"|\" \d{3}\b|^\S+ - - \[|HTTP/\d"
)
"""What ends an error's message: the next traceback's heading, a warning, a line of an access log."""

_ECHO = re.compile(
    r"root cause|See stack trace|Engine core initialization failed|^(?:asyncio\.exceptions\.)?CancelledError"
    r"|^KeyboardInterrupt|^SystemExit|^(?:BrokenPipe|ConnectionReset|EOF)Error|^zmq\.error\.ContextTerminated",
    re.IGNORECASE,
)
"""An exception that only tells that another one has happened, in another process or before."""

_PYDANTIC = re.compile(r"validation errors? for ")
_FIELD_MESSAGE = re.compile(r"^ {2}\S")
_PYDANTIC_TAIL = re.compile(r"\s*\[type=\w+, input_value=.*$|^\s*For further information visit .*$")


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    record: str
    """The logger's prefix, which all lines of one record share; empty for what was printed."""
    level: str

    @property
    def is_quiet(self) -> bool:
        return self.level in _QUIET or _NO_PART.search(self.text) is not None


def errors(log: str) -> tuple[list[str], list[str]]:
    """(errors, echoes of errors), each oldest first and as one line."""
    found = [_joined(block) for block in _blocks([_line(each) for each in log.splitlines()])]
    return [each for each in found if not _ECHO.search(each)], [each for each in found if _ECHO.search(each)]


def plain_lines(log: str) -> list[str]:
    """Lines that are neither routine messages, warnings nor requests, without their prefix."""
    lines = (_line(each) for each in log.splitlines())
    return [line.text.strip() for line in lines if line.text.strip() and not line.is_quiet]


def last_error(log: str) -> str:
    """The root cause as far as the log holds it; else an echo of it, else the last line that could matter."""
    found, echoes = errors(log)
    rest = plain_lines(log) or log.split("\n")
    said = (*reversed(found[-1:]), *reversed(echoes[-1:]), *reversed(rest))
    return next((text.strip()[:LONGEST] for text in said if text.strip()), "it said nothing")


def holds_root_cause(log: str) -> bool:
    """False where a longer piece of the log would tell more."""
    return bool(errors(log)[0])


def _line(raw: str) -> _Line:
    logged = _LOGGED.match(raw)
    if logged is not None:
        return _Line(raw[logged.end() :], logged.group(0), logged["level"])
    who = _WHO.match(raw)
    return _Line(raw[who.end() :], who.group(0), "") if who else _Line(raw, "", "")


def _blocks(lines: Sequence[_Line]) -> Iterator[list[str]]:
    """Each error's lines: the one that names it, and what its message says beyond that."""
    in_traceback = False
    for place, line in enumerate(lines):
        if line.text.startswith(_TRACEBACK):
            in_traceback = True
        elif _begins_error(line, in_traceback):
            in_traceback = False
            yield [line.text, *_more(lines, place)]


def _begins_error(line: _Line, in_traceback: bool) -> bool:
    if line.level in _QUIET:
        return False
    if _EXCEPTION.match(line.text) or _ARGPARSE.match(line.text):
        return True
    return in_traceback and _NAMED.match(line.text) is not None


def _more(lines: Sequence[_Line], place: int) -> Iterator[str]:
    for line in lines[place + 1 : place + 1 + _MOST_LINES]:
        is_next = line.text.startswith(_TRACEBACK) or _begins_error(line, in_traceback=False)
        if is_next or line.is_quiet or line.record != lines[place].record:
            return
        yield line.text


def _joined(block: Sequence[str]) -> str:
    """One line, without the modules and values of a pydantic error: these may hold the whole configuration."""
    text = _pydantic(block) if _PYDANTIC.search(block[0]) else " ".join(" ".join(block).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _pydantic(block: Sequence[str]) -> str:
    """The heading, then fields, each with its message two spaces further in."""
    parts = [block[0].removeprefix("pydantic_core._pydantic_core.")]
    for line in block[1:]:
        told = _PYDANTIC_TAIL.sub("", line)
        joint = ": " if len(parts) == 1 or _FIELD_MESSAGE.match(told) else " "
        parts.extend((joint, told.strip()) if told.strip() else ())
    return "".join(parts)
