"""The base policy on the wire, and the rules of its text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.base import BaseRoomPolicy
from tests.mimi.support import u16, vec

PARENT = "mimi://a.example/r/parent"


def test_a_base_policy_is_written_as_the_draft_lays_it_out() -> None:
    policy = BaseRoomPolicy(
        fixed_membership=True,
        parent_dependant=True,
        parent_room=(PARENT,),
        max_users=3,
        policy_component_ids=(0x25, 0x26),
    )
    encoded = (
        b"\x01\x01"
        + vec(vec(PARENT.encode()))
        + b"\x01"
        + b"\x00"
        + b"\x01\x00\x00\x00\x03"
        + b"\x00\x01\x00"
        + vec(u16(0x25), u16(0x26))
    )
    assert policy.encode() == encoded
    assert BaseRoomPolicy.decode(encoded) == policy


def test_a_parent_room_is_named_by_those_that_depend_on_it_alone() -> None:
    for dependant, rooms in ((True, ()), (False, (PARENT,))):
        with pytest.raises(ValueError, match="parent-dependent"):
            BaseRoomPolicy(parent_dependant=dependant, parent_room=rooms)


def test_a_bool_is_zero_or_one() -> None:
    encoded = bytearray(BaseRoomPolicy().encode())
    encoded[0] = 2
    with pytest.raises(MimiDecodeError, match="2 is not a bool"):
        BaseRoomPolicy.decode(bytes(encoded))
    wrong: dict[str, Any] = {"multi_device": 1}
    with pytest.raises(ValueError, match="1 is not a bool"):
        replace(BaseRoomPolicy(), **wrong).encode()
