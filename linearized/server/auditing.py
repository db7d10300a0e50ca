"""Audits of the rooms that other servers order, in the background: after a join, a gap or a restart, and now
and then while a room is live.

A room whose hub is proved to have told two histories is stopped: what we have of it can still be read, and
nothing more is taken from that hub or sent to it, until the operator has it go on: they may know that the hub
came back from an old backup, say. See docs/decisions/0010-verifiable-log.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import orjson
import structlog
import trio

from linearized.exceptions import InvalidInput, StoreError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain
from linearized.room.checkpoint import Checkpoint, origin_of, read_checkpoint
from linearized.room.evidence import Equivocation
from linearized.room.submissions import Reason, Rejected
from linearized.server.audit import Audit, Contradiction
from linearized.server.exchange import OutboundError
from linearized.server.node import Node
from linearized.server.remote_log import RemoteLog
from linearized.server.telemetry import describe
from linearized.store.base import Role, RoomRow
from linearized.store.history import FindingRow

log = structlog.get_logger("linearized.auditing")

# A live room is audited after as many entries, a tile's worth, …
AUDIT_ENTRIES: Final = 256
# … or after this long if it had any. Three small requests in ten minutes are nothing beside its entries.
AUDIT_SECONDS: Final = 600.0
# Rooms audited at the same time: after a restart all of them are due, and each waits for other servers.
AT_ONCE: Final = 8
# All requests of one audit together; a hub that answers slower than that is asked again later.
AUDIT_DEADLINE: Final = 120.0

# Of a digest, enough to name one: the lists show sixteen.
MIN_DIGITS: Final = 8

SUSPICION: Final = "dev.linearized.suspicion"
AGAINST_ROLES: Final = "the hub took events that the roles of their senders do not allow"
AGAINST_HANDSHAKES: Final = "the hub vouched for events that no handshake bears out"
# Events named in such a finding; where there is one, the log shows the others.
MAX_NAMED: Final = 10


class Auditor:
    """See the module."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._due: dict[str, None] = {}
        self._fresh: dict[str, int] = {}  # entries since the last audit; bounded by the rooms there are
        self._wake = trio.Event()
        self._turn = 0
        self._stopped = {(found.room_id, found.hub) for found in node.store.findings() if _stops(found)}

    # --- what others tell us and ask us ---

    def require_trusted(self, row: RoomRow) -> None:
        """Nothing goes to and nothing comes from a hub that was caught.

        Raises:
            Rejected: ``FORBIDDEN``.
        """
        if (row.room_id, row.hub) in self._stopped:
            raise Rejected(
                Reason.FORBIDDEN, "The hub of this room has told two histories of it; it can only be read"
            )

    async def dismiss(self, digest: str) -> FindingRow:
        """Close a suspicion that the operator has looked into; should it arise again, it is a new one.

        Args:
            digest: the beginning of its digest.

        Raises:
            InvalidInput: there is no such open finding, or several; or it is a proof, which stops a room.
        """
        found = [row for row in self._node.store.findings() if row.digest.startswith(digest)]
        matching = [row for row in found if row.dismissed_at is None]
        if len(matching) != 1 or len(digest) < MIN_DIGITS:
            raise InvalidInput(f"{len(matching)} open findings begin with {digest!r}; name one of them")
        (finding,) = matching
        if finding.proven:
            raise InvalidInput(f"that is a proof, which stops {finding.room_id}: resume the room instead")
        await self._node.store.dismiss_findings([finding.digest], self._node.clock())
        log.warning("finding_dismissed", room_id=finding.room_id, hub=finding.hub, finding=finding.digest)
        return finding

    async def resume(self, room_id: str) -> list[FindingRow]:
        """Trust the hub of a stopped room again: close every finding about it there, and audit it anew.

        What it signed before is not held against it: it is compared with what it signs from now on.

        Raises:
            InvalidInput: the room is not stopped.
        """
        row = self._node.store.room(room_id)
        if row is None or (room_id, row.hub) not in self._stopped:
            raise InvalidInput(f"{room_id} is not stopped")
        findings = [
            found
            for found in self._node.store.findings(room_id)
            if found.hub == row.hub and found.dismissed_at is None
        ]
        # In this order: a room whose findings are closed must not be held to what it was stopped for.
        await self._node.store.delete_audit(room_id)
        await self._node.store.dismiss_findings([found.digest for found in findings], self._node.clock())
        self._stopped.discard((room_id, row.hub))
        log.warning("room_resumed", room_id=room_id, hub=row.hub, findings=len(findings))
        self.due(room_id)
        return findings

    def begin(self) -> None:
        """After a start: every room that others order is due."""
        for row in self._node.store.rooms():
            if _is_audited(row):
                self.due(row.room_id)

    def due(self, room_id: str) -> None:
        """Audit a room as soon as possible."""
        self._due[room_id] = None
        self._wake.set()

    def received(self, room_id: str, entries: int) -> None:
        """Note that entries of a live room were stored; several at once closed a gap."""
        self._fresh[room_id] = self._fresh.get(room_id, 0) + entries
        if entries > 1 or self._fresh[room_id] >= AUDIT_ENTRIES:
            self.due(room_id)

    # --- the work ---

    async def run(self) -> None:
        """Audit what is due, for ever."""
        next_round = trio.current_time() + AUDIT_SECONDS
        while True:
            with trio.CancelScope(deadline=next_round):
                await self._wake.wait()
            self._wake = trio.Event()
            if trio.current_time() >= next_round:
                next_round = trio.current_time() + AUDIT_SECONDS
                self._due.update(dict.fromkeys(self._fresh))
            while self._due:
                batch = list(self._due)[:AT_ONCE]
                async with trio.open_nursery() as nursery:
                    for room_id in batch:
                        del self._due[room_id]
                        nursery.start_soon(self._guarded, room_id)

    async def _guarded(self, room_id: str) -> None:
        try:
            with trio.fail_after(AUDIT_DEADLINE):
                await self.audit(room_id)
        except (OutboundError, InvalidInput, StoreError, trio.TooSlowError) as error:
            # Not reached, not implemented there, or nonsense: with the room's next entries we try again.
            status = error.status if isinstance(error, OutboundError) else None
            log.info("audit_put_off", room_id=room_id, status=status, **describe(error))
        except Exception as error:  # noqa: BLE001 - a bug costs this audit, not the server
            log.error("audit_broken", room_id=room_id, **describe(error))

    async def audit(self, room_id: str) -> FindingRow | None:
        """Audit a room now; what was found wrong, if anything.

        Raises:
            OutboundError, InvalidInput: the hub did not answer, or not with a checkpoint.
        """
        self._fresh.pop(room_id, None)
        row = self._node.store.room(room_id)
        if row is None or not _is_audited(row) or (room_id, row.hub) in self._stopped:
            return None
        remote = RemoteLog(self._node, room_id, row.hub)
        audit = Audit(store=self._node.store, row=row, remote=remote, now=self._node.clock())
        try:
            held = await audit.run()
            await self._node.store.put_audit(held)
            await self._compare(audit, row, read_checkpoint(held.checkpoint))
        except Contradiction as found:
            return await self._found(row, remote, found)
        return None

    async def _compare(self, audit: Audit, row: RoomRow, newest: Checkpoint) -> None:
        """Ask one of the other participants, each in its turn."""
        ours = self._node.served_domains | {row.hub}
        joined = {
            user_domain(member.user_id)
            for member in self._node.store.memberships(row.room_id)
            if member.membership == "join"
        }
        others = sorted(joined - ours)
        # Who has left is shown the log up to there: the hub rightly connects no later checkpoint to it.
        if not others or not joined & self._node.served_domains:
            return
        self._turn += 1
        other = others[self._turn % len(others)]
        try:
            await audit.compare(other, newest)
        except (OutboundError, InvalidInput) as error:
            log.info("comparison_put_off", room_id=row.room_id, server=other, **describe(error))

    async def _found(self, row: RoomRow, remote: RemoteLog, found: Contradiction) -> FindingRow:
        proof = await self._proof(row, remote, found)
        document = proof.to_json() if proof is not None else _suspicion(row, found)
        text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()
        # A suspicion is kept once for each reason, or a hub could fill our disk with them; a proof stops the
        # room.
        key = text if proof is not None else f"{row.room_id} {row.hub} {found.reason}"
        finding = FindingRow(
            digest=hashlib.sha256(key.encode()).hexdigest(),
            room_id=row.room_id,
            hub=row.hub,
            proven=proof is not None,
            reason=found.reason,
            document=text,
            found_at=self._node.clock(),
        )
        new = await self._node.store.put_finding(finding)
        if proof is not None:
            self._stopped.add((row.room_id, row.hub))
        if new:  # a doubt that stays is said once, not every ten minutes
            log.error(
                "two_histories" if finding.proven else "history_in_doubt",
                room_id=row.room_id,
                hub=row.hub,
                reason=found.reason,
                proof=finding.digest if finding.proven else None,
            )
        return finding

    async def breached(self, row: RoomRow, event_ids: Sequence[str]) -> None:
        """Note that a hub took events which the roles of their senders do not allow; once for each room, as
        any suspicion.
        """
        if await self._suspect(row, AGAINST_ROLES, {"event_ids": list(event_ids[:MAX_NAMED])}):
            log.error(
                "hub_breaks_roles", room_id=row.room_id, hub=row.hub, event_ids=list(event_ids[:MAX_NAMED])
            )

    async def vouched_falsely(self, row: RoomRow, event_id: str, events: Sequence[Event]) -> None:
        """Note that a hub vouched for an event that no handshake bears out; once for each room. What it
        signed is kept: the event, and the last of those that came with it, which shows that.

        Args:
            events: in log order, the event among them.
        """
        shown = [event for event in events if event.event_id == event_id] + list(events[-1:])
        evidence = {event.event_id: event.pdu for event in shown}
        if await self._suspect(
            row, AGAINST_HANDSHAKES, {"event_ids": list(evidence), "pdus": list(evidence.values())}
        ):
            log.error("hub_vouches_falsely", room_id=row.room_id, hub=row.hub, event_ids=list(evidence))

    async def _suspect(self, row: RoomRow, reason: str, evidence: JsonObject) -> bool:
        """Keep a suspicion about what a hub put into a log, once for each room; whether it is new."""
        document = {"type": SUSPICION, "room_id": row.room_id, "hub": row.hub, "reason": reason, **evidence}
        return await self._node.store.put_finding(
            FindingRow(
                digest=hashlib.sha256(f"{row.room_id} {row.hub} {reason}".encode()).hexdigest(),
                room_id=row.room_id,
                hub=row.hub,
                proven=False,
                reason=reason,
                document=orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode(),
                found_at=self._node.clock(),
            )
        )

    async def _proof(self, row: RoomRow, remote: RemoteLog, found: Contradiction) -> Equivocation | None:
        """Two signed roots for one size: from what we have, or from what the hub signs when asked for its
        checkpoint at the size of one that it gave before.
        """
        origin = origin_of(row.hub, row.room_id)  # of a hub before this one, nothing here is a proof
        candidates = [checkpoint for checkpoint in found.checkpoints if checkpoint.origin == origin]
        key_id = found.key_id
        for size in sorted({checkpoint.size for checkpoint in candidates}):
            roots = {c.root: c for c in candidates if c.size == size}
            if len(roots) == 1:
                try:
                    again, key_id = await remote.checkpoint(row.hub, size=size)
                except (OutboundError, InvalidInput):
                    continue  # it will not say, or says nonsense
                roots.setdefault(again.root, again)
            if len(roots) > 1:
                first, second = list(roots.values())[:2]
                return Equivocation(
                    room_id=row.room_id, hub=row.hub, key_id=key_id, first=first, second=second
                )
        return None


def _stops(found: FindingRow) -> bool:
    """Whether a finding stops its room."""
    return found.proven and found.dismissed_at is None


def _is_audited(row: RoomRow) -> bool:
    return row.role is Role.PARTICIPANT and row.head_seq > 0


def _suspicion(row: RoomRow, found: Contradiction) -> JsonObject:
    return {
        "type": SUSPICION,
        "room_id": row.room_id,
        "hub": row.hub,
        "key_id": found.key_id,
        "reason": found.reason,
        "checkpoints": [checkpoint.note for checkpoint in found.checkpoints],
    }
