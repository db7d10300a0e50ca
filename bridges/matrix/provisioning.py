"""The provisioning API: what an operator's programs ask of a running bridge, over HTTP and with a token.

    GET  /_linearized/bridge/v1/rooms                    every bridged room
    GET  /_linearized/bridge/v1/rooms/{room}             one room
    POST /_linearized/bridge/v1/rooms/{room}/bridge      begin to bridge it; 202
    POST /_linearized/bridge/v1/rooms/{room}/unbridge    part the sides
    …    /_linearized/bridge/v1/doubles/{user}           a user's other account: ``doubles.provisioning``

``{room}`` is a Matrix room ID or alias. Answers are JSON; errors are Matrix ones, ``errcode`` and ``error``.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

import structlog

from bridges.matrix.commands import Refused, find_room
from bridges.matrix.database import Database
from bridges.matrix.failures import EXPECTED
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link, RoomLinks
from bridges.matrix.status import room_status
from linearized.client import ClientError

# Requests that come back each second and may come at once. A program that asks for the status of every room
# fits; one that guesses tokens gets nowhere.
RATE = 5.0
BURST = 20.0

log = structlog.get_logger(__name__)


class ProvisioningError(Exception):
    """A request that is refused, with its HTTP status and Matrix error code."""

    def __init__(self, status: int, errcode: str, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.errcode = errcode


class Provisioning:
    """Answers requests.

    Args:
        token: what a request has to bear; None switches the API off.
        seconds: the time, monotonic.
        begin: starts the import of a room and returns at once.
        unbridge: parts the sides of a room.
        doubles: answers what is asked of a user's other account, given method, user ID and body.
        importing: the Matrix rooms with an import under way.
    """

    def __init__(
        self,
        *,
        token: str | None,
        database: Database,
        homeserver: HomeserverApi,
        seconds: Callable[[], float],
        begin: Callable[[str], None],
        unbridge: Callable[[Link], Awaitable[None]],
        doubles: Callable[[str, str, bytes], Awaitable[dict[str, Any]]],
        importing: set[str],
    ) -> None:
        self._doubles = doubles
        self._token = None if token is None else token.encode()
        self._database = database
        self._links = RoomLinks(database)
        self._homeserver = homeserver
        self._seconds = seconds
        self._begin = begin
        self._unbridge = unbridge
        self._importing = importing
        self._left, self._at = BURST, seconds()

    async def answer(
        self, method: str, parts: Sequence[str], token: bytes | None, body: bytes
    ) -> tuple[int, Any]:
        """The status and the body of the answer to a request for a path below ``v1``.

        Raises:
            ProvisioningError: it is refused.
        """
        if self._token is None:
            raise ProvisioningError(404, "M_UNRECOGNIZED", "The provisioning API is switched off")
        self._spend()
        if token is None:
            raise ProvisioningError(401, "M_MISSING_TOKEN", "Missing token")
        if not hmac.compare_digest(token, self._token):
            raise ProvisioningError(403, "M_FORBIDDEN", "Wrong token")
        match (method, *parts):
            case ("GET" | "PUT" | "DELETE", "doubles", user):
                return 200, await self._doubles(method, user, body)
            case ("GET", "rooms"):
                return 200, {"rooms": [self._status(link) for link in self._links.all()]}
            case ("GET", "rooms", room):
                return 200, self._status(self._linked(await self._room(room)))
            case ("POST", "rooms", room, "bridge"):
                return 202, self._bridge(await self._room(room))
            case ("POST", "rooms", room, "unbridge"):
                return 200, await self._part(self._linked(await self._room(room)))
            case (_, "rooms") | (_, "rooms" | "doubles", _) | (_, "rooms", _, "bridge" | "unbridge"):
                raise ProvisioningError(405, "M_UNRECOGNIZED", "Wrong method")
        raise ProvisioningError(404, "M_UNRECOGNIZED", "Unknown endpoint")

    def _spend(self) -> None:
        now = self._seconds()
        self._left, self._at = min(BURST, self._left + (now - self._at) * RATE), now
        if self._left < 1:
            raise ProvisioningError(429, "M_LIMIT_EXCEEDED", "Too many requests")
        self._left -= 1

    async def _room(self, name: str) -> str:
        try:
            return await find_room(self._homeserver, name)
        except Refused as refusal:
            raise ProvisioningError(404, "M_NOT_FOUND", str(refusal)) from None
        except ClientError as error:
            raise ProvisioningError(502, "M_UNKNOWN", f"The homeserver does not answer: {error}") from None

    def _linked(self, room_id: str) -> Link:
        link = self._links.of_matrix(room_id)
        if link is None:
            raise ProvisioningError(404, "M_NOT_FOUND", f"{room_id} is not bridged")
        return link

    def _status(self, link: Link) -> dict[str, Any]:
        status = asdict(room_status(self._database, link))
        aside = [{"event_id": event_id, "reason": reason} for event_id, reason in status["last_aside"]]
        return {**status, "last_aside": aside, "importing": link.matrix_room_id in self._importing}

    def _bridge(self, room_id: str) -> dict[str, Any]:
        """Begin, unless it is bridged or begun: asking twice is asking once."""
        link = self._links.of_matrix(room_id)
        if room_id not in self._importing and (link is None or link.phase != "live"):
            log.info("asked to bridge", room_id=room_id)
            self._begin(room_id)
        return self._status(self._linked(room_id))

    async def _part(self, link: Link) -> dict[str, Any]:
        if link.matrix_room_id in self._importing:
            raise ProvisioningError(409, "M_UNKNOWN", "The import is still under way")
        try:
            await self._unbridge(link)
        except EXPECTED as error:
            raise ProvisioningError(502, "M_UNKNOWN", f"A side does not do it: {error}") from None
        log.info("unbridged", room_id=link.matrix_room_id)
        return {}
