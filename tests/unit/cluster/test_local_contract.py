from collections.abc import AsyncIterator
from pathlib import Path

import local_clusters
import pytest
from cluster_contract import ClusterContract, Forget, config_map
from kvpool_operator.cluster.local import LocalCluster


class TestLocalCluster(ClusterContract):
    @pytest.fixture
    async def cluster(self, tmp_path: Path) -> AsyncIterator[LocalCluster]:
        async with local_clusters.local_cluster(tmp_path, history=40) as cluster:
            yield cluster

    @pytest.fixture
    def namespace(self) -> str:
        return "contract"

    @pytest.fixture
    def forgotten(self, cluster: LocalCluster, namespace: str) -> Forget:
        async def forget(version: str) -> None:
            for turn in range(60):
                await cluster.apply(config_map("filler", namespace, data={"turn": str(turn)}), manager="m", force=True)

        return forget
