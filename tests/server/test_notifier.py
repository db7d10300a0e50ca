"""Who is woken by a change of a room."""

from __future__ import annotations

import pytest

from linearized.server.notifier import Notifier
from tests.room.support import ALICE, BOB, CAROL, member, new_room


@pytest.mark.parametrize("waiting", [[ALICE, CAROL], [f"@user{n}:a.example" for n in range(50)] + [ALICE]])
def test_the_members_of_a_room_are_woken_and_nobody_else(waiting: list[str]) -> None:
    room = new_room(initial=[member(BOB, "invite", sender=ALICE)])
    notifier = Notifier()
    tickets = {user_id: notifier.ticket(user_id) for user_id in waiting}
    notifier.room_changed(room.state)
    assert [user_id for user_id, ticket in tickets.items() if ticket.is_set()] == [ALICE]
    assert notifier.ticket(ALICE) is not tickets[ALICE]
