"""Joining codes in a room: who may make them, and what joining by one brings about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.presets import PRESETS
from linearized.mimi.policy.roles import NO_ROLE
from linearized.protocol.state import StateMap
from linearized.room.join_codes import admission_changes, check_join_codes
from linearized.room.policy import RoomPolicy
from linearized.room.submissions import Reason, Rejected
from tests.room.support import new_room

ALICE, BOB = "@alice:a.example", "@bob:b.example"


def state(*, invite: int = 50, **members: str) -> StateMap:
    """A room of Alice's, with the memberships of others by localpart."""

    def event(content: dict[str, object], sender: str = ALICE) -> Any:
        return SimpleNamespace(content=content, sender=sender)

    levels = {"invite": invite, "users": {ALICE: 100}}
    found = {
        ("m.room.create", ""): event({}),
        ("m.room.power_levels", ""): event(levels),
        ("m.room.member", ALICE): event({"membership": "join"}),
    }
    for name, value in members.items():
        domain = "b.example" if name == "bob" else "a.example"
        found["m.room.member", f"@{name}:{domain}"] = event({"membership": value})
    return cast("StateMap", found)


def policy(**participants: int) -> RoomPolicy:
    roles = PRESETS["announcement"].roles
    listed = {f"@{name}:a.example": index for name, index in participants.items()}
    return RoomPolicy(roles=roles, participants=listed, clients={})


def refused(*arguments: Any, creates: bool = True) -> str:
    with pytest.raises(Rejected) as raised:
        check_join_codes(*arguments, creates=creates)
    assert raised.value.code is Reason.FORBIDDEN
    return str(raised.value)


def test_who_may_invite_may_make_and_revoke_codes() -> None:
    for creates in (True, False):
        check_join_codes(None, ALICE, state(), creates=creates)


def test_who_is_not_in_the_room_or_may_not_invite_may_not() -> None:
    assert "not joined" in refused(None, BOB, state(bob="invite"))
    assert "may not invite" in refused(None, BOB, state(bob="join"))
    check_join_codes(None, BOB, state(bob="join", invite=0), creates=True)


def test_in_a_room_with_a_policy_the_role_has_to_allow_it_too() -> None:
    levels = state(invite=0, ann="join")
    for creates, capability in (
        (True, Capability.CREATE_JOIN_CODE),
        (False, Capability.DELETE_JOIN_CODE),
    ):
        check_join_codes(policy(alice=4), ALICE, levels, creates=creates)
        text = refused(policy(ann=2), "@ann:a.example", levels, creates=creates)
        assert capability.label in text


def test_joining_by_a_code_is_an_invitation_and_a_join() -> None:
    changes = admission_changes(BOB, ALICE, state())
    assert [(change.sender, change.state_key, change.content["membership"]) for change in changes] == [
        (ALICE, BOB, "invite"),
        (BOB, BOB, "join"),
    ]
    invited = admission_changes(BOB, ALICE, state(bob="invite"))
    assert [change.content["membership"] for change in invited] == ["join"]
    assert admission_changes(BOB, ALICE, state(bob="join")) == []
    assert admission_changes(BOB, None, state()) == []


def test_a_code_leads_to_the_roles_that_the_policy_names_and_to_no_others() -> None:
    lobby = policy(alice=4)
    assert lobby.may_enter(BOB, 2, by_code=True)
    assert not lobby.may_enter(BOB, 2)
    for index in (NO_ROLE, 3, 4):
        assert not lobby.may_enter(BOB, index, by_code=True)
    direct = RoomPolicy(roles=PRESETS["direct"].roles, participants={}, clients={})
    assert not direct.may_enter(BOB, 2, by_code=True)


def test_a_room_asks_its_own_state() -> None:
    room = new_room()
    room.check_join_codes(ALICE, creates=True)
    with pytest.raises(Rejected, match="not joined"):
        room.check_join_codes(BOB, creates=True)
