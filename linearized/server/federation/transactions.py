"""``PUT /send/{txnId}``: events and to-device messages from another server (draft, Sending Events)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import orjson
import trio

from linearized.exceptions import CanonicalJsonError, InvalidInput
from linearized.protocol.canonical import JsonObject
from linearized.protocol.hashing import event_id
from linearized.protocol.outcomes import Outcome
from linearized.protocol.versions import DEFAULT_ROOM_VERSION, RoomVersion, get_version
from linearized.room.refusals import outcome_of
from linearized.room.submissions import Reason, Rejected
from linearized.server.acl import SERVER_ACL
from linearized.server.exchange import WRONG_EPOCH, wrong_server
from linearized.server.federation import devices, lpdus, removals
from linearized.server.federation.calls import Call, is_admitted
from linearized.server.http import HttpError, Response
from linearized.server.invited import has_copy
from linearized.server.telemetry import get_log
from linearized.store.base import Reply, Role, RoomRow

# "There MUST NOT be more than 100 entries in edus", "There MUST NOT be more than 50 entries in pdus".
MAX_EDUS = 100
MAX_PDUS = 50

_DECISIVE = frozenset({SERVER_ACL, "m.room.hub"})

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
                answer, remembered = await _process(call, pdus, edus)
                if not remembered:
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


async def _process(call: Call, pdus: list[JsonObject], edus: list[JsonObject]) -> tuple[str, bool]:
    """Take every event, room by room and in each in turn. What is ours to fix (a full queue, a hub that does
    not answer) ends the transaction, to be repeated; what is the event's fault is answered for good.

    Returns:
        The answer, and whether the same transaction would get it again by itself, with nothing done twice: an
        LPDU is known by its hash once it is in the log, and a PDU by its ID.
    """
    failed: dict[str, JsonObject] = {}
    remembered = not edus
    for room_id, batch in _by_room(pdus):
        row = call.node.rooms.row(room_id) if room_id is not None else None
        remembered = remembered and row is not None and _keeps(row, batch[0])
        for pdu, error in zip(batch, await _take_all(call, row, batch), strict=True):
            if error is not None:
                _refuse(call, row, pdu, error, failed)
    for edu in edus:
        await devices.receive(call.node, edu, call.origin)
    return orjson.dumps({"failed_pdus": failed}).decode(), remembered and not failed


def _keeps(row: RoomRow, pdu: JsonObject) -> bool:
    """Whether events like this one end up in our log if nothing is wrong with them."""
    return row.role is Role.HUB if lpdus.is_lpdu(pdu) else has_copy(row)


def _by_room(pdus: Sequence[JsonObject]) -> Iterator[tuple[str | None, list[JsonObject]]]:
    """Events in the order they came, in runs of one room and one kind that are taken together. What changes
    whom we listen to stands alone.
    """
    for (room_id, _, _), run in groupby(enumerate(pdus), _run_of):
        yield room_id, [pdu for _, pdu in run]


def _run_of(numbered: tuple[int, JsonObject]) -> tuple[str | None, bool, int]:
    number, pdu = numbered
    room_id, kind = pdu.get("room_id"), pdu.get("type")
    alone = isinstance(kind, str) and kind in _DECISIVE
    return room_id if isinstance(room_id, str) else None, lpdus.is_lpdu(pdu), number if alone else -1


async def _take_all(call: Call, row: RoomRow | None, pdus: list[JsonObject]) -> list[InvalidInput | None]:
    """Take a run of events; for each why it was refused, None if it was not."""
    # 1.1. "If that room ID is invalid/not found, the event is rejected."
    if row is None:
        return [InvalidInput("Unknown room")] * len(pdus)
    if not is_admitted(call.node, row, call.origin):
        return [InvalidInput("This server is denied by the room's server ACL")] * len(pdus)
    if has_copy(row) and lpdus.is_lpdu(pdus[0]):
        return await _take_lpdus(call, row, pdus)
    if has_copy(row):
        if call.node.takeovers.replaced(row, call.origin):
            raise wrong_server(row.hub)  # it was away, and does not know yet
        try:
            return await call.node.rooms.receive_pdus(row.room_id, pdus, call.origin)
        except InvalidInput as error:
            return [error] * len(pdus)
    # 1.2. "If the server is not participating in the room, the event is dropped/skipped."
    return [await _skip(call, row, pdu) for pdu in pdus]


async def _take_lpdus(call: Call, row: RoomRow, pdus: list[JsonObject]) -> list[InvalidInput | None]:
    # 3. "If the event is an LPDU and the receiving server is not the hub, the event is dropped/skipped."
    if row.role is not Role.HUB:
        return [None] * len(pdus)
    # 2. "If the event is an LPDU and the receiving server is the hub, the additional PDU fields are
    # appended".
    outcomes = await lpdus.submit_all(call.node, row, pdus, call.origin)
    return [outcome if isinstance(outcome, InvalidInput) else None for outcome in outcomes]


async def _skip(call: Call, row: RoomRow, pdu: JsonObject) -> InvalidInput | None:
    """All but the end of a wait."""
    try:
        await removals.take(call.node, row, pdu, call.origin)
    except InvalidInput as error:
        return error
    return None


def _refuse(
    call: Call, row: RoomRow | None, pdu: JsonObject, error: InvalidInput, failed: dict[str, JsonObject]
) -> None:
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
        _note(failed, pdu, row, _said(error))


def _said(error: InvalidInput) -> JsonObject:
    """What is told of a refused event: the text; of a message for another epoch which one it is now, too."""
    if isinstance(error, Rejected) and error.code is Reason.WRONG_EPOCH:
        return {"error": str(error), "errcode": WRONG_EPOCH, "current_epoch": error.current_epoch}
    return {"error": str(error)}


def _note(failed: dict[str, JsonObject], pdu: JsonObject, row: RoomRow | None, said: JsonObject) -> None:
    """Name a refused event. "Event IDs are based upon the received object, not the final/complete object."
    One that is too malformed to have an ID cannot be named.
    """
    try:
        failed[event_id(pdu, _version(pdu, row))] = said
    except (CanonicalJsonError, LookupError, TypeError, AttributeError):
        log.info("event_without_id")


def _version(pdu: JsonObject, row: RoomRow | None) -> RoomVersion:
    if row is not None:
        return get_version(row.version)
    return get_version(DEFAULT_ROOM_VERSION if "provenance" in pdu else "I.1")
