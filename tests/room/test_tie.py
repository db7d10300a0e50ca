"""Checks of the tie that no client of ours would trip: what a stranger's MLS implementation could send."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ROOM_METADATA,
    ParticipantListUpdate,
    UserIndexRolePair,
)
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import check_identities_kept, check_proposals, resulting_app_data
from tests.room.support import BOB, Member, grouped_room, participant_list


def update(payload: bytes = b"", *, operation: str = "update", component: int = PARTICIPANT_LIST) -> Any:
    return SimpleNamespace(component_id=component, operation=operation, payload=payload)


@pytest.mark.parametrize(
    "updates",
    [
        [update(operation="remove")],
        [update(ParticipantListUpdate(removed=(0,)).encode())] * 2,
        [update(component=ROOM_METADATA)] * 2,
        [update(component=0x8001)],
    ],
    ids=["removed", "a user twice", "metadata twice", "unknown"],
)
def test_component_updates_that_a_room_does_not_take_are_refused(updates: list[Any]) -> None:
    _, alice, _ = grouped_room()
    group: Any = alice.joined()
    with pytest.raises(Rejected) as raised:
        resulting_app_data(group.app_data(), updates)
    assert raised.value.code is Reason.INVALID_PROPOSAL


def test_several_updates_of_the_participant_list_go_together() -> None:
    _, alice, _ = grouped_room(Member(BOB))
    group: Any = alice.joined()
    updates = [
        update(ParticipantListUpdate(removed=(0,)).encode()),
        update(ParticipantListUpdate(changed=(UserIndexRolePair(user_index=1, role_index=2),)).encode()),
    ]
    assert resulting_app_data(group.app_data(), updates) == {PARTICIPANT_LIST: participant_list((BOB, 2))}


@pytest.mark.parametrize("kind", ["psk", "reinit"])
def test_a_proposal_that_changes_more_than_leaves_and_app_data_is_refused(kind: str) -> None:
    staged: Any = SimpleNamespace(proposal_kinds=("add", kind))
    with pytest.raises(Rejected) as raised:
        check_proposals(staged)
    assert raised.value.code is Reason.INVALID_PROPOSAL
    assert kind in str(raised.value)


def test_an_update_keeps_whose_leaf_it_is() -> None:
    mine, yours = (SimpleNamespace(leaf_index=0, credential=credential) for credential in (b"me", b"you"))
    group: Any = SimpleNamespace(member={0: mine}.get)
    kept: Any = SimpleNamespace(updated=[mine])
    check_identities_kept(group, kept)
    elsewhere = SimpleNamespace(leaf_index=1, credential=b"me")
    for other in (yours, elsewhere):
        changed: Any = SimpleNamespace(updated=[other])
        with pytest.raises(Rejected) as raised:
            check_identities_kept(group, changed)
        assert raised.value.code is Reason.INVALID_COMMIT
