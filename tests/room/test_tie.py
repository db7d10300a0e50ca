"""Checks of the tie that no client of ours would trip: what a stranger's MLS implementation could send."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from linearized.mimi.participants import PARTICIPANT_LIST, ParticipantListUpdate
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import check_identities_kept, check_proposals, resulting_app_data
from tests.room.support import grouped_room


def update(payload: bytes = b"", *, operation: str = "update") -> Any:
    return SimpleNamespace(component_id=PARTICIPANT_LIST, operation=operation, payload=payload)


@pytest.mark.parametrize(
    "updates", [[update(operation="remove")], [update(ParticipantListUpdate().encode())] * 2]
)
def test_a_component_is_updated_once_and_never_removed(updates: list[Any]) -> None:
    _, alice, _ = grouped_room()
    group: Any = alice.joined()
    with pytest.raises(Rejected) as raised:
        resulting_app_data(group, updates)
    assert raised.value.code is Reason.INVALID_PROPOSAL


@pytest.mark.parametrize("kind", ["psk", "reinit", "group_context_extensions"])
def test_a_proposal_that_changes_more_than_leaves_and_app_data_is_refused(kind: str) -> None:
    staged: Any = SimpleNamespace(proposal_kinds=("add", kind))
    with pytest.raises(Rejected) as raised:
        check_proposals(staged)
    assert raised.value.code is Reason.INVALID_PROPOSAL
    assert kind in str(raised.value)


def test_an_update_keeps_whose_leaf_it_is() -> None:
    mine, yours = (SimpleNamespace(leaf_index=0, identity=identity) for identity in (b"me", b"you"))
    group: Any = SimpleNamespace(members=lambda: [mine])
    kept: Any = SimpleNamespace(updated=[mine])
    check_identities_kept(group, kept)
    changed: Any = SimpleNamespace(updated=[yours])
    with pytest.raises(Rejected) as raised:
        check_identities_kept(group, changed)
    assert raised.value.code is Reason.INVALID_COMMIT
