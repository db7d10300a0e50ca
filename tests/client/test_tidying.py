"""When a device commits the removals that are pending."""

from __future__ import annotations

from typing import Any

from linearized.client.tidying import TIDY_SPREAD_MS, Tidying


class Rooms:
    def __init__(self) -> None:
        self.untidy = {"!a", "!b"}
        self.now = 1000

    def must_tidy(self, room_id: str) -> bool:
        return room_id in self.untidy


def tidying(rooms: Any, *draws: float) -> Tidying:
    return Tidying(rooms, clock=lambda: rooms.now, draw=iter(draws).__next__)


def test_each_room_waits_for_its_own_time() -> None:
    rooms = Rooms()
    found = tidying(rooms, 0.2, 0.5)
    found.look(["!a", "!b", "!tidy"])
    assert (found.due(), found.wait_ms(30_000)) == ([], TIDY_SPREAD_MS // 5)
    rooms.now += TIDY_SPREAD_MS // 5
    assert (found.due(), found.wait_ms(30_000)) == (["!a"], 0)
    rooms.now += TIDY_SPREAD_MS
    assert found.due() == ["!a", "!b"]


def test_a_room_that_somebody_else_has_tidied_is_forgotten() -> None:
    rooms = Rooms()
    found = tidying(rooms, 0.0)
    found.look(["!a"])
    rooms.untidy.clear()
    found.look(["!a"])
    assert (found.due(), found.wait_ms(30_000)) == ([], 30_000)


def test_looking_again_changes_no_time_and_putting_off_does() -> None:
    rooms = Rooms()
    found = tidying(rooms, 0.0, 0.9)
    found.look(["!a"])
    found.look(["!a"])
    assert found.due() == ["!a"]
    found.put_off("!a")
    assert found.due() == []
