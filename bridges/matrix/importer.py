"""Bringing a room's past into its log: read it to the beginning, then import it in order, then add its
people.

Each step is kept in the database as it is made, and each request may be repeated, so a bridge that is
killed goes on where it was. The Matrix room stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from sqlite3 import Row
from typing import Any

import structlog

from bridges.matrix.attachments import Media, media_of
from bridges.matrix.config import BridgeConfig
from bridges.matrix.content import STICKER, JsonObject, Known, NotBridged
from bridges.matrix.database import Database
from bridges.matrix.fallbacks import readable
from bridges.matrix.guests import Guests
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.import_log import READING
from bridges.matrix.levels import levels_to_room
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.media import MAX_FILE_BYTES, MAX_THUMBNAIL_BYTES, NO_FILE, MediaCopier
from bridges.matrix.message_map import Messages
from bridges.matrix.people import People
from bridges.matrix.power import RoomPower
from linearized.client import ALGORITHM, ApiError, ImportEvent, ProviderApi

ROOM_VERSION = "dev.linearized.1"
ORIGIN = "dev.linearized.origin"
ORIGINAL_URL = "dev.linearized.original_url"
# The provider takes this many events at once.
IMPORT_PAGE = 50
MAX_INTEGER = 2**53 - 1
_MAX_DEPTH = 50

_NEVER_IMPORTED = {
    "m.room.create": "the log has its own",
    "m.room.encryption": "the log is encrypted in another way",
}
Progress = Callable[[str, int, int], None]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of a room: its ID at the provider and how many events went which way."""

    room_id: str
    imported: int
    left_out: int
    failed: int
    members: int


def _no_progress(step: str, done: int, total: int) -> None:
    del step, done, total


class Importer:
    """Imports rooms, each once; calling it again continues."""

    def __init__(
        self,
        *,
        config: BridgeConfig,
        database: Database,
        homeserver: HomeserverApi,
        provider: ProviderApi,
        media: MediaCopier,
        people: People,
        guests: Guests,
    ) -> None:
        self._guests = guests
        self._config = config
        self._database = database
        self._links = RoomLinks(database)
        self._messages = Messages(database)
        self._homeserver = homeserver
        self._provider = provider
        self._media = media
        self._people = people

    async def run(self, matrix_room_id: str, progress: Progress = _no_progress) -> ImportReport:
        """Bring a room, of which the bot is a member, to life at the provider.

        Raises:
            ClientError: as far as it came is kept.
        """
        link = self._links.begin(matrix_room_id)
        if not link.walked:
            await self._walk(link, progress)
        link = self._links.begin(matrix_room_id)
        if link.room_id is None:
            await self._make_room(link)
            link = self._links.begin(matrix_room_id)
        if link.phase in (Phase.WALKING, Phase.IMPORTING):
            self._links.set_phase(matrix_room_id, Phase.IMPORTING)
            await self._import(link, progress)
            self._links.set_phase(matrix_room_id, Phase.ADDING)
        members = await self._people.add_everybody(link, progress)
        await self._guests.bring(link)
        self._links.set_phase(matrix_room_id, Phase.LIVE)
        return self._report(link, members)

    # --- reading ---

    async def _walk(self, link: Link, progress: Progress) -> None:
        """Read the timeline backwards to its beginning. The oldest event gets the greatest age."""
        token, room = link.walk_token, link.matrix_room_id
        seen = self._count(room)
        while True:
            page = await self._homeserver.messages_before(room, token)
            with self._database.together():
                for event in page.chunk:
                    seen += self._database.run(
                        "INSERT OR IGNORE INTO history (matrix_room_id, age, event_id, event) "
                        "VALUES (?, ?, ?, ?)",
                        room,
                        seen,
                        event.get("event_id"),
                        json.dumps(event),
                    )
                token = page.end if page.chunk else None
                self._database.run(
                    "UPDATE rooms SET walk_token = ?, walked = ? WHERE matrix_room_id = ?",
                    token,
                    token is None,
                    room,
                )
            progress(READING, seen, seen)
            if token is None:
                return

    def _count(self, matrix_room_id: str) -> int:
        row = self._database.one("SELECT COUNT(*) FROM history WHERE matrix_room_id = ?", matrix_room_id)
        return int(row[0])

    # --- the provider's room ---

    async def _make_room(self, link: Link) -> None:
        create = self._create_event(link.matrix_room_id)
        origin = {
            "room_id": link.matrix_room_id,
            "event_id": create.get("event_id", ""),
            "sender": create.get("sender", ""),
        }
        # A bridge killed between making the room and remembering it finds it again by its origin.
        room_id = await self._find_room(origin)
        if room_id is None:
            room_id = await self._provider.create_room(
                room_version=ROOM_VERSION,
                preset="private_chat",
                creation_content={"encryption": {"algorithm": ALGORITHM}, ORIGIN: origin},
            )
        self._links.set_room(link.matrix_room_id, room_id)

    def _create_event(self, matrix_room_id: str) -> JsonObject:
        rows = self._database.all(
            "SELECT event FROM history WHERE matrix_room_id = ? ORDER BY age DESC LIMIT 1", matrix_room_id
        )
        event: JsonObject = json.loads(rows[0]["event"]) if rows and rows[0]["event"] else {}
        return event if event.get("type") == "m.room.create" else {}

    def _creators(self, matrix_room_id: str) -> frozenset[str]:
        """The room's creators, if its version has them stand above all levels."""
        power = RoomPower.of([self._create_event(matrix_room_id)])
        return power.creators if power.creators_above else frozenset()

    async def _find_room(self, origin: JsonObject) -> str | None:
        for room_id in await self._provider.joined_rooms():
            for event in await self._provider.state(room_id):
                content = event.get("content") or {}
                is_create = event.get("type") == "m.room.create"
                if is_create and content.get(ORIGIN) == origin and self._links.of_room(room_id) is None:
                    return room_id
        return None

    # --- importing ---

    async def _import(self, link: Link, progress: Progress) -> None:
        room, total = link.matrix_room_id, self._count(link.matrix_room_id)
        age = total  # above all ages; from then on below those that are done, which are not looked at again
        while True:
            rows = self._database.all(
                "SELECT age, event_id, event FROM history WHERE matrix_room_id = ? AND age < ? "
                "AND state = 'waiting' ORDER BY age DESC LIMIT ?",
                room,
                age,
                IMPORT_PAGE,
            )
            if not rows:
                return
            await self._page(link, rows)
            age = int(rows[-1]["age"])
            progress("importing", total - age, total)

    async def _page(self, link: Link, rows: Sequence[Row]) -> None:
        events: list[ImportEvent] = []
        refused: dict[str, tuple[str, str]] = {}
        for row in rows:
            event = json.loads(row["event"])
            try:
                events.append(await self._prepared(link.matrix_room_id, event))
            except NotBridged as error:
                refused[row["event_id"]] = ("left out", str(error))
        accepted: dict[str, str] = {}
        if events:
            accepted, failed = await self._send(link, events)
            refused |= {event_id: ("failed", reason) for event_id, reason in failed.items()}
        with self._database.together():
            for event in events:
                if event.source_event_id in accepted:
                    known = Known(
                        matrix_event_id=event.source_event_id,
                        log_event_id=accepted[event.source_event_id],
                        message_id=None,
                        sender=event.sender,
                    )
                    self._messages.put(link.matrix_room_id, known)
                    self._settle(link, event.source_event_id, "imported", None)
            for event_id, (state, reason) in refused.items():
                self._settle(link, event_id, state, reason)

    async def _send(self, link: Link, events: list[ImportEvent]) -> tuple[dict[str, str], dict[str, str]]:
        if link.room_id is None:
            raise LookupError(link.matrix_room_id)
        try:
            result = await self._provider.import_events(link.room_id, events)
        except ApiError as error:
            if error.status not in (400, 413):
                raise
            if len(events) == 1:
                return {}, {events[0].source_event_id: str(error)}
            # One event the provider cannot take must not keep the others out.
            ids: dict[str, str] = {}
            failed: dict[str, str] = {}
            for event in events:
                one_id, one_failed = await self._send(link, [event])
                ids |= one_id
                failed |= one_failed
            return ids, failed
        missing = {
            event.source_event_id: "the provider said nothing of it"
            for event in events
            if event.source_event_id not in result.event_ids and event.source_event_id not in result.failed
        }
        return dict(result.event_ids), {**result.failed, **missing}

    def _settle(self, link: Link, event_id: str, state: str, reason: str | None) -> None:
        self._database.run(
            "UPDATE history SET state = ?, reason = ?, event = NULL "
            "WHERE matrix_room_id = ? AND event_id = ?",
            state,
            reason,
            link.matrix_room_id,
            event_id,
        )

    async def _prepared(self, room: str, event: JsonObject) -> ImportEvent:
        """An event of a Matrix room as the log takes it.

        Raises:
            NotBridged: the log does not take it.
        """
        kind, content = event.get("type"), event.get("content")
        if not isinstance(kind, str) or not isinstance(content, dict):
            raise NotBridged("the event is malformed")
        if kind in _NEVER_IMPORTED or kind.startswith("m.mls."):
            raise NotBridged(_NEVER_IMPORTED.get(kind, "only the log has such events"))
        if kind == "m.room.encrypted":
            # Not even if its key is here: what is imported stands in the log in plaintext.
            kind, content = "m.room.message", {"msgtype": "m.notice", "body": readable(kind, content)}
        content = interoperable(content)
        if kind == "m.room.power_levels":
            content = levels_to_room(
                content, names=self._config.names, bot=self._config.bot, creators=self._creators(room)
            )
        elif kind in ("m.room.message", STICKER):
            content = await self._with_copies(kind, content)
        elif kind == "m.room.redaction" and isinstance(event.get("redacts"), str):
            content = {"redacts": event["redacts"], **content}
        state_key = event.get("state_key")
        return ImportEvent(
            sender=str(event.get("sender")),
            type=kind,
            content=content,
            origin_server_ts=int(event.get("origin_server_ts", 0)),
            source_event_id=str(event.get("event_id")),
            state_key=state_key if isinstance(state_key, str) else None,
        )

    async def _with_copies(self, kind: str, content: JsonObject) -> JsonObject:
        """The content of a message with its file and thumbnail copied to the provider, if it has them."""
        try:
            media = media_of(content, kind)
        except NotBridged:  # a message without a file stays what it is: text about one
            media = None
        if media is None or media.encrypted is not None:
            return content
        copy = await self._copy(media, MAX_FILE_BYTES)
        if copy is not None:
            content = {**content, "url": copy, ORIGINAL_URL: media.url}
        small = media.thumbnail
        if small is not None and small.encrypted is None:
            copy = await self._copy(small, MAX_THUMBNAIL_BYTES)
            if copy is not None:
                content = {**content, "info": {**content["info"], "thumbnail_url": copy}}
        return content

    async def _copy(self, media: Media, limit: int) -> str | None:
        try:
            return await self._media.copy_plain(
                media.url, content_type=media.content_type, filename=media.filename, limit=limit
            )
        except (ApiError, *NO_FILE) as error:
            # The homeserver lost or refuses the file; the message about it is still part of the past.
            log.warning("a file could not be copied", url=media.url, error=str(error))
            return None

    def _report(self, link: Link, members: int) -> ImportReport:
        counts = self._links.counts(link.matrix_room_id)
        return ImportReport(
            room_id=link.room_id or "",
            imported=counts.get("imported", 0),
            left_out=counts.get("left out", 0),
            failed=counts.get("failed", 0),
            members=members,
        )


def interoperable(value: Any, depth: int = 0) -> Any:
    """The value with nothing canonical JSON refuses: whole floats become integers, other numbers text.

    Raises:
        NotBridged: it is nested deeper than any event has reason to be.
    """
    if depth > _MAX_DEPTH:
        raise NotBridged("the event is nested too deeply")
    if isinstance(value, dict):
        return {name: interoperable(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [interoperable(item, depth + 1) for item in value]
    if isinstance(value, float):
        value = int(value) if value.is_integer() else str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_INTEGER:
        return str(value)
    return value
