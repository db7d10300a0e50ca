"""The delivery service's side: beginning to observe, staging without effect, merging, checking GroupInfos."""

import pytest

from forge import vector, with_tree
from openmls import (
    Client,
    InvalidCommit,
    InvalidProposal,
    InvalidSignature,
    MalformedMessage,
    MlsError,
    NotAllowed,
    PublicGroup,
    SignatureKeyPair,
    UnknownGroup,
    WrongEpoch,
    group_info_details,
)
from support import GROUP_ID, WEEK, Room, uri


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_a_group_is_observed_in_the_middle_of_its_life(room: Room) -> None:
    room.add("bob", "carol")
    late = PublicGroup.observe(group_info=room.group_info, ratchet_tree=room.tree)
    assert late.group_context() == room.hub.group_context()
    assert late.members() == room.hub.members()
    bundle = room.groups["carol"].commit()
    late.merge(late.stage_commit(bundle.commit))
    room.accept(bundle, "carol")
    assert late.group_context() == room.hub.group_context()


def test_observing_accepts_a_group_info_wrapped_in_an_mls_message(room: Room) -> None:
    wrapped = b"\x00\x01\x00\x04" + room.group_info
    assert PublicGroup.observe(group_info=wrapped, ratchet_tree=room.tree).group_id == GROUP_ID


def test_observing_needs_the_tree(room: Room) -> None:
    with pytest.raises(NotAllowed):
        PublicGroup.observe(group_info=room.group_info, ratchet_tree=None)


def test_observing_with_the_tree_of_another_epoch_is_refused(room: Room) -> None:
    old = room.tree
    room.add("bob")
    with pytest.raises(InvalidCommit):
        PublicGroup.observe(group_info=room.group_info, ratchet_tree=old)


def test_no_bit_of_group_info_or_tree_can_be_flipped_unnoticed(room: Room) -> None:
    room.add("bob", "carol")
    for position in range(0, len(room.group_info), 7):
        with pytest.raises(MlsError):
            PublicGroup.observe(group_info=flip(room.group_info, position), ratchet_tree=room.tree)
    for position in range(0, len(room.tree), 7):
        with pytest.raises(MlsError):
            PublicGroup.observe(group_info=room.group_info, ratchet_tree=flip(room.tree, position))


def test_a_leaf_whose_lifetime_is_over_is_refused_only_if_asked(now: int) -> None:
    """RFC 9420 section 7.3 recommends the check, but old members must not lock a group for newcomers."""
    long_ago = now - 200 * 24 * 3600
    alice = Client.create(identity=uri("alice"))
    group = alice.create_group(group_id=GROUP_ID, now=long_ago)
    group_info, tree = group.group_info()
    with pytest.raises(InvalidCommit):
        PublicGroup.observe(group_info=group_info, ratchet_tree=tree, now=now)
    PublicGroup.observe(group_info=group_info, ratchet_tree=tree, now=long_ago)
    hub = PublicGroup.observe(group_info=group_info, ratchet_tree=tree)
    assert hub.export_ratchet_tree() == tree
    assert hub.group_context() == group.group_context()
    assert PublicGroup.load(hub.save()).export_ratchet_tree() == tree
    bob = Client.create(identity=uri("bob"))
    joined, bundle = bob.join_external(group_info=group_info, ratchet_tree=tree)
    staged = hub.stage_commit(bundle.commit)
    hub.verify_group_info(staged=staged, group_info=bundle.group_info)
    hub.merge(staged)
    joined.merge_pending_commit()
    group.process(bundle.commit)
    assert group.group_context() == joined.group_context() == hub.group_context()
    carol = Client.create(identity=uri("carol"))
    bundle = joined.commit(add=[carol.key_package(now=now, lifetime=WEEK)])
    assert bundle.welcome is not None
    carol.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)


def test_a_stale_tree_is_verified_like_any_other(now: int) -> None:
    alice = Client.create(identity=uri("alice"))
    group_info, tree = alice.create_group(group_id=GROUP_ID, now=now - 200 * 24 * 3600).group_info()
    for position in range(0, len(tree), 3):
        with pytest.raises(MlsError):
            PublicGroup.observe(group_info=group_info, ratchet_tree=flip(tree, position))
    for position in range(0, len(group_info), 3):
        with pytest.raises(MlsError):
            PublicGroup.observe(group_info=flip(group_info, position), ratchet_tree=tree)


def test_staging_changes_nothing_and_may_be_repeated(room: Room) -> None:
    room.add("bob")
    before = room.hub.save()
    bundle = room.groups["bob"].commit(remove=[0])
    first = room.hub.stage_commit(bundle.commit)
    second = room.hub.stage_commit(bundle.commit)
    assert first.group_context == second.group_context
    assert room.hub.save() == before
    assert room.hub.epoch == 1
    room.hub.merge(second)
    assert room.hub.epoch == 2
    with pytest.raises(NotAllowed):
        room.hub.merge(first)


def test_a_staged_commit_merges_once_and_only_where_it_was_staged(room: Room) -> None:
    room.add("bob")
    twin = PublicGroup.load(room.hub.save())
    staged = twin.stage_commit(room.groups["bob"].commit().commit)
    with pytest.raises(NotAllowed):
        room.hub.merge(staged)
    with pytest.raises(NotAllowed):
        room.hub.verify_group_info(staged=staged, group_info=room.group_info)
    twin.merge(staged)
    with pytest.raises(NotAllowed):
        twin.merge(staged)


def test_a_commit_of_a_past_epoch_is_refused_with_the_current_one(room: Room) -> None:
    room.add("bob")
    late = room.groups["bob"].commit()
    room.accept(room.groups["alice"].commit(), "alice")
    before = room.hub.save()
    with pytest.raises(WrongEpoch) as raised:
        room.hub.stage_commit(late.commit)
    assert raised.value.current_epoch == room.hub.epoch == 2
    assert raised.value.code == "wrongEpoch"
    assert room.hub.save() == before


def test_a_commit_of_another_group_is_refused(room: Room) -> None:
    other = room.clients["alice"].create_group(group_id=b"another")
    commit = other.commit().commit
    with pytest.raises(UnknownGroup):
        room.hub.stage_commit(commit)
    with pytest.raises(UnknownGroup):
        room.groups["alice"].process(commit)


def test_what_is_no_commit_is_not_staged_and_what_is_no_proposal_not_added(room: Room) -> None:
    room.add("bob")
    with pytest.raises(MalformedMessage):
        room.hub.stage_commit(room.groups["bob"].propose_remove(0))
    with pytest.raises(NotAllowed):
        room.hub.add_proposal(room.groups["alice"].commit().commit)
    with pytest.raises(NotAllowed):
        room.hub.stage_commit(room.groups["bob"].encrypt(b"x"))
    with pytest.raises(MalformedMessage):
        room.hub.stage_commit(b"\x00\x01\x00\x04" + room.group_info)


def test_a_proposal_is_verified_without_being_stored(room: Room) -> None:
    room.add("bob", "carol")
    proposal = room.groups["bob"].propose_remove(2)
    before = room.hub.save()
    info = room.hub.stage_proposal(proposal)
    assert (info.kind, info.sender_leaf, info.removed_leaf) == ("remove", 1, 2)
    assert room.hub.save() == before
    assert room.hub.proposals() == ()
    with pytest.raises(InvalidProposal):
        room.hub.stage_commit(room.groups["bob"].commit().commit)


def test_no_bit_of_a_proposal_can_be_flipped_unnoticed(room: Room) -> None:
    room.add("bob", "carol")
    proposal = room.groups["bob"].propose_remove(2)
    tag = 33  # the membership tag is for members to check
    for position in range(len(proposal) - tag):
        with pytest.raises(MlsError):
            room.hub.stage_proposal(flip(proposal, position))


def test_stored_proposals_survive_saving_and_are_used_by_reference(room: Room) -> None:
    room.add("bob", "carol")
    proposal = room.groups["bob"].propose_self_remove()
    info = room.hub.add_proposal(proposal)
    for name in ("alice", "carol"):
        room.groups[name].process(proposal)
    room.hub = PublicGroup.load(room.hub.save())
    assert [stored.reference for stored in room.hub.proposals()] == [info.reference]
    staged = room.accept(room.groups["alice"].commit(), "alice")
    assert staged.proposal_references == (info.reference,)


def test_the_group_info_must_belong_to_the_commit(room: Room) -> None:
    room.add("bob")
    old_info = room.group_info
    bundle = room.groups["alice"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    room.hub.verify_group_info(staged=staged, group_info=bundle.group_info)
    with pytest.raises(WrongEpoch):
        room.hub.verify_group_info(staged=staged, group_info=old_info)
    other = room.groups["bob"].commit()
    with pytest.raises(InvalidCommit):
        room.hub.verify_group_info(staged=staged, group_info=other.group_info)
    with pytest.raises(MalformedMessage):
        room.hub.verify_group_info(staged=staged, group_info=bundle.group_info + b"\x00")
    for position in range(len(bundle.group_info)):
        with pytest.raises(MlsError):
            room.hub.verify_group_info(staged=staged, group_info=flip(bundle.group_info, position))


def test_a_group_info_with_another_confirmation_tag_is_refused_though_it_is_signed(room: Room) -> None:
    room.add("bob")
    bundle = room.groups["bob"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    details = group_info_details(bundle.group_info)
    assert details.confirmation_tag == staged.confirmation_tag
    signature_length = 64 + 2
    signed = bundle.group_info[:-signature_length].replace(details.confirmation_tag, bytes(32))
    signature = room.clients["bob"].sign_with_label(label="GroupInfoTBS", content=signed)
    with pytest.raises(InvalidCommit):
        room.hub.verify_group_info(staged=staged, group_info=signed + vector(signature))


def test_a_group_info_signed_by_another_member_than_it_says_is_refused(room: Room) -> None:
    room.add("bob")
    bundle = room.groups["bob"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    signed = bundle.group_info[: -(64 + 2)]
    signature = room.clients["alice"].sign_with_label(label="GroupInfoTBS", content=signed)
    with pytest.raises(InvalidSignature):
        room.hub.verify_group_info(staged=staged, group_info=signed + vector(signature))
    nobody = signed[:-4] + (9).to_bytes(4, "big")
    signature = room.clients["bob"].sign_with_label(label="GroupInfoTBS", content=nobody)
    with pytest.raises(InvalidCommit):
        room.hub.verify_group_info(staged=staged, group_info=nobody + vector(signature))


def test_the_group_info_of_any_member_of_the_new_epoch_is_accepted(room: Room) -> None:
    room.add("bob")
    bundle = room.groups["alice"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    room.groups["bob"].process(bundle.commit)
    by_bob, _ = room.groups["bob"].group_info()
    assert group_info_details(by_bob).signer_leaf == 1
    room.hub.verify_group_info(staged=staged, group_info=by_bob)


def test_a_group_info_may_carry_its_tree_but_only_the_right_one(room: Room) -> None:
    old_tree = room.tree
    room.add("bob")
    bundle = room.groups["bob"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    right = with_tree(bundle.group_info, bundle.ratchet_tree, room.clients["bob"])
    assert group_info_details(right).has_ratchet_tree
    room.hub.verify_group_info(staged=staged, group_info=right)
    assert PublicGroup.observe(group_info=right, ratchet_tree=None).epoch == 2
    for tree in (old_tree, room.tree):
        wrong = with_tree(bundle.group_info, tree, room.clients["bob"])
        with pytest.raises(InvalidCommit):
            room.hub.verify_group_info(staged=staged, group_info=wrong)
        with pytest.raises(InvalidCommit):
            PublicGroup.observe(group_info=wrong, ratchet_tree=bundle.ratchet_tree)


def test_a_stale_group_is_observed_from_a_group_info_with_its_tree(now: int) -> None:
    alice = Client.create(identity=uri("alice"))
    group_info, tree = alice.create_group(group_id=GROUP_ID, now=now - 200 * 24 * 3600).group_info()
    hub = PublicGroup.observe(group_info=with_tree(group_info, tree, alice), ratchet_tree=None)
    assert hub.export_ratchet_tree() == tree


def test_external_senders_are_those_of_the_group(room: Room) -> None:
    room.add("bob")
    stranger = SignatureKeyPair.generate()
    with pytest.raises(InvalidSignature):
        room.hub.propose_remove(signer=stranger, sender_index=0, leaf_index=1)
    with pytest.raises(NotAllowed):
        room.hub.propose_remove(signer=room.hub_key, sender_index=3, leaf_index=1)
