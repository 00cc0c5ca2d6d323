"""Tar archives made in memory, as image layers and OCI archives are."""

import io
import tarfile
from collections.abc import Mapping


def tar_of(files: Mapping[str, bytes], mode: int) -> bytes:
    """Each content under its name, with the same permissions."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return whole.getvalue()
