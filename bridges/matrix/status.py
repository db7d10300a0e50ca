"""What an operator, or the bot when it is asked, can say of the bridged rooms."""

from __future__ import annotations

from dataclasses import dataclass

from bridges.matrix.aside import SetAside
from bridges.matrix.config import BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.links import Link, RoomLinks
from bridges.matrix.queue import IncomingQueue

# Reasons shown: enough to see a pattern.
REASONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomStatus:
    """A bridged room: how far it is, what became of its past, and how much waits to be carried across.

    ``aside`` is how many events could not be, ``last_aside`` the newest of them with the reasons.
    """

    matrix_room_id: str
    room_id: str | None
    phase: str
    imported: int
    left_out: int
    failed: int
    to_import: int
    waiting: int
    aside: int
    last_aside: tuple[tuple[str, str], ...]


def room_status(database: Database, link: Link) -> RoomStatus:
    """The status of one room."""
    counts = RoomLinks(database).counts(link.matrix_room_id)
    return RoomStatus(
        matrix_room_id=link.matrix_room_id,
        room_id=link.room_id,
        phase=link.phase,
        imported=counts.get("imported", 0),
        left_out=counts.get("left out", 0),
        failed=counts.get("failed", 0),
        to_import=counts.get("waiting", 0),
        waiting=IncomingQueue(database).waiting(link.matrix_room_id),
        aside=SetAside(database).count(link.matrix_room_id),
        last_aside=tuple(SetAside(database).last(link.matrix_room_id, REASONS)),
    )


def bridged_rooms(config: BridgeConfig) -> list[RoomStatus]:
    """Every room, read beside the bridge that may be running.

    Raises:
        StoreError: there is no database yet.
    """
    database = Database.reading(config.database)
    try:
        return [room_status(database, link) for link in RoomLinks(database).all()]
    finally:
        database.close()
