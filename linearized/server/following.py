"""A room that another provider's MIMI hub orders: what it fans out to us becomes our copy of the log.

We see handshake messages and ciphertexts, never who sent a ciphertext ("Outsiders (including follower
providers) never learn the content of the message, nor the sender", Message Franking). An entry is therefore
written with the hub's name as sender; clients read the true one from the MLS credential.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

import openmls
import structlog
import trio

from linearized.exceptions import MimiDecodeError
from linearized.mimi.messages import FanoutMessage, message_role
from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.identifiers import hub_user, user_domain
from linearized.protocol.versions import DEFAULT_ROOM_VERSION
from linearized.room.admission import ALGORITHM, COMMIT, ENCRYPTED, PROPOSAL
from linearized.room.proposals import content_of
from linearized.server.franking import with_frank
from linearized.server.invited import has_copy
from linearized.server.node import Node
from linearized.server.welcomes import local_welcome
from linearized.store.base import EntryRow, MembershipRow, NewToDevice, Reply, Role, RoomAppend, RoomRow
from linearized.store.pulling import PullCursorRow

log = structlog.get_logger("linearized.following")

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


def _to_log(message: FanoutMessage) -> Iterator[tuple[bytes, tuple[bytes, ...]]]:
    """What of a fanned-out message becomes an entry, each with the proposals that came with it.

    Those the hub staples to a commit it sends by themselves as well: they become the same entry.
    """
    yield message.message, message.more_proposals
    if message.external_proposals:
        first, *more = message.external_proposals
        yield first, tuple(more)


class Following:
    """The follower's side of ``notify``."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Weak, so that a room nobody is welcomed to leaves nothing behind.
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    async def receive(
        self, room_id: str, hub: str, messages: list[FanoutMessage], *, pulled: PullCursorRow | None = None
    ) -> None:
        """Take a notification whole: durable on return, and taken once however often it is sent.

        Messages for a room that none of our clients was welcomed to are dropped: there is nobody to give them
        to. Of a room whose hub sends us PDUs only the Welcomes are taken: the rest comes with the PDUs.

        Args:
            pulled: the cursor that came with it, if we fetched it; stored together with it.

        Raises:
            MimiDecodeError: a message is not what its form says; nothing was taken.
        """
        lock = self._locks.setdefault(room_id, trio.Lock())
        async with lock:
            try:
                append = self._plan(room_id, hub, messages)
            except openmls.MlsError as error:
                raise MimiDecodeError(f"a message cannot be read: {error.code}") from error
            if append is None:
                if pulled is not None:
                    await self._node.store.put_pull_cursor(pulled)
            else:
                await self._node.store.append(replace(append, pulled=pulled))
                users = {member.user_id for member in self._node.store.memberships(room_id)}
                self._node.notifier.users_changed(users | {message.user_id for message in append.to_device})

    async def expect(self, room_id: str, hub: str) -> None:
        """Follow a room that we know nothing of yet, because a user of ours is about to join it by a code."""
        async with self._locks.setdefault(room_id, trio.Lock()):
            if self._node.store.room(room_id) is None:
                await self._node.store.append(RoomAppend(room_id=room_id, room=self._row(room_id, hub)))

    async def entered(self, row: RoomRow, user_id: str) -> None:
        """Note that a user of ours is in a room that we follow, by a commit of their own. Nothing else tells
        us: there is no Welcome for who joins by themself.
        """
        async with self._locks.setdefault(row.room_id, trio.Lock()):
            current = self._node.store.room(row.room_id)
            known = {item.user_id: item.membership for item in self._node.store.memberships(row.room_id)}
            if current is None or current.role is not Role.FOLLOWER or known.get(user_id) == "join":
                return
            joined = MembershipRow(
                room_id=row.room_id, user_id=user_id, membership="join", seq=current.head_seq
            )
            await self._node.store.append(RoomAppend(room_id=row.room_id, memberships=(joined,)))
        self._node.notifier.users_changed([user_id])

    async def leave(self, row: RoomRow, user_id: str) -> str:
        """End the membership of a user of ours: nothing of the room is given to them any more.

        That they go is for their client to tell the hub, by proposals: no provider can sign them.

        Returns:
            An event ID, of no entry: a followed room has no state.
        """
        membership = MembershipRow(room_id=row.room_id, user_id=user_id, membership="leave", seq=row.head_seq)
        await self._node.store.append(RoomAppend(room_id=row.room_id, memberships=(membership,)))
        self._node.notifier.users_changed([user_id])
        left = canonical_json(
            {"room_id": row.room_id, "user_id": user_id, "membership": "leave", "after": row.head_seq}
        )
        return "$" + encode_base64url(hashlib.sha256(left).digest())

    def _plan(self, room_id: str, hub: str, messages: list[FanoutMessage]) -> RoomAppend | None:
        store = self._node.store
        row = store.room(room_id)
        if row is not None and row.hub == hub and not has_copy(row):
            row = None  # known from an invite only; that its user came by a Welcome decides how we follow
        if row is not None and (row.role is Role.HUB or row.hub != hub):
            log.warning("notify_for_other_role", room_id=room_id, hub=hub)
            return None
        logged = row is None or row.role is Role.FOLLOWER
        head = row.head_seq if row is not None else 0
        joined = {member.user_id for member in store.memberships(room_id) if member.membership == "join"}
        entries: dict[str, EntryRow] = {}
        welcomes: list[NewToDevice] = []
        delivered: list[Reply] = []
        newcomers: list[str] = []
        for message in messages:
            if message_role(message.message) == "welcome":
                for welcome, mark in self._welcomes(room_id, hub, message):
                    newcomers.append(welcome.user_id)
                    if mark not in delivered and store.reply(mark.scope, mark.key) is None:
                        welcomes.append(welcome)
                        delivered.append(mark)
                continue
            if not logged or (row is None and not newcomers):
                continue
            for content, more in _to_log(message):
                event_id, event_type, raw = entry_of(
                    room_id, hub, timestamp=message.timestamp, message=content, more=more
                )
                if event_id in entries or store.entry_by_id(event_id) is not None:
                    continue  # sent again: "the follower server SHOULD process only the first request"
                entries[event_id] = EntryRow(
                    room_id=room_id,
                    seq=head + len(entries) + 1,
                    event_id=event_id,
                    type=event_type,
                    state_key=None,
                    sender=hub_user(hub),
                    origin_server_ts=message.timestamp,
                    epoch=openmls.inspect_message(content).epoch,
                    pdu=with_frank(raw, message.frank),
                )
        if row is None and not newcomers:
            return None
        return RoomAppend(
            room_id=room_id,
            entries=tuple(entries.values()),
            room=self._row(room_id, hub) if row is None else None,
            memberships=tuple(
                MembershipRow(room_id=room_id, user_id=user_id, membership="join", seq=head)
                for user_id in dict.fromkeys(newcomers)
                if logged and user_id not in joined
            ),
            to_device=tuple(welcomes),
            replies=tuple(delivered),
        )

    def _row(self, room_id: str, hub: str) -> RoomRow:
        return RoomRow(
            room_id=room_id,
            version=DEFAULT_ROOM_VERSION,
            role=Role.FOLLOWER,
            hub=hub,
            head_seq=0,
            epoch=None,
        )

    def _welcomes(self, room_id: str, hub: str, message: FanoutMessage) -> list[tuple[NewToDevice, Reply]]:
        """The Welcome for each client of ours it is for, with the mark by which a repetition is known."""
        tree = message.ratchet_tree_option.tree if message.ratchet_tree_option is not None else None
        digest = encode_base64url(hashlib.sha256(message.message).digest())
        found: list[tuple[NewToDevice, Reply]] = []
        for reference in openmls.welcome_references(message.message):
            package = self._node.store.key_package(reference)
            if package is None or user_domain(package.user_id) not in self._node.served_domains:
                continue
            welcome = local_welcome(
                package.user_id,
                package.device_id,
                room_id=room_id,
                sender=hub_user(hub),
                welcome=message.message,
                tree=tree or b"",
                commit_id=f"${digest}",
                ciphersuite=package.ciphersuite,
            )
            mark = Reply(scope=f"welcome {room_id}", key=f"{digest} {reference.hex()}", value="delivered")
            found.append((welcome, mark))
        return found
