"""What one operator process is told, read once at its start: arguments and environment."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kvpool_operator.settings import Settings

HEALTH_PORT = 8080
METRICS_PORT = 9090
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class StartError(Exception):
    """The operator cannot start; one line that says what, why and the mend."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that `run` needs to know."""

    namespaces: tuple[str, ...]
    """The namespaces whose pools are run; none: those of the whole cluster."""
    kubeconfig: Path | None
    """None: the service account of this Pod."""
    settings: Settings
    health_port: int = HEALTH_PORT
    metrics_port: int = METRICS_PORT


def read_options(arguments: Sequence[str], env: Mapping[str, str]) -> Options:
    """Arguments win over the environment. Raises StartError; ends the process for wrong arguments, as argparse does."""
    told = _parser().parse_args(arguments)
    namespaces = told.namespace or [name.strip() for name in env.get("KVPOOL_WATCH_NAMESPACES", "").split(",")]
    return Options(
        namespaces=tuple(_namespace(name) for name in dict.fromkeys(namespaces) if name),
        kubeconfig=_kubeconfig(told.kubeconfig, env),
        settings=_settings(env),
        health_port=told.health_port,
        metrics_port=told.metrics_port,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kvpool_operator", description="Runs the inference pools of a cluster.")
    parser.add_argument(
        "--namespace",
        action="append",
        help="run the pools of this namespace only; may be given several times (default: KVPOOL_WATCH_NAMESPACES, "
        "separated by commas; neither: the whole cluster)",
    )
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        help="file with the cluster and the credentials (default: KUBECONFIG, else the Pod's service account)",
    )
    parser.add_argument(
        "--health-port", type=int, default=HEALTH_PORT, help="port of /healthz, for liveness (default: %(default)s)"
    )
    parser.add_argument(
        "--metrics-port", type=int, default=METRICS_PORT, help="port of /metrics (default: %(default)s)"
    )
    return parser


def _namespace(name: str) -> str:
    if _NAMESPACE.fullmatch(name) is None:
        raise StartError(f"{name!r} is no name of a namespace; name each one, patterns are not known here.")
    return name


def _kubeconfig(told: Path | None, env: Mapping[str, str]) -> Path | None:
    named = told or (Path(env["KUBECONFIG"]) if env.get("KUBECONFIG") else None)
    if named is not None or env.get("KUBERNETES_SERVICE_HOST"):
        return named
    usual = Path(env.get("HOME", "/")) / ".kube" / "config"
    return usual if usual.exists() else None


def _settings(env: Mapping[str, str]) -> Settings:
    settings = Settings()
    return replace(
        settings,
        router_image=env.get("KVPOOL_ROUTER_IMAGE") or settings.router_image,
        operator_namespace=env.get("POD_NAMESPACE") or settings.operator_namespace,
        metrics_namespace=env.get("KVPOOL_METRICS_NAMESPACE") or settings.metrics_namespace,
    )
