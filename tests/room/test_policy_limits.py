"""How many participants and clients a room may have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.room.policy import RoomPolicy
from linearized.room.policy_limits import check_limits
from linearized.room.submissions import Reason, Rejected
from tests.room.policy_support import ADMIN, BANNED, GOVERNOR, USER, changed, policy
from tests.room.support import ALICE, ANNA, BOB, CAROL

ONE = {ALICE: GOVERNOR, ANNA: USER}
TWO = {**ONE, BOB: USER}


def refused(before: RoomPolicy, after: RoomPolicy, reason: str) -> None:
    with pytest.raises(Rejected, match=reason) as raised:
        check_limits(before, after)
    assert raised.value.code is Reason.FORBIDDEN


def test_a_role_has_no_more_participants_than_its_maximum() -> None:
    roles = changed(USER, maximum_participants_constraint=1)
    refused(policy(ONE, roles=roles), policy(TWO, roles=roles), "allows 1 participants of the role ordinary")
    check_limits(policy({}, roles=roles), policy(ONE, roles=roles))


def test_a_role_that_is_too_full_may_stay_so_and_shrink() -> None:
    roles = changed(USER, maximum_participants_constraint=0)
    check_limits(policy(TWO, roles=roles), policy(TWO, roles=roles))
    check_limits(policy(TWO, roles=roles), policy(ONE, roles=roles))


def test_a_role_has_no_more_active_participants_than_its_maximum() -> None:
    roles = changed(USER, maximum_active_participants_constraint=1)
    check_limits(policy(ONE, roles=roles), policy(TWO, roles=roles, clients={ALICE: 1, ANNA: 1}))
    refused(
        policy(ONE, roles=roles),
        policy(TWO, roles=roles),
        "allows 1 active participants of the role ordinary",
    )


def test_a_role_keeps_its_minimum() -> None:
    full = {**ONE, BOB: ADMIN}
    refused(policy(full), policy(ONE), "demands 1 participants of the role group_admin")
    # A new room is below most minimums, and may grow.
    check_limits(policy(ONE), policy(TWO))


def test_a_role_keeps_its_minimum_of_active_participants() -> None:
    roles = changed(USER, minimum_active_participants_constraint=2)
    refused(
        policy(TWO, roles=roles),
        policy(TWO, roles=roles, clients={ALICE: 1, ANNA: 1}),
        "demands 2 active participants",
    )


def with_base(participants: dict[str, int], base: BaseRoomPolicy, **clients: int) -> RoomPolicy:
    users = {"alice": ALICE, "anna": ANNA, "bob": BOB}
    found = policy(participants, clients={users[name]: count for name, count in clients.items()})
    return replace(found, base=base)


def test_the_banned_do_not_count_as_users() -> None:
    base = BaseRoomPolicy(max_users=2)
    check_limits(with_base(ONE, base), with_base({**ONE, CAROL: BANNED}, base))
    refused(with_base(ONE, base), with_base(TWO, base), "allows 2 participants")


def test_a_group_has_no_more_clients_than_its_maximum() -> None:
    base = BaseRoomPolicy(max_clients=2)
    check_limits(with_base(ONE, base, alice=1), with_base(ONE, base, alice=2))
    refused(with_base(ONE, base, alice=2), with_base(ONE, base, alice=2, anna=1), "allows 2 clients")


def test_a_room_for_one_device_has_one_client_of_each_user() -> None:
    base = BaseRoomPolicy(multi_device=False)
    check_limits(with_base(ONE, base, alice=1), with_base(ONE, base, alice=1, anna=1))
    refused(with_base(ONE, base, alice=1), with_base(ONE, base, alice=2), "allows 1 clients of @alice")
    check_limits(with_base(ONE, base, alice=2), with_base(ONE, base, alice=2))
