"""Tokens for the hubs that are to send us fan-out requests (draft-robert-mimi-delivery-service).

A task for each such hub gives it tokens for our clients in its rooms, anew whenever they change and before
they end. Until a room's hub has them it notifies, so nothing waits for this.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

import structlog
import trio

from linearized.mimi.delivery_service import ClientID
from linearized.mimi.fanout_requests import FanoutRegistration, issue_token
from linearized.protocol.identifiers import client_uri, room_uri
from linearized.server.fanout_authorization import MAX_RECIPIENTS, token_secret
from linearized.server.node import Node
from linearized.server.pauses import LONGEST_ASKED_PAUSE, Pause
from linearized.server.providers.client import FANOUT_TOKENS, OK, ProviderError
from linearized.server.telemetry import describe
from linearized.store.base import Role

log = structlog.get_logger("linearized.fanout_tokens")

# How long a token is good, milliseconds, and after how many seconds a hub gets new ones. A hub that we
# cannot reach for days still has some that are good when it comes back.
TOKEN_LIFETIME_MS: Final = 7 * 86_400_000
RENEW_SECONDS: Final = 86_400.0
ACCEPTED: Final = frozenset({OK, 204})
# Answers that are about one room: we are not in it any more, or never were; or it has too much to say.
ROOM_REFUSED: Final = frozenset({400, 403, 404})


class FanoutTokens:
    """All tasks that give tokens.

    Args:
        jitter: gives a number in [0, 1); injected so that tests are deterministic.
    """

    def __init__(self, node: Node, *, jitter: Callable[[], float] = random.random) -> None:
        self._issuers = {hub: Issuer(node, hub, jitter=jitter) for hub in node.config.requesting_hubs}

    async def run(self) -> None:
        """Keep the hubs in tokens until cancelled."""
        async with trio.open_nursery() as nursery:
            for issuer in self._issuers.values():
                nursery.start_soon(issuer.run)

    def room_changed(self, room_id: str, hub: str) -> None:
        """Note that other users or clients of ours may be in a room that a hub orders."""
        issuer = self._issuers.get(hub)
        if issuer is not None:
            issuer.room_changed(room_id)


class Issuer:
    """Gives tokens to one hub."""

    def __init__(self, node: Node, hub: str, *, jitter: Callable[[], float]) -> None:
        self._node = node
        self._hub = hub
        self._jitter = jitter
        self._secret = token_secret(node.identity.key)
        self._due: dict[str, None] = {}  # rooms
        self._renew_at = -math.inf  # trio's clock
        self._pause = Pause()
        self._wake = trio.Event()

    def room_changed(self, room_id: str) -> None:
        """A room's tokens are to be given anew."""
        self._due[room_id] = None
        self._wake.set()

    async def run(self) -> None:
        """Give tokens whenever some are due, for ever."""
        while True:
            room_id = await self._next()
            self._due.pop(room_id)  # what changes while we ask puts it back
            try:
                await self._give(room_id)
            except ProviderError as error:
                self._due[room_id] = None
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - our disk or our bug: the room is still due
                self._due[room_id] = None
                seconds = self._pause.begin(self._jitter())
                log.error(
                    "fanout_tokens_broken", hub=self._hub, retry_in_s=round(seconds, 2), **describe(error)
                )
            else:
                self._pause = Pause()

    async def _next(self) -> str:
        """Wait until a room is due."""
        while True:
            if self._renew_at <= trio.current_time():
                self._renew_at = trio.current_time() + RENEW_SECONDS
                self._due |= dict.fromkeys(self._rooms())
            if self._due and self._pause.over:
                return next(iter(self._due))
            self._wake = trio.Event()
            until = self._renew_at if not self._due else self._pause.until
            with trio.CancelScope(deadline=until):
                await self._wake.wait()

    def _rooms(self) -> list[str]:
        return [
            row.room_id
            for row in self._node.store.rooms()
            if row.role is Role.FOLLOWER and row.hub == self._hub
        ]

    async def _give(self, room_id: str) -> None:
        body = self._registration(room_id).encode()
        answer = await self._node.providers.post(self._hub, FANOUT_TOKENS, room_uri(room_id), body)
        if answer.status in ROOM_REFUSED:
            log.warning("fanout_tokens_refused", hub=self._hub, room_id=room_id, status=answer.status)
        elif answer.status not in ACCEPTED:
            raise ProviderError(
                f"{self._hub} answered {answer.status}",
                status=answer.status,
                retry_after_s=answer.retry_after_s,
            )

    def _registration(self, room_id: str) -> FanoutRegistration:
        """Tokens for every client of our users in a room; none if they are too many."""
        clients = [
            client_uri(member.user_id, device.device_id)
            for member in self._node.store.memberships(room_id)
            if member.membership == "join"
            for device in self._node.store.devices(member.user_id)
        ]
        if len(clients) > MAX_RECIPIENTS:
            clients = []
        expires = self._node.clock() + TOKEN_LIFETIME_MS
        return FanoutRegistration(
            recipient_ids=tuple(ClientID(client_id=client) for client in clients),
            fanout_auth_tokens=tuple(
                issue_token(self._secret, hub=self._hub, client=client, expires_ms=expires)
                for client in clients
            ),
        )

    def _failed(self, error: ProviderError) -> None:
        seconds = self._pause.begin(self._jitter())
        if error.retry_after_s is not None:
            seconds = min(error.retry_after_s, LONGEST_ASKED_PAUSE)
            self._pause.until = trio.current_time() + seconds
        log.warning(
            "fanout_tokens_not_given",
            hub=self._hub,
            status=error.status,
            reason=str(error) if error.status is None else None,  # else it may hold the hub's words
            retry_in_s=round(seconds, 2),
        )
