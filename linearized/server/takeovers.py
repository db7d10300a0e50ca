"""Taking a room over from a hub that is gone for good: the server that does it, and those that agree.

No server follows another's takeover unless its own operator agreed to that one. From then on it takes
nothing more from the old hub, so that the end of its log, which it tells the taker, stays the end. The
taker first takes what others have of the log beyond its own, asks all whether they follow, and signs when
more than half do. Decision 0015. What the old hub does when it comes back is in ``returns``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import orjson
import structlog
import trio

from linearized.exceptions import InvalidInput
from linearized.protocol.authorization import select_auth_events
from linearized.protocol.base64 import encode_base64
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.hashing import event_id
from linearized.protocol.hub_rules import TAKEOVER, is_takeover
from linearized.protocol.state import HUB, StateMap
from linearized.protocol.versions import get_version
from linearized.room.checkpoint import read_checkpoint
from linearized.room.submissions import Reason, Rejected
from linearized.server.audit import tree_of_copy
from linearized.server.cursors import LINEARIZED, joined_providers
from linearized.server.exchange import OutboundError
from linearized.server.hub import Hub
from linearized.server.incoming import Incoming
from linearized.server.invited import has_copy
from linearized.server.moves import takers
from linearized.server.node import Node
from linearized.server.returns import Returns
from linearized.server.telemetry import describe
from linearized.store.base import Role, RoomRow

log = structlog.get_logger("linearized.takeovers")

# For one question to another server; one that takes longer counts as not there.
ASK_SECONDS: Final = 20.0
# Entries of other servers beyond our log that one takeover collects: two days of a room with an entry a
# second.
MAX_TAIL: Final = 200_000
# Another answers what its operator has to be asked for; it is not down.
SERVER_ERROR: Final = 500

_ROOM: Final = "/_linearized/v1/rooms/{room_id}"


class Takeovers:
    """See the module."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self._node = node
        self._returns = Returns(node, hub)

    # --- the server that takes the room over ---

    async def take(self, room_id: str, *, hub_is_gone: bool, accept_loss: bool = False) -> str:
        """Take a room over from its hub; the event ID of the takeover.

        Args:
            hub_is_gone: the operator's word for it, should the hub answer.
            accept_loss: go on also without entries that the hub signed and nobody has.

        Raises:
            Rejected: we may not, cannot, or too few others agree; the room stays as it was.
        """
        row = self._participating(room_id)
        self._node.audits.require_trusted(row)
        sender = self._node.moves.taker(row)
        if not hub_is_gone:
            await self._require_gone(row)
        name, consents = self._node.identity.name, self._node.takeover_consents
        new = await consents.agree(row, name)
        try:
            return await self._take(room_id, sender, accept_loss=accept_loss)
        except BaseException:
            self._node.moves.release(room_id)
            row = self._node.store.room(room_id) or row
            if new and row.hub != name:
                with trio.CancelScope(shield=True):
                    await consents.withdraw(row)
            raise

    async def _take(self, room_id: str, sender: str, *, accept_loss: bool) -> str:
        await self._collect(room_id)
        row = self._participating(room_id)
        self._require_checkpointed(row, accept_loss=accept_loss)
        lost = self._lost(row)
        async with self._node.moves.lock(room_id):
            incoming = await self._node.moves.from_copy(row)
        others = self._others(row, incoming.state)
        proposal = self._proposal(row, sender, incoming)
        refusals = await self._ask(room_id, others, proposal)
        agreed, voters = 1 + len(others) - len(refusals), 1 + len(others)
        if agreed * 2 <= voters:
            why = "; ".join(f"{server}: {reason}" for server, reason in refusals.items())
            raise Rejected(
                Reason.FORBIDDEN,
                f"{agreed} of {voters} servers in the room agree, more than half have to. {why}",
            )
        event = self._signed(row, sender, incoming, proposal)
        own = self._node.identity.name
        (refused,) = await self._node.rooms.participating.receive_all(row, [event.pdu], via=own)
        if refused is not None:
            raise refused
        log.warning(
            "took_over",
            room_id=room_id,
            hub=row.hub,
            entries=incoming.size,
            agreed=agreed,
            of=voters,
            lost=lost,
        )
        await self._node.moves.adopt(room_id)
        return event.event_id

    async def _require_gone(self, row: RoomRow) -> None:
        try:
            with trio.fail_after(ASK_SECONDS):
                await self._node.federation.request(row.hub, "GET", f"{_path(row.room_id)}/checkpoint")
        except OutboundError as error:
            if error.status is None or error.status >= SERVER_ERROR:
                return
        except trio.TooSlowError:
            return
        raise Rejected(
            Reason.FORBIDDEN,
            f"{row.hub} answers; ask its operator to transfer the room, or say that it is gone",
        )

    async def _collect(self, room_id: str) -> None:
        """Take what others have of the log behind the end of ours."""
        row = self._participating(room_id)
        held = self._node.store.audit(room_id)
        if held is not None:
            # A planned transfer that the hub did not live to see may have brought us more than it sent us.
            ahead = self._node.store.staged(room_id, after=self._position(row) or 0, limit=MAX_TAIL)
            await self._receive(row, [orjson.loads(entry.pdu) for entry in ahead], None)
        state = self._node.rooms.state(room_id)
        for server in self._others(row, state):
            try:
                await self.catch_up(room_id, server)
            except (OutboundError, InvalidInput, trio.TooSlowError) as error:
                log.warning("tail_not_taken", room_id=room_id, server=server, **describe(error))

    async def catch_up(self, room_id: str, server: str) -> int:
        """Take from a server what follows the end of our log; how many entries.

        Raises:
            OutboundError, trio.TooSlowError: it does not give it.
            InvalidInput: what it gives does not follow.
        """
        taken, last = 0, None
        while taken < MAX_TAIL:
            row = self._participating(room_id)
            if last is None:
                (last,) = self._node.store.event_ids(room_id, after=row.head_seq - 1, limit=1)
            path = f"{_path(room_id)}/tail?after={quote(last, safe='')}"
            with trio.fail_after(ASK_SECONDS):
                answer = await self._node.federation.request(server, "GET", path)
            pdus = answer.get("pdus")
            if not isinstance(pdus, list) or not all(isinstance(pdu, dict) for pdu in pdus):
                raise Rejected(Reason.MALFORMED, f"{server} gave no end of a log")
            if not pdus:
                break
            await self._receive(row, pdus, server)
            taken += len(pdus)
            # Not the last of our log: what waits for its handshake is not in it yet.
            last = event_id(pdus[-1], get_version(row.version))
        return taken

    async def _receive(self, row: RoomRow, pdus: Sequence[JsonObject], via: str | None) -> None:
        outcomes = await self._node.rooms.participating.receive_all(row, pdus, via=via)
        refused = next((outcome for outcome in outcomes if outcome is not None), None)
        if refused is not None:
            raise refused

    async def _ask(self, room_id: str, others: Sequence[str], proposal: JsonObject) -> dict[str, str]:
        """Ask the others whether they follow; by server, why not."""
        refusals: dict[str, str] = {}

        async def ask(server: str) -> None:
            try:
                with trio.fail_after(ASK_SECONDS):
                    path = f"{_path(room_id)}/takeover"
                    await self._node.federation.request(server, "POST", path, json=proposal)
            except OutboundError as error:
                refusals[server] = str(error)
            except trio.TooSlowError:
                refusals[server] = "no answer in time"

        async with trio.open_nursery() as nursery:
            for server in others:
                nursery.start_soon(ask, server)
        return dict(sorted(refusals.items()))

    def _proposal(self, row: RoomRow, sender: str, incoming: Incoming) -> JsonObject:
        return {
            "sender": sender,
            "after": incoming.head,
            TAKEOVER: {"hub": row.hub, "size": incoming.size, "root": encode_base64(incoming.root)},
        }

    def _signed(self, row: RoomRow, sender: str, incoming: Incoming, proposal: JsonObject) -> Event:
        version = get_version(row.version)
        content: JsonObject = {"after": proposal["after"], TAKEOVER: proposal[TAKEOVER]}
        selected = select_auth_events(
            type=HUB[0], state_key="", sender=sender, content=content, state=incoming.state, version=version
        )
        return build_event(
            identity=self._node.identity,
            version=version,
            room_id=row.room_id,
            type=HUB[0],
            sender=sender,
            content=content,
            origin_server_ts=self._node.clock(),
            auth_events=selected,
            prev_events=[proposal["after"]],
            state_key="",
        )

    # --- those that agree ---

    async def accept(self, room_id: str, taker: str, *, hub_is_gone: bool, accept_loss: bool = False) -> str:
        """Agree, for our operator, that ``taker`` takes a room over; what that means now, in words.

        Args:
            hub_is_gone, accept_loss: as for ``take``.

        Raises:
            Rejected: it cannot be agreed to.
        """
        row = self._node.store.room(room_id)
        if row is not None and row.role is Role.HUB:
            return await self._returns.give_up(row, taker)
        if row is None or not has_copy(row) or row.role is Role.FOLLOWER:
            return await self._trust(room_id, row, taker)
        row = self._participating(room_id)
        if taker in {self._node.identity.name, row.hub}:
            raise Rejected(
                Reason.FORBIDDEN, f"{taker} is not another server than this one and the room's hub"
            )
        if not hub_is_gone:
            await self._require_gone(row)
        await self._node.takeover_consents.agree(row, taker, accepts_loss=accept_loss)
        log.warning("takeover_agreed", room_id=room_id, hub=row.hub, taker=taker)
        try:
            await self.catch_up(room_id, taker)  # it may have taken the room already
        except (OutboundError, InvalidInput, trio.TooSlowError) as error:
            log.info("taker_not_reached", room_id=room_id, server=taker, **describe(error))
        row = self._node.store.room(room_id) or row
        if row.hub == taker:
            return f"{taker} orders {room_id} now"
        text = f"nothing more is taken from {row.hub}; {taker} may take {room_id} over"
        lost = self._lost(row)
        if lost and self._node.takeover_consents.accepts_loss(row):
            return f"{text}, also without {_entries(lost)} that {row.hub} signed and that are not here"
        if lost:
            return (
                f"{text}, if it has {_entries(lost)} that {row.hub} signed and that are not here; if nobody"
                " has them, accept it with --accept-loss"
            )
        return text

    async def _trust(self, room_id: str, row: RoomRow | None, taker: str) -> str:
        await self._node.takeover_consents.trust(room_id, taker)
        if row is not None and row.role is Role.FOLLOWER:
            if self._node.pulling.includes(row.hub):
                await self._node.pulling.begin(taker)
            self._node.pulling.contacted(taker)
            return f"this server follows {room_id} to {taker} once that shows that it orders the room"
        return f"users of this server may join {room_id} through {taker}"

    async def withdraw(self, room_id: str) -> str:
        """Take that back; the server it was about.

        Raises:
            Rejected: nothing was agreed to, or it has happened.
        """
        row = self._participating(room_id)
        taker = await self._node.takeover_consents.withdraw(row)
        log.warning("takeover_withdrawn", room_id=room_id, hub=row.hub, taker=taker)
        return taker

    async def agree(self, row: RoomRow, origin: str, proposal: JsonObject) -> None:
        """Answer a server that asks whether we follow it.

        Raises:
            Rejected: we do not; the text says why.
            OutboundError, InvalidInput: we lack entries that it has, and cannot get them.
        """
        sender, after, said = proposal.get("sender"), proposal.get("after"), proposal.get(TAKEOVER)
        if not isinstance(sender, str) or not isinstance(after, str) or not isinstance(said, dict):
            raise Rejected(
                Reason.MALFORMED, "A takeover has a sender, the event it follows, and the log before"
            )
        self._node.audits.require_trusted(row)
        if row.hub != said.get("hub"):
            raise Rejected(Reason.WRONG_HUB, f"The hub of this room is {row.hub}")
        if self._node.takeover_consents.current(row) != origin:
            log.warning("takeover_asked_for", room_id=row.room_id, hub=row.hub, taker=origin)
            raise Rejected(Reason.FORBIDDEN, "The operator of this server has not agreed")
        if sender not in takers(self._node.rooms.state(row.room_id), origin, get_version(row.version)):
            raise Rejected(Reason.FORBIDDEN, f"No such user of {origin} may take the room over")
        if self._node.store.entry_by_id(after) is None:
            await self.catch_up(row.room_id, origin)
            row = self._node.store.room(row.room_id) or row
        # "the last checkpoint decides what cannot be dropped": nor can an entry that was sent to us.
        if self._node.store.event_ids(row.room_id, after=row.head_seq - 1, limit=1) != [after]:
            raise Rejected(Reason.FORBIDDEN, "This server has entries behind that one")
        await self._require_same_log(row, said)

    async def _require_same_log(self, row: RoomRow, said: JsonObject) -> None:
        """Compare the log that a takeover goes on from with ours and with the old hub's last checkpoint."""
        position = self._position(row)
        self._require_checkpointed(row, accept_loss=self._node.takeover_consents.accepts_loss(row))
        held = self._node.store.audit(row.room_id)
        if held is None or position is None:
            return  # the hub was never audited: only the chain of events says what its log is
        tree = await tree_of_copy(self._node.store, row, held)
        if (said.get("size"), said.get("root")) != (position, encode_base64(tree.root())):
            raise Rejected(Reason.FORBIDDEN, "This server has another log than the takeover goes on from")

    def _require_checkpointed(self, row: RoomRow, *, accept_loss: bool) -> None:
        lost = self._lost(row)
        if lost and not accept_loss:
            position = self._position(row) or 0
            raise Rejected(
                Reason.FORBIDDEN,
                f"{row.hub} signed a log of {position + lost} entries, of which {position} are here: the last"
                f" {_entries(lost)} would be lost. If no server has them, its operator says so with"
                " --accept-loss",
            )

    def _lost(self, row: RoomRow) -> int:
        """Entries that the hub signed, to our knowledge, and that are not here."""
        held, position = self._node.store.audit(row.room_id), self._position(row)
        if held is None or position is None:
            return 0
        return max(read_checkpoint(held.checkpoint).size - position, 0)

    async def arrives(self, row: RoomRow, event: Event) -> None:
        """Before a takeover is taken into our copy of a room: if our operator agreed to it at the price of
        entries that the old hub signed, hold the new one to nothing that was signed about them.

        Args:
            row: the room as it is before.
            event: what makes another server its hub; a transfer has nothing to do here.
        """
        held = self._node.store.audit(row.room_id)
        if held is None or not is_takeover(event) or not self._node.takeover_consents.accepts_loss(row):
            return
        lost = read_checkpoint(held.checkpoint).size - event.content[TAKEOVER]["size"]
        if lost > 0:
            await self._node.store.delete_audit(row.room_id)
            log.warning("signed_entries_lost", room_id=row.room_id, hub=row.hub, entries=lost)

    def _position(self, row: RoomRow) -> int | None:
        """Entries of the hub's log up to the end of ours; None if the hub never proved where ours begins."""
        held = self._node.store.audit(row.room_id)
        return None if held is None else row.head_seq - held.anchor_seq + held.anchor_size

    def _others(self, row: RoomRow, state: StateMap) -> list[str]:
        """The other servers in a room but its hub. MIMI providers have no copy of the log to agree about:
        each follows whom its operator says, once it is shown the takeover.
        """
        providers = joined_providers(state, ours=self._node.served_domains)
        return sorted(
            name for name, protocol in providers.items() if protocol == LINEARIZED and name != row.hub
        )

    def _participating(self, room_id: str) -> RoomRow:
        """A room that another server orders, of a version that has takeovers.

        Raises:
            Rejected: it is none.
        """
        row = self._node.store.room(room_id)
        if row is None or row.role is not Role.PARTICIPANT or not has_copy(row):
            raise Rejected(Reason.UNKNOWN_ROOM, "This server takes no part in that room, or orders it")
        if not get_version(row.version).hub_transfers:
            raise Rejected(Reason.FORBIDDEN, f"Rooms of version {row.version} cannot be taken over")
        if row.hub == self._node.identity.name:
            raise Rejected(Reason.FORBIDDEN, "This server is taking the room over already")
        return row

    # --- the old hub ---

    async def noticed(self, row: RoomRow, pdus: Sequence[JsonObject], origin: str) -> bool:
        """Whether events for a room that we order say that it was taken over from us (``Returns``)."""
        return await self._returns.noticed(row, pdus, origin)

    async def confirm_all(self) -> None:
        """See again whether others follow those who took rooms over from us."""
        await self._returns.confirm_all()

    def successor(self, room_id: str) -> str | None:
        """Who orders a room that was taken over from us, if we know."""
        return self._returns.successor(room_id)

    def replaced(self, row: RoomRow, origin: str) -> bool:
        """Whether ``origin`` was a room's hub until it was taken over from it."""
        if row.hub == origin:
            return False
        entry = self._node.store.state_entry(row.room_id, *HUB, seq=row.head_seq)
        said = orjson.loads(entry.pdu)["content"].get(TAKEOVER) if entry is not None else None
        return isinstance(said, dict) and said.get("hub") == origin


def _entries(count: int) -> str:
    return f"{count} entry" if count == 1 else f"{count} entries"


def _path(room_id: str) -> str:
    return _ROOM.format(room_id=quote(room_id, safe=""))
