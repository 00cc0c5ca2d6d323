"""The real helm against a cluster, with a release's name and namespace: what a user would type."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from install_manifests import DEPLOY, program

CHART = DEPLOY / "chart"


class HelmFailed(AssertionError):
    """Its words."""


@dataclass(frozen=True)
class Release:
    """Of kvpool's chart; helm keeps its own files in `folder`."""

    kubeconfig: Path
    namespace: str
    folder: Path
    name: str = "kvpool"

    def install(self, *options: str, chart: Path = CHART) -> str:
        return self._helm("install", self.name, str(chart), "--wait", "--timeout=90s", *options)

    def upgrade(self, *options: str, chart: Path = CHART) -> str:
        """With the values that it has, and what `options` change."""
        words = ("--reset-then-reuse-values", "--wait", "--timeout=90s", *options)
        return self._helm("upgrade", self.name, str(chart), *words)

    def uninstall(self) -> str:
        return self._helm("uninstall", self.name, "--wait", "--timeout=60s")

    def _helm(self, *words: str) -> str:
        kept = {f"HELM_{kind}_HOME": str(self.folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        argv = [program("helm"), *words, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=os.environ | kept)
        if done.returncode:
            raise HelmFailed(f"helm {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout
