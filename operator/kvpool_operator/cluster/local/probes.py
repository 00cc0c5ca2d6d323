"""Probes of a container: httpGet and tcpSocket, with a kubelet's thresholds.

Until a container is up it is asked every 0.1 s, whatever the period, so that a pool is ready as soon as it can be.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from pydantic import JsonValue

from kvpool_operator.cluster.local.errors import StartFault
from kvpool_operator.cluster.local.manifests import mapping, number, sequence, text

EAGER_S = 0.1

Check = Callable[[], Awaitable[str | None]]
"""One question; None when all is well, else what went wrong."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A check and its pace, in seconds and in consecutive results."""

    check: Check
    initial_delay_s: float = 0
    period_s: float = 10
    failures: int = 3
    successes: int = 1


@dataclass(frozen=True, slots=True)
class Probes:
    """A container's probes; what is None is taken as well from the start."""

    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None


async def first_success(probe: Probe) -> str | None:
    """Wait until the probe succeeds: None; or until its failures are used up: the last one."""
    loop = asyncio.get_running_loop()
    until = loop.time() + probe.initial_delay_s + probe.failures * probe.period_s
    while True:
        fault = await probe.check()
        if fault is None or loop.time() >= until:
            return fault
        await asyncio.sleep(min(EAGER_S, probe.period_s))


async def verdicts(probe: Probe, *, is_well: bool) -> AsyncIterator[tuple[bool, str]]:
    """For ever: (well or not, the fault) each time a threshold of consecutive results turns the verdict."""
    against = 0
    while True:
        fault = await probe.check()
        against = 0 if (fault is None) == is_well else against + 1
        if against >= (probe.failures if is_well else probe.successes):
            is_well, against = not is_well, 0
            yield is_well, fault or ""
        await asyncio.sleep(probe.period_s if is_well else min(EAGER_S, probe.period_s))


def probes_of(container: JsonValue, address: str, http: aiohttp.ClientSession) -> Probes:
    """Raises StartFault for a probe that the local cluster does not have."""
    return Probes(
        *(
            _probe(container, name, address, http) if mapping(container, name) else None
            for name in ("startupProbe", "readinessProbe", "livenessProbe")
        )
    )


def _probe(container: JsonValue, name: str, address: str, http: aiohttp.ClientSession) -> Probe:
    spec = mapping(container, name)
    timeout_s = number(spec, "timeoutSeconds", 1)
    if "httpGet" in spec:
        check = _http_check(http, spec["httpGet"], container, address, timeout_s)
    elif "tcpSocket" in spec:
        check = _tcp_check(spec["tcpSocket"], container, address, timeout_s)
    else:
        raise StartFault(
            "CreateContainerConfigError", f"{name}: the local cluster has httpGet and tcpSocket probes only"
        )
    return Probe(
        check,
        initial_delay_s=number(spec, "initialDelaySeconds", 0),
        period_s=number(spec, "periodSeconds", 10),
        failures=number(spec, "failureThreshold", 3),
        successes=number(spec, "successThreshold", 1),
    )


def port_of(container: JsonValue, wanted: JsonValue) -> int:
    """A port by number or by name. Raises StartFault where the container names none so."""
    if isinstance(wanted, int):
        return wanted
    for port in sequence(container, "ports"):
        if text(port, "name") == wanted:
            return number(port, "containerPort", 0)
    raise StartFault("CreateContainerConfigError", f"a probe asks port {wanted!r}, which the container does not name")


def _http_check(
    http: aiohttp.ClientSession, get: JsonValue, container: JsonValue, address: str, timeout_s: float
) -> Check:
    port = port_of(container, _raw(get, "port"))
    url = f"{text(get, 'scheme', 'http').lower()}://{text(get, 'host', address)}:{port}{text(get, 'path', '/')}"
    headers = {text(header, "name"): text(header, "value") for header in sequence(get, "httpHeaders")}

    async def check() -> str | None:
        try:
            async with (
                asyncio.timeout(timeout_s),
                http.get(url, headers=headers, allow_redirects=False, ssl=False) as answer,
            ):
                return None if answer.status < 400 else f"HTTP probe failed with statuscode: {answer.status}"
        except (aiohttp.ClientError, OSError) as error:
            return f"Get {url!r}: {str(error) or type(error).__name__}"

    return check


def _tcp_check(socket: JsonValue, container: JsonValue, address: str, timeout_s: float) -> Check:
    port = port_of(container, _raw(socket, "port"))
    host = text(socket, "host", address)

    async def check() -> str | None:
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            return f"dial tcp {host}:{port}: {str(error) or type(error).__name__}"
        writer.close()
        return None

    return check


def _raw(value: JsonValue, key: str) -> JsonValue:
    return value.get(key) if isinstance(value, dict) else None
