"""What a user of the local cluster can get wrong: one exception each, whose text says what, why and the mend."""


class LocalClusterError(Exception):
    """The local cluster cannot run as asked."""


class PortInUse(LocalClusterError):
    """Another program listens where the pool's door should be."""


class UnknownImage(LocalClusterError):
    """No program stands in for an image."""


class ExecutableNotFound(LocalClusterError):
    """The program that stands in for an image is not on this machine."""


class RunDirUnusable(LocalClusterError):
    """The run directory cannot be written, or another run holds it."""


class Unsupported(LocalClusterError):
    """What the local cluster needs, the machine cannot do."""


class StartFault(Exception):
    """A container cannot start now; `reason` is the word that a kubelet would put into its waiting state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
