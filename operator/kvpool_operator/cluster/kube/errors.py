"""What an answer of the API server that is no success means to the operator. Pure.

    408 429 5xx       Unavailable     401   Unauthorized (an Unavailable)
    404               NotFound        410   Expired
    409               FieldConflict (causes FieldManagerConflict), AlreadyExists, Stale
    403               NamespaceEnding (cause NamespaceTerminating), Forbidden (RBAC), Refused (quota, policy)
    422               Stale (an apply with another uid), Refused
    any other         Refused, and 500 for an apply that does not fit the schema

The text is the server's own, with a hint where it needs one.
"""

import json
import re
from dataclasses import dataclass

from kvpool_api.manifest import Manifest, as_list, as_map, as_text, at

from kvpool_operator.cluster.seam import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Expired,
    FieldConflict,
    Forbidden,
    NamespaceEnding,
    NotFound,
    Refused,
    Stale,
    Unauthorized,
    Unavailable,
)

_RBAC = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]*)"| at the cluster scope)?'
)
_UNTYPED = re.compile(r"failed to create typed \w+ object")
"""An apply with a field that the schema does not have, or with an item twice: the server takes the blame."""
_EXCERPT = 300


class NotNow(Unavailable):
    """The API server had no time, or was not there: the same call may succeed in a moment."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no success."""

    status: int
    body: bytes
    retry_after: str | None = None
    """The header as it came."""


def error_of(answer: Answer) -> ClusterError:
    said = _status_object(answer.body)
    words = as_text(said.get("message")) or _excerpt(answer)
    match answer.status:
        case 404:
            return NotFound(_with_hint(words))
        case 409:
            return _conflict(said, words)
        case 410:
            return Expired(words)
        case 403:
            return _forbidden(said, words)
        case 401:
            return Unauthorized(f"the API server does not accept our credentials: {words}")
        case 500 if _UNTYPED.match(words):
            return Refused(words)
        case 408 | 429:
            return NotNow(words, _retry_after_s(answer, said))
        case status if status >= 500:
            return NotNow(words, _retry_after_s(answer, said))
        case 422 if "metadata.uid" in _causes(said, "field"):
            return Stale(words)
    return Refused(words)


def _status_object(body: bytes) -> Manifest:
    """The `Status` that the API server answers; empty for the words of whoever stands before it."""
    try:
        return as_map(json.loads(body))
    except ValueError:
        return {}


def _excerpt(answer: Answer) -> str:
    text = answer.body.decode(errors="replace").strip()
    return f"the API server answered {answer.status}{': ' if text else ''}{text[:_EXCERPT]}"


def _with_hint(words: str) -> str:
    if "could not find the requested resource" in words or "404 page not found" in words:
        return f"{words}: the API server does not know this resource; is the CustomResourceDefinition installed?"
    return words


def _conflict(said: Manifest, words: str) -> Conflict:
    if said.get("reason") == "AlreadyExists":
        return AlreadyExists(words)
    return FieldConflict(words) if "FieldManagerConflict" in _causes(said) else Stale(words)


def _forbidden(said: Manifest, words: str) -> ClusterError:
    if "NamespaceTerminating" in _causes(said):
        return NamespaceEnding(words)
    if "status unknown for quota" in words:
        return NotNow(words)  # a new quota is not counted yet
    found = _RBAC.search(words)
    if found is None:
        return Refused(words)
    resource = ".".join(part for part in (found["resource"], found["group"]) if part)
    scope = f"in namespace {found['namespace']}" if found["namespace"] else "in all namespaces"
    return Forbidden(
        f"{found['user']} may not {found['verb']} {resource} {scope}; grant it in the operator's Role or ClusterRole "
        f"({words})"
    )


def _causes(said: Manifest, key: str = "reason") -> set[str]:
    return {as_text(as_map(cause).get(key)) for cause in as_list(at(said, ("details", "causes")))}


def _retry_after_s(answer: Answer, said: Manifest) -> float | None:
    """By the header, else by the Status; a date (which API servers do not send) counts as nothing."""
    told = at(said, ("details", "retryAfterSeconds"))
    try:
        return max(0.0, float(answer.retry_after if answer.retry_after is not None else _number(told)))
    except ValueError:
        return None


def _number(value: object) -> float:
    """Raises ValueError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{value!r} is no number")
