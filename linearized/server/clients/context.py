"""What the client API's handlers share besides the node: caches and locks that live as long as the server."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

import trio

from linearized.server.buckets import Buckets
from linearized.server.clients.echoes import Echoes
from linearized.server.clients.held_files import HeldFiles
from linearized.server.clients.login_tokens import LoginTokens
from linearized.server.clients.notifications import Notifications
from linearized.server.clients.pages import Pages
from linearized.server.clients.sliding_connections import Connections
from linearized.server.clients.typists import Typists
from linearized.server.clients.views import Views
from linearized.server.node import Node
from linearized.server.room_aliases import RemoteAliases

# scrypt takes 32 MiB and a core each: two at once are all a small machine should give to logins.
_HASHERS = 2
# Pictures decoded at once: each may take 128 MB.
_DECODERS = 1
# A person mistypes a few times; a guesser is held to one guess every twelve seconds.
LOGIN_ATTEMPTS: Final = 10
LOGIN_REFILL_SECONDS: Final = 12
# Devices whose last-resort key package is remembered, at about 200 bytes each.
MAX_FALLBACKS = 50_000


class InFlight:
    """Lets one request of a name run at a time, so that a repetition finds the remembered answer of the
    first.
    """

    def __init__(self) -> None:
        self._running: dict[str, trio.Event] = {}

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """Wait until no other request of this name runs; the next one waits until this block ends."""
        while name in self._running:
            await self._running[name].wait()
        self._running[name] = trio.Event()
        try:
            yield
        finally:
            self._running.pop(name).set()


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True, eq=False)
class Context:
    """Given to every handler."""

    node: Node
    views: Views
    attempts: Buckets
    echoes: Echoes
    in_flight: InFlight
    hashers: trio.CapacityLimiter
    typists: Typists
    decoders: trio.CapacityLimiter
    sliding: Connections
    pages: Pages
    notifications: Notifications
    remote_aliases: RemoteAliases
    login_tokens: LoginTokens
    held_files: HeldFiles
    # When each device's last-resort key package expires, in seconds since the Unix epoch.
    fallbacks: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)
    # How many live tails are open, by account.
    tails: Counter[str] = field(default_factory=Counter)

    def remember_fallback(self, user_id: str, device_id: str, not_after: int) -> None:
        """Note a device's latest last-resort key package."""
        self.fallbacks[user_id, device_id] = not_after
        while len(self.fallbacks) > MAX_FALLBACKS:
            self.fallbacks.popitem(last=False)


# By the identity of the node, which a context keeps alive: a server with two listeners has one context.
_CONTEXTS: WeakValueDictionary[int, Context] = WeakValueDictionary()


def context_of(node: Node) -> Context:
    """The node's context, made when it is first asked for."""
    context = _CONTEXTS.get(id(node))
    if context is None:
        context = Context(
            node=node,
            views=Views(node.store),
            attempts=Buckets(node.clock, per_second=1 / LOGIN_REFILL_SECONDS, burst=LOGIN_ATTEMPTS),
            echoes=Echoes(),
            in_flight=InFlight(),
            hashers=trio.CapacityLimiter(_HASHERS),
            typists=Typists(node.clock()),
            decoders=trio.CapacityLimiter(_DECODERS),
            sliding=Connections(),
            pages=Pages(node.store, node.notifier),
            notifications=Notifications(node.store),
            remote_aliases=RemoteAliases(node),
            login_tokens=LoginTokens(node.clock),
            held_files=HeldFiles(),
        )
        _CONTEXTS[id(node)] = context
    return context
