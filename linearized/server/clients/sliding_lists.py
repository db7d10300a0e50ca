"""Which rooms an answer of sliding sync is about (MSC4186, Lists and subscriptions)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.ignoring import is_unwanted
from linearized.server.clients.sliding_connections import RoomTold
from linearized.server.clients.sliding_filters import Chooser
from linearized.server.clients.sliding_requests import SlidingRequest
from linearized.server.clients.sliding_rooms import face_of
from linearized.server.clients.sliding_wishes import RoomWish
from linearized.store.activity import ActiveRoom

GONE = frozenset({"leave", "ban"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of which rooms.

    Attributes:
        lists: the lists that each of them is in; none for one that is only subscribed to.
        counts: how many rooms each list has.
    """

    wishes: dict[str, RoomWish] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, room_id: str, wish: RoomWish, name: str | None = None) -> None:
        """Want something of a room, perhaps because of a list."""
        self.wishes[room_id] = self.wishes[room_id].joined(wish) if room_id in self.wishes else wish
        names = self.lists.setdefault(room_id, [])
        if name is not None and name not in names:
            names.append(name)


def rooms_of(context: Context, caller: Caller, told: Collection[str]) -> list[ActiveRoom]:
    """The user's rooms, the most recently active first; without invitations from people they ignore.

    "Rooms that the user has been in but left are only included if the room was previously sent to the client
    in that connection. Rooms the user has been kicked or banned from will always be included … rooms the user
    has been banned from, but never joined, should not be".
    """
    store = context.node.store
    found: list[ActiveRoom] = []
    for active in store.rooms_by_activity(caller.user_id):
        row = active.row
        if row.membership in GONE and row.room_id not in told and not _was_put_out(context, active):
            continue
        if row.membership == "invite" and is_unwanted(store, face_of(store, row, active.room), row.user_id):
            continue
        found.append(active)
    return found


def _was_put_out(context: Context, active: ActiveRoom) -> bool:
    """Whether somebody else ended the user's stay in a room, which they have not forgotten since."""
    if active.set_by in {None, active.row.user_id} or context.views.forgotten(active.row):
        return False
    return context.views.view(active.room, active.row) is not None


def wanted_rooms(
    context: Context,
    caller: Caller,
    asked: SlidingRequest,
    found: list[ActiveRoom],
    *,
    told: Mapping[str, RoomTold],
    direct: frozenset[str],
) -> Wanted:
    """What is wanted of which rooms. Of rooms that are none of the user's nothing is told, as of those that
    are not there; of one that the user has left, that they have.

    Args:
        told: how far each room was told.
        direct: as ``direct_rooms`` gives them.
    """
    present = [
        active
        for active in found
        if active.row.membership not in GONE or active.set_by not in {None, caller.user_id}
    ]
    chooser, wanted = Chooser(context, caller, direct), Wanted()
    for name, each in asked.lists.items():
        held = chooser.chosen(present, each.filters)
        wanted.counts[name] = len(held)
        for first, last in each.ranges:
            for active in held[first : last + 1]:
                wanted.add(active.row.room_id, each.wish, name)
    mine = {active.row.room_id for active in present}
    for room_id in asked.subscriptions.keys() & mine:
        wanted.add(room_id, asked.subscriptions[room_id])
    for active in found:
        room_id = active.row.room_id
        known = told.get(room_id)
        if active.row.membership in GONE and known is not None and known.membership not in GONE:
            wanted.wishes.setdefault(room_id, known.wish)
    return wanted
