"""What one notification of a MIMI hub comes to in our copy of its room: entries, Welcomes, memberships."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import openmls
import structlog

from linearized.exceptions import InvalidInput
from linearized.mimi.messages import FanoutMessage, message_role
from linearized.mimi.mls_framing import welcome_ciphersuite
from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.identifiers import hub_user, user_domain
from linearized.room.admission import ALGORITHM, COMMIT, ENCRYPTED, PROPOSAL
from linearized.room.proposals import content_of
from linearized.server.followed_group import FollowedGroup, TrackLost, joiner_of
from linearized.server.franking import with_frank
from linearized.server.node import Node
from linearized.server.shown_moves import Shown
from linearized.store.base import EntryRow, MembershipRow, NewToDevice, Reply, RoomAppend, RoomRow

log = structlog.get_logger("linearized.following")


class OutOfOrder(InvalidInput):
    """A message is of another epoch than the group has come to by what was taken before it."""


_TYPES: Final = {"application": ENCRYPTED, "proposal": PROPOSAL, "commit": COMMIT}


def entry_of(
    room_id: str, hub: str, *, timestamp: int, message: bytes, more: Sequence[bytes] = ()
) -> tuple[str, str, bytes]:
    """Event ID, type and canonical JSON of a fanned-out message: the same message at the same time is the
    same event.

    Args:
        more: the proposals that came with a proposal.
    """
    role = message_role(message)
    content: JsonObject = (
        {"algorithm": ALGORITHM, "ciphertext": encode_base64(message)}
        if role == "application"
        else content_of((message, *more))
    )
    digest = encode_base64url(hashlib.sha256(message).digest())
    raw = canonical_json(
        {
            "content": content,
            "hub_server": hub,
            "origin_server_ts": timestamp,
            "provenance": {"protocol": "mimi", "provider": hub, "mls": digest},
            "room_id": room_id,
            "sender": hub_user(hub),
            "type": _TYPES[role],
        }
    )
    return "$" + encode_base64url(hashlib.sha256(raw).digest()), _TYPES[role], raw


def to_log(message: FanoutMessage) -> Iterator[tuple[bytes, tuple[bytes, ...]]]:
    """What of a fanned-out message becomes an entry, each with the proposals that came with it.

    Those the hub staples to a commit it sends by themselves as well: they become the same entry.
    """
    yield message.message, message.more_proposals
    if message.external_proposals:
        first, *more = message.external_proposals
        yield first, tuple(more)


class Taking:
    """What one notification comes to, message by message."""

    def __init__(
        self, node: Node, room_id: str, hub: str, row: RoomRow | None, *, logged: bool, in_order: bool
    ) -> None:
        self._store = node.store
        self._ours = node.served_domains
        self._room_id = room_id
        self._hub = hub
        self._logged = logged
        self._in_order = in_order
        self._head = row.head_seq if row is not None else 0
        self._known = row is not None
        self._joined = {
            member.user_id for member in node.store.memberships(room_id) if member.membership == "join"
        }
        stored = node.store.followed_group(room_id)
        self._before = stored or b""
        self._group = FollowedGroup.decode(stored) if stored else None
        self._entries: dict[str, EntryRow] = {}
        self._members: dict[str, MembershipRow] = {}
        self._welcomes: list[NewToDevice] = []
        self._delivered: list[Reply] = []

    def begins_with(self, moved: Shown) -> None:
        """Begin a copy with the transfer by which the room came where it is: clients read there who its hub
        is, which its ID does not say.
        """
        entry = moved.entry(self._room_id, seq=1)
        self._entries[entry.event_id] = entry
        self._delivered.append(moved.since(self._room_id))

    def welcomed(self, message: FanoutMessage, found: list[tuple[NewToDevice, Reply]]) -> None:
        """Take a Welcome, for the clients of ours it is for."""
        fresh = False
        for welcome, mark in found:
            if mark not in self._delivered and self._store.reply(mark.scope, mark.key) is None:
                self._welcomes.append(welcome)
                self._delivered.append(mark)
                fresh = True
                self._enter(welcome.user_id)
        tree = message.ratchet_tree_option.tree if message.ratchet_tree_option is not None else None
        if fresh and self._logged:
            self._group = (
                FollowedGroup.from_welcome(
                    message.message,
                    tree,
                    ciphersuite=welcome_ciphersuite(message.message),
                    ours=self._is_ours,
                )
                if tree
                else None
            )

    def handed_out(self, message: FanoutMessage, content: bytes, more: Sequence[bytes]) -> None:
        """Take a message that becomes an entry, unless there is nobody to give it to."""
        if not self._joined and not self._returns(content):
            return
        event_id, event_type, raw = entry_of(
            self._room_id, self._hub, timestamp=message.timestamp, message=content, more=more
        )
        if event_id in self._entries or self._store.entry_by_id(event_id) is not None:
            return  # sent again: "the follower server SHOULD process only the first request"
        epoch = openmls.inspect_message(content).epoch
        if self._in_order and not self._is_next(event_type, epoch, content):
            raise OutOfOrder("the message is not of the epoch that the group is in")
        seq = self._head + len(self._entries) + 1
        self._entries[event_id] = EntryRow(
            room_id=self._room_id,
            seq=seq,
            event_id=event_id,
            type=event_type,
            state_key=None,
            sender=hub_user(self._hub),
            origin_server_ts=message.timestamp,
            epoch=epoch,
            pdu=with_frank(raw, message.frank),
        )
        if event_type == COMMIT and (joiner := joiner_of(content, self._is_ours)) is not None:
            self._enter(joiner)
        if event_type != ENCRYPTED:
            self._follow(event_type, (content, *more), seq)

    def append(self, *, new: RoomRow | None) -> RoomAppend | None:
        """All of it as one change; None if it is nothing of ours."""
        if new is not None and not self._welcomes:
            return None
        followed = self._group.encode() if self._group is not None and self._joined else b""
        return RoomAppend(
            room_id=self._room_id,
            entries=tuple(self._entries.values()),
            room=new,
            memberships=tuple(self._members.values()),
            to_device=tuple(self._welcomes),
            replies=tuple(self._delivered),
            followed=followed if followed != self._before else None,
        )

    def _is_next(self, event_type: str, epoch: int | None, content: bytes) -> bool:
        """Whether a message belongs behind what we have. Those of epochs that have passed may have been under
        way, but for a commit: it would be a second one. A client of ours that comes back may have missed
        some; and where we do not know the epoch there is nothing to insist on.
        """
        known = self._group.epoch if self._group is not None else None
        if known is None or epoch is None or epoch == known:
            return True
        if epoch < known:
            return event_type != COMMIT
        return event_type == COMMIT and joiner_of(content, self._is_ours) is not None

    def _returns(self, content: bytes) -> bool:
        """Whether a client of ours comes back into a room we know, by an external commit."""
        known = self._known and message_role(content) == "commit"
        return known and joiner_of(content, self._is_ours) is not None

    def _follow(self, event_type: str, messages: Sequence[bytes], seq: int) -> None:
        """End the memberships of those who are out of the group after a handshake."""
        if self._group is None:
            return
        before = self._group.users
        try:
            for message in messages:
                self._group = (
                    self._group.committed(message, self._is_ours)
                    if event_type == COMMIT
                    else self._group.proposed(message, self._is_ours)
                )
        except TrackLost as error:
            log.warning("followed_group_lost", room_id=self._room_id, reason=str(error))
            self._group = None
            return
        for user_id in (before - self._group.users) & self._joined:
            self._set(user_id, "leave", seq)
            self._joined.discard(user_id)

    def _enter(self, user_id: str) -> None:
        if self._logged and user_id not in self._joined:
            self._set(user_id, "join", self._head + len(self._entries))
            self._joined.add(user_id)

    def _set(self, user_id: str, membership: str, seq: int) -> None:
        self._members[user_id] = MembershipRow(
            room_id=self._room_id, user_id=user_id, membership=membership, seq=seq
        )

    def _is_ours(self, user_id: str) -> bool:
        return user_domain(user_id) in self._ours
