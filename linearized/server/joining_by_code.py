"""Showing a joining code to the hub of a room that none of our users is in.

The room's ID names its first hub. If the room has moved, that one says where, and shows the signed chain of
transfers that leads there; only then the next one is asked.
"""

from __future__ import annotations

from typing import Final

from linearized.exceptions import InvalidInput
from linearized.mimi.group_info import GroupInfoCode, GroupInfoResponse
from linearized.protocol.events import Event
from linearized.protocol.identifiers import room_uri
from linearized.server import hub_chain
from linearized.server.http import HttpError
from linearized.server.node import Node
from linearized.server.providers.client import ProviderError
from linearized.server.shown_moves import Shown

# Hubs asked for one join. A former hub follows the room and names the present one, so the second knows,
# unless the room moves just then; and each but the first is one that others chose for us.
MAX_HUBS: Final = 4


async def group_info(node: Node, room_id: str, request: bytes) -> bytes:
    """Ask for a room's group information by a code; both are TLS-encoded. If the hub gives it, we follow the
    room from then on: what is said after the join may reach us before the hub's answer to it.

    Raises:
        ProviderError: no hub answered, or one names another and does not show that.
        MetadataPolicyError: a hub falls short of what our settings ask for; it was shown nothing.
    """
    hub = node.rooms.following.hub_to_ask(room_id)
    shown = Shown.stored(node.store, room_id)
    way: list[Event] = []
    for _ in range(MAX_HUBS):
        await node.hub_policies.require(hub)
        try:
            answer = await node.providers.exchange(hub, "groupInfo", room_uri(room_id), request)
        except ProviderError as error:
            if error.hub is None:
                raise
            way = await _onward(node, room_id, error, after=way)
            hub, shown = error.hub, Shown.of(way)
            continue
        if GroupInfoResponse.decode(answer).status is GroupInfoCode.SUCCESS:
            await node.rooms.following.expect(room_id, hub, shown)
        return answer
    raise ProviderError(f"{room_id} has moved further than {MAX_HUBS - 1} times")


async def _onward(node: Node, room_id: str, error: ProviderError, *, after: list[Event]) -> list[Event]:
    """The transfers that lead to the hub that another names, verified, the latest first.

    Args:
        after: those that led to the one that names it. A chain that does not go on from there leads in a
            circle.

    Raises:
        ProviderError: they do not lead there.
    """
    if error.hub is None or error.hub in node.served_domains:
        raise ProviderError("A hub says that we order a room that we do not know")
    try:
        transfers = await hub_chain.shown_events(node, room_id, error.hub_events, hub=error.hub)
    except (InvalidInput, HttpError) as wrong:
        raise ProviderError(f"{error}, and does not show it: {wrong}", status=error.status) from wrong
    if after and after[0].event_id not in {event.event_id for event in transfers[1:]}:
        raise ProviderError(f"{error}, from where the room came", status=error.status)
    return transfers
