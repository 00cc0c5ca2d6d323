"""Refusals in the shape that each API's clients expect."""

from collections.abc import Sequence
from enum import Enum

import msgspec

MAX_ECHO = 200


class Dialect(Enum):
    """Whose clients speak on a path."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"


_OPENAI_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    413: "RequestEntityTooLargeError",
    429: "RateLimitError",
    502: "BadGatewayError",
    503: "ServiceUnavailableError",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Refusal(Exception):
    """The router's own answer instead of an engine's: a status and one sentence that says what, why and the mend."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.allow = allow

    @property
    def kind(self) -> str:
        """The error's type in OpenAI's words; also its name in metrics and decisions."""
        return _OPENAI_TYPES.get(self.status, "InternalServerError")

    def headers(self) -> list[tuple[bytes, bytes]]:
        found = []
        if self.retry_after_s is not None:
            found.append((b"retry-after", str(self.retry_after_s).encode()))
        if self.allow is not None:
            found.append((b"allow", self.allow.encode()))
        return found

    def body(self, dialect: Dialect) -> bytes:
        """JSON as vLLM writes it for OpenAI's paths, and as Anthropic's API does for `/v1/messages`."""
        if dialect is Dialect.ANTHROPIC:
            kind = _ANTHROPIC_TYPES.get(self.status, "api_error")
            return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": self.message}})
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return msgspec.json.encode({"error": error})

    def stream_event(self, dialect: Dialect) -> bytes:
        """The same as the last event of a stream whose start the client has already seen."""
        if dialect is Dialect.ANTHROPIC:
            return b"event: error\ndata: " + self.body(dialect) + b"\n\n"
        if dialect is Dialect.RESPONSES:
            event = {"type": "error", "code": self.kind, "message": self.message, "param": self.param}
            return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"
        return b"data: " + self.body(dialect) + b"\n\ndata: [DONE]\n\n"


def unknown_model(name: str, served: Sequence[str]) -> Refusal:
    """In the engine's own words, and with what it may have been meant to be."""
    text = f"The model `{shortened(name)}` does not exist. This pool serves: {', '.join(served)}."
    return Refusal(404, text, param="model")


def shortened(value: str) -> str:
    """A client's own word as it may stand in a message: never longer than a line."""
    return value if len(value) <= MAX_ECHO else value[:MAX_ECHO] + "…"
