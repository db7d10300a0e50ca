"""Open connections to other servers, some for each destination.

Each destination has its own: a connection proves one name, so it is never shared between two.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from linearized.server.discovery import Destination
from linearized.server.exchange import Channel, Outgoing, Reply

MAX_DESTINATIONS: Final = 1000  # with open connections; the one unused for longest makes room

# How OpenSSL words what a server says in the handshake that speaks none of the protocols it was offered
# (RFC 7301, 3.2). Not every version of Python has a name for it.
_NO_PROTOCOL: Final = "no application protocol"


@dataclass(slots=True)
class _Peer:
    """One destination. ``in_turn`` is for requests that follow one another, ``at_once`` for all others."""

    at_once: Channel
    in_turn: Channel
    users: int = 0
    only_http2: bool = False

    async def aclose(self) -> None:
        await self.at_once.aclose()
        await self.in_turn.aclose()


class Connections:
    """All of them.

    Args:
        channel: makes one to a destination, for requests at once or, if it is to be serial, for requests
            that follow one another.
    """

    def __init__(self, channel: Callable[[Destination, bool], Channel]) -> None:
        self._channel = channel
        self._peers: OrderedDict[Destination, _Peer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    async def exchange(
        self, destination: Destination, request: Outgoing, limit: int, *, in_turn: bool
    ) -> Reply:
        """Send a request and read its answer.

        Args:
            limit: bytes of the answer.
            in_turn: the destination gets no other such request before this one is answered. Nothing is
                gained then by HTTP/2, which costs both sides twice the time of HTTP/1.1.

        Raises:
            AnswerTooLarge, httpx.TransportError: as ``Channel.exchange``.
        """
        async with self._used(destination) as peer:
            if in_turn and not peer.only_http2:
                try:
                    return await peer.in_turn.exchange(request, limit)
                except httpx.ConnectError as error:
                    # "Servers MUST support a minimum of HTTP/2" (draft, Transport): some support no other.
                    if not _speaks_another(error):
                        raise
                    peer.only_http2 = True
            return await peer.at_once.exchange(request, limit)

    async def aclose(self) -> None:
        """Close every connection."""
        while self._peers:
            await self._peers.popitem()[1].aclose()

    @asynccontextmanager
    async def _used(self, destination: Destination) -> AsyncIterator[_Peer]:
        peer = self._peer(destination)
        peer.users += 1
        try:
            while len(self._peers) > MAX_DESTINATIONS:
                idle = next((key for key, other in self._peers.items() if not other.users), None)
                if idle is None:
                    break
                await self._peers.pop(idle).aclose()
            yield peer
        finally:
            peer.users -= 1

    def _peer(self, destination: Destination) -> _Peer:
        peer = self._peers.get(destination)
        if peer is None:
            peer = self._peers[destination] = _Peer(
                self._channel(destination, False), self._channel(destination, True)
            )
        self._peers.move_to_end(destination)
        return peer


def _speaks_another(error: BaseException) -> bool:
    """Whether a connection failed because the server speaks none of the protocols we offered."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and _NO_PROTOCOL in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
