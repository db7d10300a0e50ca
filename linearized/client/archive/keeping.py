"""What goes into the archive of a room: every message this device reads while its user wants it and the
room's policy lets them. No network: records wait in the device's state, saved with what they are about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from linearized.client.archive.records import KEY_BYTES, NAME_BYTES, ArchiveKey, Content, Introduction, Place
from linearized.client.archive.state import OwnArchive, WaitingRecord, WaitingRelease
from linearized.client.device import MlsDevice, digest
from linearized.client.identity_links import pseudonyms_in
from linearized.client.items import (
    ArchiveStopped,
    DecryptedMessage,
    IdentitiesShared,
    Item,
    OwnMessage,
    Undecryptable,
)
from linearized.exceptions import InvalidInput, MimiDecodeError
from linearized.mimi.content import MimiContent, NullPart, message_id
from linearized.mimi.media_types import read_message
from linearized.mimi.participants import PARTICIPANT_LIST
from linearized.mimi.policy.components import CHAT_HISTORY_POLICY
from linearized.mimi.policy.retention import HistoryPolicy
from linearized.protocol.base64 import decode_base64
from linearized.protocol.identifiers import room_uri, user_uri

# Records that wait while the provider is away: they are saved with every step. What comes then is not kept.
MAX_WAITING: Final = 2_000
_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether this user may keep a room's messages for other devices, and for how many seconds (None: as long
    as they like).
    """

    allowed: bool
    seconds: int | None = None


def permission(device: MlsDevice, room_id: str) -> Permission:
    """What a room's policy says; one that says nothing leaves it to its users. A policy that cannot be read
    allows nothing.

    Raises:
        NotInGroup: this device is in no group, so nobody can tell.
    """
    app_data = device.group(room_id).app_data()
    data = app_data.get(CHAT_HISTORY_POLICY)
    if data is None:
        return Permission(allowed=True)
    try:
        policy = HistoryPolicy.decode(data)
        known = PARTICIPANT_LIST in app_data
        role = device.participants(room_id).role_of(user_uri(device.owner.user_id)) if known else None
    except MimiDecodeError:
        return Permission(allowed=False)
    seconds = policy.shared_by(role)
    return Permission(allowed=seconds > 0, seconds=seconds)


class Keeper:
    """Makes the records of one device.

    Args:
        random: gives as many random bytes as it is asked for.
    """

    def __init__(self, device: MlsDevice, *, random: Callable[[int], bytes]) -> None:
        self._device = device
        self._random = random

    def keep(self, room_id: str, seq: int | None, entry: Mapping[str, object], item: Item) -> list[Item]:
        """Note an entry (the content of its event) and what this device made of it. The caller saves.

        Returns:
            What the user is to be told beside ``item``.
        """
        state, device = self._device.state.archive, self._device
        message = _message_in(entry)
        # Of what was sent before this device came in, nothing: never more than it could read itself.
        early = isinstance(item, Undecryptable) and item.expected
        # What members tell each other of who they are is nobody's message.
        idle = isinstance(item, IdentitiesShared)
        wanted = state.enabled and not state.full and device.in_group(room_id)
        if not wanted or early or idle or seq is None or message is None:
            return []
        granted = permission(device, room_id)
        if granted.allowed:
            if len(state.waiting) < MAX_WAITING:
                self._note(room_id, seq, message, item, granted)
            else:
                state.retire(room_id)
        elif state.keys(room_id):
            # What was kept while it was allowed is not to stay.
            state.drop(room_id)
            return [ArchiveStopped(room_id=room_id, reason="the room's policy forbids it")]
        return []

    def _note(self, room_id: str, seq: int, message: bytes, item: Item, granted: Permission) -> None:
        state, device = self._device.state.archive, self._device
        self._renew(room_id)
        content = _content(device, item)
        payload = _decoded(content)
        own = state.own.get(room_id)
        if own is None:
            own = OwnArchive(
                name=self._random(NAME_BYTES), key=self._random(KEY_BYTES), epoch=device.epoch(room_id)
            )
            state.own[room_id] = own
        key = ArchiveKey(own.key)
        own.made += 1
        place = Place(
            user_id=device.owner.user_id,
            room_id=room_id,
            archive=own.name,
            number=own.made,
            seq=seq,
            event_id=item.event_id,
            digest=digest(message),
            tag=self._tag(key, room_id, content, payload, digest(message)),
            expires_ts=_expiry(item.timestamp, payload, granted.seconds),
        )
        state.waiting.append(
            WaitingRecord(
                room_id=room_id,
                archive=own.name,
                number=place.number,
                seq=seq,
                event_id=place.event_id,
                tag=place.tag,
                expires_ts=place.expires_ts,
                stub=key.stub(place),
                sealed=key.seal(place, content, random=self._random),
            )
        )
        if payload is not None and payload.replaces is not None and isinstance(payload.part, NullPart):
            self._release(room_id, payload.replaces, sender_uri=content.sender_uri)

    def _renew(self, room_id: str) -> None:
        """Begin another archive if somebody who has the key of this one is no longer in the group: they are
        not to read on.
        """
        state = self._device.state.archive
        own, epoch = state.own.get(room_id), self._device.epoch(room_id)
        if own is None or own.epoch == epoch:
            return
        own.epoch = epoch
        if own.given:
            present = {owner.client_uri for owner in self._device.members(room_id).values()}
            if not present.issuperset(own.given):
                state.retire(room_id)

    def _release(self, room_id: str, deleted: bytes, *, sender_uri: str) -> None:
        """Have what its sender took back taken out of every archive that we have the key of."""
        state = self._device.state.archive
        for archive in state.keys(room_id):
            key = ArchiveKey(archive.key)
            tag = key.tag(deleted, sender_uri=sender_uri)
            state.releases.append(WaitingRelease(archive=archive.name, tag=tag, release=key.release(tag)))

    def _tag(
        self,
        key: ArchiveKey,
        room_id: str,
        content: Content,
        payload: MimiContent | None,
        message_digest: bytes,
    ) -> bytes:
        if payload is None:
            return key.tag(message_digest, sender_uri="")
        name = message_id(payload, sender_uri=content.sender_uri, room_uri=room_uri(room_id))
        return key.tag(name, sender_uri=content.sender_uri)


def _message_in(entry: Mapping[str, object]) -> bytes | None:
    ciphertext = entry.get("ciphertext")
    try:
        return decode_base64(ciphertext) if isinstance(ciphertext, str) else None
    except InvalidInput:
        return None


def _content(device: MlsDevice, item: Item) -> Content:
    common: dict[str, Any] = {"timestamp": item.timestamp}
    if isinstance(item, DecryptedMessage):
        return Content(
            **common,
            client_uri=item.client_uri,
            epoch=item.epoch,
            payload=item.payload,
            frank=item.frank,
            introduction=_introduction(device, item.room_id, item.client_uri),
        )
    if isinstance(item, OwnMessage):
        return Content(
            **common,
            client_uri=device.owner.client_uri,
            epoch=device.epoch(item.room_id),
            payload=item.payload,
            introduction=_introduction(device, item.room_id, device.owner.client_uri),
        )
    return Content(**common, reason=item.reason if isinstance(item, Undecryptable) else item.KIND)


def _introduction(device: MlsDevice, room_id: str, client_uri: str) -> Introduction | None:
    """Who a pseudonym in the group is, as far as this device has been told. A device that comes later is told
    of those alone who are there then.
    """
    if device.owner.pseudonym is None:
        return None
    credential = pseudonyms_in(device, room_id)[client_uri]
    return Introduction(credential=credential.encode(), key=device.state.link_keys.get(client_uri, b""))


def _decoded(content: Content) -> MimiContent | None:
    return None if content.reason is not None else read_message(content.payload)


def _expiry(timestamp: int, content: MimiContent | None, seconds: int | None) -> int | None:
    """When a message is to be forgotten, milliseconds since the Unix epoch: what is sooner of what its sender
    said and what the room's policy allows. "After reading" counts from when it was sent, which is before.
    """
    ends = [] if seconds is None else [timestamp + seconds * _MS]
    if content is not None and content.expires is not None:
        time = content.expires.time * _MS
        ends.append(timestamp + time if content.expires.relative else time)
    return min(ends, default=None)
