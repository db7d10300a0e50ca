"""Completing a GroupInfo of which the committer sent only what its commit does not determine."""

import pytest

from forge import extension_vector, vector, with_tree
from openmls import (
    Client,
    CommitBundle,
    InvalidSignature,
    MalformedMessage,
    MlsError,
    NotAllowed,
    PublicGroup,
    group_info_details,
)
from support import Room, uri

RATCHET_TREE, EXTERNAL_PUB = 2, 4


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now)
    room.add("bob", "carol")
    return room


def partial(bundle: CommitBundle) -> dict[str, bytes]:
    """What a PartialGroupInfo holds."""
    details = group_info_details(bundle.group_info)
    return {"extensions": details.extensions, "signature": details.signature}


def test_a_group_info_is_rebuilt_byte_for_byte(room: Room) -> None:
    bundle = room.groups["bob"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    rebuilt = room.hub.rebuild_group_info(staged=staged, **partial(bundle))
    assert rebuilt == bundle.group_info
    room.hub.verify_group_info(staged=staged, group_info=rebuilt)


def test_the_group_info_of_a_joiner_is_rebuilt_and_the_next_one_joins_by_it(room: Room) -> None:
    dave = room.client("dave")
    room.groups["dave"], bundle = dave.join_external(
        group_info=room.group_info, ratchet_tree=room.tree, replace_leaf=1
    )
    del room.groups["bob"]
    staged = room.hub.stage_commit(bundle.commit)
    rebuilt = room.hub.rebuild_group_info(staged=staged, **partial(bundle))
    assert rebuilt == bundle.group_info
    assert group_info_details(rebuilt).signer_leaf == staged.committer.leaf_index == 1
    room.accept(bundle, "dave")
    room.group_info = rebuilt
    room.join("erin")
    room.talk()


def test_a_wrong_signature_is_refused(room: Room) -> None:
    bundle = room.groups["bob"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    parts = partial(bundle)
    signed = bundle.group_info[: -len(vector(parts["signature"]))]
    by_another = room.clients["carol"].sign_with_label(label="GroupInfoTBS", content=signed)
    flipped = parts["signature"][:-1] + bytes([parts["signature"][-1] ^ 1])
    other_label = room.clients["bob"].sign_with_label(label="GroupInfo", content=signed)
    for signature in (by_another, flipped, other_label, b"", bytes(64)):
        with pytest.raises(InvalidSignature):
            room.hub.rebuild_group_info(staged=staged, extensions=parts["extensions"], signature=signature)


def test_extensions_that_were_not_signed_are_refused(room: Room) -> None:
    bundle = room.groups["bob"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    signature = partial(bundle)["signature"]
    for extensions in ({}, {EXTERNAL_PUB: vector(b"key")}, {0xF000: b""}):
        with pytest.raises(InvalidSignature):
            room.hub.rebuild_group_info(
                staged=staged, extensions=extension_vector(extensions), signature=signature
            )


def test_a_ratchet_tree_among_the_extensions_is_refused_though_it_is_signed(room: Room) -> None:
    bundle = room.groups["bob"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    full = group_info_details(with_tree(bundle.group_info, bundle.ratchet_tree, room.clients["bob"]))
    assert full.has_ratchet_tree
    with pytest.raises(MalformedMessage, match="ratchet tree"):
        room.hub.rebuild_group_info(staged=staged, extensions=full.extensions, signature=full.signature)


def test_malformed_extensions_are_refused(room: Room) -> None:
    bundle = room.groups["bob"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    parts = partial(bundle)
    good = parts["extensions"]
    twice = vector(2 * (b"\xf0\x00" + vector(b"x")))
    wrong_place = extension_vector({3: vector(b"") * 3})  # required_capabilities belong into a GroupContext
    for extensions in (b"", good[:-1], good + b"\x00", b"\x05abc", twice, wrong_place, b"\xff" * 9):
        with pytest.raises(MalformedMessage):
            room.hub.rebuild_group_info(staged=staged, extensions=extensions, signature=parts["signature"])


def test_a_partial_group_info_of_another_commit_is_refused(room: Room) -> None:
    bundle, other = room.groups["bob"].commit(), room.groups["carol"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    with pytest.raises(InvalidSignature):
        room.hub.rebuild_group_info(staged=staged, **partial(other))
    twin = PublicGroup.load(room.hub.save())
    with pytest.raises(NotAllowed):
        twin.rebuild_group_info(staged=staged, **partial(bundle))


def test_no_byte_of_a_partial_group_info_can_be_changed_unnoticed(room: Room) -> None:
    bundle = room.groups["bob"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    parts = partial(bundle)
    before = room.hub.save()
    for name, data in parts.items():
        for position in range(len(data)):
            damaged = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
            with pytest.raises(MlsError):
                room.hub.rebuild_group_info(staged=staged, **{**parts, name: damaged})
    assert room.hub.save() == before
    room.hub.rebuild_group_info(staged=staged, **parts)


def test_the_details_of_a_group_info_hold_what_makes_it_partial(room: Room) -> None:
    details = group_info_details(room.group_info)
    assert room.group_info == (
        details.group_context
        + details.extensions
        + vector(details.confirmation_tag)
        + details.signer_leaf.to_bytes(4, "big")
        + vector(details.signature)
    )
    assert details.has_external_pub
    assert not details.has_ratchet_tree


def test_a_stale_group_info_is_refused_by_observe_and_by_a_joiner(room: Room) -> None:
    stale = room.group_info
    room.accept(room.groups["bob"].commit(), "bob")
    with pytest.raises(MlsError):
        PublicGroup.observe(group_info=stale, ratchet_tree=room.tree)
    with pytest.raises(MlsError):
        Client.create(identity=uri("dave")).join_external(group_info=stale, ratchet_tree=room.tree)
