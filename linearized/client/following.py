"""Following rooms: what one sync answer does to a device, and the items it yields. No network, no waiting.

A Welcome and the commit that made it arrive separately, in either order, and both may arrive twice; epochs
decide: a handshake of an epoch behind ours is done already, one of our epoch is processed, one ahead means
entries are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openmls

from linearized.client.archive.arrivals import take
from linearized.client.archive.keeping import Keeper
from linearized.client.device import MlsDevice, digest
from linearized.client.errors import NotInGroup, UntrustedAnswer
from linearized.client.franks import FrankError, FrankFault, check_frank
from linearized.client.identity import MIMI_HUB_PREFIX, LeafOwner, leaf_owner
from linearized.client.identity_links import check_sender, note_arrival, take_link_keys
from linearized.client.items import (
    ArchiveRequested,
    DecryptedMessage,
    EpochChanged,
    GroupLost,
    IdentitiesShared,
    Item,
    Joined,
    MembershipChanged,
    OwnMessage,
    RoomEvent,
    Undecryptable,
)
from linearized.client.transport import JsonObject
from linearized.exceptions import CanonicalJsonError, IdentifierError, InvalidInput, MimiDecodeError
from linearized.mimi.content import MimiContent, check_expiry
from linearized.mimi.key_material import basic_identity
from linearized.mimi.media_types import check_framing, read_message
from linearized.protocol.base64 import decode_base64
from linearized.protocol.identifiers import is_user_id, room_uri, user_domain
from linearized.protocol.state import HUB

ALGORITHM = "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519"
WELCOME_ALGORITHM = "m.mls.v1.welcome.dhkemx25519-aes128gcm-sha256-ed25519"
SEQ_KEY = "dev.linearized.seq"
FRANK_KEY = "dev.linearized.frank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """A Welcome that came as a to-device message; ``message`` is an MLSMessage."""

    room_id: str
    message: bytes
    ratchet_tree: bytes | None
    commit_event_id: str | None


def welcomes(answer: JsonObject) -> list[Welcome]:
    """The Welcomes among a sync answer's to-device messages; what is not one is skipped."""
    found = []
    for event in _list(answer.get("to_device", {}), "events"):
        content = event.get("content")
        if not isinstance(content, dict) or content.get("algorithm") != WELCOME_ALGORITHM:
            continue
        try:
            tree = content.get("ratchet_tree")
            found.append(
                Welcome(
                    room_id=_text(content, "room_id"),
                    message=decode_base64(_text(content, "ciphertext")),
                    # Empty if the hub gave our provider none: the Welcome itself may have it.
                    ratchet_tree=(decode_base64(_text(content, "ratchet_tree")) or None) if tree else None,
                    commit_event_id=content.get("commit_event_id"),
                )
            )
        except (CanonicalJsonError, InvalidInput, ValueError):  # to-device messages may come from anyone
            continue
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A room's part of a sync answer: its new events, oldest first, and whether earlier ones were left
    out.
    """

    room_id: str
    events: list[JsonObject]
    limited: bool
    prev_batch: str | None
    left: bool = False
    state: tuple[JsonObject, ...] = ()


def timelines(answer: JsonObject) -> list[Timeline]:
    """The joined and left rooms of a sync answer."""
    found = []
    rooms = answer.get("rooms") or {}
    for section in ("join", "leave"):
        for room_id, room in (rooms.get(section) or {}).items():
            timeline = room.get("timeline") or {}
            found.append(
                Timeline(
                    room_id=room_id,
                    events=_list(timeline, "events"),
                    limited=bool(timeline.get("limited")),
                    prev_batch=timeline.get("prev_batch"),
                    left=section == "leave",
                    state=tuple(_list(room.get("state") or {}, "events")),
                )
            )
    return found


def sequence(event: JsonObject) -> int | None:
    """The entry's place in the log, if the server says it."""
    value = (event.get("unsigned") or {}).get(SEQ_KEY)
    return value if isinstance(value, int) else None


class Follower:
    """Applies sync answers to a device; ``keeper`` keeps what it reads for devices to come. Of the items only
    those ``wanted`` get into the inbox: each that does is saved with the device's state until it has been
    dealt with.
    """

    def __init__(
        self, device: MlsDevice, keeper: Keeper, *, wanted: Callable[[Item], bool] | None = None
    ) -> None:
        self._device = device
        self._keeper = keeper
        self._wanted = wanted

    def apply(self, answer: JsonObject, found: list[Timeline], next_batch: str) -> None:
        """Process everything, put the items into the inbox, and save all of it with the new sync token."""
        items: list[Item] = []
        waiting = self._join_now(welcomes(answer), items)
        for timeline in found:
            for event in timeline.state:
                self._remember_member(timeline.room_id, event)
                self._remember_hub(timeline.room_id, event)
            for event in timeline.events:
                self._event(timeline.room_id, event, items, waiting)
            if timeline.left:
                self._leave(timeline.room_id, items)
        for welcome in waiting:
            if self._is_out(welcome.room_id):
                self._join(welcome, items)
        asked = sum(isinstance(item, ArchiveRequested) for item in self._device.state.inbox)
        items += take(self._device, _list(answer.get("to_device", {}), "events"), asked)
        self._device.deliver(items if self._wanted is None else filter(self._wanted, items))
        self._device.state.since = next_batch
        self._device.save()

    def _is_out(self, room_id: str) -> bool:
        return not self._device.in_group(room_id) or self._device.record(room_id).lost

    def _leave(self, room_id: str, items: list[Item]) -> None:
        if self._device.in_group(room_id):
            self._device.drop_group(room_id)
            items.append(GroupLost(room_id=room_id, removed=True, reason="no longer in the room"))

    def _join_now(self, found: list[Welcome], items: list[Item]) -> list[Welcome]:
        """Join where we are in no group; the rest may become due while the timeline removes us first."""
        waiting = []
        for welcome in found:
            if self._is_out(welcome.room_id):
                self._join(welcome, items)
            else:
                waiting.append(welcome)
        return waiting

    def _join(self, welcome: Welcome, items: list[Item]) -> None:
        try:
            epoch = self._device.join_welcome(
                welcome.room_id,
                welcome=welcome.message,
                ratchet_tree=welcome.ratchet_tree,
                commit_event_id=welcome.commit_event_id,
            )
        except (openmls.MlsError, UntrustedAnswer, IdentifierError) as error:
            # A Welcome that was used already (redelivered after a kill), or a false one: neither may stop us.
            # One that we could open and not use, as its tree is missing or wrong, says that somebody added
            # us: with the hub's own account of the group we come in by ourselves.
            if isinstance(error, openmls.NotAllowed | openmls.InvalidCommit):
                self._device.record(welcome.room_id).lost = True
            items.append(GroupLost(room_id=welcome.room_id, removed=False, reason=f"Welcome: {error}"))
            return
        items.append(Joined(room_id=welcome.room_id, epoch=epoch, event_id=welcome.commit_event_id or ""))

    def _event(self, room_id: str, event: JsonObject, items: list[Item], waiting: list[Welcome]) -> None:
        record = self._device.record(room_id)
        seq = sequence(event)
        if seq is not None:
            if seq <= record.last_seq:
                return
            record.last_seq = seq
        kind, event_id = event.get("type"), str(event.get("event_id", ""))
        content = event.get("content")
        if not isinstance(content, dict):
            return
        if kind in ("m.mls.commit", "m.mls.proposal"):
            self._handshake(room_id, event, content, items)
            for welcome in [one for one in waiting if one.commit_event_id == event_id]:
                if self._is_out(room_id):
                    waiting.remove(welcome)
                    self._join(welcome, items)
        elif kind == "m.room.encrypted" and content.get("algorithm") == ALGORITHM:
            item = self._message(room_id, event, content)
            items += [item, *self._keeper.keep(room_id, seq, content, item)]
        elif kind == "m.room.member" and isinstance(event.get("state_key"), str):
            self._remember_member(room_id, event)
            items.append(
                MembershipChanged(
                    **_common(room_id, event),
                    user_id=event["state_key"],
                    membership=str(content.get("membership", "leave")),
                    sender=str(event.get("sender", "")),
                    event=event,
                )
            )
        else:
            self._remember_hub(room_id, event)
            items.append(RoomEvent(**_common(room_id, event), event=event))

    def _remember_hub(self, room_id: str, event: JsonObject) -> None:
        """Keep track of where the room has moved: its hub's franking agent is another from then on."""
        sender = event.get("sender")
        if event.get("type") == HUB[0] and event.get("state_key") == HUB[1] and is_user_id(sender):
            record = self._device.record(room_id)
            record.former_hub, record.hub = self._device.hub(room_id), user_domain(str(sender))

    def _remember_member(self, room_id: str, event: JsonObject) -> None:
        """Keep track of who left: "the next commit must remove it from the group", as the hub will say."""
        user, content = event.get("state_key"), event.get("content")
        if event.get("type") != "m.room.member" or not isinstance(user, str) or not isinstance(content, dict):
            return
        gone = self._device.record(room_id).gone
        if content.get("membership") in ("leave", "ban"):
            if user not in gone:
                gone.append(user)
        elif user in gone:
            gone.remove(user)

    def _handshake(self, room_id: str, event: JsonObject, content: JsonObject, items: list[Item]) -> None:
        device, common = self._device, _common(room_id, event)
        try:
            message = decode_base64(_text(content, "message"))
            info = openmls.inspect_message(message)
            if device.merge_if_own(room_id, digest(message), common["event_id"]):
                items.append(
                    EpochChanged(**common, epoch=device.epoch(room_id), committer=device.owner.client_uri)
                )
                return
            if not device.in_group(room_id) or info.epoch is None or info.epoch < device.epoch(room_id):
                self._drop_hopeless(room_id, info)
                return
            if info.content_type == "proposal" and info.epoch == device.epoch(room_id):
                self._keep_proposals(room_id, [message, *_more(content)], common["timestamp"])
                return
            # Two commits of one epoch: the log took this one, so ours lost.
            device.drop_pending(room_id)
            processed = device.process(room_id, message, accepted_ms=common["timestamp"])
        except (openmls.MlsError, InvalidInput, NotInGroup) as error:
            # An entry we cannot follow: the hub accepted it, so it is we who are out. Rejoining repairs it.
            self._lose(room_id, common, str(error), items)
            return
        device.record(room_id).commit_event_id = common["event_id"]
        note_arrival(device, room_id, processed)
        items.append(
            EpochChanged(
                **common,
                epoch=processed.epoch,
                committer=_client(processed.sender_credential),
                added=tuple(_client(member.credential) for member in processed.added),
                removed=tuple(_client(member.credential) for member in processed.removed),
            )
        )
        if processed.self_removed:
            items.append(GroupLost(**common, removed=True, reason="removed from the group"))

    def _keep_proposals(self, room_id: str, messages: list[bytes], accepted_ms: int) -> None:
        for message in messages:
            try:
                self._device.process(room_id, message, accepted_ms=accepted_ms)
            except openmls.MlsError:
                # Our own, which is there already, or one whose sender made it so that only a hub takes it for
                # good: a member's membership tag is for members to check. It must not cost us the group.
                continue

    def _drop_hopeless(self, room_id: str, info: openmls.MessageInfo) -> None:
        """An external commit of ours that another commit overtook can no longer be accepted."""
        pending = self._device.record(room_id).pending
        if pending is not None and pending.external and info.content_type == "commit":
            self._device.drop_pending(room_id)

    def _lose(self, room_id: str, common: dict[str, Any], reason: str, items: list[Item]) -> None:
        record = self._device.record(room_id)
        if self._device.in_group(room_id) and not record.lost:
            record.lost = True
            items.append(GroupLost(**common, removed=False, reason=reason))

    def _message(self, room_id: str, event: JsonObject, content: JsonObject) -> Item:
        device, common = self._device, _common(room_id, event)
        sender = str(event.get("sender", ""))
        try:
            message = decode_base64(_text(content, "ciphertext"))
            own = self._own(digest(message))
            if own is not None:
                txn_id, payload = own
                if take_link_keys(device, room_id, payload):
                    return IdentitiesShared(**common)
                return OwnMessage(**common, transaction_id=txn_id, payload=payload)
            processed = device.process(room_id, message, accepted_ms=common["timestamp"])
            if processed.kind != "application" or processed.plaintext is None:
                raise UntrustedAnswer("a handshake was sent as a message")
            owner = leaf_owner(processed.sender_credential)
            check_sender(device, room_id, processed)
            if sender != owner.user_id and not sender.startswith(MIMI_HUB_PREFIX):
                raise UntrustedAnswer(f"the log says {sender}, the group says {owner.user_id}")
            check_framing(processed.plaintext, device.group(room_id).app_data())
            said = read_message(processed.plaintext)
            _check_claims(said, owner, room_id)
            check_expiry(said, accepted_ms=common["timestamp"])
            frank = _frank(event)
            group = device.group(room_id)
            check_frank(
                processed,
                app_data=group.app_data(),
                cipher_suite=group.ciphersuite,
                frank=frank,
                owner=owner,
                room_id=room_id,
                hub=device.hub(room_id),
                timestamp=common["timestamp"],
            )
            if take_link_keys(device, room_id, processed.plaintext):
                return IdentitiesShared(**common)
        except (openmls.MlsError, InvalidInput, NotInGroup) as error:
            # One unreadable message must not stop the room; whoever shows the room shows the gap.
            expected = self._is_before_us(room_id, content)
            fault = error.fault.value if isinstance(error, FrankError) else None
            return Undecryptable(
                **common, sender=sender, reason=str(error), expected=expected, frank_fault=fault
            )
        return DecryptedMessage(
            **common,
            sender_uri=owner.user_uri,
            client_uri=owner.client_uri,
            epoch=processed.epoch,
            payload=processed.plaintext,
            frank=frank,
        )

    def _is_before_us(self, room_id: str, content: JsonObject) -> bool:
        """Whether a message was sent before this device was in the group; if it can be told."""
        if not self._device.in_group(room_id):
            return True
        try:
            epoch = openmls.inspect_message(decode_base64(_text(content, "ciphertext"))).epoch
        except (openmls.MlsError, InvalidInput):  # no message at all, whenever it was sent
            return False
        return epoch is not None and epoch < self._device.record(room_id).joined_epoch

    def _own(self, message_digest: bytes) -> tuple[str, bytes] | None:
        outbox = self._device.state.outbox
        for txn_id, message in outbox.items():
            if message.digest == message_digest:
                del outbox[txn_id]
                return txn_id, message.payload
        return None


def _check_claims(content: MimiContent, owner: LeafOwner, room_id: str) -> None:
    """What a message says of its sender and room must be what MLS proves; otherwise its ID is another's."""
    if content.sender_uri not in (None, owner.user_uri) or content.room_uri not in (None, room_uri(room_id)):
        raise UntrustedAnswer("the message claims another sender or room")


def _frank(event: JsonObject) -> bytes | None:
    """The hub's stamp, as it came with the message."""
    text = (event.get("unsigned") or {}).get(FRANK_KEY)
    if not isinstance(text, str):
        return None
    try:
        return decode_base64(text)
    except (InvalidInput, ValueError) as error:
        raise FrankError(FrankFault.FRANK, "the frank is not base64") from error


def _common(room_id: str, event: JsonObject) -> dict[str, Any]:
    timestamp = event.get("origin_server_ts")
    return {
        "room_id": room_id,
        "event_id": str(event.get("event_id", "")),
        "timestamp": timestamp if isinstance(timestamp, int) else 0,
    }


def _client(credential: bytes) -> str:
    try:
        return leaf_owner(credential).client_uri
    except IdentifierError:
        return _unread(credential)


def _unread(credential: bytes) -> str:
    """Another implementation's credential, as it is, if it is text."""
    try:
        return basic_identity(credential).decode("utf-8", "replace")
    except MimiDecodeError:  # certificates that name no client
        return ""


def _more(content: JsonObject) -> list[bytes]:
    more = content.get("more_proposals")
    return [decode_base64(one) for one in more if isinstance(one, str)] if isinstance(more, list) else []


def _text(content: JsonObject, name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str):
        raise UntrustedAnswer(f"{name!r} is not a string")
    return value


def _list(container: Any, name: str) -> list[JsonObject]:
    value = container.get(name) if isinstance(container, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
