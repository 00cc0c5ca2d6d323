"""A pool's world for tests of `plan`: engines as facts, a kubelet and routers that do their part, actions applied."""

from dataclasses import dataclass, field, replace

from kvpool_api.manifest import as_text
from kvpool_api.pool import InferencePool
from kvpool_api.spec import Strategy
from kvpool_api.wire import EventState, RouterState, WindowFacts, WorkerState
from kvpool_operator.build.children import children
from kvpool_operator.manifests import name_of, rfc3339
from kvpool_operator.observe import engine_of
from kvpool_operator.observed import Engine, Observed, Router
from kvpool_operator.plan.actions import (
    Action,
    ApplyChild,
    ClearDraining,
    CreateEngine,
    DeleteEngine,
    MarkDraining,
    SetRoutable,
)
from kvpool_operator.settings import Settings

T0 = 1_800_000_000.0
SETTINGS = Settings()
WINDOW = WindowFacts(
    requests=0, prompt_tokens=0, cached_tokens=0, predicted_tokens=0, errors=0, ttft_p50_ms=None, ttft_p90_ms=None
)


def pool(replicas: int = 2, *, name: str = "qwen", generation: int = 1, **spec) -> InferencePool:
    return InferencePool.model_validate(
        {
            "metadata": {"name": name, "namespace": "default", "uid": "pool-uid", "generation": generation},
            "spec": {"model": {"name": "Qwen/Qwen3-32B"}, "replicas": replicas, **spec},
        }
    )


def worker_state(pod: str, **facts) -> WorkerState:
    known = {
        "pod": pod,
        "pod_uid": f"uid-{pod}",
        "dp_rank": 0,
        "url": "http://127.0.0.1:8000",
        "events": EventState.EXACT,
        "events_reason": "",
        "synced": True,
        "blocks": 0,
        "last_sequence": None,
        "lag_ms": None,
        "gaps": 0,
        "skipped_events": 0,
        "ready": True,
        "draining": False,
        "in_flight": 0,
        "queued_prefill_tokens": 0,
        "running": None,
        "waiting": None,
        "kv_usage_percent": None,
    }
    return WorkerState(**{**known, **facts})


def router_state(workers: list[WorkerState], window: WindowFacts = WINDOW, queue: int = 0) -> RouterState:
    return RouterState(
        router="r-0",
        ready=True,
        ready_reason="",
        tokenizer="",
        strategy=Strategy.CACHE_AWARE,
        queue=queue,
        window=window,
        workers=workers,
    )


def router(workers: list[WorkerState], name: str = "qwen-router-0", **facts) -> Router:
    return Router(name, terminating=False, ready=True, running=True, pod={}, state=router_state(workers), **facts)


def silent_router(name: str = "qwen-router-0", *, running: bool = True) -> Router:
    return Router(name, terminating=False, ready=False, running=running, pod={}, silent="no answer")


def pod_manifest(manifest, uid: str, created: float = T0, **status) -> dict:
    meta = {**manifest["metadata"], "uid": uid, "creationTimestamp": rfc3339(created)}
    return {**manifest, "metadata": meta, "status": {"phase": "Running", **status}}


def serving(engine: Engine, since: float = T0) -> Engine:
    return replace(engine, containers_ready_since=since, routable=True)


@dataclass
class World:
    """Changes by actions, and by a kubelet and routers that work whenever `live` is called.

    Routers hear of a drain one `live` later, and until then send on; they are silent until `silent_until`.
    """

    pool: InferencePool
    engines: list[Engine] = field(default_factory=list)
    in_flight: dict[str, int] = field(default_factory=dict)
    has_children: bool = True
    now: float = T0
    made: int = 0
    silent_until: float = 0.0
    told_to_drain: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        wanted = children(self.pool, SETTINGS)
        self._children = {(as_text(child["kind"]), name_of(child)): child for child in wanted}

    def observed(self) -> Observed:
        return Observed(
            pool=self.pool,
            engines=tuple(sorted(self.engines, key=lambda engine: engine.name)),
            routers=(self._router(),),
            children=self._children if self.has_children else {},
            token="token" if self.has_children else None,
        )

    def apply(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case ApplyChild():
                    self.has_children = True
                case CreateEngine():
                    assert action.name not in {engine.name for engine in self.engines}, "a name is used twice"
                    self.made += 1
                    self.engines.append(engine_of(pod_manifest(action.manifest, f"u{self.made}", self.now)))
                case DeleteEngine():
                    self._change(action.name, terminating=True)
                case MarkDraining():
                    self._change(action.name, draining_since=self.now)
                case ClearDraining():
                    self._change(action.name, draining_since=None)
                case SetRoutable():
                    self._change(action.name, routable=True)

    def live(self) -> None:
        """Time passes: Pods start and end, requests end."""
        self.now += 1.0
        self.told_to_drain = frozenset(e.name for e in self.engines if e.draining_since is not None)
        self.engines = [engine for engine in self.engines if not engine.terminating]
        for engine in self.engines:
            if engine.active and engine.containers_ready_since is None:
                self._change(engine.name, containers_ready_since=self.now)
        self.in_flight = {name: left for name, count in self.in_flight.items() if (left := self._left(name, count))}

    def _left(self, name: str, count: int) -> int:
        """Requests end; new ones take their place while routers send any."""
        return count - 1 if name in self.told_to_drain else count

    def _router(self) -> Router:
        if self.now < self.silent_until:
            return silent_router()
        return router([self._worker(engine) for engine in self.engines if not engine.failed_at])

    def _worker(self, engine: Engine) -> WorkerState:
        draining = engine.name in self.told_to_drain
        return worker_state(engine.name, draining=draining, in_flight=self.in_flight.get(engine.name, 0))

    def _change(self, name: str, **facts) -> None:
        self.engines = [replace(e, **facts) if e.name == name else e for e in self.engines]
