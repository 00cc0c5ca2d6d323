"""The file of pools that run: looked at again and again, so that whoever edits it changes the pools."""

from pathlib import Path

from kvpool_api.manifest import Manifest
from kvpool_api.validation import Admission

from kvpool_cli.up.manifests import read_pools


class ManifestFile:
    """Remembers what it has told of. A pipe can be read only once: such a file never changes."""

    def __init__(self, path: Path, admission: Admission) -> None:
        self._path = path
        self._admission = admission
        self._told = self._last = self._content()

    def pools(self) -> tuple[Manifest, ...]:
        """As they stand in it. Raises UserError with every fault."""
        return read_pools(self._path, self._admission)

    def changed_pools(self) -> tuple[Manifest, ...] | None:
        """The pools, once for each change, when two looks in a row have found the same: an editor may still be writing.

        Raises UserError, once too, for a file that is not valid any more or is gone.
        """
        content = self._content()
        stands_still, self._last = content == self._last, content
        if not stands_still or content == self._told:
            return None
        self._told = content
        return self.pools()

    def _content(self) -> bytes | None:
        try:
            return self._path.read_bytes() if self._path.is_file() else None
        except OSError:
            return None
