"""Matrix to room: every event the homeserver pushes, in order, through the sender's own MLS client.

What an event becomes is fixed in the database before it is first sent, and its transaction ID is made of
its event ID. However often the bridge is killed, the same message goes out once.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import structlog

from bridges.matrix.aside import SetAside
from bridges.matrix.attachments import Media, media_of
from bridges.matrix.content import STICKER, JsonObject, Known, NotBridged, ToMimi, with_thumbnail
from bridges.matrix.database import Database
from bridges.matrix.doubles.speaking import Speaking
from bridges.matrix.failures import carried, is_passing
from bridges.matrix.fallbacks import POLL_RESPONSE, about, is_for_programs, readable
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.media import MAX_FILE_BYTES, MAX_THUMBNAIL_BYTES, NO_FILE, MediaCopier
from bridges.matrix.membership import Membership
from bridges.matrix.message_map import Messages
from bridges.matrix.names import Names
from bridges.matrix.people import CHUNK, People
from bridges.matrix.puppets import Puppets
from bridges.matrix.queue import Incoming, IncomingQueue
from bridges.matrix.retention import RETENTION, Retention
from bridges.matrix.shared_state import SharedState
from bridges.matrix.translation import SHARED
from linearized.client import ApiError, Session
from linearized.mimi.content import ExternalPart, MimiContent, Part
from linearized.protocol.identifiers import room_uri

_SALT_BYTES = 16
# What nobody can do for somebody else.
_OWN_ONLY = frozenset({"m.reaction", "m.room.redaction"})

log = structlog.get_logger(__name__)


class Outbound:
    """Handles one event after another."""

    def __init__(
        self,
        *,
        database: Database,
        names: Names,
        bot: str,
        puppets: Puppets,
        people: People,
        membership: Membership,
        media: MediaCopier,
        homeserver: HomeserverApi,
        shared: SharedState,
        speaking: Speaking,
        random: Callable[[int], bytes],
        reopened: Callable[[JsonObject], JsonObject],
        retention: Retention,
    ) -> None:
        self._retention = retention
        self._reopened = reopened
        self._speaking = speaking
        self._homeserver = homeserver
        self._shared = shared
        self._database = database
        self._names = names
        self._bot = bot
        self._puppets = puppets
        self._people = people
        self._membership = membership
        self._media = media
        self._random = random
        self._aside = SetAside(database)
        self._queue = IncomingQueue(database)
        self._links = RoomLinks(database)
        self._messages = Messages(database)

    async def handle(self, incoming: Incoming) -> None:
        """Bring one event across, or decide that it stays, or wait: whatever comes after it waits, too."""
        joins = self._joins(incoming)
        if len(joins) > 1 and await self._join(joins):
            return
        skipped: str | None = None
        try:
            skipped = await carried(lambda: self._bridge(incoming))
        except NotBridged as decision:
            skipped = str(decision)
            log.info("not bridged", event_id=incoming.event_id, room_id=incoming.room_id, reason=skipped)
        else:
            if skipped is not None:
                self._aside.put(incoming.room_id, incoming.event_id, skipped)
                log.error("set aside", event_id=incoming.event_id, room_id=incoming.room_id, reason=skipped)
        self._queue.finish(incoming, skipped=skipped)

    def _joins(self, incoming: Incoming) -> list[Incoming]:
        """The event and those waiting right behind it, as far as each lets somebody new join."""
        link = self._links.of_matrix(incoming.room_id)
        found: dict[str, Incoming] = {}
        if link is None or link.phase is not Phase.LIVE:
            return []
        if not self._puppets.bot.device.in_group(link.room_id or "") or not _is_join(incoming):
            return []
        for one in [incoming, *self._queue.behind(incoming, CHUNK - 1)]:
            user = str(one.event.get("state_key"))
            if not _is_join(one) or not self._names.is_bridged(user) or user in found:
                break
            if self._membership.participates(link, user) or self._is_here(one):
                break
            found[user] = one
        return list(found.values())

    async def _join(self, joins: list[Incoming]) -> bool:
        """Let many join by one commit; whether it worked. If not, each has to be looked at alone."""
        link = self._links.of_matrix(joins[0].room_id)
        if link is None:
            return False
        users = [str(one.event["state_key"]) for one in joins]

        async def add() -> None:
            await self._people.add(link, users)
            for one in joins:
                await self._membership.profile(link, one.event)

        if await carried(add) is not None:
            return False
        with self._database.together():
            for one in joins:
                self._queue.finish(one)
        return True

    async def _bridge(self, incoming: Incoming) -> None:
        link, event = self._links.of_matrix(incoming.room_id), incoming.event
        if link is None or link.room_id is None:
            raise NotBridged("the room is not bridged")
        if self._is_here(incoming):
            raise NotBridged("the event is here already")
        sender, state_key = str(event.get("sender", "")), event.get("state_key")
        if event.get("type") == "m.room.member" and isinstance(state_key, str):
            await self._membership.to_room(link, event, sender, state_key)
        elif self._names.is_ours(sender):
            # Only this bridge can act as a user of its own namespace, so this is something it did.
            raise NotBridged("our own doing")
        elif isinstance(state_key, str):
            await self._state(link, event, sender, state_key)
        else:
            await self._message(link, event, sender)

    def _is_here(self, incoming: Incoming) -> bool:
        """Whether the event came with the room's past, or was carried across before."""
        known = self._database.first(
            "SELECT 1 FROM history WHERE matrix_room_id = ? AND event_id = ?",
            incoming.room_id,
            incoming.event_id,
        )
        return known is not None or self._messages.by_matrix(incoming.event_id) is not None

    # --- state ---

    async def _state(self, link: Link, event: JsonObject, sender: str, state_key: str) -> None:
        kind = str(event.get("type"))
        if kind == RETENTION:
            self._retention.changed(link.matrix_room_id)
        if kind not in SHARED or state_key:
            raise NotBridged(f"state of type {kind} stays on its own side")
        await self._shared.to_room(link, event, sender)

    # --- messages ---

    async def _message(self, link: Link, event: JsonObject, sender: str) -> None:
        if not self._names.is_bridged(sender):
            event = relayed(event, sender)
            sender = self._bot
        session = await self._client(link, sender)
        content = await self._fixed(link, event, session)
        event_id = str(event["event_id"])
        sent = await session.send(
            link.room_id or "", content, txn_id=f"matrix-{event_id}", ts=_timestamp(event)
        )
        known = Known(
            matrix_event_id=event_id,
            log_event_id=sent.event_id,
            message_id=sent.message_id,
            sender=str(event.get("sender")),
            in_reply_to=content.in_reply_to,
        )
        with self._database.together():
            self._messages.sent(link.matrix_room_id, known)
            self._retention.sent(link, sent.event_id, known.sender, content.expires)
        if sender != self._bot:
            session.device.clear_inbox()  # what a client reads while it follows, the bot reads too

    async def _client(self, link: Link, user: str) -> Session:
        """The user's client, in the room's group."""
        session = await self._puppets.ready(user)
        room_id = link.room_id or ""
        if not session.device.in_group(room_id):
            # Someone else may have added it; or its join never reached us.
            if user != self._bot:
                await self._puppets.follow(user)
            if not session.device.in_group(room_id):
                await self._people.add(link, [user])
            if not session.device.in_group(room_id):
                await session.groups.join(room_id)
        return session

    async def _attachment(self, media: Media | None) -> Part | None:
        """The file of a message, with its thumbnail, as the part that refers to them."""
        file = None if media is None else await self._file(media, MAX_FILE_BYTES)
        if file is None or media is None or media.thumbnail is None:
            return file
        thumbnail = await self._file(media.thumbnail, MAX_THUMBNAIL_BYTES)
        return file if thumbnail is None else with_thumbnail(file, thumbnail)

    async def _file(self, media: Media, limit: int) -> ExternalPart | None:
        try:
            return await self._media.to_part(media, limit=limit)
        except NO_FILE as error:
            log.warning("a file was not bridged", reason=str(error))
            return None
        except ApiError as error:
            if is_passing(error):
                raise
            log.warning("a file was not bridged", reason=str(error))
            return None

    async def _poll(self, link: Link, kind: str, content: JsonObject) -> JsonObject | None:
        """The poll that a vote is about: votes name answers by IDs that only the poll explains."""
        target = about(content)
        if kind not in POLL_RESPONSE or target is None:
            return None
        try:
            found = await self._homeserver.event(link.matrix_room_id, target)
        except ApiError as error:
            if is_passing(error):
                raise
            return None  # redacted away, or never visible to us
        poll = self._reopened({**found, "room_id": link.matrix_room_id}).get("content")
        return poll if isinstance(poll, dict) else None

    async def _fixed(self, link: Link, event: JsonObject, session: Session) -> MimiContent:
        """What the event becomes: decided once, then kept until it is sent."""
        event_id, room_id = str(event["event_id"]), link.room_id or ""
        payload = self._messages.outgoing(event_id)
        if payload is not None:
            return MimiContent.decode(payload)
        event = self._own_words(event)
        raw = event.get("content")
        content = raw if isinstance(raw, dict) else {}
        edited = content.get("m.new_content")
        kind = str(event.get("type"))
        media = _media(edited if isinstance(edited, dict) else content, kind)
        mapping = ToMimi(
            names=self._names,
            lookup=self._messages,
            sender_uri=session.device.owner.user_uri,
            room_uri=room_uri(room_id),
            salt=self._random(_SALT_BYTES),
            expires=await self._retention.expiration(link, event),
            poll=await self._poll(link, kind, content),
        )
        mimi = mapping.convert(event, await self._attachment(media))
        self._messages.fix_outgoing(event_id, mimi.encode(), session.message_id(room_id, mimi))
        return mimi

    def _own_words(self, event: JsonObject) -> JsonObject:
        """The event or, if it edits what its sender's other account said, a message of the new version: at
        the provider nobody edits the messages of others, and the two are others there.
        """
        content = event.get("content")
        target = about(content) if isinstance(content, dict) else None
        known = None if target is None else self._messages.by_matrix(target)
        if known is None or not self._speaking.is_same_person(str(event.get("sender")), known.sender):
            return event
        new = content.get("m.new_content") if isinstance(content, dict) else None
        return {**event, "content": new} if isinstance(new, dict) else event


def _media(content: JsonObject, kind: str) -> Media | None:
    """The file of a message. Without one that it should have, the message says that it is missing."""
    try:
        return media_of(content, kind)
    except NotBridged as problem:
        log.info("a file was not bridged", reason=str(problem))
        return None


def relayed(event: JsonObject, sender: str) -> JsonObject:
    """A message of a user of another homeserver, as the bot says it: with the name before it.

    Raises:
        NotBridged: it is nothing that can be said for somebody.
    """
    content, kind = event.get("content"), str(event.get("type"))
    if not isinstance(content, dict) or not content or kind in _OWN_ONLY or is_for_programs(kind):
        raise NotBridged("a user of another homeserver, and nothing that can be said for them")
    if kind == STICKER:
        content = {"msgtype": "m.image", **content}
    elif kind != "m.room.message":
        content = {"msgtype": "m.text", "body": readable(kind, content)}
    relation = content.get("m.relates_to")
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        # The bot cannot edit for somebody; it can say the new version.
        new = content.get("m.new_content")
        content = dict(new) if isinstance(new, dict) else content
        content.pop("m.relates_to", None)
    body = {**content, "body": f"<{sender}> {content.get('body', '')}"}
    if isinstance(content.get("formatted_body"), str):
        body["formatted_body"] = f"<strong>{escape(sender)}</strong>: {content['formatted_body']}"
    return {**event, "type": "m.room.message", "content": body}


def _is_join(incoming: Incoming) -> bool:
    content = incoming.event.get("content")
    return (
        incoming.event.get("type") == "m.room.member"
        and isinstance(content, dict)
        and content.get("membership") == "join"
    )


def _timestamp(event: JsonObject) -> int | None:
    value = event.get("origin_server_ts")
    return value if isinstance(value, int) and value >= 0 else None
