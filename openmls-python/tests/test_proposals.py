"""Proposals of a member, which another member commits by reference."""

from collections.abc import Callable

import pytest

from openmls import (
    Client,
    Group,
    InvalidKeyPackage,
    InvalidProposal,
    NotAllowed,
    RequiredCapabilities,
    inspect_message,
)
from support import GROUP_ID, WEEK, Room, ref_of, uri

TOPIC, ABSENT = 0x8001, 0x8003


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now, app_data={TOPIC: b"chess"})
    room.add("bob", "carol")
    return room


def spread(room: Room, proposal: bytes, by: str) -> bytes:
    """Let the hub and everybody else take a proposal; gives its reference."""
    info = room.hub.add_proposal(proposal)
    for name, group in room.groups.items():
        if name != by:
            processed = group.process(proposal)
            assert processed.proposal is not None
            assert processed.proposal.reference == info.reference
    assert info.reference in {pending.reference for pending in room.groups[by].pending_proposals()}
    message = inspect_message(proposal)
    assert (message.wire_format, message.content_type) == ("public_message", "proposal")
    assert message.sender_leaf_index == room.groups[by].own_leaf_index
    return ref_of(info)


def test_a_proposed_client_is_added_by_another_member(room: Room) -> None:
    dave = room.client("dave")
    proposal = room.groups["bob"].propose_add(room.key_package("dave"), now=room.now)
    reference = spread(room, proposal, "bob")
    bundle = room.groups["alice"].commit()
    staged = room.accept(bundle, "alice")
    assert staged.proposal_references == (reference,)
    assert [member.identity for member in staged.added] == [uri("dave")]
    assert bundle.welcome is not None
    room.groups["dave"] = dave.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    room.talk()


def test_a_key_package_that_is_not_valid_is_not_proposed(room: Room) -> None:
    bob = room.groups["bob"]
    with pytest.raises(InvalidKeyPackage):
        bob.propose_add(b"nonsense")
    package = Client.create(identity=uri("dave")).key_package(now=room.now, lifetime=WEEK)
    with pytest.raises(InvalidKeyPackage):
        bob.propose_add(package, now=room.now + WEEK)
    other = Client.create(identity=uri("dave"), ciphersuite=3).key_package(now=room.now, lifetime=WEEK)
    with pytest.raises(InvalidProposal):
        bob.propose_add(other)
    assert bob.pending_proposals() == ()


def test_an_update_gives_its_sender_new_keys_when_somebody_else_commits_it(room: Room) -> None:
    before = room.tree
    reference = spread(room, room.groups["bob"].propose_update(leaf_app_data={TOPIC: b"phone"}), "bob")
    bundle = room.groups["carol"].commit()
    staged = room.accept(bundle, "carol")
    assert staged.proposal_references == (reference,)
    assert staged.proposal_kinds == ("update",)
    assert [member.leaf_index for member in staged.updated] == [1]
    assert b"\x80\x01\x05phone" in room.tree
    assert b"\x80\x01\x05phone" not in before
    room.talk()
    # The new keys are in use: a path that is encrypted to them can be read.
    room.accept(room.groups["alice"].commit(), "alice")
    room.accept(room.groups["bob"].commit(), "bob")
    room.talk()


def test_an_update_survives_saving(room: Room) -> None:
    spread(room, room.groups["bob"].propose_update(), "bob")
    room.clients["bob"] = Client.load(room.clients["bob"].save())
    room.groups["bob"] = room.clients["bob"].group(GROUP_ID)
    room.accept(room.groups["alice"].commit(), "alice")
    room.talk()


def test_the_own_update_is_left_out_of_the_own_commit(room: Room) -> None:
    spread(room, room.groups["bob"].propose_update(), "bob")
    assert room.accept(room.groups["bob"].commit(), "bob").proposal_references == ()


def test_a_component_is_updated_and_another_removed_by_reference(room: Room) -> None:
    update = spread(room, room.groups["bob"].propose_app_data_update(ABSENT, b"new"), "bob")
    removal = spread(room, room.groups["carol"].propose_app_data_update(TOPIC, None), "carol")
    alice = room.groups["alice"]
    assert [
        (change.component_id, change.operation, change.sender_leaf)
        for change in alice.pending_app_data_updates()
    ] == [
        (ABSENT, "update", 1),
        (TOPIC, "remove", 2),
    ]
    staged = room.accept(alice.commit(new_app_data={ABSENT: b"new"}), "alice", {ABSENT: b"new"})
    assert set(staged.proposal_references) == {update, removal}
    assert staged.app_data == {ABSENT: b"new"}


def test_ephemeral_data_reaches_everybody_with_the_commit(room: Room) -> None:
    proposal = room.groups["bob"].propose_app_ephemeral(TOPIC, b"move e4")
    info = room.hub.add_proposal(proposal)
    assert (info.kind, info.sender_leaf) == ("app_ephemeral", 1)
    for name in ("alice", "carol"):
        (heard,) = room.groups[name].process(proposal).app_ephemeral
        assert (heard.component_id, heard.data, heard.sender_leaf) == (TOPIC, b"move e4", 1)
    bundle = room.groups["alice"].commit(app_ephemeral=[(TOPIC, b"move e5"), (TOPIC, b"move f4")])
    staged = room.hub.stage_commit(bundle.commit)
    room.hub.merge(staged)
    room.groups["alice"].merge_pending_commit()
    for name in ("bob", "carol"):
        processed = room.groups[name].process(bundle.commit)
        assert [(item.data, item.sender_leaf) for item in processed.app_ephemeral] == [
            (b"move e4", 1),
            (b"move e5", 0),
            (b"move f4", 0),
        ]
        assert processed.app_data == {TOPIC: b"chess"}
    room.check()
    room.talk()


@pytest.mark.parametrize("length", [0, 1, 63, 64, 16383, 16384])
def test_ephemeral_data_of_any_length_can_be_proposed(room: Room, length: int) -> None:
    spread(room, room.groups["bob"].propose_app_ephemeral(TOPIC, b"x" * length), "bob")
    spread(room, room.groups["carol"].propose_app_ephemeral(TOPIC, b"x" * length), "carol")
    assert len(room.accept(room.groups["alice"].commit(), "alice").proposal_references) == 2


def test_our_leaves_announce_that_they_understand_ephemeral_data(room: Room) -> None:
    stranger = Client.create(identity=uri("old")).key_package(now=room.now, lifetime=WEEK)
    assert b"\x06\x00\x08\x00\x09\x00\x0a" in stranger  # capabilities: the proposals we understand


def test_who_proposed_to_leave_can_still_propose_something_else(room: Room) -> None:
    bob = room.groups["bob"]
    leaving = spread(room, bob.propose_self_remove(), "bob")
    spread(room, bob.propose_app_ephemeral(TOPIC, b"good bye"), "bob")
    assert [info.kind for info in bob.pending_proposals()] == ["self_remove", "app_ephemeral"]
    assert bob.pending_proposals()[0].reference == leaving
    staged = room.accept(room.groups["alice"].commit(), "alice")
    assert [member.identity for member in staged.removed] == [uri("bob")]


def test_extensions_of_the_group_are_replaced_by_reference(room: Room) -> None:
    sender = (room.hub_key.public_key, b"other.example")
    proposal = room.groups["bob"].propose_group_context_extensions(external_senders=[sender])
    spread(room, proposal, "bob")
    room.accept(room.groups["alice"].commit(), "alice")
    for group in room.groups.values():
        assert group.external_senders() == (sender,)
        assert group.app_data() == {TOPIC: b"chess"}


def test_a_change_of_nothing_and_one_that_members_do_not_support_are_not_proposed(room: Room) -> None:
    bob = room.groups["bob"]
    with pytest.raises(NotAllowed):
        bob.propose_group_context_extensions()
    for required in (
        RequiredCapabilities.create(extensions=[6], proposals=[0xF001]),
        RequiredCapabilities.create(extensions=[6, 0xF001]),
        RequiredCapabilities.create(extensions=[6], credentials=[3]),
    ):
        with pytest.raises(InvalidProposal):
            bob.propose_group_context_extensions(required_capabilities=required)
    with pytest.raises(InvalidProposal):  # the dictionary is there and must stay understood
        room.groups["alice"].commit(required_capabilities=RequiredCapabilities.create())
    assert bob.pending_proposals() == ()


def test_pending_proposals_are_listed_dropped_one_by_one_and_all_at_once(room: Room) -> None:
    bob = room.groups["bob"]
    kinds: list[Callable[[Group], bytes]] = [
        lambda group: group.propose_remove(2),
        lambda group: group.propose_self_remove(),
        lambda group: group.propose_app_ephemeral(TOPIC, b""),
    ]
    for kind in kinds:
        kind(bob)
    first, second, third = bob.pending_proposals()
    assert [info.kind for info in (first, second, third)] == ["remove", "self_remove", "app_ephemeral"]
    bob.remove_pending_proposal(ref_of(second))
    with pytest.raises(NotAllowed):
        bob.remove_pending_proposal(ref_of(second))
    restored = Client.load(room.clients["bob"].save()).group(GROUP_ID)
    assert [info.reference for info in restored.pending_proposals()] == [first.reference, third.reference]
    bob.clear_pending_proposals()
    assert bob.pending_proposals() == ()
    bob.encrypt(b"nothing is in the way any more")


def test_pending_proposals_stay_while_a_commit_is_pending_and_after_it_is_dropped(
    room: Room,
) -> None:
    alice = room.groups["alice"]
    proposal = room.groups["bob"].propose_app_ephemeral(TOPIC, b"1")
    spread(room, proposal, "bob")
    spread(room, room.groups["carol"].propose_remove(1), "carol")
    before = [info.reference for info in alice.pending_proposals()]
    alice.commit(app_ephemeral=[(TOPIC, b"2")])
    assert [info.reference for info in alice.pending_proposals()] == before
    alice.clear_pending_commit()
    assert [info.reference for info in alice.pending_proposals()] == before
    assert len(room.accept(alice.commit(), "alice").proposal_references) == 2


def test_nothing_is_proposed_while_a_commit_is_pending_or_after_removal(room: Room) -> None:
    bob = room.groups["bob"]
    bob.commit()
    ways: list[Callable[[], bytes]] = [
        lambda: bob.propose_add(b""),
        bob.propose_update,
        lambda: bob.propose_remove(0),
        bob.propose_self_remove,
        lambda: bob.propose_app_data_update(TOPIC, b""),
        lambda: bob.propose_app_ephemeral(TOPIC, b""),
        bob.propose_group_context_extensions,
        lambda: bob.propose_reinit(group_id=b"next"),
    ]
    for way in ways:
        with pytest.raises(NotAllowed):
            way()
    bob.clear_pending_commit()
    room.accept(room.groups["alice"].commit(remove=[1]), "alice")
    for way in ways:
        with pytest.raises(NotAllowed):
            way()
