"""One HTTP/2 connection as Hypercorn serves it, with what it writes gathered and one timer for its idle time.

Hypercorn writes an answer in pieces: its head, its body, with HTTP/2 a frame or two of housekeeping. Each
piece would be a TLS record, a system call and a wake-up of the peer. And it starts a task for the idle time
after every request. Together that is a third of what a small request costs.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, cast

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import TrioSingleTask, WorkerContext
from hypercorn.typing import AppWrapper, TaskGroup

from linearized.server.wires import TlsWire

SEND_SECONDS: Final = 60  # how long a peer may stop reading before its connection is dropped
CLOSE_SECONDS: Final = 5  # how long saying goodbye may take
# Bytes kept back at most: four TLS records. Past that, sending in pieces costs little for what is sent, and
# who writes has to wait for the peer to read.
MAX_GATHERED: Final = 64 * 1024


class PeerStream:
    """The stream Hypercorn sees. What is written is sent once everybody who can has run, by ``run``.

    Sends and the close have a deadline, as Hypercorn shields them from ours.
    """

    def __init__(self, stream: trio.abc.Stream, transport: trio.SocketStream) -> None:
        self._stream = stream
        self._transport = transport
        self._kept: list[bytes] = []
        self._size = 0
        self._written = trio.Event()
        self._sending = trio.Lock()
        self._leaving = False

    async def run(self) -> None:
        """Send what is written, until the connection breaks."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while not self._leaving or self._kept:
                await self._written.wait()
                self._written = trio.Event()
                # The rest of an HTTP/2 answer is written by a task that the first part of it woke up.
                await trio.lowlevel.checkpoint()
                await self._flush()
        self.drop()

    def abort(self) -> None:
        """Drop the connection, once the peer has what was written."""
        self._leaving = True
        if self._kept:
            self._written.set()
        else:
            self.drop()

    def drop(self) -> None:
        """Drop the connection at once."""
        self._transport.socket.close()

    async def receive_some(self, max_bytes: int) -> bytes:
        """As a trio stream's."""
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes) -> None:
        """Take ``data`` to be sent; waits only if there is much that the peer has not read.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection is gone.
        """
        self._kept.append(data)
        self._size += len(data)
        if self._size > MAX_GATHERED:
            await self._flush()
        else:
            self._written.set()

    async def send_eof(self) -> None:
        """Send what was written; TLS has no way to say that nothing follows."""
        await self._flush()

    async def aclose(self) -> None:
        """Send what was written and close."""
        with trio.move_on_after(CLOSE_SECONDS):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._flush()
            await self._stream.aclose()

    async def _flush(self) -> None:
        async with self._sending:
            if not self._kept:
                return
            data = b"".join(self._kept)
            self._kept.clear()
            self._size = 0
            try:
                with trio.fail_after(SEND_SECONDS):
                    await self._stream.send_all(data)
            except trio.TooSlowError as error:
                self.drop()
                raise trio.BrokenResourceError("the peer stopped reading") from error


class TlsStream(PeerStream):
    """A connection whose TLS handshake is done."""

    def __init__(self, wire: TlsWire) -> None:
        super().__init__(wire, wire.transport)
        self.transport_stream = wire.transport
        self._protocol = wire.selected_alpn_protocol()

    async def do_handshake(self) -> None:
        """Hypercorn tells TLS from plain streams by this method."""

    def selected_alpn_protocol(self) -> str | None:
        """``h2``, ``http/1.1``, or None if nothing was agreed on."""
        return self._protocol


async def serve_connection(
    stream: PeerStream, app: AppWrapper, config: HypercornConfig, context: WorkerContext
) -> None:
    """Serve the requests of one connection to its end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        await _HttpServer(app, config, context, stream)
        nursery.cancel_scope.cancel()


class _IdleTime(TrioSingleTask):
    """Hypercorn's timer for the time between requests, as one task for a connection's life.

    Args:
        close: closes the connection; called after so many ``seconds`` without a request, and when the server
            stops and no request runs.
    """

    def __init__(self, context: WorkerContext, seconds: float, close: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._context = context
        self._seconds = seconds
        self._close = close
        self._patience = trio.CancelScope()
        self._requests = False
        self._stopped = False

    async def restart(self, task_group: TaskGroup, _action: object) -> None:
        """Begin, with no request running."""
        self.idle()
        task_group.spawn(self._watch)

    async def stop(self) -> None:
        """Leave the connection to others."""
        self._stopped = True
        self._patience.cancel()

    def idle(self) -> None:
        """No request runs."""
        self._requests = False
        self._patience.deadline = trio.current_time() + self._seconds
        if self._context.terminated.is_set():
            self._patience.cancel()

    def busy(self) -> None:
        """A request runs."""
        self._requests = True
        self._patience.deadline = math.inf

    async def _watch(self) -> None:
        with self._patience:
            await self._context.terminated.wait()
            if self._requests:
                await trio.sleep_forever()
        if not self._stopped:
            with trio.CancelScope(shield=True):
                await self._close()


class _HttpServer(TCPServer):
    """Hypercorn's server for one connection, ended as soon as the peer has left.

    Left alone it waits for the keep-alive timeout first, and holds the socket for that long.
    """

    def __init__(
        self, app: AppWrapper, config: HypercornConfig, context: WorkerContext, stream: PeerStream
    ) -> None:
        super().__init__(app, config, context, {}, cast("trio.SSLStream[trio.SocketStream]", stream))
        self._idle_time = _IdleTime(context, config.keep_alive_timeout, self._initiate_server_close)
        self.idle_task = self._idle_time

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol asks for."""
        if isinstance(event, RawData):
            try:
                if event.data:
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())
        elif not isinstance(event, Updated):
            await super().protocol_send(event)
        elif event.idle:
            self._idle_time.idle()
        else:
            self._idle_time.busy()

    async def _read_data(self) -> None:
        await super()._read_data()
        await self._idle_time.stop()
