"""Which files of its context a Dockerfile takes in, and a name for what they hold: decides whether to build again."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

LEFT_OUT = ("__pycache__",)


def taken_in(dockerfile: str) -> list[str]:
    """The sources of COPY, ADD and bind mounts, as patterns relative to the context; those of other stages left out."""
    patterns: list[str] = []
    for line in re.sub(r"\\\n", " ", dockerfile).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() in ("COPY", "ADD"):
            patterns += _copied(rest.strip())
        elif word.upper() == "RUN":
            patterns += _mounted(rest)
    return patterns


def _copied(rest: str) -> list[str]:
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        rest = rest.strip()
        if option.startswith("--from="):
            return []
    words: list[str] = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
    return words[:-1]


def _mounted(rest: str) -> list[str]:
    found = []
    for mount in re.findall(r"--mount=(\S+)", rest):
        fields: Mapping[str, str] = dict(field.partition("=")[::2] for field in mount.split(","))
        if fields.get("type") == "bind" and "from" not in fields:
            found.append(fields.get("source") or fields.get("src") or ".")
    return found


def digest(dockerfile: Path, context: Path, words: Mapping[str, str]) -> str:
    """Of the Dockerfile, what it takes in, and `words`: whatever else decides what comes out."""
    text = dockerfile.read_text()
    whole = sha256(json.dumps([text, sorted(words.items())]).encode())
    for path in sorted({file for pattern in taken_in(text) for file in _files(context, pattern)}):
        executable = path.stat().st_mode & 0o100
        whole.update(f"\0{path.relative_to(context)}\0{executable}\0".encode() + path.read_bytes())
    return whole.hexdigest()


def _files(context: Path, pattern: str) -> Iterator[Path]:
    relative = pattern.strip("/").removeprefix("./")
    for path in [context] if relative in ("", ".") else context.glob(relative):
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file() and not any(part in LEFT_OUT for part in file.parts):
                yield file
