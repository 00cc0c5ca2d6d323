"""One connection to one engine's event publisher."""

from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self
from uuid import uuid4

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from kvpool_router.events.feed import ReplayUnavailable
from kvpool_router.events.replay import LARGEST_MESSAGE_BYTES, frame_of, received, replayed
from kvpool_router.events.sequence import Frame

LIVE_FRAMES_KEPT = 1024
"""Live batches of one engine that may wait here, 20 s of a busy one; the rest waits there, or is the next gap."""
SEQUENCE_AND_PAYLOAD = 2
"""Parts of a message without a topic."""
LONGEST_HANDSHAKE_MS = 5000
"""Without news for so long libzmq has given up: while it tries, something happens at least every 2 s."""

_OPTIONS = {
    zmq.LINGER: 0,
    zmq.RCVHWM: LIVE_FRAMES_KEPT,
    zmq.MAXMSGSIZE: LARGEST_MESSAGE_BYTES,
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 500,
    # Where packets are dropped, a kernel tries again after 1, 3, 7 s and so on: each new attempt begins with 1 s again.
    zmq.CONNECT_TIMEOUT: 1500,
    zmq.HANDSHAKE_IVL: 2000,
    # A cable that is cut or a process that is stopped closes no connection: silence must, at both ends, or the engine
    # keeps up to its own mark of messages for a router that is gone.
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 3000,
    zmq.HEARTBEAT_TTL: 10_000,
}
_MONITORED = zmq.Event.CONNECTED | zmq.Event.CONNECT_RETRIED | zmq.Event.DISCONNECTED | zmq.Event.HANDSHAKE_SUCCEEDED


class Subscription:
    """A SUB socket that is used for one connection only: what an earlier connection left unread is gone with it.

    `established` and `lost` read the socket's monitor; `live` and `replay` are the Feed.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        events: str,
        replay: str | None,
        silence_s: float,
        foreign: Callable[[], None],
        heard: Callable[[bytes], None],
    ) -> None:
        """`silence_s`: how long a replay may be silent.

        `foreign` is called for a message that carries no batch, `heard` with each topic that differs from the last.
        """
        self._context = context
        self._events = events
        self._replay = replay
        self._silence_s = silence_s
        self._foreign = foreign
        self._heard = heard
        self._topic: bytes | None = None

    def __enter__(self) -> Self:
        self._socket = self._context.socket(zmq.SUB)
        self._plain: zmq.Socket[bytes] = zmq.Socket.shadow(self._socket.underlying)
        for option, value in _OPTIONS.items():
            self._socket.set(option, value)
        self._socket.set(zmq.SUBSCRIBE, b"")
        # pyzmq's own address is made of the file descriptor, which a socket just closed may still hold.
        self._monitor = self._socket.get_monitor_socket(_MONITORED, f"inproc://monitor-{uuid4().hex}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()

    def connect(self) -> None:
        """Begins to connect. Raises ZMQError: it is no address."""
        self._socket.connect(self._events)

    async def established(self, hindered: Callable[[str], None]) -> bool:
        """True once the publisher has shaken hands; False if it closed the connection or hangs: begin anew.

        `hindered` is told, in a sentence, what stands in the way.

        libzmq goes on trying by itself while nothing listens, but not after a peer that is no publisher.
        """
        self._monitor.set(zmq.RCVTIMEO, LONGEST_HANDSHAKE_MS)
        mute = f"{self._events} accepts connections, but no event publisher answers there, or it hangs."
        while (event := await self._event()) != zmq.Event.HANDSHAKE_SUCCEEDED:
            if event in (None, zmq.Event.DISCONNECTED):
                hindered(mute)
                return False
            if event == zmq.Event.CONNECTED:
                hindered(mute)
            else:
                hindered(f"No connection to {self._events}: nothing listens there, or the way is blocked.")
        return True

    async def lost(self) -> None:
        """Returns when the connection is lost."""
        self._monitor.set(zmq.RCVTIMEO, -1)
        while await self._event() != zmq.Event.DISCONNECTED:
            pass

    async def _event(self) -> zmq.Event | None:
        try:
            message = await self._monitor.recv_multipart()
        except zmq.Again:
            return None
        return zmq.Event(parse_monitor_message(message)["event"])

    async def live(self, timeout_s: float) -> Frame | None:
        # The socket's own timeout: to cancel a receive could lose the message that it was about to give.
        self._socket.set(zmq.RCVTIMEO, round(timeout_s * 1000))
        try:
            while (frame := frame_of(parts := await received(self._socket, self._plain))) is None:
                self._foreign()
        except zmq.Again:
            return None
        if parts[0] != self._topic and len(parts) > SEQUENCE_AND_PAYLOAD:
            self._topic = parts[0]
            self._heard(parts[0])
        return frame

    async def replay(self, first: int) -> AsyncGenerator[Frame, None]:
        if self._replay is None:
            raise ReplayUnavailable("pod declares no kv-replay port")
        async for frame in replayed(self._context, self._replay, first, self._silence_s):
            yield frame
