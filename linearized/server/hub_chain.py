"""A room's hub shown to servers that do not see its log: the create event and the transfers since.

Beside an invite (``dev.linearized.hub_events``), and to MIMI providers, which are sent messages and no events
(``dev.linearized.hubMoved`` in their directory). Each transfer was signed by the hub before it, so the chain
stands for itself, whoever shows it; a takeover counts where the operator agreed to the taker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from linearized.exceptions import InvalidInput
from linearized.protocol.authorization import authorize
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, parse_pdu
from linearized.protocol.hub_rules import MAX_TRANSFERS, check_hub_chain, is_takeover
from linearized.protocol.identifiers import room_domain, room_uri, user_domain
from linearized.protocol.state import CREATE, HUB, StateMap, transfer_of
from linearized.protocol.verify import required_keys, verify_event
from linearized.protocol.versions import RoomVersion, get_version
from linearized.server.http import HttpError
from linearized.server.invited import has_copy
from linearized.server.node import Node
from linearized.server.providers.client import HUB_MOVED, NoEndpointError, ProviderClient, ProviderError
from linearized.store.base import EntryRow, Role, Store

EVENTS: Final = "events"
"""What ``hub_events`` gives, in the body of a request to ``hubMoved``, or of an answer to who fetches."""
_OK: Final = frozenset({200, 201, 204})


def hub_events(store: Store, create: JsonObject, last: JsonObject) -> list[JsonObject]:
    """A room's create event and its transfers up to ``last``, the latest first."""
    events = [create]
    link: JsonObject | None = last
    while link is not None and len(events) <= MAX_TRANSFERS:
        events.append(link)
        found = [store.entry_by_id(event_id) for event_id in link["auth_events"]]
        link = next((orjson.loads(row.pdu) for row in found if row is not None and row.type == HUB[0]), None)
    return events


def hub_events_of(store: Store, state: StateMap) -> list[JsonObject]:
    """The same for a room's state, which has a transfer."""
    return hub_events(store, state["m.room.create", ""].pdu, state[HUB].pdu)


def hub_events_at(store: Store, transfer: EntryRow) -> list[JsonObject]:
    """The same up to an entry of a log of ours, which is a transfer."""
    create = store.state_entry(transfer.room_id, *CREATE, seq=transfer.seq)
    assert create is not None  # noqa: S101 - every log begins with it
    return hub_events(store, orjson.loads(create.pdu), orjson.loads(transfer.pdu))


def encode_shown(events: Sequence[JsonObject]) -> bytes:
    """The body that shows them to a MIMI provider: to ``hubMoved``, or to one that fetches."""
    return orjson.dumps({EVENTS: list(events)})


async def verified(
    node: Node,
    room_id: str,
    shown: object,
    version: RoomVersion,
    *,
    hub: str | None = None,
    from_agreed: bool = False,
) -> list[Event]:
    """Follow shown events from a room's creator to its hub; the transfers, verified, the latest first.

    Args:
        shown: what ``hub_events`` gives, as it came.
        hub: who the last transfer has to name; None if that is the question.
        from_agreed: whether no signature is asked for before the last takeover that our operator agreed to.

    Raises:
        InvalidInput, HttpError: they do not lead there.
    """
    shape = isinstance(shown, list) and 1 < len(shown) <= MAX_TRANSFERS + 1
    if not version.hub_transfers or not isinstance(shown, list) or not shape:
        raise _elsewhere()
    create, *transfers = (parse_pdu(pdu, version) for pdu in shown)
    kinds = {event.type for event in transfers}
    if kinds != {HUB[0]} or {event.room_id for event in (create, *transfers)} != {room_id}:
        raise _elsewhere()
    authorize(create, {}, version=version)
    by_id = {event.event_id: event for event in transfers}
    agreed = node.takeover_consents.agreed_among(room_id, transfers)
    found = check_hub_chain(create, by_id, transfers[0], agreed=agreed)
    if hub is not None and found != hub:
        raise _elsewhere()
    # From the creator on: what is forged fails at the first signature that had to be somebody else's, before
    # it makes us ask more servers for their keys.
    links = [create, *reversed(transfers)]
    if from_agreed:
        # A hub that is gone gives its keys no more. Where the operator has named the one that goes on, what
        # was before it does not matter.
        taken = [
            place
            for place, event in enumerate(links)
            if is_takeover(event) and user_domain(event.sender) in agreed
        ]
        links = links[max(taken, default=0) :]
    for event in links:
        await verify_sent(node, event, version)
    return transfers


async def shown(node: Node, room_id: str, body: bytes) -> list[Event]:
    """The transfers in the body of a request to ``hubMoved``, verified as ``verified`` does it.

    Raises:
        InvalidInput, HttpError: it is malformed, or leads nowhere.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, "M_NOT_JSON", "The body is not JSON") from error
    return await shown_in(node, room_id, document)


async def shown_in(node: Node, room_id: str, document: object) -> list[Event]:
    """The same for the decoded JSON.

    Raises:
        InvalidInput, HttpError: as for ``shown``.
    """
    return await shown_events(node, room_id, document.get(EVENTS) if isinstance(document, dict) else None)


def where(node: Node, room_id: str) -> bytes:
    """What we show to who asks where a room has moved: the body of ``hubMoved``. Each link is signed, so that
    any server with a copy of the log may show it, should the hub that a room's ID names be gone.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` if it has not, or we have no copy of its events.
    """
    row = node.store.room(room_id)
    if row is not None and row.role in {Role.HUB, Role.PARTICIPANT} and has_copy(row):
        state = node.rooms.state(room_id)
        if transfer_of(state) is not None:
            return encode_shown(hub_events_of(node.store, state))
    raise HttpError(404, "M_NOT_FOUND", "This server cannot show that the room has moved")


async def shown_events(node: Node, room_id: str, events: object, *, hub: str | None = None) -> list[Event]:
    """The transfers among such events, verified as ``verified`` does it.

    Raises:
        InvalidInput, HttpError: as for ``shown``.
    """
    create = events[0] if isinstance(events, list) and events else None
    content = create.get("content") if isinstance(create, dict) else None
    version = content.get("room_version") if isinstance(content, dict) else None
    return await verified(node, room_id, events, get_version(version), hub=hub, from_agreed=True)


def _elsewhere() -> HttpError:
    return HttpError(403, "M_FORBIDDEN", "The room belongs to another hub")


async def verify_sent(node: Node, event: Event, version: RoomVersion) -> None:
    """Check an event of a room that we have no copy of: its signatures, and that its content is whole.

    Raises:
        InvalidInput: it does not hold.
    """
    found: dict[tuple[str, str], bytes] = {}
    for server, key_ids in required_keys(event, version=version):
        for key_id, key in (await node.keys.keys_for(server, key_ids)).items():
            found[server, key_id] = key
    if verify_event(event, version=version, keys=lambda server, key_id: found.get((server, key_id))).redacted:
        raise InvalidInput("The event's content does not match its hash")


async def show(providers: ProviderClient, provider: str, room_id: str, events: Sequence[JsonObject]) -> None:
    """Show a MIMI provider where a room has moved.

    Raises:
        ProviderError: it does not take it, or not yet.
    """
    answer = await providers.post(provider, HUB_MOVED, room_uri(room_id), encode_shown(events))
    if answer.status not in _OK:
        raise ProviderError(
            f"{provider} answered {answer.status} at {HUB_MOVED}",
            status=answer.status,
            retry_after_s=answer.retry_after_s,
        )


async def introduce(node: Node, provider: str, room_id: str) -> None:
    """Before a provider is asked about a room that has moved here, and that none of its users is in: show it
    that we order the room. Of one that cannot be shown we ask all the same; it may say no.

    Raises:
        ProviderError: it could not be reached, or does not believe it.
    """
    row = node.store.room(room_id)
    if row is None or row.hub != node.identity.name or room_domain(room_id) == node.identity.name:
        return
    if node.rooms.is_participant(room_id, provider):
        return  # it was told when the room moved
    try:
        await show(node.providers, provider, room_id, hub_events_of(node.store, node.rooms.state(room_id)))
    except NoEndpointError:
        return
