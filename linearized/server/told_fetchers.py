"""Who of a room fetches what it follows, told by one hub to the next when the room moves.

The next hub leaves those in peace until they have had time to register with it. It is the old hub's word, so
it counts for a while only, and for nobody whom we know already: a hub that lies delays what one room has for
a provider, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from linearized.protocol.identifiers import is_server_name
from linearized.protocol.state import StateMap
from linearized.room.submissions import Reason, Rejected
from linearized.server.cursors import MIMI, is_finished, joined_providers

if TYPE_CHECKING:
    from linearized.server.node import Node

PULL_FOLLOWERS: Final = "pull_followers"
"""Beside the end of the log: a list of providers' names."""

MAX_TOLD: Final = 1000  # providers of one room: more than any has
# A follower that fetches asks at least every minute (docs/pull.md), and registers when it is shown the move.
PATIENCE_SECONDS: Final = 120.0


def fetchers(node: Node, state: StateMap) -> list[str]:
    """The providers in a room of ours that fetch it."""
    followers = joined_providers(state, ours=node.served_domains).items()
    pulls = node.followers.pulls
    return sorted(name for name, protocol in followers if protocol == MIMI and pulls.includes(name))[
        :MAX_TOLD
    ]


def read_fetchers(given: object) -> frozenset[str]:
    """What the old hub says of them, for ``newcomers``.

    Raises:
        Rejected: ``MALFORMED``.
    """
    if not isinstance(given, list) or len(given) > MAX_TOLD or not all(map(is_server_name, given)):
        raise Rejected(Reason.MALFORMED, f"{PULL_FOLLOWERS} is a list of at most {MAX_TOLD} servers")
    return frozenset(given)


def newcomers(node: Node, told: frozenset[str], state: StateMap) -> list[str]:
    """Those of them that are in the room by MIMI and in no other room of ours, which would have to wait with
    this one.
    """
    followers = joined_providers(state, ours=node.served_domains).items()
    return sorted(
        name
        for name, protocol in followers
        if protocol == MIMI and name in told and all(map(is_finished, node.store.followed_by(name)))
    )
