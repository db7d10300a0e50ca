"""The state both sides share, live: a change on one side arrives once on the other.

Only what stands is carried, never what something newer has replaced, and while a change is carried no other
one of the same room is: so whatever order two changes come in, both sides end with the same one. What one
side does not allow is set back on the other and said in the room. When two programs change something back and
forth, the bridge steps aside and makes the sides the same later.
"""

from __future__ import annotations

from collections import deque

import structlog
import trio

from bridges.matrix.content import JsonObject, Known, NotBridged
from bridges.matrix.database import Database
from bridges.matrix.failures import is_passing
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link
from bridges.matrix.message_map import Messages
from bridges.matrix.names import Names
from bridges.matrix.people import People
from bridges.matrix.power import POWER_LEVELS, RoomPower
from bridges.matrix.puppets import Puppets
from bridges.matrix.translation import SHARED, Translation
from linearized.client import ApiError, RoomEvent, UntrustedAnswer

# More changes of one thing in this many seconds are not made by people, and each that is carried would call
# forth the next.
FIGHT_CHANGES = 10
FIGHT_WINDOW = 60.0
_NOT_FOUND = 404
# What it means that the other side, or the file a change is about, does not allow it.
_REFUSALS = (ApiError, UntrustedAnswer, NotBridged)

log = structlog.get_logger(__name__)


class SharedState:
    """Carries changes of the kinds in ``translation.SHARED``."""

    def __init__(
        self,
        *,
        database: Database,
        names: Names,
        homeserver: HomeserverApi,
        puppets: Puppets,
        people: People,
        translation: Translation,
    ) -> None:
        self._names = names
        self._matrix = homeserver.as_user(names.bot)
        self._puppets = puppets
        self._people = people
        self._translation = translation
        self._messages = Messages(database)
        self._locks: dict[str, trio.Lock] = {}
        self._changes: dict[tuple[str, str], deque[float]] = {}
        self._unsettled: set[tuple[str, str]] = set()

    async def to_room(self, link: Link, event: JsonObject, sender: str) -> None:
        """Carry a Matrix user's change into the log, as theirs.

        Raises:
            NotBridged: it does not stand any more, is there already, or was set back.
            ClientError: a side is away; doing it again continues.
        """
        kind, event_id, room_id = str(event["type"]), str(event["event_id"]), link.room_id or ""
        async with self._lock(link):
            there = await self._there(link, kind)
            if there.get("event_id") != event_id:
                raise NotBridged("a later change came after it")
            await self._keep_calm(link, kind)
            here = await self._here(link, kind)
            try:
                content = await self._to_room(link, kind, _content(there))
                if here and _content(here) == content:
                    raise _SameError("the same is there already")
                acting = self._puppets.session(sender if self._names.is_bridged(sender) else self._bot).api
                sent = await acting.send_state(
                    room_id, kind, "", content, ts=_timestamp(event), source_event_id=event_id
                )
            except _SameError:
                raise
            except _REFUSALS as refusal:
                if is_passing(refusal):
                    raise
                await self._set_back_there(link, kind, here, f"{sender}: {refusal}", event_id)
                raise NotBridged(f"refused and set back: {refusal}") from None
            self._messages.put(
                link.matrix_room_id,
                Known(matrix_event_id=event_id, log_event_id=sent, message_id=None, sender=sender),
            )
            if kind == POWER_LEVELS:
                await self._people.give_roles(link, content)

    async def to_matrix(self, link: Link, item: RoomEvent) -> None:
        """Carry a change in the log into Matrix.

        The bot makes it: a ghost seldom has the power, and the log has decided already that its person had.

        Raises:
            NotBridged, ClientError: as ``to_room``.
        """
        kind = str(item.event["type"])
        async with self._lock(link):
            here = await self._here(link, kind)
            if here.get("event_id") != item.event_id:
                raise NotBridged("a later change came after it")
            await self._keep_calm(link, kind)
            there = await self._there(link, kind)
            try:
                content = await self._to_matrix(link, kind, _content(here), _content(there))
                if not there or _content(there) != content:
                    await self._matrix.set_state(link.matrix_room_id, kind, "", content, ts=item.timestamp)
            except _REFUSALS as refusal:
                if is_passing(refusal):
                    raise
                await self._set_back_here(link, kind, there, f"{item.event.get('sender')}: {refusal}", item)
                raise NotBridged(f"refused and set back: {refusal}") from None

    async def align(self, link: Link) -> None:
        """Make the sides the same again where the bridge had stepped aside; Matrix has the say.

        Raises:
            ClientError: a side is away or refuses; the next call tries again.
        """
        for place in [one for one in self._unsettled if one[0] == link.matrix_room_id]:
            kind = place[1]
            async with self._lock(link):
                there, here = await self._there(link, kind), await self._here(link, kind)
                content = await self._to_room(link, kind, _content(there))
                if _content(here) != content:
                    await self._puppets.bot.api.send_state(link.room_id or "", kind, "", content)
                self._unsettled.discard(place)

    async def fill(self, link: Link) -> None:
        """Give a Matrix room that was just made the state that stands in the log.

        Raises:
            ClientError: a side is away.
        """
        for kind in SHARED:
            async with self._lock(link):
                here = await self._here(link, kind)
                there = _content(await self._there(link, kind))
                try:
                    content = await self._to_matrix(link, kind, _content(here), there)
                    if here and content != there:
                        await self._matrix.set_state(link.matrix_room_id, kind, "", content)
                except _REFUSALS as refusal:
                    if is_passing(refusal):
                        raise
                    log.warning("state", room_id=link.matrix_room_id, kind=kind, reason=str(refusal))

    @property
    def _bot(self) -> str:
        return self._puppets.bot.device.owner.user_id

    def _lock(self, link: Link) -> trio.Lock:
        return self._locks.setdefault(link.matrix_room_id, trio.Lock())

    # --- what stands ---

    async def _there(self, link: Link, kind: str) -> JsonObject:
        """The state event of the Matrix room, empty if there is none."""
        try:
            return await self._matrix.state_event(link.matrix_room_id, kind)
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return {}

    async def _here(self, link: Link, kind: str) -> JsonObject:
        try:
            return await self._puppets.bot.api.state_event(link.room_id or "", kind)
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return {}

    async def _power(self, link: Link, kind: str) -> RoomPower:
        """Of the Matrix room, as far as it matters: who its creators are."""
        if kind != POWER_LEVELS:
            return RoomPower.of(())
        return RoomPower.of([await self._there(link, "m.room.create")])

    async def _to_room(self, link: Link, kind: str, content: JsonObject) -> JsonObject:
        return await self._translation.to_room(kind, content, await self._power(link, kind))

    async def _to_matrix(self, link: Link, kind: str, content: JsonObject, current: JsonObject) -> JsonObject:
        return await self._translation.to_matrix(kind, content, current, await self._power(link, kind))

    # --- what goes wrong ---

    async def _keep_calm(self, link: Link, kind: str) -> None:
        place, now = (link.matrix_room_id, kind), trio.current_time()
        recent = self._changes.setdefault(place, deque(maxlen=FIGHT_CHANGES))
        if len(recent) == FIGHT_CHANGES and now - recent[0] < FIGHT_WINDOW:
            if place not in self._unsettled:
                self._unsettled.add(place)
                text = f"{kind} changes back and forth between the two sides: I step aside for a while."
                await self._say(link, text, f"fight-{kind}-{now}")
            raise NotBridged(f"{kind} changes back and forth between the two sides")
        recent.append(now)

    async def _set_back_there(
        self, link: Link, kind: str, here: JsonObject, reason: str, event_id: str
    ) -> None:
        """The provider refused what a Matrix user did: what stood before stands again."""
        text = f"The provider does not take this change of {kind} ({reason})."
        try:
            there = _content(await self._there(link, kind))
            before = await self._to_matrix(link, kind, _content(here), there)
            await self._matrix.set_state(link.matrix_room_id, kind, "", before)
            text += " I have set it back."
        except _REFUSALS as error:
            if is_passing(error):
                raise
            text += f" I could not set it back ({error}): the two sides differ."
        await self._say(link, text, f"set-back-{event_id}")

    async def _set_back_here(
        self, link: Link, kind: str, there: JsonObject, reason: str, item: RoomEvent
    ) -> None:
        """Matrix refused what somebody at a provider did."""
        text = f"The homeserver does not take a change of {kind} made at a provider ({reason})."
        try:
            before = await self._to_room(link, kind, _content(there))
            await self._puppets.bot.api.send_state(link.room_id or "", kind, "", before)
            text += " I have set it back."
        except _REFUSALS as error:
            if is_passing(error):
                raise
            text += f" I could not set it back ({error}): the two sides differ."
        await self._say(link, text, f"set-back-{item.event_id}")

    async def _say(self, link: Link, text: str, txn_id: str) -> None:
        log.warning("state", room_id=link.matrix_room_id, text=text)
        try:
            await self._matrix.send(
                link.matrix_room_id, "m.room.message", {"msgtype": "m.notice", "body": text}, txn_id=txn_id
            )
        except ApiError as error:
            if is_passing(error):
                raise
            log.warning("could not say it", room_id=link.matrix_room_id, error=str(error))


class _SameError(NotBridged):
    """The other side has it already."""


def _content(event: JsonObject) -> JsonObject:
    content = event.get("content")
    return content if isinstance(content, dict) else {}


def _timestamp(event: JsonObject) -> int | None:
    value = event.get("origin_server_ts")
    return value if isinstance(value, int) and value >= 0 else None
