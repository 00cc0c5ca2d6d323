"""How a sibling's stream is asked for and read."""

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from kvpool_router.admin_token import NoToken
from kvpool_router.siblings.frames import FrameReader, Refused
from kvpool_router.workers import RouterPod

CONNECT_S = 2.0
SILENCE_S = 5.0
"""A sibling says something each second."""
NOT_YET = 503
"""The status of a router's own answer that it has nothing to give yet."""


class NothingYet(Refused):
    """The sibling is only beginning itself."""

    is_trouble = False


class _Error(msgspec.Struct):
    message: str


class _Refusal(msgspec.Struct):
    error: _Error


_refusal = msgspec.json.Decoder(_Refusal)


class Ask:
    """Streams from siblings' admin ports, with the pool's token as it is now."""

    def __init__(self, session: aiohttp.ClientSession, token: Callable[[], str], silence_s: float = SILENCE_S) -> None:
        self._session = session
        self._token = token
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)

    @asynccontextmanager
    async def payloads(self, sibling: RouterPod, kind: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """What the sibling tells, from its first word to its last. Raises Refused, whatever is amiss."""
        try:
            async with self._session.get(
                f"{sibling.admin_url}/siblings/{kind}",
                headers={"Authorization": f"Bearer {self._token()}"},
                timeout=self._timeout,
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    raise _refused(answer.status, await answer.read())
                yield _payloads(answer.content, kind)
        except NoToken as error:
            raise Refused(str(error)) from error
        except TimeoutError as error:
            raise Refused("it said nothing in time") from error
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
                raise NothingYet("nothing listens at its admin port") from error
            raise Refused(f"the connection failed: {str(error) or type(error).__name__}") from error


def _refused(status: int, body: bytes) -> Refused:
    """In the sentence of a router's own refusal, or the beginning of any other answer, as of a proxy in between."""
    try:
        said = _refusal.decode(body).error.message.rstrip(".")
    except msgspec.DecodeError:
        return Refused(f"it answered {status}: {body[:300].decode(errors='replace')}")
    return (NothingYet if status == NOT_YET else Refused)(f"it answered {status}: {said}")


async def _payloads(content: aiohttp.StreamReader, kind: str) -> AsyncIterator[bytes]:
    reader = FrameReader(kind)
    async for piece in content.iter_any():
        for payload in reader.feed(piece):
            yield payload
    if reader.amid:
        raise Refused("it broke off within a frame")
