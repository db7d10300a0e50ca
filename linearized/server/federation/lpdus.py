"""LPDUs on their way into a room of ours: whoever sends them, and however often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import trio

from linearized.exceptions import InvalidInput, SignatureError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Lpdu, parse_lpdu
from linearized.protocol.signing import signatures_of
from linearized.protocol.verify import ClaimedLpdu, VerifiedLpdu, claim_lpdu, verify_lpdus
from linearized.protocol.versions import RoomVersion, get_version
from linearized.room.submissions import Accepted, LinearizedPdu, Rejected
from linearized.server.deciding import EVENT_ID, Repeated
from linearized.server.node import Node
from linearized.store.base import Reply, RoomRow

_COMPLETE = ("auth_events", "prev_events")


def is_lpdu(event: JsonObject) -> bool:
    """Whether an event lacks what only a hub adds."""
    return not any(field in event for field in _COMPLETE)


Checked = tuple[LinearizedPdu, Reply]
"""An LPDU whose signature and hash are right, and how to remember, with its entry, what it becomes."""


async def check_all(
    node: Node, row: RoomRow, lpdus: Sequence[JsonObject], origin: str
) -> list[Checked | InvalidInput]:
    """Check the format, signatures and hashes of LPDUs of ``origin``, whose keys are looked up once for all;
    what is wrong with one stands in its place.
    """
    version = get_version(row.version)
    parsed = [_parsed(lpdu, version) for lpdu in lpdus]
    keys = await node.keys.keys_for(origin, _key_ids(parsed, origin))
    claimed = [_claimed(lpdu, version, origin, keys) for lpdu in parsed]
    await trio.lowlevel.checkpoint()  # fifty signatures take two milliseconds: others have their turn before
    verified = iter(verify_lpdus([each for each in claimed if isinstance(each, ClaimedLpdu)]))
    outcomes = [next(verified) if isinstance(each, ClaimedLpdu) else each for each in claimed]
    return [_checked(outcome, row.room_id) for outcome in outcomes]


async def submit_all(
    node: Node, row: RoomRow, lpdus: Sequence[JsonObject], origin: str
) -> list[str | InvalidInput]:
    """Have a room of ours append LPDUs of ``origin``, in order and as one batch: for each the ID of the event
    that it became, now or when it came before, or why it was refused.

    An LPDU's hash is remembered in the same transaction as the entry, so a transaction that is repeated after
    we broke off half-way appends nothing twice.

    Raises:
        Overloaded, StoreError, trio.TooSlowError: as ``Hub.submit_all``; some may have been appended.
    """
    checked = await check_all(node, row, lpdus, origin)
    right = [item for item in checked if not isinstance(item, InvalidInput)]
    try:
        decided = iter(await node.rooms.submit_all(row.room_id, right) if right else ())
    except Rejected as error:  # the room is not ours any more
        return [item if isinstance(item, InvalidInput) else error for item in checked]
    return [item if isinstance(item, InvalidInput) else _outcome(next(decided)) for item in checked]


async def submit(node: Node, row: RoomRow, lpdu: JsonObject, origin: str) -> str:
    """The same for one LPDU; the event ID it got.

    Raises:
        InvalidInput: it was refused; and what ``submit_all`` raises.
    """
    (outcome,) = await submit_all(node, row, [lpdu], origin)
    if isinstance(outcome, InvalidInput):
        raise outcome
    return outcome


def _parsed(lpdu: JsonObject, version: RoomVersion) -> Lpdu | InvalidInput:
    try:
        return parse_lpdu(lpdu, version)
    except InvalidInput as error:
        return error


def _claimed(
    lpdu: Lpdu | InvalidInput, version: RoomVersion, origin: str, keys: Mapping[str, bytes]
) -> ClaimedLpdu | InvalidInput:
    if isinstance(lpdu, InvalidInput):
        return lpdu
    try:
        return claim_lpdu(lpdu, version=version, origin=origin, keys=keys)
    except InvalidInput as error:
        return error


def _checked(outcome: VerifiedLpdu | InvalidInput, room_id: str) -> Checked | InvalidInput:
    if isinstance(outcome, InvalidInput):
        return outcome
    reply = Reply(scope=f"lpdu {room_id}", key=outcome.lpdu.hash, value=EVENT_ID)
    return LinearizedPdu(lpdu=outcome), reply


def _key_ids(lpdus: Sequence[Lpdu | InvalidInput], origin: str) -> list[str]:
    """The keys by which ``origin`` says it signed any of them."""
    found: dict[str, None] = {}
    for lpdu in lpdus:
        with suppress(SignatureError):  # none: that is for its verification to say
            if isinstance(lpdu, Lpdu):
                found |= dict.fromkeys(signatures_of(lpdu.pdu, origin))
    return list(found)


def _outcome(decision: Accepted | Rejected | Repeated) -> str | Rejected:
    match decision:
        case Rejected():
            return decision
        case Repeated():
            return decision.value
        case _:
            return decision.event_id
