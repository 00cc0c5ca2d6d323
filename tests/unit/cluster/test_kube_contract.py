"""The contract through HTTP: a KubeCluster before a front that is held to the same contract as a real API server."""

from collections.abc import AsyncIterator
from pathlib import Path

import local_clusters
import pytest
from api_front import api_front, kube_over
from cluster_contract import ClusterContract, Forget, config_map
from kvpool_operator.cluster.kube import KubeCluster


class TestKubeCluster(ClusterContract):
    @pytest.fixture
    async def cluster(self, tmp_path: Path) -> AsyncIterator[KubeCluster]:
        async with (
            local_clusters.local_cluster(tmp_path, history=40) as local,
            api_front(local) as front,
            kube_over(front) as cluster,
        ):
            yield cluster

    @pytest.fixture
    def namespace(self) -> str:
        return "contract"

    @pytest.fixture
    def forgotten(self, cluster: KubeCluster, namespace: str) -> Forget:
        async def forget(version: str) -> None:
            for turn in range(60):
                await cluster.apply(config_map("filler", namespace, data={"turn": str(turn)}), manager="m", force=True)

        return forget
