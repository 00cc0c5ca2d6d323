"""What the command says when it cannot do what was asked."""

INVALID_INPUT = 2
FAILED = 1
INTERRUPTED = 130
"""As shells count it: 128 and SIGINT's number."""


class UserError(Exception):
    """One line for people: what, why and the mend. Ends the command without a traceback.

    `exit_code` is 2 where the input is at fault (nothing was started), 1 where the pool or the machine is.
    """

    def __init__(self, message: str, *, exit_code: int = INVALID_INPUT) -> None:
        super().__init__(message)
        self.exit_code = exit_code
