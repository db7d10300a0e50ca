"""The GroupInfo that comes with a commit: whole, in part, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openmls
import pytest

from linearized.mimi.handshake import (
    GroupInfoOption,
    PartialGroupInfo,
    RatchetTreeOption,
    RatchetTreePresence,
    RatchetTreeRepresentation,
)
from linearized.room.submissions import Handshake, Reason
from tests.room.support import ALICE, NOW, Member, grouped_room, handshake, refusal


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
    for presence in (RatchetTreePresence.PRESENT, RatchetTreePresence.ADDED):
        refusal(room, partial_of(good, ratchet_tree_presence=presence), Reason.INVALID_COMMIT)
    accepted = room.submit(partial_of(good), now=NOW)
    assert accepted.group is not None
    assert good.bundle.group_info is not None
    assert accepted.group.group_info == good.bundle.group_info.full


def test_a_commit_without_any_group_info_is_malformed() -> None:
    room, alice, _ = grouped_room()
    good = handshake(alice, alice.joined().commit())
    refusal(room, replace(good, bundle=replace(good.bundle, group_info=None)), Reason.MALFORMED)


def test_a_partial_group_info_that_has_a_tree_no_more_is_one_without() -> None:
    room, alice, _ = grouped_room()
    good = handshake(alice, alice.joined().commit())
    accepted = room.submit(partial_of(good, ratchet_tree_presence=RatchetTreePresence.REMOVED), now=NOW)
    assert accepted.group is not None
    assert good.bundle.group_info is not None
    assert accepted.group.group_info == good.bundle.group_info.full


@pytest.mark.parametrize("name", ["full", "a false one", "by URL", "out of band", "by the hub"])
def test_whichever_way_a_tree_is_conveyed_the_hub_hands_on_the_one_it_has_worked_out(name: str) -> None:
    room, alice, before = grouped_room()
    assert before.group is not None
    tablet = Member(ALICE, "TABLET")
    good = handshake(alice, alice.joined().commit(add=[tablet.key_package()]))
    assert good.bundle.ratchet_tree is not None
    assert good.bundle.ratchet_tree.tree is not None
    option = {
        "full": good.bundle.ratchet_tree,
        "a false one": RatchetTreeOption.full(before.group.ratchet_tree),
        "by URL": RatchetTreeOption(
            representation=RatchetTreeRepresentation.HTTPS_URI,
            url="https://b.example/tree",
            tree_signature=b"signature",
        ),
        "out of band": RatchetTreeOption(
            representation=RatchetTreeRepresentation.OUT_OF_BAND, tree_signature=b"signature"
        ),
        "by the hub": RatchetTreeOption(representation=RatchetTreeRepresentation.DISTRIBUTION_SERVICE),
    }[name]
    accepted = room.submit(replace(good, bundle=replace(good.bundle, ratchet_tree=option)), now=NOW)
    (welcome,) = accepted.welcomes
    assert accepted.group is not None
    assert welcome.ratchet_tree == accepted.group.ratchet_tree == good.bundle.ratchet_tree.tree
