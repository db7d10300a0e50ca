"""Another hub for a room: rules L4 (transfer) and L6 (takeover) of ``dev.linearized.1``, and chains of hubs.

MSC3995, Hub transfers: "hub transfers can be completed by having both the current hub server and the new hub
server sign an m.room.hub state event and send it to the room." Here that is an LPDU of the new hub, which the
old one completes: each signature is one that every event of a participant has, so ``verify_event`` asks for
both.

If the old hub is gone for good, nobody can sign for it. A takeover is signed by the new hub alone and says
so. These rules let it stand in a log; whether a server follows it is for its operator to say (decision
0015), so ``Replica`` and ``check_hub_chain`` are told which server that operator agreed to.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from linearized.exceptions import AuthorizationError
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import HUB, StateMap, hub_of

TAKEOVER = "takeover"
"""In the content of an ``m.room.hub``: which hub is gone, and the log that the new one goes on from."""

MAX_SIZE = 2**53 - 1
"""Entries of a log that a takeover can name: the largest integer that JSON carries everywhere."""

MAX_TRANSFERS = 20
"""Links followed from a hub back to the room's creator; each costs whoever joins two signature checks, and
perhaps two servers asked for their keys."""


def is_takeover(event: Event) -> bool:
    """Whether an event makes its sender's server the hub without the old hub's signature."""
    return event.type == HUB[0] and TAKEOVER in event.content


def taken_from(event: Event) -> str | None:
    """The hub that a takeover says is gone; None if it names none."""
    said = event.content.get(TAKEOVER)
    hub = said.get("hub") if isinstance(said, dict) else None
    return hub if isinstance(hub, str) else None


def check_transfer(event: Event, state: StateMap) -> None:
    """Rules L4 and L6, before the rules that hold for every event.

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
    if is_takeover(event):
        _check_takeover(event, state)


def _check_takeover(event: Event, state: StateMap) -> None:
    # L6. A hub that could sign is not gone. Who takes the room over signs alone, and does not hide that.
    if event.hub_server is not None:
        raise AuthorizationError("L6", "a takeover is signed by the server that takes the room over, alone")
    if taken_from(event) != hub_of(state):
        raise AuthorizationError("L6", "the takeover is from another hub than the room's")
    said = event.content[TAKEOVER]
    size, root = said.get("size"), said.get("root")
    if type(size) is not int or not 1 <= size <= MAX_SIZE or not isinstance(root, str):
        raise AuthorizationError("L6", "the takeover does not name the log it goes on from")


def check_hub_chain(
    create: Event, transfers: Mapping[str, Event], last: Event | None, *, agreed: Set[str] = frozenset()
) -> str:
    """Follow a room's transfers from the last one back to its creator; the present hub.

    Args:
        create, transfers, last: events whose signatures and room have been verified; the transfers by event
            ID; ``last`` is None in a room that was never handed over.
        agreed: the servers whose takeovers of this room our operator has agreed to.

    Raises:
        AuthorizationError: a link is missing, or neither signed by the hub before it nor agreed to.
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
        _check_link(last, giver, agreed)
        last = previous
    raise AuthorizationError("L4", f"the room was handed over more than {MAX_TRANSFERS} times")


def _check_link(link: Event, giver: str, agreed: Set[str]) -> None:
    if not is_takeover(link):
        if link.hub_server != giver:
            raise AuthorizationError("L4", f"a transfer was not signed by the hub before it, {giver}")
        return
    taker = user_domain(link.sender)
    if link.hub_server is not None or taken_from(link) != giver:
        raise AuthorizationError("L6", f"a takeover is not from the hub before it, {giver}")
    if taker not in agreed:
        raise AuthorizationError(
            "L6",
            f"{taker} took the room over from {giver}, and this server's operator has not agreed to that",
        )
