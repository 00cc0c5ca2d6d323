"""Where running pools are recorded when nobody says where: one place a user, whatever folder a terminal is in."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from kvpool_cli.errors import FAILED, UserError

PRIVATE = 0o700


def default_run_folder(environment: Mapping[str, str], temporary: Path, user: int) -> Path:
    """`kvpool` in XDG_RUNTIME_DIR where that can be written, else `kvpool-<uid>` in `temporary`. It exists afterwards.

    Raises UserError where the folder is not the user's own alone: admin tokens lie in it, and a temporary folder is
    anybody's to make names in.
    """
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    usable = os.path.isabs(runtime) and os.access(runtime, os.W_OK | os.X_OK)
    folder = Path(runtime) / "kvpool" if usable else temporary / f"kvpool-{user}"
    try:
        folder.mkdir(mode=PRIVATE, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user:
        raise _unusable(folder, "it belongs to another user, or is a link")
    if stat.S_IMODE(found.st_mode) & ~PRIVATE:
        raise _unusable(folder, f"others may enter it: chmod 700 {folder}")
    return folder


def _unusable(folder: Path, why: str) -> UserError:
    return UserError(f"run folder {folder} cannot be used: {why}; or name another with --run-folder", exit_code=FAILED)
