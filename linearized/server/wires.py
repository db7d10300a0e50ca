"""Connections over sockets, with as little as can be between who writes and the system call.

trio's streams wait and let everybody run for each read and each write, and its TLS adds as much again. For a
small request that is half of what it costs. Here what the socket takes is written at once, and only the rest
is waited for.
"""

from __future__ import annotations

import os
import ssl
from abc import abstractmethod
from contextlib import suppress
from typing import Any, Final, cast

import trio

_READ_BYTES: Final = 64 * 1024  # four TLS records, in one system call
# Bytes that TLS has to say by itself, beside what is written: answers to changed keys. A peer that asks for
# them and does not read them wants to fill our memory; each has some thirty bytes.
MAX_OWED_BYTES: Final = 16 * 1024


class Wire(trio.abc.Stream):
    """A stream over a socket, closed with it. One task may read and one write at a time."""

    def __init__(self, transport: trio.SocketStream) -> None:
        self.transport = transport
        self._unsent = bytearray()  # as it goes over the socket
        self._writing = False

    @abstractmethod
    def _encode(self, data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        """What goes over the socket for ``data``."""

    def write_now(self, data: bytes | bytearray | memoryview) -> bool:
        """Write what the socket takes of ``data`` at once, and keep the rest; whether that was all.

        If not, it is for ``drain`` to write the rest, before anything else is written.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection is gone.
        """
        return self._push(self._encode(data))

    async def drain(self) -> None:
        """Write what is kept. After it was cancelled it may be called again.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection is gone.
        """
        if self._writing:
            raise trio.BusyResourceError("another task is writing")
        self._writing = True
        try:
            while not self._push(b""):
                await trio.lowlevel.wait_writable(self._descriptor())
        finally:
            self._writing = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As any stream's, but that nobody else runs if all is written at once."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._writing:
            raise trio.BusyResourceError("another task is writing")
        if not self.write_now(data):
            await self.drain()

    async def wait_send_all_might_not_block(self) -> None:
        """As any stream's."""
        await self.transport.wait_send_all_might_not_block()

    def _descriptor(self) -> int:
        """The socket, for as long as it is open: its number may be another's later."""
        descriptor = self.transport.socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError("the connection was closed here")
        return descriptor

    def _push(self, more: bytes | bytearray | memoryview) -> bool:
        """Write what is kept and ``more``, as far as the socket takes it; whether that was all."""
        if self._unsent:
            self._unsent += more
            more = self._unsent
        elif not more:
            return True
        try:
            sent = os.write(self._descriptor(), more)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise trio.BrokenResourceError("the peer is gone") from error
        if more is self._unsent:
            del self._unsent[:sent]
        elif sent < len(more):
            self._unsent += memoryview(more)[sent:]
        return not self._unsent


class PlainWire(Wire):
    """A connection without TLS."""

    def _encode(self, data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        return data

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As any stream's."""
        return await self.transport.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Say that nothing follows, and close."""
        try:
            await trio.lowlevel.checkpoint()
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                await self.drain()
                await self.transport.send_eof()
        finally:
            await self.transport.aclose()


class TlsWire(Wire):
    """A connection with TLS. Ends of the connection that TLS does not announce are ends all the same: HTTP
    says by itself whether a message is whole.

    Args:
        server_hostname: whose name the certificate must prove; None for a server.
    """

    def __init__(
        self, transport: trio.SocketStream, context: ssl.SSLContext, *, server_hostname: str | None = None
    ) -> None:
        super().__init__(transport)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self._owed = 0
        self._reading = False
        self._ended = False  # by the peer, as TLS says it

    async def do_handshake(self) -> None:
        """Shake hands; before that nothing is read or written.

        Raises:
            trio.BrokenResourceError: the peer is not who it should be, speaks something else, or is gone.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise trio.BrokenResourceError("the peer left while shaking hands") from None
            except ssl.SSLError as error:
                with suppress(trio.BrokenResourceError):
                    self._push(self._outgoing.read())  # it is told why
                raise trio.BrokenResourceError("no hands were shaken") from error
            else:
                await self._flush()
                return

    def getpeercert(self) -> dict[str, Any] | None:
        """The peer's certificate, as ``ssl`` decodes it; empty or None if there is none."""
        return cast("dict[str, Any] | None", self._tls.getpeercert())

    def selected_alpn_protocol(self) -> str | None:
        """``h2``, ``http/1.1``, or None if nothing was agreed on."""
        return self._tls.selected_alpn_protocol()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As any stream's. Others run before it returns."""
        if self._reading:
            raise trio.BusyResourceError("another task is reading")
        self._reading = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            data = self._decrypted(max_bytes or _READ_BYTES)
            if data is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()  # nothing of it may be lost
            while data is None:
                if self._ended or not await self._fill():
                    return b""
                data = self._decrypted(max_bytes or _READ_BYTES)
            return data
        finally:
            self._reading = False

    async def aclose(self) -> None:
        """Tell the peer, without waiting for its answer, and close."""
        try:
            await trio.lowlevel.checkpoint()
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                await self._flush()
        finally:
            await self.transport.aclose()

    def _encode(self, data: bytes | bytearray | memoryview) -> bytes:
        self._descriptor()
        try:
            with memoryview(data) as rest:
                done = 0
                while done < len(rest):
                    done += self._tls.write(rest[done:])  # a record at a time
        except ssl.SSLError as error:
            raise trio.BrokenResourceError("the peer has ended TLS") from error
        return self._outgoing.read()

    def _decrypted(self, most: int) -> bytes | None:
        """What has come, as far as it is whole records; None if nothing has."""
        parts: list[bytes] = []
        size = 0
        try:
            # Asking for what is not there costs more than deciphering a record.
            while size < most and (self._incoming.pending or self._tls.pending()):
                part = self._tls.read(most - size)
                if not part:
                    self._ended = True
                    break
                parts.append(part)
                size += len(part)
        except ssl.SSLWantReadError:
            pass  # a record has come in part
        except ssl.SSLError as error:
            if not parts:
                raise trio.BrokenResourceError("what came is not TLS") from error
        self._answer()
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _answer(self) -> None:
        """Write what TLS has to say to what came."""
        if not self._outgoing.pending:
            return
        said = self._outgoing.read()
        self._owed += len(said)
        if self._push(said):
            self._owed = 0
        elif self._owed > MAX_OWED_BYTES:
            raise trio.BrokenResourceError("the peer does not read what it asks for")

    async def _fill(self) -> bool:
        """Wait for what comes next over the socket, and take it; False at the end."""
        while True:
            descriptor = self._descriptor()
            await trio.lowlevel.wait_readable(descriptor)
            try:
                data = os.read(descriptor, _READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError("the connection broke") from error
            self._incoming.write(data)
            return bool(data)

    async def _flush(self) -> None:
        if not self._push(self._outgoing.read()):
            await self.drain()
