"""A room that another server orders by Linearized Matrix: we send LPDUs, it sends back PDUs, we check and
keep them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from urllib.parse import quote
from weakref import WeakValueDictionary

import openmls
import trio

from linearized.exceptions import InvalidInput
from linearized.protocol.base64 import decode_base64, encode_base64url
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.hashing import event_id, lpdu_hash, lpdu_identity
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import HUB, hub_of
from linearized.protocol.versions import ROOM_VERSIONS, get_version
from linearized.room.admission import COMMIT, ENCRYPTED, MLS_TYPES, PROPOSAL
from linearized.room.replica import Gap, Replica
from linearized.room.submissions import LocalEvent, NewEntry, Reason, Rejected
from linearized.room.vouching import FalselyVouched
from linearized.server.deciding import Overloaded
from linearized.server.echoes import Echoes, echo_of
from linearized.server.endpoints import UNSTABLE
from linearized.server.exchange import WRONG_EPOCH
from linearized.server.gaps import close_gap
from linearized.server.held_back import HeldBack
from linearized.server.invited import has_copy
from linearized.server.loading import States
from linearized.server.node import Node
from linearized.server.parts import parts_at
from linearized.server.rows import entry_row
from linearized.server.seen_groups import SeenGroups
from linearized.server.shown_rooms import Keys, check_hub, transfers_in, verified_event, version_of
from linearized.server.soft_failures import replies_for
from linearized.server.vouched import walk_at
from linearized.store.base import EntryRow, Reply, Role, RoomAppend, RoomRow


class Participating:
    """The participant's side of Linearized Matrix."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Weak, so that a join that fails leaves nothing behind.
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._echoes = Echoes(node.store)
        self._states = States(node.store)
        self._seen = SeenGroups(node.store)
        self._held = HeldBack()

    async def send(self, row: RoomRow, event: LocalEvent, *, reply: Reply | None = None) -> str:
        """Have the hub append an event of one of our users; the event ID it got there.

        Args:
            reply: what will be remembered of it. An event that is sent again under the same scope and key, as
                its answer was lost, becomes the same LPDU, and so the same entry.

        Raises:
            Rejected: the hub refused it.
            OutboundError: the hub did not answer; whether it took the event will show in the log.
            trio.TooSlowError: it took the event but has not sent it back in time.
        """

        async def request(lpdu: JsonObject, txn: str) -> None:
            answer = await self._node.federation.request(
                row.hub, "PUT", f"{UNSTABLE}/send/{txn}", json={"pdus": [lpdu]}
            )
            failed = answer.get("failed_pdus")
            if isinstance(failed, dict) and failed:
                refusal = failed.get(event_id(lpdu, get_version(row.version))) or next(iter(failed.values()))
                raise _refused(refusal)

        return await self._submit(row, await self._timed(row, event, reply), request)

    async def _timed(self, row: RoomRow, event: LocalEvent, reply: Reply | None) -> LocalEvent:
        """The event with the timestamp it is sent with; the one it was sent with before, if it was."""
        if reply is not None:
            known = self._node.store.reply(f"sent {reply.scope}", reply.key)
            if known is not None:
                return replace(event, origin_server_ts=int(known))
        now = event.origin_server_ts if event.origin_server_ts is not None else self._node.clock()
        timed = replace(event, origin_server_ts=now)
        while self._echoes.is_known(self._lpdu(row, timed), get_version(row.version)):
            # The same words in the same millisecond are two events all the same.
            now += 1
            timed = replace(event, origin_server_ts=now)
        if reply is not None:
            await self._node.store.put_reply(
                Reply(scope=f"sent {reply.scope}", key=reply.key, value=str(now))
            )
        return timed

    async def invite(self, row: RoomRow, event: LocalEvent) -> str:
        """Have the hub invite somebody for one of our users: it asks the target's server before it appends.

        Raises:
            OutboundError, trio.TooSlowError: as ``send``; a refusal has the hub's or the target's own code.
        """

        async def request(lpdu: JsonObject, txn: str) -> None:
            body: JsonObject = {"event": lpdu, "invite_room_state": [], "room_version": row.version}
            await self._node.federation.request(row.hub, "POST", f"{UNSTABLE}/invite/{txn}", json=body)

        return await self._submit(row, await self._timed(row, event, None), request)

    async def _submit(
        self, row: RoomRow, event: LocalEvent, request: Callable[[JsonObject, str], Awaitable[None]]
    ) -> str:
        """Send an LPDU to the hub by ``request`` and wait for the event it becomes."""
        self._node.audits.require_trusted(row)
        if row.hub == self._node.identity.name:
            raise Overloaded("the room is about to be ordered here")
        taker = self._node.takeover_consents.current(row)
        if taker is not None:
            raise Overloaded(f"the room is about to be taken over by {taker}")
        lpdu = self._lpdu(row, event)
        key = lpdu_identity(lpdu, get_version(row.version))
        came_back = self._echoes.came_back(row.room_id, key)
        if came_back is not None:
            return came_back
        with self._echoes.expected(key) as echo:
            await request(lpdu, encode_base64url(key.encode()))
            # "200 from /send is no proof of acceptance": the event coming back is.
            return await echo.event_id()

    async def receive_all(
        self, row: RoomRow, pdus: Sequence[JsonObject], *, via: str | None = None
    ) -> list[InvalidInput | None]:
        """Take events from the room's hub, which follow one another: one append if nothing is wrong with
        them. One we have is taken for received.

        Args:
            via: another server that says it is the hub now; what lies between is asked of it, and has to hold
                the transfer.

        Returns:
            For each event why it was refused: its format, signatures or hashes are wrong, or the rules forbid
            it.

        Raises:
            Rejected: the hub was found to show two histories, and nothing is taken from it.
            OutboundError: events before them are missing, and the hub does not answer.
        """
        async with self._locks.setdefault(row.room_id, trio.Lock()):
            row = self._node.store.room(row.room_id) or row
            self._node.audits.require_trusted(row)
            outcomes: list[InvalidInput | None] = [None] * len(pdus)
            events: dict[int, Event] = {}
            keys: Keys = {}
            for place, pdu in enumerate(pdus):
                try:
                    events[place] = await verified_event(self._node, pdu, row, keys)
                except InvalidInput as error:
                    outcomes[place] = error
            fresh = [event for event in events.values() if self._is_new(event)]
            try:
                await self._take(row, fresh, via)
            except (Gap, InvalidInput):  # one of them: which, and the others count all the same
                for place, event in events.items():
                    outcomes[place] = await self._take_one(row, event, via)
            return outcomes

    async def _take_one(self, row: RoomRow, event: Event, via: str | None) -> InvalidInput | None:
        try:
            if self._is_new(event):
                await self._take(self._node.store.room(row.room_id) or row, [event], via)
        except InvalidInput as error:
            return error
        return None

    def _is_new(self, event: Event) -> bool:
        return self._node.store.entry_by_id(event.event_id) is None

    async def _take(self, row: RoomRow, events: list[Event], via: str | None) -> None:
        """Store events, and what is missing before the first of them; all or none.

        Raises:
            Gap: they do not follow one another.
            FalselyVouched: the hub vouches for one of them, and no handshake bears that out.
            InvalidInput: the rules forbid one of them.
            OutboundError: as ``receive_all``.
        """
        events = self._held.joined(row.room_id, events)
        if not events:
            return
        try:
            events = await self._without_gap(row, events, via)
            entries, replica = self._accepted(row, events)
        except FalselyVouched as error:
            await self._node.audits.vouched_falsely(row, error.event_id, events)
            raise
        whole = len(events) - replica.waiting
        self._held.keep(row.room_id, events[whole:])
        if replica.waiting:
            entries, replica = self._accepted(row, events[:whole])
        if not entries:
            return
        state = replica.state
        hub = hub_of(state)
        if hub != row.hub:
            await self._node.takeovers.arrives(row, state[HUB])
        await self._store(row, entries, hub)
        self._node.audits.received(row.room_id, len(entries))
        self._states.keep(row.room_id, entries[-1].seq, state)
        self._seen.keep(row.room_id, entries[-1].seq, replica.seen)
        if replica.breaches:
            await self._node.audits.breached(row, replica.breaches)
        self._node.notifier.room_changed(state)
        if hub != row.hub:
            self._node.takeover_consents.forget(row.room_id)
            self._node.audits.due(row.room_id)
            self._node.moves.due(row.room_id)

    async def _without_gap(self, row: RoomRow, events: list[Event], via: str | None) -> list[Event]:
        """Events, behind what is missing before the first of them."""
        head = self._head(row)
        if head is None or events[0].prev_events == (head.event_id,):
            return events
        earlier = await close_gap(self._node, row, events[0], after=head.event_id, hub=via or row.hub)
        return [*earlier, *events[1:]]

    def forget(self, room_id: str) -> None:
        """Keep nothing in memory of a room whose log was renumbered."""
        self._states.forget(room_id)
        self._seen.forget(room_id)

    async def join(self, room_id: str, user_id: str, hub: str) -> None:
        """Join a room through its hub (make_join, send_join) and start our copy of its log with the join.

        Raises:
            Rejected: the hub refused, or what it answered does not hold.
            OutboundError: it did not answer.
        """
        template = await self.ask_to_join(room_id, user_id, hub)
        version = get_version(version_of(self._node, template, room_id))
        row = RoomRow(
            room_id=room_id, version=version.name, role=Role.PARTICIPANT, hub=hub, head_seq=0, epoch=None
        )
        join = LocalEvent(
            sender=user_id, type="m.room.member", state_key=user_id, content={"membership": "join"}
        )
        lpdu = self._lpdu(row, join)
        txn = encode_base64url(lpdu_identity(lpdu, version).encode())
        async with self._locks.setdefault(room_id, trio.Lock()):
            answer = await self._node.federation.request(
                hub, "POST", f"{UNSTABLE}/send_join/{txn}", json=lpdu
            )
            await self._begin(row, answer, lpdu)

    async def ask_to_join(self, room_id: str, user_id: str, hub: str) -> JsonObject:
        """What a hub shows to somebody who may join (make_join). OutboundError if it refuses."""
        versions = "&".join(f"ver={quote(name)}" for name in ROOM_VERSIONS)
        target = f"{quote(room_id, safe='')}/{quote(user_id, safe='')}"
        return await self._node.federation.request(
            hub, "GET", f"/_matrix/federation/v1/make_join/{target}?{versions}"
        )

    async def _begin(self, row: RoomRow, answer: JsonObject, lpdu: JsonObject) -> None:
        """Check the state the hub gave us and store it in front of the join."""
        state, joined = answer.get("state"), answer.get("event")
        if not isinstance(state, list) or not isinstance(joined, dict):
            raise Rejected(Reason.MALFORMED, "The hub's answer has no state and no event")
        keys: Keys = {}
        join = await verified_event(self._node, joined, row, keys)
        version = get_version(row.version)
        if lpdu_hash(join.pdu, version) != lpdu_identity(lpdu, version):
            raise Rejected(Reason.FORBIDDEN, "The hub's answer is about another event than our join")
        existing = self._node.store.room(row.room_id)
        if existing is not None and has_copy(existing):  # another of our users was faster
            self._node.audits.require_trusted(existing)
            await self._take(existing, [join] if self._is_new(join) else [], None)
            return
        rows: list[EntryRow] = []
        known: dict[tuple[str, str], Event] = {}
        seen = {join.event_id}
        for pdu in state:
            event = await verified_event(self._node, pdu, row, keys)
            if event.state_key is None or event.event_id in seen:
                continue  # some peers send the whole timeline, the join included
            seen.add(event.event_id)
            known[event.type, event.state_key] = event
            rows.append(_row(NewEntry(seq=len(rows) + 1, event=event, epoch=None)))
            await trio.lowlevel.checkpoint()  # a large room must not hold up everybody else
        transfers = await transfers_in(self._node, known, answer, row)
        check_hub(known, transfers, row, version, self._node.takeover_consents)
        replica = Replica(version=version, hub=row.hub, state=known, head=(len(rows), None), grouped=False)
        rows.append(_row(replica.receive(join)))
        await self._node.store.append(RoomAppend(room_id=row.room_id, room=row, entries=tuple(rows)))
        self._node.notifier.room_changed(replica.state)
        self._node.audits.due(row.room_id)

    def _lpdu(self, row: RoomRow, event: LocalEvent) -> JsonObject:
        return build_lpdu(
            identity=self._node.identity,
            version=get_version(row.version),
            room_id=row.room_id,
            type=event.type,
            sender=event.sender,
            content=event.content,
            origin_server_ts=event.origin_server_ts
            if event.origin_server_ts is not None
            else self._node.clock(),
            hub_server=row.hub,
            state_key=event.state_key,
        )

    def _head(self, row: RoomRow) -> EntryRow | None:
        last = self._node.store.entries_before(row.room_id, before=row.head_seq + 1, limit=1)
        return last[0] if last else None

    def _accepted(self, row: RoomRow, events: list[Event]) -> tuple[list[NewEntry], Replica]:
        """Events in log order as the entries they become, and the room after them; raises as
        ``Replica.receive``.
        """
        # Whether the room had its first commit before we came nobody told us; the first thing that can only
        # stand on one side of it does. From then on our own log says so.
        telling = (event for event in events if event.imported or event.type in MLS_TYPES)
        first = next(telling, None)
        head, seen = self._head(row), self._seen.of(row)
        replica = Replica(
            version=get_version(row.version),
            hub=row.hub,
            state=self._states.of(row),
            head=(row.head_seq, head.event_id if head is not None else None),
            parts=parts_at(self._node.store, row.room_id, head),
            grouped=row.epoch is not None or first is None or not first.imported,
            agreed=self._node.takeover_consents.current(row),
            seen=seen,
            pending=lambda: self._seen.pending(row),
            vouched=walk_at(self._node, row, head, seen),
        )
        return [replica.receive(event) for event in events], replica

    async def _store(self, row: RoomRow, entries: list[NewEntry], hub: str) -> None:
        version = get_version(row.version)
        echoed = [echo_of(entry.event, version) for entry in entries if self._is_ours(entry.event)]
        await self._node.store.append(
            RoomAppend(
                room_id=row.room_id,
                room=replace(row, hub=hub) if hub != row.hub else None,
                entries=tuple(_row(entry) for entry in entries),
                replies=(*echoed, *replies_for(entries)),
            )
        )
        self._echoes.arrived(echoed)

    def _is_ours(self, event: Event) -> bool:
        return user_domain(event.sender) == self._node.identity.name


def _refused(refusal: object) -> Rejected:
    """What a hub says of an event that it refused: a text, and for a message of another epoch, if the hub is
    one of ours, which it is, so that the client can follow and send it anew.
    """
    said = refusal if isinstance(refusal, dict) else {}
    text, epoch = str(said.get("error") or "The hub refused the event"), said.get("current_epoch")
    if said.get("errcode") == WRONG_EPOCH and type(epoch) is int:
        return Rejected(Reason.WRONG_EPOCH, text, current_epoch=epoch)
    return Rejected(Reason.FORBIDDEN, text)


def _epoch(event: Event, content: JsonObject) -> int | None:
    """The group's epoch after an event, as far as its content says it."""
    field = {COMMIT: "message", PROPOSAL: "message", ENCRYPTED: "ciphertext"}.get(event.type)
    try:
        encoded = content.get(field) if field is not None else None
        if not isinstance(encoded, str):
            return None
        epoch = openmls.inspect_message(decode_base64(encoded)).epoch
    except (InvalidInput, openmls.MlsError):
        return None  # what a hub should have refused; members will see that for themselves
    return epoch + 1 if epoch is not None and event.type == COMMIT else epoch


def _row(entry: NewEntry) -> EntryRow:
    content = entry.content if entry.content is not None else entry.event.content
    epoch = _epoch(entry.event, content) if entry.soft_failed is None else None
    return entry_row(entry.event, seq=entry.seq, epoch=epoch)
