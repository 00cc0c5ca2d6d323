"""What the operator is told about itself. The attribute docstrings are the manual."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """One operator's settings."""

    router_image: str = "localhost/kvpool/router:0.1.0"
    """Image of routers whose pool names none: as `make images` names this release's."""
    builder_revision: str = "1"
    """Revision of the engine Pods that this release builds; it moves when a release would build them differently."""
    operator_namespace: str = "kvpool-system"
    """Namespace whose Pods may reach the routers' admin ports."""
    metrics_namespace: str = "monitoring"
    """Namespace whose Pods may scrape engines and routers."""
    resync_s: float = 300.0
    """A pool is looked at this often even if nothing wakes its loop."""
    debounce_s: float = 0.05
    """After a wake-up the loop waits until there was none for this long."""
    debounce_after_round_s: float = 0.25
    """The same within `debounce_limit_s` of its last round: single events of a long burst come further apart."""
    debounce_limit_s: float = 1.0
    """It does not wait longer than this."""
    rounds_at_once: int = 10
    """So many pools may begin a round at the same moment."""
    rounds_per_s: float = 20.0
    """Further ones begin at this rate: after a start or a re-list every pool wants a round, of some 15 calls each."""
    settle_s: float = 1.0
    """After it has acted, a pool is looked at again this soon even if nothing wakes its loop."""
    refused_retry_s: float = 15.0
    """What the cluster refused (a quota, a policy) is tried again this much later; new engines ever later, …"""
    refused_retry_most_s: float = 300.0
    """… twice as late each time, up to this; but at once when the spec or the engines that there are have changed."""
    back_off_s: tuple[float, ...] = (0.2, 1.0, 5.0, 15.0)
    """Waits after the first, second … failed round in a row, give or take a third; the last one stays."""
    least_back_off_s: float = 1.0
    """News of an API server that could not answer cuts these waits short, but not below this."""
    re_list_s: float = 1.0
    """After a watch has ended its objects are listed again this much later."""
    admin_timeout_s: float = 2.0
    """How long a router may take to answer."""
    routable_grace_s: float = 2.0
    """On top of `kvEvents.syncTimeoutSeconds`: how long an engine that is ready waits for the routers' word."""
    mount_interval_s: float = 10.0
    """While containers are being made, the Events about them are read this often: no watch tells of those."""
    silence_interval_s: float = 10.0
    """While a router that was ready does not tell its state, it is asked this often: no watch tells of it."""
    doubt_interval_s: float = 2.0
    """While routers doubt the events of an engine that serves, they are asked this often: no watch tells of it."""
    facts_interval_s: float = 10.0
    """Cache facts are written to status at most this often."""
    facts_expiry_s: float = 60.0
    """Older cache facts are withdrawn."""
    facts_idle_interval_s: float = 30.0
    """Routers whose cache facts have not changed for `facts_expiry_s` are asked this often."""
