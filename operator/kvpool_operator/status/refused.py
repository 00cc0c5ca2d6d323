"""What the cluster refuses to take, and the mend where it is known."""

from collections.abc import Sequence

from kvpool_api.conditions import Reason
from kvpool_api.manifest import Manifest, as_text

from kvpool_operator.manifests import condition
from kvpool_operator.plan.actions import CreateEngine, Done, because, subject


def refusal_of_engines(done: Sequence[Done]) -> Reason | None:
    """What keeps engines from being made at all."""
    return next((refusal(each) for each in done if each.refused and isinstance(each.action, CreateEngine)), None)


def is_over_quota(done: Done) -> bool:
    """The namespace has no room for an engine: the spec is sound."""
    return isinstance(done.action, CreateEngine) and "exceeded quota" in (done.refused or "")


def refusal(done: Done) -> Reason:
    """Of an action that the cluster has refused."""
    words = done.refused or ""
    if is_over_quota(done):
        return because("QuotaExceeded", f"{words}; raise the namespace's ResourceQuota, or lower spec.replicas")
    told = f"{subject(done.action)}: {words}"
    return because("Refused", f"{told}; {_must_specify('spec.resources')}" if _wants_amounts(words) else told)


def _wants_amounts(words: str) -> bool:
    return "failed quota" in words and "must specify" in words


def _must_specify(field: str) -> str:
    return f"set these in {field}, or give the namespace a LimitRange with defaults"


def pods_refused(deployment: Manifest) -> Reason | None:
    """Pods of a Deployment that the API server does not take, in the words that its controller passes on."""
    told = condition(deployment, "ReplicaFailure")
    if told.get("status") != "True":
        return None
    words = as_text(told.get("message"))
    if "exceeded quota" in words:
        return because("QuotaExceeded", f"{words}; raise the namespace's ResourceQuota, or lower spec.router.replicas")
    if _wants_amounts(words):
        words = f"{words}; {_must_specify('spec.router.resources')}"
    return because(as_text(told.get("reason")) or "FailedCreate", words)
