"""The GroupInfo that comes with a commit: whole, in part, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openmls

from linearized.mimi.handshake import GroupInfoOption, PartialGroupInfo, RatchetTreePresence
from linearized.room.submissions import Handshake, Reason
from tests.room.support import NOW, grouped_room, handshake, refusal


def partial_of(good: Handshake, **changes: Any) -> Handshake:
    """The same commit, with what a hub cannot work out of its GroupInfo in the place of all of it."""
    assert good.bundle.group_info is not None
    assert good.bundle.group_info.full is not None
    details = openmls.group_info_details(good.bundle.group_info.full)
    partial = PartialGroupInfo(
        ratchet_tree_presence=RatchetTreePresence.NO_RATCHET_TREE,
        group_info_extensions=details.extensions,
        signature=details.signature,
    )
    option = GroupInfoOption(partial=replace(partial, **changes))
    return replace(good, bundle=replace(good.bundle, group_info=option))


def test_a_partial_group_info_is_completed_and_checked_like_a_full_one() -> None:
    room, alice, _ = grouped_room()
    good = handshake(alice, alice.joined().commit())
    refusal(room, partial_of(good, signature=b""), Reason.INVALID_COMMIT)
    refusal(room, partial_of(good, group_info_extensions=b"\0"), Reason.INVALID_COMMIT)
    refusal(room, partial_of(good, ratchet_tree_presence=RatchetTreePresence.PRESENT), Reason.INVALID_COMMIT)
    accepted = room.submit(partial_of(good), now=NOW)
    assert accepted.group is not None
    assert good.bundle.group_info is not None
    assert accepted.group.group_info == good.bundle.group_info.full


def test_a_commit_without_any_group_info_is_malformed() -> None:
    room, alice, _ = grouped_room()
    good = handshake(alice, alice.joined().commit())
    refusal(room, replace(good, bundle=replace(good.bundle, group_info=None)), Reason.MALFORMED)
