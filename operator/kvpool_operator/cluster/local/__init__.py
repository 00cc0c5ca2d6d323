"""A cluster on this machine: API objects in memory, Pods as child processes."""

from kvpool_operator.cluster.local.cluster import LocalCluster
from kvpool_operator.cluster.local.errors import (
    ExecutableNotFound,
    LocalClusterError,
    PortInUse,
    RunDirUnusable,
    UnknownImage,
    Unsupported,
)
from kvpool_operator.cluster.local.images import ImageTable, Program

__all__ = [
    "ExecutableNotFound",
    "ImageTable",
    "LocalCluster",
    "LocalClusterError",
    "PortInUse",
    "Program",
    "RunDirUnusable",
    "UnknownImage",
    "Unsupported",
]
