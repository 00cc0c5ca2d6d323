"""The `restricted` Pod Security level, as far as it bears on Pods for Linux: what an admission would refuse, and why.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator
from typing import Any

VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
PROFILES = frozenset({"RuntimeDefault", "Localhost"})


def refusals(pod: dict[str, Any]) -> list[str]:
    """Of a Pod's spec; empty where it is admitted."""
    return [*_of_pod(pod), *(why for each in _containers(pod) for why in _of_container(each, pod))]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for name in ("initContainers", "containers", "ephemeralContainers") for each in pod.get(name, [])]


def _of_pod(pod: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name} is true" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    for volume in pod.get("volumes", []):
        yield from (f"volume {volume['name']} is a {kind}" for kind in set(volume) - VOLUMES - {"name"})


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own: dict[str, Any] = container.get("securityContext", {})
    both: dict[str, Any] = {**pod.get("securityContext", {}), **own}
    name = container["name"]
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name} has capabilities"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield f"{name} may run as root"
    if both.get("seccompProfile", {}).get("type") not in PROFILES:
        yield f"{name} has no seccomp profile"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name} takes a port of the node"
