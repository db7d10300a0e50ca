"""Reading archives back: each record against the log, in order, and nothing left out in silence."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import openmls

from linearized.client.api import ProviderApi
from linearized.client.archive.records import ArchiveKey, Content, Introduction, Place
from linearized.client.archive.state import KnownArchive
from linearized.client.calls.archives import StoredRecord
from linearized.client.device import digest
from linearized.client.errors import UntrustedAnswer
from linearized.client.franks import check_commitment
from linearized.client.identity import MIMI_HUB_PREFIX
from linearized.client.items import ReadableMessage
from linearized.client.transport import JsonObject
from linearized.exceptions import InvalidInput, MimiDecodeError
from linearized.mimi.app_data import SafeAAD
from linearized.mimi.media_types import read_message
from linearized.mimi.participants import FRANK_AAD
from linearized.protocol.base64 import decode_base64
from linearized.protocol.identifiers import user_id_from_uri

# Entries asked for at once, to check a page of records against.
LOG_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedMessage(ReadableMessage):
    """A message that another device of this user read and kept, and that stands so in the log.

    The fields are those of ``DecryptedMessage``; the user's own are among them. That it decrypted to this is
    the other device's word; in a room with franking the ciphertext in the log commits to it, too.
    ``introduction`` is what ``PseudonymousSession.sender_of`` goes by.
    """

    room_id: str
    event_id: str
    seq: int
    timestamp: int
    sender_uri: str
    client_uri: str
    epoch: int
    payload: bytes
    frank: bytes | None = None
    introduction: Introduction | None = None


class Gap(StrEnum):
    """Why a message is not there."""

    EXPIRED = "expired"  # its time has come
    DELETED = "deleted"  # its sender took it back
    UNREADABLE = "unreadable"  # the other device could not read it either
    WITHHELD = "withheld"  # the provider had it, and does not give it
    TAMPERED = "tampered"  # the provider gives something else, or the log has another entry there


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveGap:
    """Messages that are not to be had, ``count`` of them in a row. ``event_id`` and ``seq`` are those of the
    entry, if there is one and it can be told which; ``seq`` is 0 otherwise.
    """

    room_id: str
    reason: Gap
    count: int = 1
    event_id: str = ""
    seq: int = 0

    @property
    def is_fault(self) -> bool:
        """Whether the provider is to blame."""
        return self.reason in (Gap.WITHHELD, Gap.TAMPERED)


Archived = ArchivedMessage | ArchiveGap


class ArchiveReader:
    """Reads the archives of one room.

    Args:
        user_id: whose they are.
    """

    def __init__(self, api: ProviderApi, *, user_id: str, room_id: str) -> None:
        self._api = api
        self._user_id = user_id
        self._room_id = room_id

    async def read(self, archives: Sequence[KnownArchive]) -> AsyncGenerator[Archived, None]:
        """What all of them hold, in the order of the log, each message once. Of an entry that several have
        a record of there is a gap only if none of them has the message.

        Raises:
            ApiError, ServerUnreachable, MalformedAnswer: the provider does not tell.
        """
        async with AsyncExitStack() as stack:
            heads: list[tuple[Archived, AsyncGenerator[Archived, None]]] = []
            for archive in archives:
                walk = await stack.enter_async_context(aclosing(self._walk(archive)))
                head = await anext(walk, None)
                if head is not None:
                    heads.append((head, walk))
            while heads:
                seq = min(head.seq for head, _ in heads)
                now = [head for head, _ in heads if head.seq == seq]
                for found in _best(now):
                    yield found
                moved: list[tuple[Archived, AsyncGenerator[Archived, None]]] = []
                for head, walk in heads:
                    following = await anext(walk, None) if head.seq == seq else head
                    if following is not None:
                        moved.append((following, walk))
                heads = moved

    async def _walk(self, archive: KnownArchive) -> AsyncGenerator[Archived, None]:
        """One archive, from its first record to its last, however many the provider gives."""
        key, last = ArchiveKey(archive.key), 0
        while records := await self._api.kept_records(self._room_id, archive.name, after=last):
            entries = await self._entries(records)
            for record in records:
                if record.number <= last:
                    raise UntrustedAnswer("the provider's records are out of order")
                if record.number > last + 1:
                    yield self._gap(Gap.WITHHELD, count=record.number - last - 1)
                last = record.number
                yield self._checked(archive, key, record, entries.get(record.seq))
        if last < archive.records:
            yield self._gap(Gap.WITHHELD, count=archive.records - last)

    def _gap(self, reason: Gap, *, count: int = 1, record: StoredRecord | None = None) -> ArchiveGap:
        if record is None:
            return ArchiveGap(room_id=self._room_id, reason=reason, count=count)
        return ArchiveGap(room_id=self._room_id, reason=reason, event_id=record.event_id, seq=record.seq)

    async def _entries(self, records: Sequence[StoredRecord]) -> Mapping[int, JsonObject]:
        """The entries that records say they are about, by number."""
        wanted = {record.seq for record in records}
        found: dict[int, JsonObject] = {}
        after, last = min(wanted) - 1, max(wanted)
        while after < last:
            page = await self._api.log(self._room_id, after=after, limit=LOG_PAGE)
            if not page.pdus or page.first_seq <= after:
                break
            numbered = dict(enumerate(page.pdus, page.first_seq))
            found.update({seq: pdu for seq, pdu in numbered.items() if seq in wanted})
            after = max(numbered)
        return found

    def _checked(
        self, archive: KnownArchive, key: ArchiveKey, record: StoredRecord, entry: JsonObject | None
    ) -> Archived:
        """A record as what it proves to be."""
        try:
            message = _message_in(entry)
            place = Place(
                user_id=self._user_id,
                room_id=self._room_id,
                archive=archive.name,
                number=record.number,
                seq=record.seq,
                event_id=record.event_id,
                digest=digest(message),
                tag=record.tag,
                expires_ts=record.expires_ts,
            )
            key.check_stub(place, record.stub)
            if record.expires_ts is not None and record.expires_ts <= self._api.clock():
                return self._gap(Gap.EXPIRED, record=record)
            if record.sealed is None and record.release is not None:
                key.check_release(record.tag, record.release)
                return self._gap(Gap.DELETED, record=record)
            if record.sealed is None:
                return self._gap(Gap.WITHHELD, record=record)
            content = key.open(place, record.sealed)
            if content.reason is not None:
                return self._gap(Gap.UNREADABLE, record=record)
            return self._message(record, content, message, str((entry or {}).get("sender")))
        except (InvalidInput, openmls.MlsError):
            # Whatever of it is wrong, it is not what was archived of this entry.
            return self._gap(Gap.TAMPERED, record=record)

    def _message(
        self, record: StoredRecord, content: Content, message: bytes, sender: str
    ) -> ArchivedMessage:
        """The message, checked against what its entry says of its sender and content.

        Raises:
            InvalidInput, openmls.MlsError: it is another's, or says something else.
        """
        sender_uri = content.sender_uri
        if sender != user_id_from_uri(sender_uri) and not sender.startswith(MIMI_HUB_PREFIX):
            raise UntrustedAnswer("the log says another sender")
        read_message(content.payload)
        commitment = _commitment(message)
        if commitment is not None:
            check_commitment(commitment, content.payload, sender_uri=sender_uri, room_id=self._room_id)
        return ArchivedMessage(
            room_id=self._room_id,
            event_id=record.event_id,
            seq=record.seq,
            timestamp=content.timestamp,
            sender_uri=sender_uri,
            client_uri=content.client_uri,
            epoch=content.epoch,
            payload=content.payload,
            frank=content.frank,
            introduction=content.introduction,
        )


def _best(found: Sequence[Archived]) -> list[Archived]:
    """What several archives say of one entry: a message if one has it, else why none has."""
    messages = [one for one in found if isinstance(one, ArchivedMessage)]
    if messages or found[0].seq:
        return list(messages[:1] or found[:1])
    return list(found)  # gaps of which nobody knows the place


def _message_in(entry: JsonObject | None) -> bytes:
    content = (entry or {}).get("content")
    ciphertext = content.get("ciphertext") if isinstance(content, dict) else None
    if not isinstance(ciphertext, str):
        raise UntrustedAnswer("there is no message in that entry")
    return decode_base64(ciphertext)


def _commitment(message: bytes) -> bytes | None:
    """What the sender committed to, of a franked message."""
    aad = openmls.inspect_message(message).authenticated_data
    try:
        return SafeAAD.decode(aad or b"").item(FRANK_AAD)
    except MimiDecodeError:  # of a room without franking, where it may be anything
        return None
