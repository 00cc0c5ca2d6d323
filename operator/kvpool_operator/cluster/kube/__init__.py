"""A cluster behind an API server."""

from kvpool_operator.cluster.kube.cluster import KubeCluster
from kvpool_operator.cluster.kube.connection import NoCredentials, connect
from kvpool_operator.cluster.kube.pace import Pace

__all__ = ["KubeCluster", "NoCredentials", "Pace", "connect"]
