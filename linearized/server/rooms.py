"""Rooms, whatever our part in them: the faces call this and need not know who orders a room."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from linearized.exceptions import InvalidInput, MimiDecodeError
from linearized.mimi.group_info import GroupInfoRequest
from linearized.mimi.handshake import HandshakeBundle, UpdateResponseCode, UpdateRoomResponse
from linearized.mimi.key_material import KeyMaterialRequest
from linearized.mimi.messages import (
    SubmitMessageRequest,
    SubmitMessageResponse,
    SubmitResponseCode,
    message_role,
)
from linearized.protocol.base64 import decode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import room_domain, room_uri, user_uri
from linearized.protocol.state import StateMap
from linearized.protocol.versions import get_version
from linearized.room.admission import ENCRYPTED
from linearized.room.submissions import (
    Accepted,
    ApplicationMessage,
    Handshake,
    LinearizedPdu,
    LocalEvent,
    Reason,
    Rejected,
    Submission,
)
from linearized.server import entering, invited, invites, joining_by_code, remote_devices
from linearized.server.deciding import EVENT_ID, Repeated
from linearized.server.following import Following
from linearized.server.hub import Hub
from linearized.server.introductions import introduced, joiner_is
from linearized.server.loading import state_of
from linearized.server.node import Node
from linearized.server.participating import Participating
from linearized.server.providers import group_info, key_material
from linearized.server.providers.client import ProviderError
from linearized.server.providers.responses import update_accepted, update_rejected
from linearized.server.rows import entry_row
from linearized.server.taking import entry_of
from linearized.store.base import EntryRow, Reply, Role, RoomRow

# Bytes of randomness in a room ID's localpart: 96 bits, as other servers use; never repeated in practice.
ROOM_ID_BYTES: Final = 12

IMPORT_SCOPE: Final = "import"


class Rooms:
    """See the module."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self._node = node
        self._hub = hub
        self.following = Following(node)
        self.participating = Participating(node)

    # --- looking ---

    def row(self, room_id: str) -> RoomRow | None:
        """The room's record, None if we do not know it."""
        return self._node.store.room(room_id)

    def state(self, room_id: str, *, seq: int | None = None) -> StateMap:
        """The state after entry ``seq`` (default: now)."""
        return state_of(self._node.store, self._known(room_id), seq)

    def is_participant(self, room_id: str, server: str) -> bool:
        """Whether a joined user of the room belongs to ``server``."""
        return any(member.membership == "join" for member in self._node.store.members_of(room_id, server))

    # --- writing ---

    async def create(
        self,
        *,
        creator: str,
        version: str,
        creation_content: JsonObject,
        initial: Sequence[LocalEvent],
    ) -> str:
        """Create a room with us as hub: the create event, the creator's join, then ``initial``; its room ID.

        Raises:
            Rejected: one of the events is not allowed; no room was created.
        """
        get_version(version)
        room_id = f"!{self._node.ids(ROOM_ID_BYTES)}:{self._node.identity.name}"
        create = LocalEvent(
            sender=creator,
            type="m.room.create",
            state_key="",
            content={**creation_content, "room_version": version},
        )
        join = LocalEvent(
            sender=creator, type="m.room.member", state_key=creator, content={"membership": "join"}
        )
        await self._hub.create(room_id, version, [create, join, *initial])
        return room_id

    async def submit(
        self,
        room_id: str,
        submission: Submission,
        *,
        reply: Reply | None = None,
    ) -> Accepted:
        """Have us, as the room's hub, decide a submission (see ``Hub.submit``)."""
        (outcome,) = await self.submit_all(room_id, [(submission, reply)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def submit_once(self, room_id: str, submission: Handshake | ApplicationMessage) -> EntryRow:
        """Have us, as the room's hub, take an MLS message; its entry, whose time is when it was accepted.

        No client sends the same bytes twice on purpose (each message uses up a key). A provider that lost our
        answer does, and is told what became of the first.
        """
        if isinstance(submission, Handshake):
            message, sender = submission.bundle.message, submission.user_id or submission.provider
        else:
            message, sender = submission.message, submission.provider
        reply = Reply(
            scope=f"mls {room_id} {sender}",
            key=encode_base64url(hashlib.sha256(message).digest()),
            value=EVENT_ID,
        )
        try:
            accepted = await self.submit(room_id, submission, reply=reply)
        except Repeated as error:
            entry = self._node.store.entry_by_id(error.value)
            assert entry is not None  # noqa: S101 - it is remembered in one transaction with its entry
            return entry
        new = accepted.entry
        return entry_row(new.event, seq=new.seq, epoch=new.epoch)

    async def submit_all(
        self, room_id: str, submissions: Sequence[tuple[Submission, Reply | None]]
    ) -> list[Accepted | Rejected | Repeated]:
        """The same for several, in order (see ``Hub.submit_all``)."""
        return await remote_devices.submit_all(self._node, self._hub, room_id, submissions)

    async def receive_pdu(self, room_id: str, pdu: JsonObject, origin: str) -> None:
        """Take an event from the hub of a room we participate in.

        Raises:
            InvalidInput: it was refused; and as ``receive_pdus``.
        """
        (refused,) = await self.receive_pdus(room_id, [pdu], origin)
        if refused is not None:
            raise refused

    async def receive_pdus(
        self, room_id: str, pdus: Sequence[JsonObject], origin: str
    ) -> list[InvalidInput | None]:
        """The same for events that follow one another; for each, why it was refused.

        Raises:
            Rejected: ``UNKNOWN_ROOM``, or ``WRONG_HUB`` if ``origin`` is not its hub; and what
                ``Participating`` raises.
        """
        row = self._known(room_id)
        agreed = self._node.takeover_consents.current(row)
        if agreed not in {None, origin}:
            # What others are told of our log's end must stay true.
            raise Rejected(Reason.WRONG_HUB, f"It was agreed that {agreed} takes this room over")
        if row.role is Role.HUB and await self._node.takeovers.noticed(row, pdus, origin):
            return [None] * len(pdus)
        if row.role is Role.PARTICIPANT and row.hub == origin:
            return await self.participating.receive_all(row, pdus)
        # A transfer may have passed us by while we were away; who has taken part so far may say so.
        transfers = get_version(row.version).hub_transfers and row.hub != self._node.identity.name
        if row.role is not Role.PARTICIPANT or not transfers or not self.is_participant(room_id, origin):
            raise Rejected(Reason.WRONG_HUB, f"The hub of this room is {row.hub}")
        return await self.participating.receive_all(row, pdus, via=origin)

    async def send(self, room_id: str, event: LocalEvent, *, reply: Reply | None = None) -> str:
        """Send an event of one of our users, by whatever way the room's hub takes it; its event ID.

        Args:
            reply: remembered with the entry; its value is ``{event_id}``, which becomes the event ID.

        Raises:
            Rejected: it was refused.
        """
        row = self._known(room_id)
        if row.role is Role.HUB:
            try:
                return (await self._hub.submit(room_id, event, reply=reply)).event_id
            except Repeated as error:
                return error.value
        leaving = (
            event.type == "m.room.member"
            and event.content.get("membership") == "leave"
            and event.state_key == event.sender
        )
        if not invited.has_copy(row):
            if not leaving:
                raise Rejected(Reason.UNKNOWN_ROOM, "This server has no copy of that room yet")
            return await invited.decline(self._node, row, event.sender)
        if row.role is Role.PARTICIPANT:
            event_id = await self.participating.send(row, event, reply=reply)
        elif leaving:
            event_id = await self.following.leave(row, event.sender)
        else:
            event_id = await self._submit_message(row, event)
        if reply is not None:
            await self._node.store.put_reply(_filled(reply, event_id))
        return event_id

    async def import_events(
        self, room_id: str, events: Sequence[tuple[str, LocalEvent]]
    ) -> dict[str, str | Rejected]:
        """Import history, in order; each source event becomes one entry however often it is sent.

        Args:
            events: pairs of the source's event ID and the event, whose provenance says ``imported``.

        Returns:
            By source event ID: our event ID, or why it was refused.
        """
        scope = f"{IMPORT_SCOPE} {room_id}"
        results: dict[str, str | Rejected] = dict(
            self._node.store.replies(scope, [source for source, _ in events])
        )
        new = {source: event for source, event in events if source not in results}
        outcomes = await self._hub.submit_all(
            room_id,
            [
                (event, Reply(scope=scope, key=source, value=EVENT_ID, lasting=True))
                for source, event in new.items()
            ],
        )
        for source, outcome in zip(new, outcomes, strict=True):
            match outcome:
                case Rejected():
                    results[source] = outcome
                case Repeated():
                    results[source] = outcome.value
                case _:
                    results[source] = outcome.event_id
        return results

    async def join_remote(self, room_id: str, *, user_id: str, via: Sequence[str]) -> str:
        """Join a room, through the first server of ``via`` that lets us if we have no copy; the room ID.

        Raises:
            InvalidInput, OutboundError: none did; what the first of them said.
        """
        row = self.row(room_id)
        if row is None or not invited.has_copy(row):
            asked = [row.hub, *via] if row is not None else via  # whoever invited us
            await self.join_elsewhere(room_id, user_id=user_id, via=asked)
            return room_id
        if row.role is not Role.HUB:
            await self._node.hub_policies.require(row.hub)
        await self.send(
            room_id,
            LocalEvent(
                sender=user_id, type="m.room.member", state_key=user_id, content={"membership": "join"}
            ),
        )
        return room_id

    async def knock(
        self, room_id: str, *, user_id: str, via: Sequence[str], reason: str | None = None
    ) -> str:
        """Ask to be invited, through the first server of ``via`` that takes it if we have no copy; the room
        ID.

        Raises:
            InvalidInput, OutboundError: none did; what the first of them said.
        """
        row = self.row(room_id)
        if row is None or not invited.has_copy(row):
            asked = [row.hub, *via] if row is not None else via
            await self.knock_elsewhere(room_id, user_id=user_id, via=asked, reason=reason)
            return room_id
        content: JsonObject = {"membership": "knock"} | ({"reason": reason} if reason is not None else {})
        await self.send(
            room_id, LocalEvent(sender=user_id, type="m.room.member", state_key=user_id, content=content)
        )
        return room_id

    async def join_elsewhere(self, room_id: str, *, user_id: str, via: Sequence[str]) -> None:
        """See ``entering.join``."""
        await entering.join(self._node, self.participating, room_id, user_id=user_id, via=via)

    async def knock_elsewhere(
        self, room_id: str, *, user_id: str, via: Sequence[str], reason: str | None
    ) -> None:
        """See ``entering.knock``."""
        await entering.knock(self._node, room_id, user_id=user_id, via=via, reason=reason)

    async def invite(
        self, room_id: str, *, sender: str, target: str, reason: str | None = None, direct: bool = False
    ) -> str:
        """Invite a user; a user of another server is invited through that server, which may refuse.

        Args:
            direct: say that the room is for talking to that user alone (``is_direct``).
        """
        content: JsonObject = {"membership": "invite", **({"is_direct": True} if direct else {})}
        if reason is not None:
            content["reason"] = reason
        event = LocalEvent(sender=sender, type="m.room.member", state_key=target, content=content)
        row = self._known(room_id)
        if row.role is Role.HUB and invites.is_outside(self._node, row, target):
            preview = self._hub.load(room_id).preview(event, now=self._node.clock())
            await invites.offer(self._node, row, preview, self.state(room_id))
        if row.role is Role.PARTICIPANT:
            return await self.participating.invite(row, event)
        return await self.send(room_id, event)

    async def invite_lpdu(self, room_id: str, submission: LinearizedPdu, *, reply: Reply) -> Accepted:
        """As hub, take a participant's invite: authorise it, ask the target's server, then append it.

        Raises:
            Repeated: it was appended before; and what ``submit`` and ``invites.offer`` raise.
        """
        row = self._known(room_id)
        if invites.is_outside(self._node, row, submission.pdu["state_key"]):
            preview = self._hub.load(room_id).preview(submission, now=self._node.clock())
            await invites.offer(self._node, row, preview, self.state(room_id))
        return await self.submit(room_id, submission, reply=reply)

    # --- MLS ---

    async def update(
        self,
        room_id: str,
        *,
        bundle: bytes,
        user_id: str,
        initial_group: tuple[bytes, bytes] | None,
    ) -> tuple[bytes, str | None]:
        """Submit a local client's HandshakeBundle; an encoded UpdateRoomResponse, and the event ID if we are
        the hub.

        Raises:
            Rejected: ``MALFORMED`` for bytes that are no bundle, ``FORBIDDEN`` for an external commit in
                another user's name; every other refusal is in the response.
        """
        row = self._known(room_id)
        if row.role is Role.PARTICIPANT:
            self._node.audits.require_trusted(row)
        try:
            decoded = HandshakeBundle.decode(bundle)
        except MimiDecodeError as error:
            raise Rejected(Reason.MALFORMED, str(error)) from error
        if decoded.is_commit and not joiner_is(decoded.message, lambda joiner: joiner == user_id):
            raise Rejected(Reason.FORBIDDEN, "The external commit joins another user's client")
        # A Linearized Matrix participant's handshakes go this way too: its draft has an event for a commit
        # but nothing that carries the Welcome and the membership changes with it.
        if row.role is not Role.HUB:
            answer = await self._node.providers.exchange(row.hub, "update", room_uri(room_id), bundle)
            if decoded.is_commit and UpdateRoomResponse.decode(answer).code is UpdateResponseCode.SUCCESS:
                await self.following.entered(row, user_id)
            return answer, None
        submission = Handshake(
            bundle=decoded,
            provider=self._node.identity.name,
            user_id=user_id,
            introduced=self.introduced(room_id, decoded),
            initial_group=initial_group,
            invited_by=self._node.join_codes.inviter(room_id, decoded),
        )
        try:
            entry = await self.submit_once(room_id, submission)
        except Rejected as error:
            return update_rejected(error).encode(), None
        return update_accepted(entry.origin_server_ts).encode(), entry.event_id

    def introduced(self, room_id: str, bundle: HandshakeBundle) -> frozenset[bytes]:
        """See ``introductions.introduced``."""
        return introduced(self._node.store, room_id, bundle, now_ms=self._node.clock())

    async def key_material(self, room_id: str, *, request: bytes) -> bytes:
        """Answer a local client's KeyMaterialRequest, through the room's hub; both encoded."""
        row = self._known(room_id)
        parsed = KeyMaterialRequest.decode(request)
        if row.role is not Role.HUB:
            return await self._node.providers.exchange(row.hub, "keyMaterial", parsed.target_user, request)
        return await key_material.fetch_through_hub(self._node, parsed)

    async def group_info(self, room_id: str, *, request: bytes, via: Sequence[str] = ()) -> bytes:
        """Answer a local client's GroupInfoRequest, by the room's hub; both encoded.

        Args:
            via: see ``joining_by_code.group_info``.
        """
        row = self.row(room_id)
        if row is None and room_domain(room_id) != self._node.identity.name:
            if GroupInfoRequest.decode(request).joining_code is None:
                self._known(room_id)
            return await joining_by_code.group_info(self._node, room_id, request, via=via)
        if row is not None and row.role is not Role.HUB:
            return await self._node.providers.exchange(row.hub, "groupInfo", room_uri(room_id), request)
        return await group_info.answer(self._node, room_id, request, domains=self._node.served_domains)

    async def _submit_message(self, row: RoomRow, event: LocalEvent) -> str:
        """Submit a ciphertext to a MIMI hub; the ID its echo will have here."""
        ciphertext = event.content.get("ciphertext")
        if event.type != ENCRYPTED or not isinstance(ciphertext, str):
            raise Rejected(Reason.FORBIDDEN, "In a room of a MIMI hub only encrypted messages can be sent")
        message = decode_base64(ciphertext)
        if message_role(message) != "application":
            raise Rejected(Reason.MALFORMED, "content.ciphertext is not an application message")
        request = SubmitMessageRequest(message=message, sending_uri=user_uri(event.sender))
        body = await self._node.providers.exchange(
            row.hub, "submitMessage", room_uri(row.room_id), request.encode()
        )
        try:
            answer = SubmitMessageResponse.decode(body)
        except MimiDecodeError as error:
            raise ProviderError(f"{row.hub} gave an answer that cannot be read: {error}") from error
        if answer.code is SubmitResponseCode.EPOCH_TOO_OLD:
            raise Rejected(
                Reason.WRONG_EPOCH,
                "The message is for an epoch that has passed",
                current_epoch=answer.current_epoch,
            )
        if answer.code is not SubmitResponseCode.ACCEPTED or answer.accepted_timestamp is None:
            raise Rejected(Reason.FORBIDDEN, "The hub did not accept the message")
        event_id, _, _ = entry_of(row.room_id, row.hub, timestamp=answer.accepted_timestamp, message=message)
        return event_id

    def _known(self, room_id: str) -> RoomRow:
        row = self.row(room_id)
        if row is None:
            raise Rejected(Reason.UNKNOWN_ROOM, "This server does not know that room")
        return row


def _filled(reply: Reply, event_id: str) -> Reply:
    return replace(reply, value=reply.value.replace(EVENT_ID, event_id))
