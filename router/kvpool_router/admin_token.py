"""The token that guards the admin port, as its file holds it now."""

from dataclasses import dataclass
from pathlib import Path


class NoToken(Exception):
    """There is none; one line that says why and the mend."""


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Read anew each time: the kubelet changes the file some time after the Secret has changed.

    A copy from the start would refuse the operator's new token until the router starts again, and take the old one as
    long. The admin port is asked about once a second, so that a read costs nothing.
    """

    path: Path

    def now(self) -> str:
        """Raises NoToken, also for an empty file: nobody may pass with an empty token."""
        try:
            token = self.path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            mend = "mount the pool's Secret <pool>-admin, key `token` there"
            raise NoToken(f"{self.path} cannot be read ({error}); {mend}.") from error
        if not token:
            raise NoToken(
                f"{self.path} is empty; put a token of at least one character there, it guards the admin port."
            )
        return token
