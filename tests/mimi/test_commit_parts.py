"""Taking commits apart, on commits that a real MLS implementation made."""

from __future__ import annotations

import time

import openmls
import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.commit_parts import (
    AppDataChange,
    commit_parts,
    proposed_app_data,
    proposed_key_package,
)
from linearized.mimi.key_material import basic_identity

ALICE, BOB = b"mimi://a.example/d/alice/1", b"mimi://b.example/d/bob/1"
LIFETIME = 7 * 24 * 3600


def client(identity: bytes) -> openmls.Client:
    return openmls.Client.create(identity=identity)


def key_package(owner: openmls.Client) -> bytes:
    return owner.key_package(now=int(time.time()), lifetime=LIFETIME)


def test_the_key_packages_of_a_commit_are_those_it_adds_and_nothing_else() -> None:
    group = client(ALICE).create_group(group_id=b"g")
    packages = [key_package(client(BOB)), key_package(client(b"mimi://c.example/d/cathy/1"))]
    bundle = group.commit(add=packages)
    assert commit_parts(bundle.commit).key_packages == tuple(packages)
    assert commit_parts(bundle.commit).joiner is None
    group.merge_pending_commit()
    removal = commit_parts(group.commit(remove=[1]).commit)
    assert (removal.epoch, removal.key_packages) == (1, ())


def test_proposals_by_reference_are_passed_over() -> None:
    alice, bob = client(ALICE), client(BOB)
    group = alice.create_group(group_id=b"g")
    bundle = group.commit(add=[key_package(bob)])
    group.merge_pending_commit()
    assert bundle.welcome is not None
    theirs = bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    group.process(theirs.propose_self_remove())
    package = key_package(client(b"mimi://c.example/d/cathy/1"))
    assert commit_parts(group.commit(add=[package]).commit).key_packages == (package,)


def test_an_external_commit_names_who_joins() -> None:
    group = client(ALICE).create_group(group_id=b"g")
    group_info, tree = group.group_info()
    _, bundle = client(BOB).join_external(group_info=group_info, ratchet_tree=tree)
    joiner = commit_parts(bundle.commit).joiner
    assert joiner is not None
    assert basic_identity(joiner) == BOB


def test_what_is_no_commit_is_refused() -> None:
    alice, bob = client(ALICE), client(BOB)
    group = alice.create_group(group_id=b"g")
    group.commit(add=[key_package(bob)])
    group.merge_pending_commit()
    with pytest.raises(MimiDecodeError):
        commit_parts(group.propose_remove(1))
    with pytest.raises(MimiDecodeError):
        commit_parts(b"\0\1\0\1")


def test_an_external_commit_without_a_path_is_refused() -> None:
    front = b"\0\1\0\1" + b"\1g" + bytes(8) + b"\4" + b"\0" + b"\3" + b"\0"
    with pytest.raises(MimiDecodeError, match="path"):
        commit_parts(front + b"\0")


def test_the_key_package_of_a_proposal_is_the_one_it_adds() -> None:
    alice, bob = client(ALICE), client(BOB)
    group = alice.create_group(group_id=b"g")
    package = key_package(bob)
    assert proposed_key_package(group.propose_add(package)) == package
    assert proposed_key_package(group.propose_update()) is None
    with pytest.raises(MimiDecodeError):
        proposed_key_package(group.commit().commit)


def test_the_proposals_of_external_senders_and_of_who_asks_to_join_are_read_too() -> None:
    key = openmls.SignatureKeyPair.generate()
    group = client(ALICE).create_group(group_id=b"g", external_senders=[(key.public_key, b"hub")])
    group_info, tree = group.group_info()
    seen = openmls.PublicGroup.observe(group_info=group_info, ratchet_tree=tree)
    package = key_package(client(BOB))
    proposal = seen.propose_add(signer=key, sender_index=0, key_package=package)
    assert proposed_key_package(proposal) == package
    # The same from a client that is not in the group: its sender has no index.
    header = proposal.index(b"\x02\x00\x00\x00\x00\x00")
    asked = proposal[:header] + b"\x03" + proposal[header + 5 :]
    assert proposed_key_package(asked) == package


def test_the_steps_of_a_commit_are_its_app_data_updates_and_references_in_order() -> None:
    group = client(ALICE).create_group(group_id=b"g", app_data={1: b"one", 2: b"two"})
    other = client(BOB).create_group(group_id=b"other")
    pending = group.propose_app_data_update(2, b"three")
    bundle = group.commit(
        app_data_updates={1: b"new"}, new_app_data={1: b"new", 2: b"three"}, app_data_removals=[]
    )
    assert set(commit_parts(bundle.commit).steps) == {
        AppDataChange(component=1, payload=b"new"),
        openmls.proposal_reference(pending, ciphersuite=1),
    }
    assert proposed_app_data(pending) == AppDataChange(component=2, payload=b"three")
    assert proposed_app_data(other.propose_update()) is None


def test_an_app_data_removal_has_no_payload_and_other_operations_are_refused() -> None:
    group = client(ALICE).create_group(group_id=b"g", app_data={1: b"one"})
    removal = group.propose_app_data_update(1, b"x" * 9)
    at = removal.index(b"x" * 9) - 2
    removed = removal[:at] + b"\2" + removal[at + 11 :]
    assert proposed_app_data(removed) == AppDataChange(component=1, payload=None)
    with pytest.raises(MimiDecodeError, match="3 is not an AppDataUpdate operation"):
        proposed_app_data(removal[:at] + b"\3" + removal[at + 1 :])
