"""A connection that gathers what is written until somebody waits for an answer.

httpcore writes a request in pieces: its head, its body, the end of it, and with HTTP/2 a frame or two of
housekeeping between them. Each piece would be a TLS record, a system call, and a wake-up of the peer. Nobody
can answer before all of them are there, so they are sent together.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any, Final

import httpcore
import trio

# Bytes kept back at most: four TLS records. Past that, sending in pieces costs little for what is sent.
MAX_GATHERED: Final = 64 * 1024


class GatheringStream(httpcore.AsyncNetworkStream):
    """``inner``, with writes kept back until somebody reads, or while nobody does until there are many bytes.

    With HTTP/2 one task may read while others write. What is written then is sent at once: the reader has
    gone to wait, and will not come back for it.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._kept: list[bytes] = []
        self._size = 0
        self._readers = 0
        self._sending = trio.Lock()  # one task at a time may write to a TLS connection

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
    ) -> None:
        """Take ``buffer`` to be sent.

        Raises:
            httpcore.WriteError, httpcore.WriteTimeout: what was kept back could not be sent.
        """
        self._kept.append(buffer)
        self._size += len(buffer)
        if self._readers or self._size > MAX_GATHERED:
            await self._send(timeout)

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
    ) -> bytes:
        """Send what was kept back, and give the next bytes that come.

        Raises:
            httpcore.ReadError, httpcore.ReadTimeout: there are none.
        """
        self._readers += 1
        try:
            # A server may close its side before it has read all, and have said why: its answer counts.
            with suppress(httpcore.WriteError):
                await self._send(timeout)
            return await self._inner.read(max_bytes, timeout)
        finally:
            self._readers -= 1

    async def aclose(self) -> None:
        """Close the connection; nobody waits for an answer to what is still kept back."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
    ) -> httpcore.AsyncNetworkStream:
        """Shake hands; the TLS connection gathers in turn."""
        return GatheringStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What ``inner`` knows."""
        return self._inner.get_extra_info(info)

    async def _send(self, seconds: float | None) -> None:
        async with self._sending:
            if self._kept:
                data = b"".join(self._kept)
                self._kept.clear()
                self._size = 0
                await self._inner.write(data, seconds)
