"""Reading a request's body off the wire, within its limit."""

from kvpool_router.asgi import ClientGone, Headers, Receive
from kvpool_router.requests.refusal import Refusal


async def read_body(receive: Receive, headers: Headers, limit_bytes: int) -> bytes:
    """The whole body.

    Raises Refusal: 413 as soon as it is known to be too long, at best before any of it is read.
    Raises ClientGone: the client left before its end.
    """
    declared = next((value for name, value in headers if name == b"content-length"), b"")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_long(limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body") and len(body) <= limit_bytes:
        return body
    pieces, size = [body], len(body)
    while message.get("more_body") or message["type"] != "http.request":
        if message["type"] != "http.request":
            raise ClientGone
        if size > limit_bytes:
            raise _too_long(limit_bytes)
        message = await receive()
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
    if size > limit_bytes:
        raise _too_long(limit_bytes)
    return b"".join(pieces)


def _too_long(limit_bytes: int) -> Refusal:
    return Refusal(
        413, f"The body is longer than {limit_bytes} bytes; shorten it, or raise spec.router.maxBodyBytes of the pool."
    )
