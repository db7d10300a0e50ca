"""Showing a joining code to the hub of a room that none of our users is in.

The room's ID names its first hub. If the room has moved, that one says where, and shows the signed chain of
transfers that leads there; only then the next one is asked. If that one is gone, servers that the client
names may show the chain: it stands for itself, whoever shows it. They are not shown the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from linearized.exceptions import InvalidInput
from linearized.mimi.group_info import GroupInfoCode, GroupInfoResponse
from linearized.mimi.metadata_policy import MetadataPolicyError
from linearized.protocol.events import Event
from linearized.protocol.identifiers import room_uri, user_domain
from linearized.server import hub_chain
from linearized.server.http import HttpError
from linearized.server.node import Node
from linearized.server.providers.client import ProviderError
from linearized.server.shown_moves import Shown

# Hubs asked for one join. A former hub follows the room and names the present one, so the second knows,
# unless the room moves just then; and each but the first is one that others chose for us.
MAX_HUBS: Final = 4
# Servers a client may name. Each costs two requests at most, and the time in which one does not answer.
MAX_VIA: Final = 3


async def group_info(node: Node, room_id: str, request: bytes, *, via: Sequence[str] = ()) -> bytes:
    """Ask for a room's group information by a code; both are TLS-encoded. If the hub gives it, we follow the
    room from then on: what is said after the join may reach us before the hub's answer to it.

    Args:
        via: at most ``MAX_VIA`` servers to ask where the room is, should the hub that we know of not say.

    Raises:
        ProviderError: no hub answered, or one names another and does not show that.
        MetadataPolicyError: a hub falls short of what our settings ask for; it was shown nothing.
    """
    hub = node.rooms.following.hub_to_ask(room_id)
    shown = Shown.stored(node.store, room_id)
    way: list[Event] = []
    for _ in range(MAX_HUBS):
        try:
            await node.hub_policies.require(hub)
            answer = await node.providers.exchange(hub, "groupInfo", room_uri(room_id), request)
        except (ProviderError, MetadataPolicyError) as error:
            if isinstance(error, ProviderError) and error.hub is not None:
                way = await _onward(node, room_id, error, after=way)
            else:
                way = await _shown_by(node, room_id, via, error, gone=hub, after=way)
                via = ()
            hub, shown = user_domain(way[0].sender), Shown.of(way)
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
    if not _goes_on(transfers, after):
        raise ProviderError(f"{error}, from where the room came", status=error.status)
    return transfers


async def _shown_by(
    node: Node,
    room_id: str,
    servers: Sequence[str],
    error: ProviderError | MetadataPolicyError,
    *,
    gone: str,
    after: list[Event],
) -> list[Event]:
    """The transfers that the first of some servers shows which lead away from a hub that does not answer.

    Raises:
        ProviderError, MetadataPolicyError: the given error; none of them shows any.
    """
    for server in dict.fromkeys(servers):
        if server == gone or server in node.served_domains:
            continue
        try:
            document = await node.providers.moved(server, room_uri(room_id))
            transfers = await hub_chain.shown_in(node, room_id, document)
        except (ProviderError, InvalidInput, HttpError):
            continue  # the next one may know
        hub = user_domain(transfers[0].sender)
        if hub != gone and hub not in node.served_domains and _goes_on(transfers, after):
            return transfers
    raise error


def _goes_on(transfers: list[Event], after: list[Event]) -> bool:
    """Whether a chain, the latest first, goes on from where another one ends."""
    return not after or after[0].event_id in {event.event_id for event in transfers[1:]}
