"""What one identity did at an API server, by the audit log, against what a role lets it do."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Right = tuple[str, str, str]
"""(API group, resource with its subresource, verb)"""
CREATED = 201


@dataclass(frozen=True)
class Compared:
    missing: frozenset[Right]
    """Asked for and refused, or used by another way than this role."""
    to_spare: frozenset[Right]
    """Held and never used."""


def compared(
    audit_logs: Iterable[Path], user: str, rules: Sequence[Mapping[str, Any]], exempt: Iterable[Right] = ()
) -> Compared:
    """`exempt`: rights that are held for what no audit log shows."""
    held, asked = granted(rules), used(entry for log in audit_logs for entry in entries(log, user))
    return Compared(asked - held, held - asked - frozenset(exempt))


def entries(audit_log: Path, user: str) -> Iterator[Mapping[str, Any]]:
    """Of that user; a line that is being written at this moment is left out."""
    with audit_log.open() as log:
        for line in log:
            if user in line and line.endswith("\n"):
                entry = json.loads(line)
                if entry["user"]["username"] == user:
                    yield entry


def used(told: Iterable[Mapping[str, Any]]) -> frozenset[Right]:
    """An apply that makes an object is told as `patch`, answered with 201; it takes the right to create as well.

    Paths such as /apis, which everybody may read, are no resources.
    """
    return frozenset(right for entry in told if "objectRef" in entry for right in _rights(entry))


def _rights(entry: Mapping[str, Any]) -> Iterator[Right]:
    about = entry["objectRef"]
    resource = about["resource"] + (f"/{about['subresource']}" if about.get("subresource") else "")
    yield about.get("apiGroup", ""), resource, entry["verb"]
    if entry["verb"] == "patch" and entry.get("responseStatus", {}).get("code") == CREATED:
        yield about.get("apiGroup", ""), resource, "create"


def granted(rules: Sequence[Mapping[str, Any]]) -> frozenset[Right]:
    """Each right one by one. A rule with `*` would hide what is used, and fails."""
    rights = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert not any("*" in right for right in rights), rights
    return frozenset(rights)
