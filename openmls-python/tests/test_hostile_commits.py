"""Commits with a good signature by a member, or joiner, that a hub must refuse all the same."""

import pytest

from forge import BY_REFERENCE, BY_VALUE, ForgedKeyPackage, Forgery, Leaf, Reader, vector
from openmls import (
    Client,
    InvalidCommit,
    InvalidProposal,
    InvalidSignature,
    MalformedMessage,
    MlsError,
    NotAllowed,
    SignatureKeyPair,
)
from support import GROUP_ID, WEEK, Room, ref_of, uri

COMPONENT = 0x8001
ADD, REINIT, SELF_REMOVE, REMOVE = b"\x00\x01", b"\x00\x05", b"\x00\x0a", b"\x00\x03"


def app_data_update(payload: bytes, component: int = COMPONENT) -> bytes:
    return b"\x00\x08" + component.to_bytes(2, "big") + b"\x01" + vector(payload)


def app_data_remove(component: int = COMPONENT) -> bytes:
    return b"\x00\x08" + component.to_bytes(2, "big") + b"\x02"


def remove(leaf: int) -> bytes:
    return REMOVE + leaf.to_bytes(4, "big")


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now, app_data={COMPONENT: b"state"})
    room.add("bob", "carol")
    return room


def with_proposals(room: Room, committer: str, *proposals: bytes, shape: tuple[int, ...] = ()) -> bytes:
    """An honest commit of ``committer``, but with these proposals (each with its ProposalOrRef type).

    The update path is that of a commit that removes the leaves in ``shape``.
    """
    forgery = Forgery.read(room.groups[committer].commit(remove=shape).commit)
    room.groups[committer].clear_pending_commit()
    forgery.proposals = b"".join(proposals)
    return forgery.sign(room.clients[committer], room.hub.group_context())


def refused(
    room: Room,
    commit: bytes,
    error: type[MlsError],
    new_app_data: dict[int, bytes] | None = None,
    match: str | None = None,
) -> None:
    """The hub refuses the commit, and nothing about the group changed."""
    before = room.hub.save()
    with pytest.raises(error, match=match):
        room.hub.stage_commit(commit, new_app_data=new_app_data or {})
    assert room.hub.save() == before


def test_the_forger_makes_valid_commits_if_it_changes_nothing(room: Room) -> None:
    staged = room.hub.stage_commit(with_proposals(room, "bob"))
    assert staged.committer_identity == uri("bob")
    staged = room.hub.stage_commit(with_proposals(room, "bob", BY_VALUE + remove(2), shape=(2,)))
    assert [member.leaf_index for member in staged.removed] == [2]
    data = {COMPONENT: b"new"}
    staged = room.hub.stage_commit(
        with_proposals(room, "bob", BY_VALUE + app_data_update(b"+")), new_app_data=data
    )
    assert staged.app_data == data
    staged = room.hub.stage_commit(with_proposals(room, "bob", BY_VALUE + app_data_remove()))
    assert staged.app_data == {}


def test_a_commit_signed_by_another_member_is_refused(room: Room) -> None:
    forgery = Forgery.read(room.groups["bob"].commit().commit)
    refused(room, forgery.sign(room.clients["carol"], room.hub.group_context()), InvalidSignature)


def test_a_commit_signed_over_another_group_context_is_refused(room: Room) -> None:
    forgery = Forgery.read(room.groups["bob"].commit().commit)
    refused(room, forgery.sign(room.clients["bob"], room.hub.group_context() + b"\x00"), InvalidSignature)


def test_a_commit_with_a_flipped_signature_bit_is_refused(room: Room) -> None:
    forgery = Forgery.read(room.groups["bob"].commit().commit)
    forgery.signature = forgery.signature[:-1] + bytes([forgery.signature[-1] ^ 1])
    refused(room, forgery.encode(), InvalidSignature)


def test_a_commit_whose_leaf_is_signed_by_another_key_is_refused(room: Room) -> None:
    forgery = Forgery.read(room.groups["bob"].commit().commit)
    forgery.leaf.sign(room.clients["carol"], GROUP_ID, 1)
    refused(room, forgery.sign(room.clients["bob"], room.hub.group_context()), MlsError)


def test_a_self_remove_by_value_is_refused(room: Room) -> None:
    refused(room, with_proposals(room, "bob", BY_VALUE + SELF_REMOVE), InvalidProposal)


def test_a_committer_cannot_take_its_own_self_remove_by_reference(room: Room) -> None:
    info = room.hub.add_proposal(room.groups["bob"].propose_self_remove())
    refused(room, with_proposals(room, "bob", BY_REFERENCE + vector(ref_of(info))), InvalidCommit)


def test_a_committer_cannot_remove_itself(room: Room) -> None:
    refused(room, with_proposals(room, "bob", BY_VALUE + remove(1)), InvalidCommit)


def test_a_remove_beside_a_self_remove_of_the_same_leaf_is_refused(room: Room) -> None:
    info = room.hub.add_proposal(room.groups["carol"].propose_self_remove())
    commit = with_proposals(
        room, "bob", BY_REFERENCE + vector(ref_of(info)), BY_VALUE + remove(2), shape=(2,)
    )
    refused(room, commit, InvalidProposal)


def test_two_removes_of_one_leaf_are_refused(room: Room) -> None:
    info = room.hub.add_proposal(room.groups["alice"].propose_remove(2))
    commit = with_proposals(
        room, "bob", BY_REFERENCE + vector(ref_of(info)), BY_VALUE + remove(2), shape=(2,)
    )
    refused(room, commit, InvalidProposal)


@pytest.mark.parametrize(
    ("usage", "group_id", "nonce"),
    [(1, b"another", 32), (2, GROUP_ID, 32), (3, GROUP_ID, 32), (1, GROUP_ID, 16)],
    ids=["of another group", "for a re-init", "for a branch", "with a short nonce"],
)
def test_a_resumption_psk_that_does_not_belong_into_a_commit_is_refused(
    room: Room, usage: int, group_id: bytes, nonce: int
) -> None:
    psk = b"\x00\x04\x02" + bytes([usage]) + vector(group_id) + (1).to_bytes(8, "big") + vector(b"n" * nonce)
    refused(room, with_proposals(room, "bob", BY_VALUE + psk), InvalidProposal)


def test_a_remove_of_an_empty_leaf_is_refused(room: Room) -> None:
    refused(room, with_proposals(room, "bob", BY_VALUE + remove(3)), InvalidProposal)
    refused(room, with_proposals(room, "bob", BY_VALUE + remove(1 << 20)), InvalidProposal)


def test_an_unknown_proposal_reference_is_refused(room: Room) -> None:
    refused(room, with_proposals(room, "bob", BY_REFERENCE + vector(b"\x07" * 32)), InvalidProposal)


def test_a_reinit_beside_something_else_or_to_an_older_version_is_refused(room: Room) -> None:
    reinit = REINIT + vector(b"next") + b"\x00\x01\x00\x01" + vector(b"")
    beside = with_proposals(room, "bob", BY_VALUE + reinit, BY_VALUE + remove(2), shape=(2,))
    refused(room, beside, InvalidProposal)
    refused(room, with_proposals(room, "bob", BY_VALUE + reinit, BY_VALUE + reinit), InvalidProposal)
    older = REINIT + vector(b"next") + b"\x00\x00\x00\x01" + vector(b"")
    refused(room, with_proposals(room, "bob", BY_VALUE + older), InvalidProposal)


@pytest.mark.parametrize(
    "proposals",
    [
        [app_data_remove(), app_data_update(b"+")],
        [app_data_update(b"+"), app_data_remove()],
        [app_data_remove(0x8002)],
    ],
    ids=["removal and update", "update and removal", "removal of what is not there"],
)
def test_impossible_app_data_removals_are_refused(room: Room, proposals: list[bytes]) -> None:
    commit = with_proposals(room, "bob", *(BY_VALUE + proposal for proposal in proposals))
    updated = any(update.operation == "update" for update in room.hub.app_data_updates(commit))
    refused(room, commit, InvalidProposal, {COMPONENT: b"x"} if updated else {})


def test_a_member_cannot_take_the_signature_key_of_another_leaf(room: Room) -> None:
    # A key shared by two devices of one user is enough for that, and nobody could join the group any more.
    forgery = Forgery.read(room.groups["bob"].commit().commit)
    forgery.leaf.signature_key = room.clients["carol"].signature_key
    forgery.leaf.sign(room.clients["carol"], GROUP_ID, 1)
    refused(room, forgery.sign(room.clients["bob"], room.hub.group_context()), InvalidCommit)


def test_a_joiner_cannot_take_the_signature_key_of_another_leaf(room: Room) -> None:
    joiner = Client.create(identity=uri("dave"))
    _, bundle = joiner.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    forgery = Forgery.read(bundle.commit)
    forgery.leaf.signature_key = room.clients["carol"].signature_key
    forgery.leaf.sign(room.clients["carol"], GROUP_ID, 3)
    refused(room, forgery.sign(room.clients["carol"], room.hub.group_context()), InvalidCommit)


def test_a_joiner_removing_two_members_is_refused(room: Room) -> None:
    joiner = Client.create(identity=uri("bob"))
    _, bundle = joiner.join_external(group_info=room.group_info, ratchet_tree=room.tree, replace_leaf=1)
    forgery = Forgery.read(bundle.commit)
    forgery.proposals += BY_VALUE + remove(2)
    refused(room, forgery.sign(joiner, room.hub.group_context()), InvalidCommit)


def test_a_joiner_cannot_use_a_pending_remove_by_reference(room: Room) -> None:
    info = room.hub.add_proposal(room.groups["alice"].propose_remove(2))
    joiner = Client.create(identity=uri("dave"))
    _, bundle = joiner.join_external(group_info=room.group_info, ratchet_tree=room.tree)
    forgery = Forgery.read(bundle.commit)
    forgery.proposals += BY_REFERENCE + vector(ref_of(info))
    refused(room, forgery.sign(joiner, room.hub.group_context()), InvalidCommit)


def test_a_path_with_a_public_key_of_the_tree_is_refused(room: Room) -> None:
    tree = Reader(room.tree)
    tree = Reader(tree.vector())
    assert tree.take(2) == b"\x01\x01"  # node 0 is alice's leaf
    Leaf.read(tree)
    assert tree.take(2) == b"\x01\x02"  # node 1 is the parent of alice and bob
    forgery = Forgery.read(room.groups["bob"].commit().commit)
    forgery.leaf.encryption_key = tree.vector()
    forgery.leaf.sign(room.clients["bob"], GROUP_ID, 1)
    refused(room, forgery.sign(room.clients["bob"], room.hub.group_context()), InvalidCommit)


def adding(room: Room, *packages: bytes) -> bytes:
    """A commit of bob that adds these, whatever his own client would say to them."""
    honest = [Client.create(identity=uri(f"new{number}")) for number in range(len(packages))]
    shape = [client.key_package(now=room.now, lifetime=WEEK) for client in honest]
    forgery = Forgery.read(room.groups["bob"].commit(add=shape).commit)
    room.groups["bob"].clear_pending_commit()
    forgery.proposals = b"".join(BY_VALUE + ADD + package for package in packages)
    return forgery.sign(room.clients["bob"], room.hub.group_context())


def test_adding_a_client_that_is_a_member_already_is_refused(room: Room) -> None:
    room.client("dave")
    refused(room, adding(room, room.key_package("carol")), InvalidProposal, match="signature key")
    twice = adding(room, room.key_package("dave"), room.key_package("dave"))
    refused(room, twice, InvalidProposal, match="signature key")


@pytest.mark.parametrize("field", ["encryption_key", "init_key"])
def test_adding_two_clients_with_one_key_is_refused(room: Room, field: str) -> None:
    dave, erin = room.client("dave"), room.client("erin")
    first = ForgedKeyPackage.read(room.key_package("dave"))
    second = ForgedKeyPackage.read(room.key_package("erin"))
    setattr(second, field, getattr(first, field))
    commit = adding(room, first.sign(dave), second.sign(erin))
    refused(room, commit, InvalidProposal, match=field.replace("_", " "))


def test_adding_a_client_with_the_encryption_key_of_a_member_is_refused(room: Room) -> None:
    forged = ForgedKeyPackage.read(room.client("dave").key_package(now=room.now, lifetime=WEEK))
    forged.encryption_key = room.hub.members()[2].encryption_key
    commit = adding(room, forged.sign(room.clients["dave"]))
    refused(room, commit, InvalidProposal, match="encryption key")


def test_adding_an_expired_or_not_yet_valid_key_package_is_refused(room: Room) -> None:
    dave = room.client("dave")
    for start in (-2 * WEEK, WEEK):
        package = dave.key_package(now=room.now + start, lifetime=WEEK)
        refused(room, adding(room, package), InvalidProposal, match="(?i)lifetime|life time|expired|valid")


def test_an_encrypted_handshake_is_refused_by_the_hub_and_by_members(room: Room) -> None:
    for content_type in (b"\x02", b"\x03"):  # proposal, commit
        message = (
            b"\x00\x01\x00\x02"
            + vector(GROUP_ID)
            + room.hub.epoch.to_bytes(8, "big")
            + content_type
            + vector(b"")
            + vector(bytes(28))
            + vector(bytes(300))
        )
        before = room.hub.save(), room.clients["alice"].save()
        for take in (room.hub.stage_proposal, room.hub.add_proposal, room.groups["alice"].process):
            with pytest.raises(NotAllowed):
                take(message)
        refused(room, message, NotAllowed)
        assert (room.hub.save(), room.clients["alice"].save()) == before


def test_a_commit_with_an_unsupported_credential_is_refused(room: Room) -> None:
    forgery = Forgery.read(room.groups["bob"].commit().commit)
    forgery.leaf.credential = b"\xf0\x0d" + vector(uri("alice"))
    forgery.leaf.sign(room.clients["bob"], GROUP_ID, 1)
    refused(room, forgery.sign(room.clients["bob"], room.hub.group_context()), InvalidCommit)


def test_garbage_in_the_proposal_list_is_malformed(room: Room) -> None:
    refused(room, with_proposals(room, "bob", b"\x03"), MalformedMessage)
    refused(room, with_proposals(room, "bob", BY_VALUE + REMOVE), MalformedMessage)


def test_an_external_proposal_by_a_key_that_is_not_listed_is_refused(room: Room) -> None:
    with pytest.raises(InvalidSignature):
        room.hub.propose_remove(signer=SignatureKeyPair.generate(), sender_index=0, leaf_index=1)
    with pytest.raises(MlsError):
        room.hub.propose_remove(signer=room.hub_key, sender_index=1, leaf_index=1)
    with pytest.raises(InvalidProposal):
        room.hub.propose_remove(signer=room.hub_key, sender_index=0, leaf_index=9)


def test_members_refuse_a_commit_the_hub_could_not_see_through(room: Room) -> None:
    """The hub has no key for the tags; members do, and stay in their epoch."""
    honest = room.groups["bob"].commit().commit
    forgery = Forgery.read(honest)
    forgery.membership_tag = bytes(32)
    with pytest.raises(InvalidSignature):
        room.groups["alice"].process(forgery.encode())
    forgery = Forgery.read(honest)
    forgery.confirmation_tag = bytes(32)
    with pytest.raises(MlsError):
        room.groups["alice"].process(forgery.encode())
    room.check()
    assert room.groups["alice"].process(honest).kind == "commit"
