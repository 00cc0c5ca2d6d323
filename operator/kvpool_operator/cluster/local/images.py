"""Which program on this machine stands in for which container image."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from kvpool_operator.cluster.local.errors import ExecutableNotFound, UnknownImage


@dataclass(frozen=True, slots=True)
class Program:
    """What runs in place of an image's entrypoint; the container's own arguments follow `argv`."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Set last, so it wins over the container's own environment."""
    is_router: bool = False
    """Told where its pool's Pods are listed; and where its pool's door on 127.0.0.1 is."""
    events_over_ipc: bool = False
    """A vLLM whose publisher binds no address of its own: its KV events go through sockets in the file system."""


@dataclass(frozen=True, slots=True)
class ImageTable:
    """Programs by image, else by the container's name (a pool's `engine` and `router`, whatever image they name)."""

    by_image: Mapping[str, Program] = field(default_factory=dict)
    by_container: Mapping[str, Program] = field(default_factory=dict)

    def program(self, image: str, container: str) -> Program:
        """The stand-in. Raises UnknownImage."""
        found = self.by_image.get(image) or self.by_container.get(container)
        if found is None:
            known = ", ".join(sorted({*self.by_image, *self.by_container})) or "nothing"
            raise UnknownImage(
                f"container {container!r}: nothing on this machine stands in for image {image!r} (known: {known}); "
                "remove the container, or run the pool in a cluster"
            )
        return found

    def check_executables(self, path: str | None) -> None:
        """Raise ExecutableNotFound for the first program that `path` (a search path) does not lead to."""
        for name, program in (*self.by_image.items(), *self.by_container.items()):
            if shutil.which(program.argv[0], path=path) is None:
                raise ExecutableNotFound(
                    f"{program.argv[0]!r}, which stands in for {name!r}, was not found or cannot be executed; "
                    "install it, or name another engine"
                )
