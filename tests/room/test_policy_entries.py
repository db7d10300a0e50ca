"""What a commit means in the log of a room with a policy, where the log says little."""

from __future__ import annotations

from linearized.room.policy_entries import policy_changes
from linearized.room.roles import power_levels_content
from tests.room.policy_support import GOVERNOR, OPEN, event
from tests.room.support import ALICE


def test_power_levels_that_name_nobody_are_replaced() -> None:
    levels = event(ALICE, "m.room.power_levels", {"ban": 50})
    participants = {ALICE: GOVERNOR}
    (change,) = policy_changes(
        before=participants,
        after=participants,
        roles=OPEN,
        present={ALICE},
        committer=ALICE,
        state={("m.room.power_levels", ""): levels},
    )
    assert change.content == power_levels_content(OPEN, participants, {"ban": 50})
