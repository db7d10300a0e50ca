"""Room to Matrix: the bot's client reads the log; what people at other providers do, their ghosts do.

What the homeserver's own users sent comes back here, too. It is known by its message ID, which was written
down before it was sent. An event that we send has a transaction ID made of the log's event ID, so a
repetition after a kill is answered with the event that was sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from bridges.matrix.aside import SetAside
from bridges.matrix.content import Known, NotBridged
from bridges.matrix.database import Database
from bridges.matrix.doubles.login import Login
from bridges.matrix.doubles.speaking import Speaking
from bridges.matrix.expiry import Expiry
from bridges.matrix.failures import carried, is_passing
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.kept import Kept, Said
from bridges.matrix.leaves import file_key, files, thumbnails
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.media import MAX_FILE_BYTES, MAX_THUMBNAIL_BYTES, NO_FILE, MediaCopier
from bridges.matrix.membership import Membership
from bridges.matrix.message_map import Messages
from bridges.matrix.names import Names
from bridges.matrix.provenance import came_from
from bridges.matrix.puppets import Puppets
from bridges.matrix.receipts import Receipts
from bridges.matrix.rendering import ToMatrix, Upload
from bridges.matrix.shared_state import SharedState
from bridges.matrix.translation import SHARED
from linearized.client import (
    ApiError,
    DecryptedMessage,
    EpochChanged,
    Item,
    MembershipChanged,
    RoomEvent,
    StatusReport,
    Undecryptable,
    report_in,
)
from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.content import MimiContent
from linearized.protocol.identifiers import client_from_uri

log = structlog.get_logger(__name__)


class Inbound:
    """Handles one item after another."""

    def __init__(
        self,
        *,
        database: Database,
        names: Names,
        bot: str,
        puppets: Puppets,
        membership: Membership,
        ghosts: Ghosts,
        media: MediaCopier,
        homeserver: HomeserverApi,
        shared: SharedState,
        receipts: Receipts,
        login: Login,
        speaking: Speaking,
        kept: Kept,
        is_encrypted: Callable[[str], Awaitable[bool]],
        expiry: Expiry,
    ) -> None:
        self._expiry = expiry
        self._login = login
        self._speaking = speaking
        self._kept = kept
        self._receipts = receipts
        self._is_encrypted = is_encrypted
        self._shared = shared
        self._names = names
        self._bot = bot
        self._puppets = puppets
        self._membership = membership
        self._ghosts = ghosts
        self._media = media
        self._homeserver = homeserver
        self._aside = SetAside(database)
        self._links = RoomLinks(database)
        self._messages = Messages(database)

    async def handle(self, item: Item) -> None:
        """Bring one item across, or decide that it stays, or wait: whatever comes after it waits, too."""
        link = self._links.of_room(item.room_id)
        if link is None:
            return
        try:
            reason = await carried(lambda: self._bridge(link, item))
        except NotBridged as decision:
            log.info("not bridged", event_id=item.event_id, room_id=item.room_id, reason=str(decision))
        else:
            if reason is not None:
                self._aside.put(link.matrix_room_id, item.event_id, reason)
                log.error("set aside", event_id=item.event_id, room_id=item.room_id, reason=reason)
        self._expiry.said(item.event_id)

    async def _bridge(self, link: Link, item: Item) -> None:
        if came_from(item, self._names.domain):
            return  # from before the clients left such items out
        match item:
            case DecryptedMessage():
                await self._message(link, item)
            case MembershipChanged():
                await self._membership.to_matrix(link, item)
            case EpochChanged():
                await self._epoch(item)
            case RoomEvent():
                await self._state(link, item)
            case Undecryptable(expected=False) if link.phase is Phase.LIVE:
                # What the bot says for users of other homeservers comes back to it, and MLS lets nobody
                # decrypt what they sent. It is known by then: it is written down once the hub has it.
                if self._messages.by_log(item.event_id) is None:
                    await self._notice(link, item, "A message could not be decrypted.")

    # --- messages ---

    async def _message(self, link: Link, item: DecryptedMessage) -> None:
        # Decoded and hashed once: the item does so each time it is asked.
        content, message_id = item.content, item.message_id
        if self._messages.is_outgoing(message_id) or self._messages.by_log(item.event_id) is not None:
            return
        sender = self._names.matrix_user(item.sender_uri)
        report = _report(content)
        if report is not None:
            if self._names.is_ours(sender):
                await self._receipts.to_matrix(link, sender, report)
            return
        if not self._names.is_ours(sender):
            raise NotBridged(f"{sender} says something we did not send for them")
        if await self._login.heard(item.sender_uri, content):
            raise NotBridged("it proves whose address this is")
        self._expiry.begin(link, item.event_id, sender, content)
        said = Said(
            matrix_room_id=link.matrix_room_id,
            log_event_id=item.event_id,
            message_id=message_id,
            sender=sender,
            ts=item.timestamp,
            content=content,
        )
        self._kept.put(said)
        await self.show(link, said)

    async def show(self, link: Link, said: Said) -> None:
        """Let a ghost say what was said.

        Raises:
            NotBridged: it is nothing for Matrix.
            ClientError: a side is away or refuses; doing it again continues.
        """
        sender, content = said.sender, said.content
        ghost = await self._ghosts.ensure_joined(link.matrix_room_id, sender)
        encrypted = await self._is_encrypted(link.matrix_room_id)
        uploads = await self._uploads(content, ghost, encrypted=encrypted)
        mapping = ToMatrix(
            names=self._names, lookup=self._messages.within(link.matrix_room_id), sender=sender
        )
        parts: list[Known] = []
        for number, act in enumerate(mapping.convert(content, uploads)):
            try:
                event_id = await self._speaking.act(
                    ghost,
                    act,
                    sender=sender,
                    matrix_room_id=link.matrix_room_id,
                    log_event_id=said.log_event_id,
                    number=number,
                    ts=said.ts,
                )
            except ApiError as error:
                if not is_passing(error):  # what was said before is there
                    self._messages.put_parts(link.matrix_room_id, parts)
                raise
            known = Known(
                matrix_event_id=event_id,
                log_event_id=said.log_event_id,
                message_id=said.message_id,
                sender=sender,
                in_reply_to=content.in_reply_to,
            )
            parts.append(known)
        # All at once: a message of which some part is known counts as shown.
        self._messages.put_parts(link.matrix_room_id, parts)

    async def _uploads(
        self, content: MimiContent, ghost: HomeserverApi, *, encrypted: bool
    ) -> dict[str, Upload]:
        uploads: dict[str, Upload] = {}
        wanted = [(part, MAX_FILE_BYTES) for part in files(content)]
        wanted += [(part, MAX_THUMBNAIL_BYTES) for part in thumbnails(content)]
        for part, limit in wanted:
            key = file_key(part)
            try:
                if encrypted:
                    uploads[key] = await self._media.to_encrypted_room(part, ghost, limit=limit)
                else:
                    uploads[key] = await self._media.to_matrix(part, ghost, limit=limit)
            except NO_FILE as error:
                # The message is bridged all the same and says that its file is missing.
                log.warning("a file was not bridged", file=key, reason=str(error))
            except ApiError as error:
                if is_passing(error):
                    raise
                log.warning("a file was not bridged", file=key, reason=str(error))
        return uploads

    async def _notice(self, link: Link, item: Item, text: str) -> None:
        content = {"msgtype": "m.notice", "body": text}
        bot = self._homeserver.as_user(self._names.bot)
        await bot.send(link.matrix_room_id, "m.room.message", content, txn_id=f"notice-{item.event_id}")

    # --- people ---

    async def _epoch(self, item: EpochChanged) -> None:
        """Clients of ours that someone else added have a Welcome waiting."""
        for client in item.added:
            try:
                user_id, _ = client_from_uri(client)
            except IdentifierError:  # another implementation's credential: not one of ours
                continue
            if self._names.is_bridged(user_id):
                await self._puppets.follow(user_id)

    # --- state ---

    async def _state(self, link: Link, item: RoomEvent) -> None:
        event = item.event
        sender, kind = str(event.get("sender", "")), str(event.get("type"))
        foreign = not self._names.is_bridged(sender) and sender != self._bot
        if foreign and kind in SHARED and event.get("state_key") == "":
            await self._shared.to_matrix(link, item)


def _report(content: MimiContent) -> StatusReport | None:
    try:
        return report_in(content)
    except MimiDecodeError as error:
        raise NotBridged("a status report that cannot be read") from error
