"""Power levels as roles and back."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.room_policy import (
    ADMIN,
    NO_ROLE,
    REGULAR,
    ROLES,
    power_level_of_role,
    role_of_power_level,
)


@pytest.mark.parametrize(
    ("level", "role"),
    [(-5, REGULAR), (0, REGULAR), (50, REGULAR), (99, REGULAR), (100, ADMIN), (2**53, ADMIN)],
)
def test_a_power_level_of_one_hundred_makes_an_admin(level: int, role: object) -> None:
    assert role_of_power_level(level) is role


def test_every_role_has_the_power_level_that_gives_it() -> None:
    assert [role.index for role in ROLES] == [1, 2]
    for role in ROLES:
        assert role_of_power_level(power_level_of_role(role.index)) is role


@pytest.mark.parametrize("index", [NO_ROLE, 3, 2**32 - 1])
def test_no_participant_has_another_role(index: int) -> None:
    with pytest.raises(MimiDecodeError, match=f"role {index}"):
        power_level_of_role(index)
