"""What a policy says of events holds for whoever they come from."""

from __future__ import annotations

import pytest

from linearized.room.submissions import Reason, Rejected
from tests.room.lpdus import lpdu
from tests.room.policy_rooms import OPEN, content, found_room
from tests.room.support import BOB, NOW, Member


def test_an_event_of_a_participants_user_is_held_to_the_policy() -> None:
    room, _, _ = found_room(OPEN, Member(BOB), role=OPEN.creator_role)
    before = room.log.head
    other = {**content(room), "notifications": {"room": 0}}
    with pytest.raises(Rejected, match="canChangeRoleDefinitions") as raised:
        room.submit(lpdu("m.room.power_levels", other, state_key=""), now=NOW)
    assert raised.value.code is Reason.FORBIDDEN
    assert room.log.head == before
