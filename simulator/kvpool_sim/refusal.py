"""What vLLM refuses, in its words and shapes."""

import msgspec


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param

    def body(self, *, anthropic: bool) -> bytes:
        if anthropic:
            return msgspec.json.encode({"type": "error", "error": {"type": self.kind, "message": self.message}})
        told = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return msgspec.json.encode({"error": told})


def unknown_model(asked: str, served: tuple[str, ...]) -> Refusal:
    message = f"The model `{asked}` does not exist. Valid aliases: {', '.join(served)}."
    return Refusal(404, message, kind="NotFoundError", param="model")


def malformed(error: Exception) -> Refusal:
    detail = f"1 validation error:\n  {{'type': 'json_invalid', 'loc': 'body', 'msg': 'JSON decode error: {error}'}}"
    return Refusal(400, detail, kind="Bad Request", param="body")


def missing(field: str) -> Refusal:
    detail = f"1 validation error:\n  {{'type': 'missing', 'loc': 'body.{field}', 'msg': 'Field required'}}"
    return Refusal(400, detail, kind="Bad Request", param=f"body.{field}")


def mistyped(told: str) -> Refusal:
    """Of a validation error such as "Expected `int`, got `str` - at `$.max_tokens`"."""
    place = told.rpartition("$.")[2].rstrip("`")
    return Refusal(400, f"1 validation error:\n  {told}", kind="Bad Request", param=f"body.{place}")
