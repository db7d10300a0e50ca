"""Who may read what: history visibility and membership."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from linearized.protocol.visibility import END
from linearized.server import histories
from linearized.server.clients.views import View, Views
from linearized.server.http import HttpError
from linearized.store.base import EntryRow, Role
from tests.protocol.test_visibility import CASES
from tests.server.clients.rows import append, entries_of, entry, member, visibility
from tests.server.clients.support import Server

ROOM = "!r:a.example"
BOB = "@bob:a.example"
BOB_OF_B = "@bob:b.example"  # of the cases


async def view_of(server: Server, entries: Sequence[EntryRow], user_id: str = BOB) -> View:
    await append(server.store, ROOM, *entries)
    return Views(server.store).require(ROOM, user_id)


def seen(view: View, last: int) -> list[int]:
    return [seq for seq in range(1, last + 1) if view.sees(seq)]


async def test_shared_history_is_open_to_whoever_joins_later(server: Server) -> None:
    view = await view_of(server, [entry(ROOM, 1), entry(ROOM, 2), member(ROOM, 3, BOB, "join")])
    assert (view.runs, view.head) == (((1, END),), 3)


async def test_somebody_who_left_sees_up_to_their_leave(server: Server) -> None:
    entries = [member(ROOM, 1, BOB, "join"), entry(ROOM, 2), member(ROOM, 3, BOB, "leave"), entry(ROOM, 4)]
    view = await view_of(server, entries)
    assert (seen(view, 4), view.head) == ([1, 2, 3], 3)


async def test_a_ban_after_a_leave_opens_nothing_new(server: Server) -> None:
    entries = [
        member(ROOM, 1, BOB, "join"),
        member(ROOM, 2, BOB, "leave"),
        entry(ROOM, 3),
        member(ROOM, 4, BOB, "ban"),
    ]
    assert seen(await view_of(server, entries), 4) == [1, 2]


@pytest.mark.parametrize("membership", ["invite", "ban", "leave", "knock"])
async def test_somebody_who_never_joined_sees_nothing(server: Server, membership: str) -> None:
    await append(server.store, ROOM, entry(ROOM, 1), member(ROOM, 2, BOB, membership))
    with pytest.raises(HttpError) as caught:
        Views(server.store).require(ROOM, BOB)
    assert (caught.value.status, caught.value.errcode) == (403, "M_FORBIDDEN")


async def test_a_room_that_is_not_there_looks_like_one_that_is_closed(server: Server) -> None:
    await append(server.store, ROOM, entry(ROOM, 1))
    errors = []
    for room_id in (ROOM, "!nothing:a.example"):
        with pytest.raises(HttpError) as caught:
            Views(server.store).require(room_id, BOB)
        errors.append((caught.value.status, caught.value.errcode, caught.value.error))
    assert errors[0] == errors[1]


async def test_joined_history_starts_at_the_join_and_stops_while_away(server: Server) -> None:
    entries = [
        visibility(ROOM, 1, "joined"),
        entry(ROOM, 2),
        member(ROOM, 3, BOB, "invite"),
        entry(ROOM, 4),
        member(ROOM, 5, BOB, "join"),
        entry(ROOM, 6),
        member(ROOM, 7, BOB, "leave"),
        entry(ROOM, 8),
        member(ROOM, 9, BOB, "join"),
        entry(ROOM, 10),
    ]
    # The entry that sets visibility to "joined" itself still falls under "shared", as what was before it.
    assert seen(await view_of(server, entries), 10) == [1, 5, 6, 7, 9, 10]


async def test_invited_history_starts_at_the_invitation(server: Server) -> None:
    entries = [
        visibility(ROOM, 1, "invited"),
        entry(ROOM, 2),
        member(ROOM, 3, BOB, "invite"),
        entry(ROOM, 4),
        member(ROOM, 5, BOB, "join"),
    ]
    assert seen(await view_of(server, entries), 5) == [1, 3, 4, 5]


async def test_opening_the_history_later_does_not_open_what_was_closed(server: Server) -> None:
    entries = [
        visibility(ROOM, 1, "joined"),
        entry(ROOM, 2),
        visibility(ROOM, 3, "shared"),
        entry(ROOM, 4),
        member(ROOM, 5, BOB, "join"),
    ]
    assert seen(await view_of(server, entries), 5) == [1, 3, 4, 5]


async def test_a_change_of_visibility_is_noticed_between_two_looks(server: Server) -> None:
    lookup = Views(server.store)
    await append(server.store, ROOM, member(ROOM, 1, BOB, "join"))
    assert lookup.require(ROOM, BOB).sees(2)
    await append(server.store, ROOM, member(ROOM, 2, BOB, "leave"), visibility(ROOM, 3, "joined"))
    await append(server.store, ROOM, entry(ROOM, 4), member(ROOM, 5, BOB, "join"))
    view = lookup.require(ROOM, BOB)
    assert seen(view, 5) == [1, 2, 3, 5]


async def test_a_view_does_not_cost_reading_the_room(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await append(server.store, ROOM, visibility(ROOM, 1, "joined"), member(ROOM, 2, BOB, "join"))
    await append(server.store, ROOM, *(entry(ROOM, seq) for seq in range(3, 50)))
    for name in ("entries", "entries_before", "state_at"):
        monkeypatch.setattr(type(server.store), name, None)
    assert seen(Views(server.store).require(ROOM, BOB), 49) == list(range(1, 50))


async def test_what_lies_before_too_many_changes_stays_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "MAX_CHANGES", 2)
    values = ("joined", "shared", "joined", "shared")
    entries = [visibility(ROOM, seq, value) for seq, value in enumerate(values, 1)]
    view = await view_of(server, [*entries, member(ROOM, 5, BOB, "join")])
    assert not view.sees(1)
    assert not view.sees(2)


async def test_a_copy_of_a_mimi_room_is_read_by_its_membership_rows(server: Server) -> None:
    await append(server.store, ROOM, entry(ROOM, 1), role=Role.FOLLOWER, memberships={BOB: "join"})
    lookup = Views(server.store)
    assert lookup.require(ROOM, BOB).runs == ((1, END),)
    await append(server.store, ROOM, entry(ROOM, 2), memberships={BOB: "leave"})
    view = lookup.require(ROOM, BOB)
    assert view.runs == ((1, 1),)
    with pytest.raises(HttpError):
        lookup.require(ROOM, BOB, joined=True)


async def test_a_world_readable_room_is_open_to_who_is_not_in_it_and_closed_to_their_writing(
    server: Server,
) -> None:
    await append(server.store, ROOM, entry(ROOM, 1), visibility(ROOM, 2, "world_readable"), entry(ROOM, 3))
    view = Views(server.store).require(ROOM, BOB)
    assert (seen(view, 3), view.head) == ([2, 3], 3)
    with pytest.raises(HttpError):
        Views(server.store).require(ROOM, BOB, joined=True)
    other = "!copy:b.example"
    await append(server.store, other, visibility(other, 1, "world_readable"), role=Role.FOLLOWER)
    with pytest.raises(HttpError):
        Views(server.store).require(other, BOB)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
async def test_a_user_reads_what_the_rules_show(server: Server, case: dict[str, Any]) -> None:
    await append(server.store, ROOM, *entries_of(ROOM, case["log"]))
    reads = sorted({*case.get("reads", case["sees"]), *case.get("commits", [])})
    lookup = Views(server.store)
    if not reads:
        with pytest.raises(HttpError):
            lookup.require(ROOM, BOB_OF_B)
        return
    view = lookup.require(ROOM, BOB_OF_B)
    page = view.after(server.store, after=0, before=END, limit=100)
    everything = server.store.entries(ROOM, after=0, limit=100)
    assert [found.seq for found in everything if view.shows(found)] == reads
    assert [found.seq for found in page] == [seq for seq in reads if view.sees(seq)]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize(("after", "before"), [(0, 11), (0, 6), (4, 11), (3, 7), (5, 6), (9, 3)])
async def test_a_page_is_the_visible_entries_in_its_bounds(
    server: Server, after: int, before: int, limit: int
) -> None:
    await append(server.store, ROOM, *(entry(ROOM, seq) for seq in range(1, 11)))
    room = server.store.room(ROOM)
    assert room is not None
    view = View(room=room, runs=((1, 2), (4, 4), (6, 9)), until=END)
    wanted = [seq for seq in (1, 2, 4, 6, 7, 8, 9) if after < seq < before]
    page = view.after(server.store, after=after, before=before, limit=limit)
    assert [found.seq for found in page] == wanted[:limit]
    page = view.before(server.store, before=before, after=after, limit=limit)
    assert [found.seq for found in page] == wanted[::-1][:limit]


async def test_no_more_is_read_than_may_be_new(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    view = await view_of(server, [member(ROOM, 1, BOB, "join"), *(entry(ROOM, seq) for seq in range(2, 11))])
    limits: list[int] = []
    for name in ("entries", "entries_before"):
        read = getattr(server.store, name)

        def counted(room_id: str, *, limit: int, _read: Any = read, **place: int) -> list[EntryRow]:
            limits.append(limit)
            found: list[EntryRow] = _read(room_id, limit=limit, **place)
            return found

        monkeypatch.setattr(server.store, name, counted)
    assert [found.seq for found in view.before(server.store, before=11, after=9, limit=20)] == [10]
    assert [found.seq for found in view.after(server.store, after=3, before=6, limit=20)] == [4, 5]
    assert view.before(server.store, before=11, after=10, limit=20) == []
    assert limits == [1, 2]
