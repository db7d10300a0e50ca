"""A room that another provider's MIMI hub orders: what it fans out to us becomes our copy of the log.

We see handshake messages and ciphertexts, never who sent a ciphertext ("Outsiders (including follower
providers) never learn the content of the message, nor the sender", Message Franking). An entry is therefore
written with the hub's name as sender; clients read the true one from the MLS credential.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import openmls
import orjson
import structlog
import trio

from linearized.exceptions import MimiDecodeError
from linearized.mimi.messages import FanoutMessage, message_role
from linearized.protocol.base64 import encode_base64url
from linearized.protocol.canonical import canonical_json
from linearized.protocol.events import Event
from linearized.protocol.hub_rules import TAKEOVER, taken_from
from linearized.protocol.identifiers import hub_user, room_domain, user_domain
from linearized.protocol.state import HUB
from linearized.protocol.versions import DEFAULT_ROOM_VERSION
from linearized.room.submissions import Reason, Rejected
from linearized.server.invited import has_copy
from linearized.server.node import Node
from linearized.server.shown_moves import Shown, passed
from linearized.server.taking import Taking, to_log
from linearized.server.welcomes import local_welcome
from linearized.store.base import MembershipRow, NewToDevice, Reply, Role, RoomAppend, RoomRow
from linearized.store.pulling import PullCursorRow

log = structlog.get_logger("linearized.following")


class Following:
    """The follower's side of ``notify``."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Weak, so that a room nobody is welcomed to leaves nothing behind.
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    async def receive(
        self,
        room_id: str,
        hub: str,
        messages: list[FanoutMessage],
        *,
        pulled: PullCursorRow | None = None,
        in_order: bool = False,
    ) -> None:
        """Take a notification whole: durable on return, and taken once however often it is sent.

        Messages for a room that none of our clients was welcomed to are dropped: there is nobody to give them
        to. Of a room whose hub sends us PDUs only the Welcomes are taken: the rest comes with the PDUs.

        Args:
            pulled: the cursor that came with it, if we fetched it; stored together with it.
            in_order: insist that a message is of the group's epoch, where we know that.

        Raises:
            MimiDecodeError: a message is not what its form says; nothing was taken.
            OutOfOrder: what comes before a message is missing, or it is a second commit of an epoch; nothing
                was taken.
        """
        lock = self._locks.setdefault(room_id, trio.Lock())
        async with lock:
            try:
                append = self._plan(room_id, hub, messages, in_order=in_order)
            except openmls.MlsError as error:
                raise MimiDecodeError(f"a message cannot be read: {error.code}") from error
            if append is None:
                if pulled is not None:
                    await self._node.store.put_pull_cursor(pulled)
            else:
                await self._node.store.append(replace(append, pulled=pulled))
                users = {member.user_id for member in self._node.store.memberships(room_id)}
                self._node.notifier.users_changed(users | {message.user_id for message in append.to_device})
                if append.memberships or append.to_device:
                    self._node.fanout_tokens.room_changed(room_id, hub)

    def is_hub(self, room_id: str, provider: str) -> bool:
        """Whether a provider orders a room, as far as we know: the one that the room ID names, or that was
        shown to us since (``moved``).
        """
        row = self._node.store.room(room_id)
        if row is not None and has_copy(row):
            return row.hub == provider
        return provider == self.hub_to_ask(room_id)

    def hub_to_ask(self, room_id: str) -> str:
        """Who orders a room that none of our users is in: who we were shown last, or whom its ID names."""
        shown = Shown.stored(self._node.store, room_id)
        return room_domain(room_id) if shown is None else shown.hub

    def has_left(self, room_id: str, provider: str) -> bool:
        """Whether a room that we follow was that provider's until it went to the hub that it has now."""
        row = self._node.store.room(room_id)
        if row is None or row.role is not Role.FOLLOWER or row.hub == provider:
            return False
        transfer = self._node.store.state_entry(room_id, *HUB, seq=row.head_seq)
        if transfer is None:
            return False
        pdu = orjson.loads(transfer.pdu)
        said = pdu["content"].get(TAKEOVER)
        return provider in (pdu.get("hub_server"), said.get("hub") if isinstance(said, dict) else None)

    async def moved(
        self,
        room_id: str,
        provider: str,
        transfers: Sequence[Event],
        *,
        pulled: PullCursorRow | None = None,
    ) -> None:
        """Follow a room to another hub. A room that we fetched we fetch from there.

        Args:
            provider: who shows us the transfers. It is the hub so far, whose messages all came before; or
                whoever our operator agreed to, should that one be gone. Of a room that none of our users is
                in, it may be the new hub itself.
            transfers: all of them, verified (``hub_chain.verified``), the latest first.
            pulled: the cursor that came with them, if we fetched them; stored together with what they change.

        Raises:
            Rejected: it is not for that provider to say.
        """
        transfer = transfers[0]
        hub = user_domain(transfer.sender)
        async with self._locks.setdefault(room_id, trio.Lock()):
            row = self._node.store.room(room_id)
            shown, before = Shown.of(transfers), Shown.stored(self._node.store, room_id)
            said = self.is_hub(room_id, provider) and provider == (
                transfer.hub_server or taken_from(transfer)
            )
            if row is None or not has_copy(row):
                if before is not None and transfer.event_id in before.passed[1:]:
                    raise Rejected(Reason.FORBIDDEN, "The room has moved on since")
                if provider != hub and not said:
                    raise Rejected(Reason.FORBIDDEN, f"{hub} is the one to show that it orders this room")
                await self._node.store.put_reply(shown.before(room_id))
            elif row.role is not Role.FOLLOWER or row.hub == hub:
                pass  # it comes with the log; or is known: it may be told by both
            elif passed(self._node.store, room_id, transfer.event_id):
                pass  # the room has moved on since
            elif not said and not self._node.takeover_consents.trusts(room_id, hub):
                raise Rejected(Reason.FORBIDDEN, f"{row.hub} has not said so, nor has the operator here")
            else:
                fetched = self._node.pulling.includes(row.hub)
                if fetched:  # before all else, should we be stopped in between
                    await self._node.store.set_pulled_hub(hub, pulled=True)
                await self._node.store.append(
                    RoomAppend(
                        room_id=room_id,
                        room=replace(row, hub=hub),
                        entries=(shown.entry(room_id, seq=row.head_seq + 1),),
                        replies=(shown.since(room_id),),
                        pulled=pulled,
                    )
                )
                if fetched:
                    await self._node.pulling.begin(hub)
                self._has_moved(room_id, hub)
                return
            if pulled is not None:
                await self._node.store.put_pull_cursor(pulled)

    def _has_moved(self, room_id: str, hub: str) -> None:
        log.info("followed_room_moved", room_id=room_id, hub=hub)
        self._node.pulling.contacted(hub)
        self._node.notifier.users_changed(
            {member.user_id for member in self._node.store.memberships(room_id)}
        )
        self._node.fanout_tokens.room_changed(room_id, hub)

    async def expect(self, room_id: str, hub: str, moved: Shown | None = None) -> None:
        """Follow a room that we know nothing of yet, because a user of ours is about to join it by a code.

        Args:
            moved: how it came to that hub, if the room ID names another.
        """
        async with self._locks.setdefault(room_id, trio.Lock()):
            if self._node.store.room(room_id) is None:
                await self._node.store.append(
                    RoomAppend(
                        room_id=room_id,
                        room=self._row(room_id, hub),
                        entries=() if moved is None else (moved.entry(room_id, seq=1),),
                        replies=() if moved is None else (moved.since(room_id),),
                    )
                )

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
        self._node.fanout_tokens.room_changed(row.room_id, row.hub)

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

    def _plan(
        self, room_id: str, hub: str, messages: list[FanoutMessage], *, in_order: bool
    ) -> RoomAppend | None:
        store = self._node.store
        row = store.room(room_id)
        if row is not None and row.hub == hub and not has_copy(row):
            row = None  # known from an invite only; that its user came by a Welcome decides how we follow
        if row is not None and (row.role is Role.HUB or row.hub != hub):
            log.warning("notify_for_other_role", room_id=room_id, hub=hub)
            return None
        logged = row is None or row.role is Role.FOLLOWER
        taking = Taking(self._node, room_id, hub, row, logged=logged, in_order=in_order)
        if row is None and (moved := Shown.stored(store, room_id)) is not None:
            taking.begins_with(moved)
        for message in messages:
            if message_role(message.message) == "welcome":
                taking.welcomed(message, self._welcomes(room_id, hub, message))
            elif logged:
                for content, more in to_log(message):
                    taking.handed_out(message, content, more)
        return taking.append(new=self._row(room_id, hub) if row is None else None)

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
