"""Handing a room over: rule L4 of ``dev.linearized.1``, and the chain of hubs that transfers make.

MSC3995, Hub transfers: "hub transfers can be completed by having both the current hub server and the new hub
server sign an m.room.hub state event and send it to the room." Here that is an LPDU of the new hub, which the
old one completes: each signature is one that every event of a participant has, so ``verify_event`` asks for
both.
"""

from __future__ import annotations

from collections.abc import Mapping

from linearized.exceptions import AuthorizationError
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import StateMap, hub_of

MAX_TRANSFERS = 20
"""Links followed from a hub back to the room's creator; each costs whoever joins two signature checks, and
perhaps two servers asked for their keys."""


def check_transfer(event: Event, state: StateMap) -> None:
    """Rule L4, before the rules that hold for every event.

    Raises:
        AuthorizationError: the event may not make its sender's server the room's hub.
    """
    if event.state_key != "":
        raise AuthorizationError("L4", "the state key of a transfer is empty")
    # The new hub has to sign for itself: nobody vouches for it.
    if event.provenance is not None:
        raise AuthorizationError("L4", "a transfer is no vouched event")
    if user_domain(event.sender) == hub_of(state):
        raise AuthorizationError("L4", "the sender's server orders the room already")
    # MSC3995 asks "what's to prevent the current hub from just asking for signatures from everyone and
    # caching those events?" This: what the new hub signs is good for one place in the log.
    if event.prev_events != (event.content.get("after"),):
        raise AuthorizationError("L4", "the transfer was signed for another place in the log")


def check_hub_chain(create: Event, transfers: Mapping[str, Event], last: Event | None) -> str:
    """Follow a room's transfers from the last one back to its creator; the present hub.

    Args:
        create, transfers, last: events whose signatures and room have been verified; the transfers by event
            ID; ``last`` is None in a room that was never handed over.

    Raises:
        AuthorizationError: a link is missing, or not signed by the hub before it.
    """
    hub = user_domain(last.sender) if last is not None else user_domain(create.sender)
    for _ in range(MAX_TRANSFERS):
        if last is None:
            return hub
        before = [transfers[event_id] for event_id in last.auth_events if event_id in transfers]
        if len(before) > 1 or create.event_id not in last.auth_events or last.provenance is not None:
            raise AuthorizationError("L4", "a transfer does not name the one before it and the create event")
        previous = before[0] if before else None
        giver = user_domain(previous.sender if previous is not None else create.sender)
        if last.hub_server != giver:
            raise AuthorizationError("L4", f"a transfer was not signed by the hub before it, {giver}")
        last = previous
    raise AuthorizationError("L4", f"the room was handed over more than {MAX_TRANSFERS} times")
