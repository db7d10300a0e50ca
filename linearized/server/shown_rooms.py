"""What a hub shows of a room to a server that takes part in it, checked: its events one by one, and when we
join, the version, and that it is the hub.
"""

from __future__ import annotations

from collections.abc import Mapping

from linearized.exceptions import AuthorizationError
from linearized.protocol.authorization import authorize
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, parse_pdu
from linearized.protocol.hub_rules import MAX_TRANSFERS, check_hub_chain
from linearized.protocol.state import HUB, StateMap
from linearized.protocol.verify import check_own_name, required_keys, verify_event
from linearized.protocol.versions import RoomVersion, get_version
from linearized.room.submissions import Reason, Rejected
from linearized.server.node import Node
from linearized.server.takeover_consents import TakeoverConsents
from linearized.store.base import RoomRow

Keys = dict[tuple[str, str], bytes]
"""Verify keys by server and key ID."""


async def verified_event(node: Node, pdu: object, row: RoomRow, found: Keys) -> Event:
    """Check one event's format, signatures and hashes; ``found`` keeps keys for the next."""
    if not isinstance(pdu, dict):
        raise Rejected(Reason.MALFORMED, "An event is an object")
    version = get_version(row.version)
    event = parse_pdu(pdu, version)
    if event.room_id != row.room_id:
        raise Rejected(Reason.FORBIDDEN, "The event is of another room")
    for server, key_ids in required_keys(event, version=version):
        if any((server, key_id) not in found for key_id in key_ids):
            for key_id, key in (await node.keys.keys_for(server, key_ids)).items():
                found[server, key_id] = key
    check_own_name(event, node.identity.name)
    return verify_event(event, version=version, keys=lambda server, key_id: found.get((server, key_id)))


def version_of(node: Node, template: JsonObject, room_id: str) -> str:
    """The room version of a make_join answer: the draft shows the bare event, peers wrap it and say
    the version.
    """
    named = template.get("room_version")
    if isinstance(named, str):
        return named
    invited = node.store.room(room_id)
    return invited.version if invited is not None else "I.1"


async def transfers_in(node: Node, known: StateMap, answer: JsonObject, row: RoomRow) -> dict[str, Event]:
    """The verified transfers in a join's state and its auth chain, by event ID."""
    found = {known[HUB].event_id: known[HUB]} if HUB in known else {}
    chain = answer.get("auth_chain")
    hubs = [
        pdu
        for pdu in (chain if isinstance(chain, list) else [])
        if isinstance(pdu, dict) and pdu.get("type") == HUB[0]
    ]
    keys: Keys = {}
    for pdu in hubs[:MAX_TRANSFERS]:
        event = await verified_event(node, pdu, row, keys)
        found[event.event_id] = event
    return found


def check_hub(
    state: StateMap,
    transfers: Mapping[str, Event],
    row: RoomRow,
    version: RoomVersion,
    consents: TakeoverConsents,
) -> None:
    """Whoever we join through has to be whom the room's create event makes its hub, or whom its hubs have
    handed it over to, or whom our operator agreed to: a server that could order a room of another's namespace
    could take its ID away from it.
    """
    create = state.get(("m.room.create", ""))
    if create is None:
        raise Rejected(Reason.MALFORMED, "The hub's answer has no create event")
    try:
        authorize(create, {}, version=version)
        last = state.get(HUB) if version.hub_transfers else None
        takers = consents.agreed_among(row.room_id, transfers.values())
        actual = check_hub_chain(create, transfers, last, agreed=takers)
    except AuthorizationError as error:
        raise Rejected(Reason.FORBIDDEN, str(error)) from error
    if actual != row.hub:
        raise Rejected(Reason.WRONG_HUB, f"The hub of this room is {actual}")
