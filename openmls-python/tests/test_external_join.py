"""External commits: joining, rejoining in place of a lost client, and what stays pending meanwhile."""

import pytest

from forge import with_tree
from openmls import (
    Client,
    InvalidCommit,
    InvalidProposal,
    InvalidSignature,
    MlsError,
    NotAllowed,
    SignatureKeyPair,
    UnknownGroup,
    group_info_details,
)
from support import GROUP_ID, Room, uri


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_a_client_joins_by_external_commit(room: Room) -> None:
    room.add("bob")
    staged = room.join("carol")
    assert staged.is_external
    assert staged.sender_leaf is None
    assert [(member.leaf_index, member.identity) for member in staged.added] == [(2, uri("carol"))]
    assert staged.committer == staged.added[0]
    assert staged.committer_identity == uri("carol")
    assert staged.proposal_kinds == ("external_init",)
    room.talk()


def test_a_joiner_takes_the_leftmost_free_leaf(room: Room) -> None:
    room.add("bob", "carol")
    room.accept(room.groups["alice"].commit(remove=[1]), "alice")
    assert room.join("dave").added[0].leaf_index == 1
    room.talk()


def test_a_joiner_without_any_former_state_replaces_its_lost_leaf(room: Room) -> None:
    room.add("bob", "carol")
    lost = room.groups.pop("bob")
    staged = room.join("bob", replace_leaf=1)
    assert [(member.leaf_index, member.identity) for member in staged.removed] == [(1, uri("bob"))]
    assert [(member.leaf_index, member.identity) for member in staged.added] == [(1, uri("bob"))]
    assert staged.removed[0].signature_key != staged.added[0].signature_key
    assert set(staged.proposal_kinds) == {"external_init", "remove"}
    room.talk()
    assert lost.epoch == 1


def test_the_signer_of_the_group_info_can_be_the_one_that_is_replaced(room: Room) -> None:
    room.add("bob")
    room.accept(room.groups["bob"].commit(), "bob")
    assert group_info_details(room.group_info).signer_leaf == 1
    del room.groups["bob"]
    room.join("bob", replace_leaf=1)
    room.talk()


def test_every_leaf_of_a_larger_tree_can_be_replaced_even_several_times(room: Room) -> None:
    names = [f"user{number}" for number in range(6)]
    room.add(*names)
    room.accept(room.groups["user1"].commit(remove=[room.leaf("user4")]), "user1")
    for name in ("user0", "user5", "alice", "user3", "user5"):
        leaf = room.leaf(name)
        del room.groups[name]
        staged = room.join(name, replace_leaf=leaf)
        assert [member.identity for member in staged.removed] == [uri(name)]
        room.talk()


def test_a_client_that_kept_its_signature_key_replaces_its_leaf_with_the_same_key(room: Room) -> None:
    key = SignatureKeyPair.generate()
    first = Client.create(identity=uri("bob"), signature_key=key)
    group, bundle = first.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    room.groups["bob"] = group
    room.accept(bundle, "bob")
    del room.groups["bob"]
    again = Client.create(identity=uri("bob"), signature_key=SignatureKeyPair.from_bytes(key.to_bytes()))
    group, bundle = again.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    room.groups["bob"] = group
    staged = room.accept(bundle, "bob")
    assert staged.removed[0].signature_key == staged.added[0].signature_key == key.public_key
    room.talk()


def test_replacing_another_leaf_than_the_one_with_our_key_is_refused(room: Room) -> None:
    room.add("bob")
    with pytest.raises(NotAllowed):
        room.clients["alice"].join_external(
            group_info=room.group_info, ratchet_tree=room.tree, replace_leaf=room.leaf("bob")
        )


def test_replacing_an_empty_leaf_is_refused(room: Room) -> None:
    room.add("bob", "carol")
    room.accept(room.groups["alice"].commit(remove=[1]), "alice")
    for leaf in (1, 3, 1 << 31):
        with pytest.raises(InvalidProposal):
            Client.create(identity=uri("bob")).join_external(
                group_info=room.group_info, ratchet_tree=room.tree, replace_leaf=leaf
            )


@pytest.mark.parametrize("replace_leaf", [None, 1])
def test_a_group_info_that_carries_its_tree_needs_no_other(room: Room, replace_leaf: int | None) -> None:
    room.add("bob", "carol")
    details = group_info_details(room.group_info)
    assert details.has_external_pub
    assert not details.has_ratchet_tree
    client = room.client("dave")
    with pytest.raises(NotAllowed):
        client.join_external(group_info=room.group_info, ratchet_tree=None, replace_leaf=replace_leaf)
    whole = with_tree(room.group_info, room.tree, room.clients["alice"])
    group, bundle = client.join_external(group_info=whole, ratchet_tree=None, replace_leaf=replace_leaf)
    if replace_leaf is not None:
        del room.groups["bob"]
    room.groups["dave"] = group
    room.accept(bundle, "dave")
    room.talk()


@pytest.mark.parametrize("replace_leaf", [None, 1])
def test_no_bit_of_group_info_or_tree_can_be_flipped_unnoticed(room: Room, replace_leaf: int | None) -> None:
    room.add("bob")
    carol = Client.create(identity=uri("bob"))
    for position in range(0, len(room.group_info), 5):
        with pytest.raises(MlsError):
            carol.join_external(
                group_info=flip(room.group_info, position), ratchet_tree=room.tree, replace_leaf=replace_leaf
            )
    for position in range(0, len(room.tree), 5):
        with pytest.raises(MlsError):
            carol.join_external(
                group_info=room.group_info, ratchet_tree=flip(room.tree, position), replace_leaf=replace_leaf
            )
    assert carol.group_ids() == ()


def test_a_group_info_of_one_epoch_with_the_tree_of_another_is_refused(room: Room) -> None:
    old_info, old_tree = room.group_info, room.tree
    room.add("bob")
    carol = Client.create(identity=uri("carol"))
    with pytest.raises(InvalidCommit):
        carol.join_external(group_info=room.group_info, ratchet_tree=old_tree)
    with pytest.raises((InvalidCommit, InvalidSignature)):
        carol.join_external(group_info=old_info, ratchet_tree=room.tree)


def test_pending_self_removes_are_stapled_to_the_external_commit(room: Room) -> None:
    room.add("bob", "carol")
    proposal = room.groups["bob"].propose_self_remove()
    info = room.hub.add_proposal(proposal)
    for name in ("alice", "carol"):
        room.groups[name].process(proposal)
    dave = room.client("dave")
    group, bundle = dave.join_external(
        group_info=room.group_info, ratchet_tree=room.tree, proposals=[proposal]
    )
    room.groups["dave"] = group
    staged = room.accept(bundle, "dave")
    assert staged.proposal_references == (info.reference,)
    assert [member.identity for member in staged.removed] == [uri("bob")]
    assert staged.added[0].leaf_index == 1
    room.talk()


def test_a_forged_self_remove_is_not_stapled(room: Room) -> None:
    room.add("bob")
    proposal = bytearray(room.groups["bob"].propose_self_remove())
    proposal[-70] ^= 1
    with pytest.raises(MlsError):
        Client.create(identity=uri("dave")).join_external(
            group_info=room.group_info, ratchet_tree=room.tree, proposals=[bytes(proposal)]
        )


def test_a_group_being_joined_is_not_active_until_the_commit_is_merged(room: Room) -> None:
    carol = room.client("carol")
    group, bundle = carol.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    assert not group.is_active
    assert group.has_pending_commit
    assert group.epoch == 0
    assert group.own_leaf_index == 1
    for attempt in (group.commit, group.members, group.group_info, lambda: group.encrypt(b"x")):
        with pytest.raises(NotAllowed):
            attempt()
    room.groups["carol"] = group
    room.accept(bundle, "carol")
    assert carol.group(GROUP_ID).is_active
    assert carol.group(GROUP_ID).epoch == 1


def test_a_refused_external_commit_is_cleared_and_tried_again(room: Room) -> None:
    carol = room.client("carol")
    group, late = carol.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    room.accept(room.groups["alice"].commit(), "alice")
    with pytest.raises(MlsError):
        room.hub.stage_commit(late.commit)
    group.clear_pending_commit()
    assert carol.group_ids() == ()
    with pytest.raises(UnknownGroup):
        _ = group.epoch
    group, bundle = carol.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    room.groups["carol"] = group
    room.accept(bundle, "carol")
    room.talk()


def test_a_member_that_rejoins_keeps_reading_until_its_new_state_is_merged(room: Room) -> None:
    room.add("bob")
    bob, old = room.clients["bob"], room.groups["bob"]
    group, bundle = bob.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    assert old.is_active
    assert old.process(room.groups["alice"].encrypt(b"meanwhile")).plaintext == b"meanwhile"
    with pytest.raises(NotAllowed):
        old.commit()
    group.clear_pending_commit()
    assert old.is_active
    group, bundle = bob.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    room.groups["bob"] = group
    room.accept(bundle, "bob")
    assert old.epoch == 2
    room.talk()


def test_a_pending_external_join_survives_saving(room: Room) -> None:
    carol = room.client("carol")
    _, bundle = carol.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    restored = Client.load(carol.save())
    assert restored.save() == carol.save()
    room.groups["carol"] = restored.group(GROUP_ID)
    assert not room.groups["carol"].is_active
    room.accept(bundle, "carol")
    room.talk()


def test_a_group_of_another_ciphersuite_is_refused(room: Room) -> None:
    with pytest.raises(NotAllowed):
        Client.create(identity=uri("carol"), ciphersuite=3).join_external(
            group_info=room.group_info, ratchet_tree=room.tree
        )
