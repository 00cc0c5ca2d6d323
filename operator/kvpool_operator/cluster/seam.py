"""`Cluster`: what the operator needs of a Kubernetes API, and no more.

Two implementations stand behind it: one talks to an API server, the other keeps the objects in memory and runs Pods as
child processes on this machine. One contract suite holds both to the same behaviour.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import JsonValue

Manifest = dict[str, JsonValue]


class ClusterError(Exception):
    """Base of what a cluster answers instead of a result; the text is for people."""


class Conflict(ClusterError):
    """The object is not as the call supposes."""


class FieldConflict(Conflict):
    """Another field manager owns a field that was applied without force; names the manager and the fields."""


class Stale(Conflict):
    """The object has another uid or resourceVersion than the call asks for, or is gone: read it again."""


class AlreadyExists(Conflict):
    """An object of that name exists, perhaps on its way out."""


class NotFound(ClusterError):
    """No such object (or not with that uid)."""


class Expired(ClusterError):
    """The resource version is too old to watch from: list again."""


class Unavailable(ClusterError):
    """The API cannot answer now; the call may be repeated, after `retry_after_s` where the API server says when."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Unauthorized(Unavailable):
    """The API server does not know who we are, not even after our credentials were read anew."""


class NamespaceEnding(ClusterError):
    """The namespace is being deleted: nothing new can be made in it, which is no fault of what was to be made."""


class Refused(ClusterError):
    """The API server's own words about an object it does not accept."""


class Forbidden(Refused):
    """The operator lacks a permission; names the verb and the resource. A quota or a policy is a plain Refused."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource type."""

    api_version: str
    kind: str
    plural: str


@dataclass(frozen=True, slots=True)
class Ref:
    """One object."""

    kind: Kind
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects of one kind, and the resource version at which they were read."""

    items: tuple[Manifest, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Manifest


POOL = Kind("kvpool.dev/v1alpha1", "InferencePool", "inferencepools")
POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
EVENT = Kind("v1", "Event", "events")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")

KINDS = {
    kind.kind: kind
    for kind in (
        POOL,
        POD,
        SERVICE,
        CONFIG_MAP,
        SECRET,
        SERVICE_ACCOUNT,
        EVENT,
        DEPLOYMENT,
        ROLE,
        ROLE_BINDING,
        DISRUPTION_BUDGET,
        NETWORK_POLICY,
    )
}


class Cluster(Protocol):
    """The objects of a cluster. Every call may raise Unavailable, and Forbidden where a permission is lacking."""

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        """Make an object that does not exist, its fields as after an apply. Raises AlreadyExists, Refused and
        NamespaceEnding.

        A plain apply would merge into whatever bears the name, be it a stranger's or on its way out.
        """
        ...

    async def apply(
        self, manifest: Manifest, *, manager: str, force: bool, subresource: Literal["status"] | None = None
    ) -> Manifest:
        """Server-side apply: create the object or merge these fields into it, owned by `manager`.

        Fields that the manager applied before and now leaves out are removed. A call that changes nothing moves neither
        resourceVersion nor generation. A uid in the manifest is a precondition. Raises FieldConflict (without force),
        Stale, Refused, NamespaceEnding (where it would create), and NotFound for a subresource.
        """
        ...

    async def get(self, ref: Ref) -> Manifest:
        """The object as it is now. Raises NotFound."""
        ...

    async def list(self, kind: Kind, *, namespace: str | None, labels: Mapping[str, str]) -> Listing:
        """Objects that carry all of `labels`; `namespace=None` means all namespaces."""
        ...

    async def delete(self, ref: Ref, *, uid: str, grace_s: int | None = None) -> None:
        """Delete exactly the object with this uid, with its own grace period unless told. Raises NotFound."""
        ...

    async def ended_log(self, pod: Ref, *, container: str, lines: int) -> str:
        """The last lines that the container's last ended process wrote; empty where nothing is kept. Raises NotFound.

        A Pod's status holds 2 KiB of it at most: less than one traceback of vLLM.
        """
        ...

    async def latest_event(self, about: Ref, *, uid: str) -> Manifest | None:
        """The Event that was told last about exactly this object: some causes, such as a failed mount, are only there.

        Events about other objects of that name do not count.
        """
        ...

    def watch(
        self, kind: Kind, *, namespace: str | None, labels: Mapping[str, str], resource_version: str
    ) -> AsyncGenerator[Change, None]:
        """Changes after `resource_version`, for ever; close it to end it at once.

        Raises Expired: list again and watch from there.
        """
        ...
