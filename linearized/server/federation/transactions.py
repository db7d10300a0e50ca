"""``PUT /send/{txnId}``: events and to-device messages from another server (draft, Sending Events)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import orjson
import trio

from linearized.exceptions import CanonicalJsonError, InvalidInput
from linearized.protocol.canonical import JsonObject
from linearized.protocol.hashing import event_id
from linearized.protocol.outcomes import Outcome
from linearized.protocol.versions import DEFAULT_ROOM_VERSION, RoomVersion, get_version
from linearized.room.refusals import outcome_of
from linearized.server.federation import devices, lpdus, removals
from linearized.server.federation.calls import Call, is_admitted
from linearized.server.http import HttpError, Response
from linearized.server.invited import has_copy
from linearized.server.telemetry import get_log
from linearized.store.base import Reply, Role, RoomRow

# "There MUST NOT be more than 100 entries in edus", "There MUST NOT be more than 50 entries in pdus".
MAX_EDUS = 100
MAX_PDUS = 50

log = get_log(part="transactions")


@dataclass(slots=True)
class _Running:
    key: str
    done: trio.Event = field(default_factory=trio.Event)


class Transactions:
    """One transaction of each server at a time, and each only once."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    async def send(self, call: Call) -> Response:
        """Take a transaction; the answer names the events that were refused.

        Peers exist whose transaction IDs collide, so a repetition is one with the same ID and the same body.

        Raises:
            HttpError: 400 ``M_BAD_STATE`` while another transaction of that server runs.
        """
        pdus, edus = _items(call.body, "pdus", MAX_PDUS), _items(call.body, "edus", MAX_EDUS)
        digest = hashlib.sha256(await call.request.body()).hexdigest()
        scope, key = f"send {call.origin}", f"{call.param('txn_id')} {digest}"
        while (running := self._running.get(call.origin)) is not None:
            # "If the sending server attempts to send a different transaction ID from the one already in
            # flight, the receiving server MUST respond with a 400 Bad Request HTTP status code and
            # M_BAD_STATE error code".
            if running.key != key:
                raise HttpError(400, "M_BAD_STATE", "Another transaction of this server is still in flight")
            await running.done.wait()
        answer = call.node.store.reply(scope, key)
        if answer is None:
            running = self._running[call.origin] = _Running(key)
            try:
                answer = await _process(call, pdus, edus)
                await call.node.store.put_reply(Reply(scope=scope, key=key, value=answer))
            finally:
                del self._running[call.origin]
                running.done.set()
        return Response(body=answer.encode())


def _items(body: JsonObject, name: str, limit: int) -> list[JsonObject]:
    items = body.get(name, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise HttpError(400, "M_BAD_JSON", f"{name} is a list of objects")
    if len(items) > limit:
        raise HttpError(400, "M_BAD_JSON", f"There are more than {limit} entries in {name}")
    return items


async def _process(call: Call, pdus: list[JsonObject], edus: list[JsonObject]) -> str:
    """Take every event in turn. What is ours to fix (a full queue, a hub that does not answer) ends the
    transaction, to be repeated; what is the event's fault is answered for good.
    """
    failed: dict[str, JsonObject] = {}
    for pdu in pdus:
        room_id = pdu.get("room_id")
        row = call.node.rooms.row(room_id) if isinstance(room_id, str) else None
        try:
            await _take(call, row, pdu)
        except InvalidInput as error:
            outcome = outcome_of(error)
            log.info(
                "event_refused",
                origin=call.origin,
                room_id=row and row.room_id,
                outcome=outcome.value,
                reason=type(error).__name__,
            )
            # "Events which are dropped/ignored or accepted do not appear in failed_pdus."
            if outcome is Outcome.REJECTED:
                _note(failed, pdu, row, str(error))
    for edu in edus:
        await devices.receive(call.node, edu, call.origin)
    return orjson.dumps({"failed_pdus": failed}).decode()


async def _take(call: Call, row: RoomRow | None, pdu: JsonObject) -> None:
    # 1.1. "If that room ID is invalid/not found, the event is rejected."
    if row is None:
        raise InvalidInput("Unknown room")
    if not is_admitted(call.node, row, call.origin):
        raise InvalidInput("This server is denied by the room's server ACL")
    # 1.2. "If the server is not participating in the room, the event is dropped/skipped."
    if not has_copy(row):
        await removals.take(call.node, row, pdu, call.origin)
    elif not lpdus.is_lpdu(pdu):
        await call.node.rooms.receive_pdu(row.room_id, pdu, call.origin)
    elif row.role is Role.HUB:
        # 2. "If the event is an LPDU and the receiving server is the hub, the additional PDU fields are
        # appended".
        await lpdus.submit(call.node, row, pdu, call.origin)
    # 3. "If the event is an LPDU and the receiving server is not the hub, the event is dropped/skipped."


def _note(failed: dict[str, JsonObject], pdu: JsonObject, row: RoomRow | None, reason: str) -> None:
    """Name a refused event. "Event IDs are based upon the received object, not the final/complete object."
    One that is too malformed to have an ID cannot be named.
    """
    try:
        failed[event_id(pdu, _version(pdu, row))] = {"error": reason}
    except (CanonicalJsonError, LookupError, TypeError, AttributeError):
        log.info("event_without_id")


def _version(pdu: JsonObject, row: RoomRow | None) -> RoomVersion:
    if row is not None:
        return get_version(row.version)
    return get_version(DEFAULT_ROOM_VERSION if "provenance" in pdu else "I.1")
