"""Asks an engine for the batches it still holds."""

from collections.abc import AsyncGenerator, Sequence

import zmq
import zmq.asyncio

from kvpool_router.events.feed import ReplayUnavailable
from kvpool_router.events.sequence import Frame

SEQUENCE_BYTES = 8
END_OF_REPLAY = -1
ANSWER_FRAMES_KEPT = 16_384
"""Batches that may wait here: more than vLLM buffers (10,000), so that an answer is not cut on our side."""
LARGEST_MESSAGE_BYTES = 64 * 2**20


_OPTIONS = {
    zmq.LINGER: 0,
    zmq.RCVHWM: ANSWER_FRAMES_KEPT,
    zmq.MAXMSGSIZE: LARGEST_MESSAGE_BYTES,
    zmq.RECONNECT_IVL: 100,
    zmq.CONNECT_TIMEOUT: 1500,
    # A question that nobody could take must not wait for an engine that comes back after we have gone.
    zmq.IMMEDIATE: 1,
}


async def received(socket: zmq.asyncio.Socket, plain: zmq.Socket[bytes]) -> list[bytes]:
    """The next message; `plain` is the same socket without asyncio.

    What is there already is taken directly, since a future and a timer a message cost half as much as all the rest.
    """
    try:
        return plain.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return await socket.recv_multipart()


def frame_of(parts: Sequence[bytes]) -> Frame | None:
    """The batch in one message, live or replayed: sequence and payload are its last two parts in every release.

    None for a message that carries no batch. Releases put nothing, an empty part or a topic before them.
    """
    if len(parts) < 2 or len(parts[-2]) != SEQUENCE_BYTES:
        return None
    return Frame(int.from_bytes(parts[-2], "big", signed=True), parts[-1])


async def replayed(
    context: zmq.asyncio.Context, address: str, first: int, silence_s: float
) -> AsyncGenerator[Frame, None]:
    """Batches from sequence `first` on, in the engine's order, up to its end mark.

    A socket of its own for each question, so that what is left of an unfinished answer cannot be taken for the next.
    Raises ReplayUnavailable after `silence_s` seconds without a connection, or without a message.
    """
    socket = context.socket(zmq.DEALER)
    for option, value in _OPTIONS.items():
        socket.set(option, value)
    socket.set(zmq.SNDTIMEO, round(silence_s * 1000))
    socket.set(zmq.RCVTIMEO, round(silence_s * 1000))
    try:
        socket.connect(address)
        await _ask(socket, address, first)
        plain: zmq.Socket[bytes] = zmq.Socket.shadow(socket.underlying)
        while (frame := frame_of(await received(socket, plain))) is None or frame.sequence != END_OF_REPLAY:
            if frame is not None:
                yield frame
    except zmq.Again as silence:
        raise ReplayUnavailable(f"replay port {address} gave no answer within {silence_s:g} s") from silence
    except zmq.ZMQError as error:
        raise ReplayUnavailable(f"replay port {address} cannot be asked: {error}") from error
    finally:
        socket.close()


async def _ask(socket: zmq.asyncio.Socket, address: str, first: int) -> None:
    try:
        await socket.send_multipart([b"", first.to_bytes(SEQUENCE_BYTES, "big")])
    except zmq.Again as nobody:
        raise ReplayUnavailable(f"replay port {address} cannot be reached", unheard=True) from nobody
