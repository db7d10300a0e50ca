"""Who is typing, between the homeserver's users and those of the provider that the bridge runs beside.

No draft carries it from one provider to another. A minute later it is worth nothing: so nothing of it is
stored, and what a failure swallows is not made up for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import structlog
import trio

from bridges.matrix.failures import EXPECTED, pause_after
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.names import Names
from linearized.client import ProviderApi
from linearized.protocol.identifiers import user_uri

# How long somebody is said to type unless it is taken back. The homeserver says when somebody begins and
# ends, and nothing between; if we end before they do, this is how long it stands.
TIMEOUT_MS: Final = 120_000
# Typists of one room that are carried: clients show a handful.
MAX_TYPISTS: Final = 20
# Changes that wait to be told to the provider, all rooms together; what is over that is not told.
MAX_WAITING: Final = 1000
# Seconds for telling one: later it is no news.
TELL_SECONDS: Final = 5.0
# How long the provider holds the question who types, and how long we wait before we ask again: each entry of
# a room answers it, too.
POLL_MS: Final = 30_000
PAUSE: Final = 1.0

_NOTHING: Final[Mapping[str, list[str]]] = {"types": []}
_TYPING: Final = "m.typing"
_FILTER: Final[dict[str, Any]] = {
    "presence": _NOTHING,
    "account_data": _NOTHING,
    "room": {
        "timeline": {"types": [], "limit": 1},
        "state": _NOTHING,
        "account_data": _NOTHING,
        "ephemeral": {"types": [_TYPING]},
    },
}

log = structlog.get_logger(__name__)


class Typists:
    """Carries who is typing, if the operator wants it.

    Args:
        provider: with the token of the application service.
        bot: the bridge's user there.
    """

    def __init__(
        self, *, wanted: bool, names: Names, ghosts: Ghosts, links: RoomLinks, provider: ProviderApi, bot: str
    ) -> None:
        self._wanted = wanted
        self._names = names
        self._ghosts = ghosts
        self._links = links
        self._provider = provider
        self._bot = provider.as_user(bot)
        self._since: str | None = None
        self._heard = trio.Event()
        # Who types, by room: at the homeserver, and as far as their ghosts there show it, at the provider.
        self._here: dict[str, frozenset[str]] = {}
        self._there: dict[str, frozenset[str]] = {}
        self._waiting: dict[tuple[str, str], bool] = {}  # (room, user): whether they type

    def hear(self, units: Sequence[object]) -> None:
        """Note what the homeserver pushes of those that are no events; anything malformed is nothing."""
        for room_id, users in _typing(units) if self._wanted else ():
            if self._link(self._links.of_matrix(room_id)) is None:
                continue
            now = frozenset(sorted(filter(self._names.is_bridged, users))[:MAX_TYPISTS])
            before = self._here.pop(room_id, frozenset())
            if now:
                self._here[room_id] = now
            for user_id in now ^ before:
                if (room_id, user_id) in self._waiting or len(self._waiting) < MAX_WAITING:
                    self._waiting[room_id, user_id] = user_id in now
                    self._heard.set()

    async def run(self) -> None:
        """Carry it both ways, for ever."""
        if not self._wanted:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_for_ever)
            nursery.start_soon(self._look_for_ever)

    async def _tell_for_ever(self) -> None:
        while True:
            await self._heard.wait()
            await self.tell()

    async def tell(self) -> None:
        """Tell the provider what was heard so far."""
        self._heard = trio.Event()
        waiting, self._waiting = self._waiting, {}
        for (matrix_room_id, user_id), types in waiting.items():
            link = self._link(self._links.of_matrix(matrix_room_id))
            if link is None or link.room_id is None:
                continue
            try:
                with trio.move_on_after(TELL_SECONDS):
                    await self._provider.as_user(user_id).set_typing(
                        link.room_id, user_id, types=types, timeout_ms=TIMEOUT_MS
                    )
            except EXPECTED as error:
                log.info("typing was not told", room_id=matrix_room_id, error=type(error).__name__)

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.look(POLL_MS)
            except EXPECTED as error:
                await trio.sleep(pause_after(error))
            await trio.sleep(PAUSE)

    async def look(self, timeout_ms: int) -> None:
        """Ask the provider what is new, for at most so long, and let ghosts type.

        Raises:
            ClientError: the provider is away.
        """
        answer = await self._bot.sync(
            since=self._since, timeout_ms=timeout_ms if self._since is not None else 0, sync_filter=_FILTER
        )
        for room_id, users in _typing(_units(answer)):
            link = self._link(self._links.of_room(room_id))
            if link is not None:
                await self._show(link.matrix_room_id, users)
        since = answer.get("next_batch")
        self._since = since if isinstance(since, str) else None

    async def _show(self, matrix_room_id: str, users: Sequence[str]) -> None:
        ghosts = (self._names.matrix_user(user_uri(user_id)) for user_id in users)
        now = frozenset(sorted(filter(self._names.is_ours, ghosts))[:MAX_TYPISTS])
        before = self._there.pop(matrix_room_id, frozenset())
        if now:
            self._there[matrix_room_id] = now
        for ghost in now ^ before:
            try:
                with trio.move_on_after(TELL_SECONDS):
                    acting = await self._ghosts.ensure(ghost)
                    await acting.set_typing(matrix_room_id, ghost, types=ghost in now, timeout_ms=TIMEOUT_MS)
            except EXPECTED as error:  # one that is not in the room, too: it joins to say something
                log.info("typing was not shown", room_id=matrix_room_id, error=type(error).__name__)

    def _link(self, link: Link | None) -> Link | None:
        return link if link is not None and link.phase is Phase.LIVE else None


def _typing(units: Sequence[object]) -> Iterator[tuple[str, list[str]]]:
    """Room and typists of each ``m.typing`` unit, as far as it is one."""
    for unit in units:
        match unit:
            case {"type": "m.typing", "room_id": str(room_id), "content": {"user_ids": [*users]}}:
                yield room_id, [user for user in users if isinstance(user, str)]


def _units(answer: Mapping[str, object]) -> Sequence[object]:
    """What a sync says beside events, each with its room as an application service is told it."""
    match answer:
        case {"rooms": {"join": Mapping() as rooms}}:
            return [
                {**unit, "room_id": room_id}
                for room_id, room in rooms.items()
                for unit in _ephemeral(room)
                if isinstance(unit, dict)
            ]
    return ()


def _ephemeral(room: object) -> Sequence[object]:
    match room:
        case {"ephemeral": {"events": [*units]}}:
            return units
    return ()
