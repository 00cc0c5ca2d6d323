"""Engine Pods as the Kubernetes API writes them, as far as a router reads them."""

import json
import os
from pathlib import Path

from pydantic import JsonValue


def engine_pod(
    name: str = "qwen-abc-0",
    *,
    ip: str | None = "127.0.0.2",
    http_port: int = 8000,
    events_port: int | None = 5557,
    replay_port: int | None = 5657,
    annotations: dict[str, str] | None = None,
    ready: bool = True,
    restarts: int = 0,
    uid: str = "uid-1",
    deleted: bool = False,
    phase: str = "Running",
) -> dict[str, JsonValue]:
    named = {"http": http_port, "kv-events": events_port, "kv-replay": replay_port}
    ports: list[JsonValue] = [{"name": each, "containerPort": port} for each, port in named.items() if port is not None]
    metadata: dict[str, JsonValue] = {"name": name, "uid": uid, "annotations": dict(annotations or {})}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status: dict[str, JsonValue] = {
        "phase": phase,
        "conditions": [
            {"type": "Ready", "status": "False"},
            {"type": "ContainersReady", "status": "True" if ready else "False"},
        ],
        "containerStatuses": [
            {"name": "sidecar", "restartCount": 99},
            {"name": "engine", "restartCount": restarts, "ready": ready},
        ],
    }
    if ip is not None:
        status["podIP"] = ip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "engine", "ports": ports}, {"name": "sidecar"}]},
        "status": status,
    }


def write_pods(path: Path, *pods: dict[str, JsonValue]) -> None:
    """Replaces the file atomically, as its writers do."""
    torn = path.with_suffix(".new")
    torn.write_text(json.dumps({"apiVersion": "v1", "kind": "PodList", "items": list(pods)}))
    os.replace(torn, path)
