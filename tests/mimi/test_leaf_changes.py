"""What handshakes do to the leaves of a group."""

from __future__ import annotations

import time

import openmls
import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.key_material import basic_identity
from linearized.mimi.leaf_changes import (
    LeafChange,
    committed_changes,
    leaf_credentials,
    proposed_change,
)
from linearized.mimi.tls import encode_vector

LIFETIME = 86_400 * 30


def client(name: str) -> openmls.Client:
    return openmls.Client.create(identity=name.encode())


def package(of: openmls.Client) -> bytes:
    return of.key_package(now=int(time.time()), lifetime=LIFETIME)


def grouped(*names: str) -> tuple[openmls.Group, bytes]:
    """A group of Bob's with more clients, and its tree."""
    group = client("bob").create_group(group_id=b"g", app_data={})
    bundle = group.commit(add=[package(client(name)) for name in names])
    group.merge_pending_commit()
    return group, bundle.ratchet_tree


def names(tree: bytes) -> dict[int, str]:
    return {leaf: basic_identity(found).decode() for leaf, found in leaf_credentials(tree).items()}


def test_the_leaves_of_a_tree_are_found_around_blanks_and_parents() -> None:
    group, tree = grouped("one", "two", "three")
    assert names(tree) == {0: "bob", 1: "one", 2: "two", 3: "three"}
    after = group.commit(remove=[2]).ratchet_tree
    assert names(after) == {0: "bob", 1: "one", 3: "three"}


def test_a_malformed_tree_is_refused() -> None:
    _, tree = grouped("one", "two")
    for bad in (
        tree[:-1],
        tree + b"\0",
        encode_vector(b"\1\2"),
        encode_vector(b"\1\7"),
        encode_vector(b"\0\1\1"),
    ):
        with pytest.raises(MimiDecodeError):
            leaf_credentials(bad)


def test_proposals_say_what_they_blank_or_put_in_and_whether_they_come_from_outside() -> None:
    group, _ = grouped("one", "two")
    removal = proposed_change(group.propose_remove(2))
    assert (removal.epoch, removal.external, removal.change) == (group.epoch, False, LeafChange(removed=2))
    leaving = proposed_change(group.propose_self_remove())
    assert leaving.change == LeafChange(removed=0)
    assert proposed_change(group.propose_update()).change == LeafChange()
    with pytest.raises(MimiDecodeError):
        proposed_change(group.commit().commit)


def test_a_commit_says_what_it_does_by_value_and_what_it_names() -> None:
    group, _ = grouped("one", "two")
    reference = openmls.proposal_reference(group.propose_remove(2), ciphersuite=1)
    new = package(client("three"))
    commit = committed_changes(group.commit(add=[new], remove=[1]).commit)
    assert commit.references == (reference,)
    assert {change.removed for change in commit.changes} == {1, None}
    (added,) = [change.added for change in commit.changes if change.added is not None]
    assert openmls.key_package_reference(added) == openmls.key_package_reference(new)
    assert (commit.epoch, commit.joiner) == (group.epoch, None)
    group.clear_pending_commit()
    with pytest.raises(MimiDecodeError):
        committed_changes(group.propose_self_remove())
