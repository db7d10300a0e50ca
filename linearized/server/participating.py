"""A room that another server orders by Linearized Matrix: we send LPDUs, it sends back PDUs, we check and
keep them.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import structlog
import trio

from linearized.protocol.base64 import encode_base64url
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, parse_pdu
from linearized.protocol.hashing import event_id
from linearized.protocol.identifiers import user_domain
from linearized.protocol.verify import required_keys, verify_event
from linearized.protocol.versions import ROOM_VERSIONS, RoomVersion, get_version
from linearized.room.replica import Gap, Replica
from linearized.room.submissions import LocalEvent, NewEntry, Reason, Rejected
from linearized.server.loading import state_of
from linearized.server.node import Node
from linearized.store.base import EntryRow, Role, RoomAppend, RoomRow

log = structlog.get_logger("linearized.participating")

# How long we wait for the hub to send back what we sent it. It answers /send first, so this covers one more
# request.
ECHO_SECONDS: Final = 20.0
# Events asked for at once when some are missing; the hub may send fewer.
BACKFILL_LIMIT: Final = 100
# Requests made to close one gap, 10,000 events: a longer outage is closed by several deliveries.
MAX_BACKFILLS: Final = 100

UNSTABLE: Final = "/_matrix/federation/unstable/org.matrix.i-d.ralston-mimi-linearized-matrix.02"


class Participating:
    """The participant's side of Linearized Matrix."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._locks: dict[str, trio.Lock] = {}
        self._echoes: dict[str, tuple[trio.Event, list[str]]] = {}

    async def send(self, row: RoomRow, event: LocalEvent) -> str:
        """Have the hub append an event of one of our users; the event ID it got there.

        Raises:
            Rejected: the hub refused it.
            OutboundError: the hub did not answer; whether it took the event will show in the log.
            trio.TooSlowError: it took the event but has not sent it back in time.
        """
        version = get_version(row.version)
        lpdu = self._lpdu(row, event)
        key = lpdu["hashes"]["lpdu"]["sha256"]
        arrived, found = trio.Event(), list[str]()
        self._echoes[key] = (arrived, found)
        try:
            txn = encode_base64url(key.encode())
            answer = await self._node.federation.request(
                row.hub, "PUT", f"{UNSTABLE}/send/{txn}", json={"pdus": [lpdu]}
            )
            failed = answer.get("failed_pdus")
            if isinstance(failed, dict) and failed:
                refusal = failed.get(event_id(lpdu, version)) or next(iter(failed.values()))
                raise Rejected(Reason.FORBIDDEN, str(refusal.get("error", "The hub refused the event")))
            # "200 from /send is no proof of acceptance": the event coming back is.
            with trio.fail_after(ECHO_SECONDS):
                await arrived.wait()
        finally:
            del self._echoes[key]
        return found[0]

    async def receive(self, row: RoomRow, pdu: JsonObject) -> None:
        """Take an event from the room's hub; one we have is taken for received.

        Raises:
            InvalidInput: its format, signatures or hashes are wrong, or the rules forbid it.
        """
        lock = self._locks.setdefault(row.room_id, trio.Lock())
        async with lock:
            current = self._node.store.room(row.room_id) or row
            event = await self._verified(pdu, get_version(row.version))
            if self._node.store.entry_by_id(event.event_id) is not None:
                return
            replica = self._replica(current)
            try:
                entries = [replica.receive(event)]
            except Gap:
                entries = await self._close_gap(current, replica, event)
            await self._store(current, entries)

    async def join(self, room_id: str, user_id: str, hub: str) -> None:
        """Join a room through its hub (make_join, send_join) and start our copy of its log with the join.

        Raises:
            Rejected: the hub refused, or what it answered does not hold.
            OutboundError: it did not answer.
        """
        versions = "&".join(f"ver={quote(name)}" for name in ROOM_VERSIONS)
        target = f"{quote(room_id, safe='')}/{quote(user_id, safe='')}"
        template = await self._node.federation.request(
            hub, "GET", f"/_matrix/federation/v1/make_join/{target}?{versions}"
        )
        version = get_version(self._version_of(template, room_id))
        row = RoomRow(
            room_id=room_id, version=version.name, role=Role.PARTICIPANT, hub=hub, head_seq=0, epoch=None
        )
        join = LocalEvent(
            sender=user_id, type="m.room.member", state_key=user_id, content={"membership": "join"}
        )
        lpdu = self._lpdu(row, join)
        txn = encode_base64url(str(lpdu["hashes"]["lpdu"]["sha256"]).encode())
        lock = self._locks.setdefault(room_id, trio.Lock())
        async with lock:
            answer = await self._node.federation.request(
                hub, "POST", f"{UNSTABLE}/send_join/{txn}", json=lpdu
            )
            await self._begin(row, answer, version)

    def _version_of(self, template: JsonObject, room_id: str) -> str:
        """The room version of a make_join answer: the draft shows the bare event, peers wrap it and say
        the version.
        """
        named = template.get("room_version")
        if isinstance(named, str):
            return named
        invite = self._node.store.reply("invite version", room_id)
        return invite if invite is not None else "I.1"

    async def _begin(self, row: RoomRow, answer: JsonObject, version: RoomVersion) -> None:
        """Check the state the hub gave us and store it in front of the join."""
        state, joined = answer.get("state"), answer.get("event")
        if not isinstance(state, list) or not isinstance(joined, dict):
            raise Rejected(Reason.MALFORMED, "The hub's answer has no state and no event")
        rows: list[EntryRow] = []
        known: dict[tuple[str, str], Event] = {}
        for pdu in state:
            event = await self._verified(pdu, version)
            if event.state_key is None:
                continue  # some peers send the whole timeline
            known[event.type, event.state_key] = event
            rows.append(_row(NewEntry(seq=len(rows) + 1, event=event, epoch=None)))
        event = await self._verified(joined, version)
        replica = Replica(version=version, hub=row.hub, state=known, head=(len(rows), None), grouped=False)
        rows.append(_row(replica.receive(event)))
        existing = self._node.store.room(row.room_id)
        if existing is not None:
            await self._store(existing, [])
            return
        await self._node.store.append(RoomAppend(room_id=row.room_id, room=row, entries=tuple(rows)))
        self._wake(row.room_id)

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

    async def _verified(self, pdu: JsonObject, version: RoomVersion) -> Event:
        event = parse_pdu(pdu, version)
        found: dict[tuple[str, str], bytes] = {}
        for server, key_ids in required_keys(event):
            for key_id, key in (await self._node.keys.keys_for(server, key_ids)).items():
                found[server, key_id] = key
        return verify_event(event, version=version, keys=lambda server, key_id: found.get((server, key_id)))

    def _replica(self, row: RoomRow) -> Replica:
        last = self._node.store.entries_before(row.room_id, before=row.head_seq + 1, limit=1)
        return Replica(
            version=get_version(row.version),
            hub=row.hub,
            state=state_of(self._node.store, row),
            head=(row.head_seq, last[0].event_id if last else None),
            grouped=True,
        )

    async def _close_gap(self, row: RoomRow, replica: Replica, event: Event) -> list[NewEntry]:
        """Fetch what lies between our head and ``event``, oldest first, checking each on the way."""
        version = get_version(row.version)
        last = self._node.store.entries_before(row.room_id, before=row.head_seq + 1, limit=1)
        head_id = last[0].event_id if last else None
        chain = [event]
        for _ in range(MAX_BACKFILLS):
            earliest = chain[-1].prev_events[0]
            if earliest == head_id:
                return [replica.receive(missing) for missing in reversed(chain)]
            query = f"v={quote(earliest, safe='')}&limit={BACKFILL_LIMIT}"
            answer = await self._node.federation.request(
                row.hub, "GET", f"{UNSTABLE}/backfill/{quote(row.room_id, safe='')}?{query}"
            )
            by_id = {
                found.event_id: found
                for found in [await self._verified(pdu, version) for pdu in answer.get("pdus", [])]
            }
            while (missing := by_id.pop(chain[-1].prev_events[0], None)) is not None:
                chain.append(missing)
                if not missing.prev_events or missing.prev_events[0] == head_id:
                    break
            if chain[-1].prev_events and chain[-1].prev_events[0] == earliest:
                break  # the hub gave us nothing new
        raise Rejected(Reason.FORBIDDEN, "The hub does not close the gap before its event")

    async def _store(self, row: RoomRow, entries: list[NewEntry]) -> None:
        await self._node.store.append(
            RoomAppend(room_id=row.room_id, entries=tuple(_row(entry) for entry in entries))
        )
        for entry in entries:
            waiting = self._echoes.get(entry.event.pdu["hashes"].get("lpdu", {}).get("sha256", ""))
            if waiting is not None:
                waiting[1].append(entry.event.event_id)
                waiting[0].set()
        self._wake(row.room_id)

    def _wake(self, room_id: str) -> None:
        self._node.notifier.users_changed(
            member.user_id
            for member in self._node.store.memberships(room_id)
            if user_domain(member.user_id) in self._node.served_domains
        )


def _row(entry: NewEntry) -> EntryRow:
    event = entry.event
    return EntryRow(
        room_id=event.room_id,
        seq=entry.seq,
        event_id=event.event_id,
        type=event.type,
        state_key=event.state_key,
        sender=event.sender,
        origin_server_ts=event.origin_server_ts,
        epoch=entry.epoch,
        pdu=event.raw,
    )
