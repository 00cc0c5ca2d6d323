"""The operator as a process of this machine, with a kubeconfig: what a container of it does."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from control_planes import wait_until
from prometheus_client.parser import text_string_to_metric_families
from quiet_ports import free_port


@dataclass
class OperatorProcess:
    """`log` holds what it said, of every process that this was."""

    kubeconfig: Path
    log: Path
    namespaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.health_port, self.metrics_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self.launch()
        wait_until(lambda: self.ended() or self.health() == 200)
        assert not self.ended(), self.log.read_text()

    def launch(self) -> None:
        words = [f"--namespace={name}" for name in self.namespaces]
        words += [f"--health-port={self.health_port}", f"--metrics-port={self.metrics_port}"]
        argv = [sys.executable, "-m", "kvpool_operator", f"--kubeconfig={self.kubeconfig}", *words]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stderr=log, env={"PATH": os.environ["PATH"]})

    def health(self) -> int | None:
        return self._get(self.health_port, "/healthz")[0]

    def sample(self, name: str, **labels: str) -> float | None:
        """One series of its metrics; None where there is none."""
        text = self._get(self.metrics_port, "/metrics")[1]
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return next((each.value for each in samples if each.name == name and each.labels == labels), None)

    def rounds(self) -> float:
        return sum(self.sample("kvpool_operator_reconciles_total", outcome=each) or 0 for each in ("ok", "failed"))

    def ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Exit code and seconds."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(timeout=30), time.monotonic() - begun

    def _get(self, port: int, path: str) -> tuple[int | None, str]:
        try:
            with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, ""
        except (URLError, OSError):
            return None, ""


@contextmanager
def operator_process(kubeconfig: Path, folder: Path, *namespaces: str) -> Iterator[OperatorProcess]:
    """Runs in the block; killed after it, if it still runs."""
    operator = OperatorProcess(kubeconfig, folder / "operator.log", namespaces)
    try:
        operator.start()
        yield operator
    finally:
        if operator.process is not None and not operator.ended():
            operator.stop(signal.SIGKILL)


@asynccontextmanager
async def operator_beside(kubeconfig: Path, folder: Path, *namespaces: str) -> AsyncIterator[OperatorProcess]:
    """The same where the test's own loop answers what the operator asks: it goes on while the operator starts."""
    operator = OperatorProcess(kubeconfig, folder / "operator.log", namespaces)
    try:
        await asyncio.to_thread(operator.start)
        yield operator
    finally:
        if operator.process is not None and not operator.ended():
            await asyncio.to_thread(operator.stop, signal.SIGKILL)
