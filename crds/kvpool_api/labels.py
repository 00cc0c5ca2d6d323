"""Labels and annotations under `kvpool.dev/`, and the names of what a pool owns."""

POOL = "kvpool.dev/pool"
ROLE = "kvpool.dev/role"
TEMPLATE_HASH = "kvpool.dev/template-hash"
"""Label of an engine Pod, annotation of the routers' Deployment: what it was made from."""
SLOT = "kvpool.dev/slot"

ROLE_ENGINE = "engine"
ROLE_ROUTER = "router"

DRAINING = "kvpool.dev/draining"
"""Annotation on an engine Pod, an RFC 3339 time: since then routers send it nothing new."""
DATA_PARALLEL_SIZE = "kvpool.dev/data-parallel-size"
"""Annotation on an engine Pod: how many workers (DP ranks) it is."""
KV_EVENTS_ENDPOINTS = "kvpool.dev/kv-events-endpoints"
"""Annotation that overrides an engine Pod's derived endpoints: a JSON list of {"events", "replay"}, one a rank."""
BUILDER_REVISION = "kvpool.dev/builder-revision"
"""Annotation on an engine Pod: the revision of the manifest builder that made it."""
APPLIED_TEMPLATE = "kvpool.dev/applied-template"
"""Annotation on an engine Pod: the template it was made from, so that a replacement can say what changed."""
CONFIG_HASH = "kvpool.dev/config-hash"
"""Annotation on the router's Pod template: a changed configuration rolls the Deployment."""

ROUTABLE_GATE = "kvpool.dev/routable"
"""Readiness gate and Pod condition: routers have replayed this engine's KV events, or the time for it ran out."""

ENGINE_CONTAINER = "engine"
ROUTER_CONTAINER = "router"

FIELD_MANAGER_CHILDREN = "kvpool-operator"
FIELD_MANAGER_ADOPTION = "kvpool-operator-adoption"
FIELD_MANAGER_STATUS = "kvpool-operator-status"
FIELD_MANAGER_DRAIN = "kvpool-operator-drain"
FIELD_MANAGER_GATE = "kvpool-operator-gate"
FIELD_MANAGER_EVENTS = "kvpool-operator-events"


def engine_selector(pool: str) -> dict[str, str]:
    """Labels that every engine Pod of the pool carries."""
    return {POOL: pool, ROLE: ROLE_ENGINE}


def router_selector(pool: str) -> dict[str, str]:
    """Labels that every router Pod of the pool carries."""
    return {POOL: pool, ROLE: ROLE_ROUTER}


def member_selector(pool: str) -> str:
    """Takes the pool's engine and router Pods, as the API server reads a selector."""
    return f"{POOL}={pool},{ROLE} in ({ROLE_ENGINE},{ROLE_ROUTER})"


def router_name(pool: str) -> str:
    return f"{pool}-router"


def admin_secret_name(pool: str) -> str:
    return f"{pool}-admin"
