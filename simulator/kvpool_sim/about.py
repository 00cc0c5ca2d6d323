"""What an engine tells of itself, to whoever asks with GET."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from kvpool_sim.answers.ids import random_id
from kvpool_sim.driver import Driver
from kvpool_sim.metrics import quantile
from kvpool_sim.settings import Settings, for_rank

_encode = msgspec.json.encode


class About:
    """JSON by path."""

    def __init__(self, settings: Settings, drivers: Sequence[Driver]) -> None:
        self._settings = settings
        self._drivers = drivers
        self.pages: Mapping[str, Callable[[], bytes]] = {
            "/v1/models": self._models,
            "/kv_event_sources": self._event_sources,
            "/load": self._load,
            "/is_sleeping": lambda: _encode({"is_sleeping": any(driver.asleep for driver in self._drivers)}),
            "/version": lambda: _encode({"version": "0.32.0"}),
            "/sim/stats": self._stats,
        }

    def _load(self) -> bytes:
        return _encode({"server_load": sum(driver.in_flight for driver in self._drivers)})

    def _models(self) -> bytes:
        settings = self._settings
        models = [self._model(name) for name in settings.served_names]
        base = settings.served_names[0]
        adapters = [self._model(name, root=path, parent=base) for name, path in settings.adapters.items()]
        return _encode({"object": "list", "data": [*models, *adapters]})

    def _model(self, name: str, *, root: str | None = None, parent: str | None = None) -> dict[str, object]:
        now = int(time.time())
        permission = {
            "id": f"modelperm-{random_id()}",
            "object": "model_permission",
            "created": now,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        return {
            "id": name,
            "object": "model",
            "created": now,
            "owned_by": "vllm",
            "root": root or self._settings.model,
            "parent": parent,
            "max_model_len": None if parent else self._settings.limits.max_model_len,
            "permission": [permission],
        }

    def _event_sources(self) -> bytes:
        publishing = self._settings.publishing
        if publishing is None:
            return _encode({})
        sources = {}
        for rank in range(len(self._drivers)):
            of_rank = for_rank(publishing, rank)
            sources[str(rank)] = {
                "enable_kv_cache_events": True,
                "publisher": "zmq",
                "endpoint": of_rank.endpoint,
                "replay_endpoint": of_rank.replay_endpoint,
                "buffer_steps": of_rank.buffer_steps,
                "hwm": 100_000,
                "max_queue_size": 100_000,
                "topic": of_rank.topic,
            }
        return _encode(sources)

    def _stats(self) -> bytes:
        late = [value for driver in self._drivers for value in driver.latenesses_s]
        totals = [driver.core.totals for driver in self._drivers]
        p50, p99 = quantile(late, 0.5), quantile(late, 0.99)
        return _encode(
            {
                "steps": sum(each.steps for each in totals),
                "prompt_tokens": sum(each.prompt_tokens for each in totals),
                "cached_tokens": sum(each.cached_tokens for each in totals),
                "preemptions": sum(each.preemptions for each in totals),
                "cached_blocks": sum(driver.core.pool.cached for driver in self._drivers),
                "step_lateness_p50_ms": None if p50 is None else p50 * 1e3,
                "step_lateness_p99_ms": None if p99 is None else p99 * 1e3,
            }
        )
