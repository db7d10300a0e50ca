"""The newest entries of rooms: in order, without gaps, and never too many."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from linearized.server import recent
from linearized.server.recent import KEPT_ENTRIES, Recent
from linearized.store.base import EntryRow

ROOM, OTHER = "!one:a.example", "!two:a.example"


def entries(seqs: Iterable[int], *, size: int = 1) -> list[EntryRow]:
    return [
        EntryRow(
            room_id=ROOM,
            seq=seq,
            event_id=f"${seq}",
            type="m.room.message",
            state_key=None,
            sender="@a:a.example",
            origin_server_ts=0,
            epoch=None,
            pdu=b"x" * size,
        )
        for seq in seqs
    ]


def found(kept: Recent, cursor: int, limit: int = 100) -> list[int] | None:
    rows = kept.after(ROOM, cursor, limit)
    return None if rows is None else [row.seq for row in rows]


def test_what_was_appended_is_there_as_far_back_as_it_reaches() -> None:
    kept = Recent()
    assert found(kept, 0) is None
    kept.add(ROOM, entries([5, 6]))
    kept.add(ROOM, entries([7]))
    assert found(kept, 3) is None
    assert found(kept, 4) == [5, 6, 7]
    assert found(kept, 5, limit=1) == [6]
    assert found(kept, 7) == []
    assert kept.after(OTHER, 7, 1) is None


def test_after_a_gap_only_what_follows_it_is_there() -> None:
    kept = Recent()
    kept.add(ROOM, entries([1, 2]))
    kept.add(ROOM, entries([4]))
    assert (found(kept, 2), found(kept, 3)) == (None, [4])


def test_an_append_without_entries_changes_nothing() -> None:
    kept = Recent()
    kept.add(ROOM, entries([1]))
    kept.add(ROOM, [])
    assert found(kept, 0) == [1]


def test_a_room_that_changed_in_another_way_is_read_anew() -> None:
    kept = Recent()
    kept.add(ROOM, entries([1]))
    kept.forget(ROOM)
    kept.forget(ROOM)
    assert found(kept, 0) is None


def test_of_a_room_only_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Recent()
    kept.add(ROOM, entries(range(1, KEPT_ENTRIES + 1)))
    kept.add(ROOM, entries(range(KEPT_ENTRIES + 1, 2 * KEPT_ENTRIES + 1)))
    assert found(kept, 0, 1) == [1]
    last = 2 * KEPT_ENTRIES + 1
    kept.add(ROOM, entries([last]))
    assert found(kept, KEPT_ENTRIES) is None
    assert found(kept, KEPT_ENTRIES + 1, last) == list(range(KEPT_ENTRIES + 2, last + 1))
    monkeypatch.setattr(recent, "MAX_BYTES", KEPT_ENTRIES + 1)
    kept.add(ROOM, entries([last + 1]))
    assert found(kept, last) == [last + 1], "what went does not count"


def test_the_room_without_news_for_longest_makes_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MAX_BYTES", 10)
    kept = Recent()
    kept.add(OTHER, entries([1], size=5))
    kept.add(ROOM, entries([1], size=5))
    kept.add(OTHER, entries([2], size=1))
    assert kept.after(OTHER, 0, 5) is not None
    assert found(kept, 0) is None
    kept.add(ROOM, entries([2], size=11))
    assert found(kept, 1) is None
    assert kept.after(OTHER, 0, 5) is None
