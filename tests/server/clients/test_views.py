"""Who may read what: history visibility and membership."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.server.clients import views
from linearized.server.clients.views import END, View, Views
from linearized.server.http import HttpError
from linearized.store.base import EntryRow, Role
from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import Server

ROOM = "!r:a.example"
BOB = "@bob:a.example"


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
    assert seen(Views(server.store).require(ROOM, BOB), 5) == seen(view, 5)


async def test_a_room_that_grew_a_lot_is_looked_up_anew(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_MAX_CATCH_UP", 3)
    lookup = Views(server.store)
    await append(server.store, ROOM, visibility(ROOM, 1, "shared"), member(ROOM, 2, BOB, "join"))
    lookup.require(ROOM, BOB)
    more = [visibility(ROOM, 3, "joined"), member(ROOM, 4, BOB, "leave"), entry(ROOM, 5), entry(ROOM, 6)]
    await append(server.store, ROOM, *more, member(ROOM, 7, BOB, "join"))
    assert seen(lookup.require(ROOM, BOB), 7) == [1, 2, 3, 4, 7]


async def test_what_lies_before_too_many_changes_stays_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_CHANGES", 2)
    values = ("joined", "shared", "joined", "shared")
    entries = [visibility(ROOM, seq, value) for seq, value in enumerate(values, 1)]
    view = await view_of(server, [*entries, member(ROOM, 5, BOB, "join")])
    assert not view.sees(1)
    assert not view.sees(2)


async def test_rooms_are_forgotten_oldest_first_and_read_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_ROOMS", 1)
    lookup = Views(server.store)
    for room_id in ("!one:a.example", "!two:a.example"):
        await append(server.store, room_id, visibility(room_id, 1, "joined"), member(room_id, 2, BOB, "join"))
    for room_id in ("!one:a.example", "!two:a.example", "!one:a.example"):
        assert seen(lookup.require(room_id, BOB), 2) == [1, 2]


async def test_a_copy_of_a_mimi_room_is_read_by_its_membership_rows(server: Server) -> None:
    await append(server.store, ROOM, entry(ROOM, 1), role=Role.FOLLOWER, memberships={BOB: "join"})
    lookup = Views(server.store)
    assert lookup.require(ROOM, BOB).runs == ((1, END),)
    await append(server.store, ROOM, entry(ROOM, 2), memberships={BOB: "leave"})
    view = lookup.require(ROOM, BOB)
    assert view.runs == ((1, 1),)
    with pytest.raises(HttpError):
        lookup.require(ROOM, BOB, joined=True)


VISIBILITIES = ["world_readable", "shared", "invited", "joined"]
MEMBERSHIPS = ["invite", "join", "leave", "ban"]


def readable(value: str, membership: str) -> bool:
    return (
        value in {"world_readable", "shared"}
        or membership == "join"
        or (value == "invited" and membership == "invite")
    )


@given(st.lists(st.sampled_from([*VISIBILITIES, *MEMBERSHIPS, "message"]), max_size=12))
def test_runs_are_what_the_rule_says_entry_by_entry(steps: list[str]) -> None:
    value, membership = "shared", "leave"
    changes, memberships, expected = [(0, "shared")], [(0, "leave")], []
    for seq, step in enumerate(steps, 1):
        before = readable(value, membership)
        if step in VISIBILITIES:
            value = step
            changes.append((seq, step))
        elif step in MEMBERSHIPS:
            membership = step
            memberships.append((seq, step))
        # "the event which changes it is visible by either value" (Room History Visibility)
        changed = step != "message"
        if readable(value, membership) or (changed and before):
            expected.append(seq)
    runs = list(views._runs(tuple(changes), memberships, END))
    assert [seq for seq in range(1, len(steps) + 1) if any(a <= seq <= b for a, b in runs)] == expected
    assert all(first <= last for first, last in runs)
    assert all(a[1] < b[0] for a, b in pairwise(runs))


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
