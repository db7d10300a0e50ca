"""What a commit can hold beside adds and removes, and what everybody learns from it."""

from typing import Any

import pytest

from openmls import (
    Client,
    InvalidKeyPackage,
    InvalidProposal,
    NotAllowed,
    PublicGroup,
    RequiredCapabilities,
    group_info_details,
)
from support import GROUP_ID, WEEK, Room, uri

TOPIC, NAME = 0x8001, 0x8002


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now, app_data={TOPIC: b"chess", NAME: b"club"})
    room.add("bob", "carol")
    return room


def test_a_member_learns_everything_that_a_commit_does(room: Room) -> None:
    room.client("dave")
    values = {NAME: b"house"}
    bundle = room.groups["alice"].commit(
        add=[room.key_package("dave")],
        remove=[2],
        app_data_updates=values,
        new_app_data=values,
        app_ephemeral=[(TOPIC, b"data")],
        leaf_app_data={TOPIC: b"laptop"},
        now=room.now,
    )
    processed = room.groups["bob"].process(bundle.commit, new_app_data=values, now=room.now)
    assert processed.committer is not None
    assert (processed.committer.leaf_index, processed.committer.identity) == (0, uri("alice"))
    assert [member.identity for member in processed.added] == [uri("dave")]
    assert [member.identity for member in processed.removed] == [uri("carol")]
    assert {info.kind for info in processed.proposals} == {
        "add",
        "remove",
        "app_data_update",
        "app_ephemeral",
    }
    assert processed.app_data == {TOPIC: b"chess", NAME: b"house"} == room.groups["bob"].app_data()
    assert [item.data for item in processed.app_ephemeral] == [b"data"]
    assert processed.proposal is None
    assert processed.safe_aad is None


def test_a_message_is_not_mistaken_for_a_commit(room: Room) -> None:
    heard = room.groups["alice"].process(room.groups["bob"].encrypt(b"hello"))
    assert heard.committer is None
    assert heard.app_data is None
    assert heard.proposals == ()
    assert heard.updated == ()
    assert heard.app_ephemeral == ()


def test_a_component_is_removed_by_value(room: Room) -> None:
    staged = room.accept(room.groups["bob"].commit(app_data_removals=[TOPIC]), "bob")
    assert staged.app_data == {NAME: b"club"}
    assert room.groups["alice"].app_data() == {NAME: b"club"}


def test_impossible_lists_of_proposals_are_refused_before_anything_is_made(room: Room) -> None:
    bob = room.groups["bob"]
    lists: list[dict[str, Any]] = [
        {"app_data_removals": [0x8003]},
        {"app_data_removals": [TOPIC], "app_data_updates": {TOPIC: b""}, "new_app_data": {TOPIC: b""}},
        {"app_data_removals": [TOPIC, TOPIC]},
        {"app_ephemeral": [(TOPIC, b"x"), (NAME, b"x"), (TOPIC, b"x")]},
    ]
    for arguments in lists:
        with pytest.raises(InvalidProposal):
            bob.commit(**arguments)
    assert not bob.has_pending_commit


def test_a_pending_change_of_a_component_that_the_committer_removes_is_left_out(room: Room) -> None:
    proposal = room.groups["bob"].propose_app_data_update(TOPIC, b"go")
    room.hub.add_proposal(proposal)
    for name in ("alice", "carol"):
        room.groups[name].process(proposal)
    staged = room.accept(room.groups["alice"].commit(app_data_removals=[TOPIC]), "alice")
    assert staged.proposal_references == ()
    assert staged.app_data == {NAME: b"club"}


def test_pending_proposals_are_committed_only_if_wanted(room: Room) -> None:
    proposal = room.groups["bob"].propose_remove(2)
    room.hub.add_proposal(proposal)
    for name in ("alice", "carol"):
        room.groups[name].process(proposal)
    update = room.groups["carol"].propose_app_data_update(TOPIC, b"go")
    room.hub.add_proposal(update)
    for name in ("alice", "bob"):
        room.groups[name].process(update)
    # No value is asked for what is not committed.
    staged = room.accept(room.groups["alice"].commit(pending=False), "alice")
    assert staged.proposal_references == ()
    assert len(room.hub.members()) == 3


def test_the_tree_can_be_inside_the_welcome_and_the_group_info(room: Room) -> None:
    room.client("dave")
    bundle = room.groups["alice"].commit(add=[room.key_package("dave")], ratchet_tree_extension=True)
    details = group_info_details(bundle.group_info)
    assert details.has_ratchet_tree
    assert details.has_external_pub
    room.accept(bundle, "alice")
    assert bundle.welcome is not None
    room.groups["dave"] = room.clients["dave"].join_welcome(welcome=bundle.welcome, ratchet_tree=None)
    room.check()
    room.talk()
    PublicGroup.observe(group_info=bundle.group_info, ratchet_tree=None)
    # The next commit is like any other again.
    bundle = room.groups["dave"].commit()
    assert not group_info_details(bundle.group_info).has_ratchet_tree
    room.accept(bundle, "dave")


def test_a_committer_changes_the_components_of_its_leaf(room: Room) -> None:
    bob = room.groups["bob"]
    room.accept(bob.commit(leaf_app_data={TOPIC: b"phone"}), "bob")
    assert b"\x80\x01\x05phone" in room.tree
    room.accept(bob.commit(), "bob")
    assert b"\x80\x01\x05phone" in room.tree
    room.accept(bob.commit(leaf_app_data={}), "bob")
    assert b"\x80\x01\x05phone" not in room.tree
    room.talk()


def test_leaves_have_components_from_creation_and_from_an_external_join(now: int) -> None:
    alice = Client.create(identity=uri("alice"))
    group = alice.create_group(group_id=b"g", leaf_app_data={TOPIC: b"first"})
    group_info, tree = group.group_info()
    assert b"\x80\x01\x05first" in tree
    _, bundle = Client.create(identity=uri("bob")).join_external(
        group_info=group_info, ratchet_tree=tree, leaf_app_data={TOPIC: b"other"}
    )
    assert b"\x80\x01\x05other" in bundle.ratchet_tree
    group.process(bundle.commit)


def test_external_senders_and_requirements_are_replaced_by_value(room: Room) -> None:
    alice = room.groups["alice"]
    assert alice.external_senders() == ((room.hub_key.public_key, b"hub.example"),)
    present = alice.required_capabilities()
    assert present == RequiredCapabilities.create(extensions=[6], proposals=[8, 10], credentials=[1])
    assert len({present, RequiredCapabilities.create()}) == 2
    wanted = RequiredCapabilities.create(extensions=[6], proposals=[8, 9, 10], credentials=[1])
    staged = room.accept(alice.commit(external_senders=[], required_capabilities=wanted), "alice")
    assert staged.proposal_kinds == ("group_context_extensions",)
    for group in room.groups.values():
        assert group.external_senders() == ()
        assert group.required_capabilities() == wanted
        assert group.app_data() == {TOPIC: b"chess", NAME: b"club"}


def test_extensions_and_components_change_in_one_commit_even_with_a_pending_update(room: Room) -> None:
    proposal = room.groups["bob"].propose_app_data_update(TOPIC, b"go")
    room.hub.add_proposal(proposal)
    for name in ("alice", "carol"):
        room.groups[name].process(proposal)
    values = {TOPIC: b"go", NAME: b"house"}
    bundle = room.groups["alice"].commit(
        external_senders=[], app_data_updates={NAME: b"house"}, new_app_data=values
    )
    staged = room.accept(bundle, "alice", values)
    assert staged.app_data == values
    assert room.groups["bob"].external_senders() == ()


def test_two_changes_of_the_extensions_do_not_go_together(room: Room) -> None:
    alice = room.groups["alice"]
    alice.propose_group_context_extensions(external_senders=[])
    with pytest.raises(InvalidProposal):
        alice.commit(external_senders=[(room.hub_key.public_key, b"other.example")])
    assert not alice.has_pending_commit
    assert len(alice.pending_proposals()) == 1


def test_an_added_key_package_must_be_valid_at_the_given_time(room: Room) -> None:
    package = Client.create(identity=uri("dave")).key_package(now=room.now, lifetime=WEEK)
    for wrong in (room.now - 3601, room.now + WEEK):
        with pytest.raises(InvalidKeyPackage):
            room.groups["alice"].commit(add=[package], now=wrong)
    room.groups["alice"].commit(add=[package], now=room.now)


def test_a_commit_that_fails_leaves_pending_proposals_and_everything_else_as_they_were(room: Room) -> None:
    alice = room.groups["alice"]
    alice.propose_remove(1)
    before = room.clients["alice"].save()
    lists: list[dict[str, Any]] = [
        {"add": [b"nonsense"]},
        {"app_data_updates": {TOPIC: b""}, "new_app_data": {}},
        {"external_senders": [], "remove": [9]},
        {"required_capabilities": RequiredCapabilities.create(proposals=[0xF001])},
    ]
    for arguments in lists:
        with pytest.raises((InvalidKeyPackage, NotAllowed, InvalidProposal)):
            alice.commit(**arguments)
        assert room.clients["alice"].save() == before
    assert Client.load(before).group(GROUP_ID).pending_proposals()[0].kind == "remove"


def test_authenticators_and_safely_exported_secrets_agree_and_are_given_once(room: Room) -> None:
    alice, bob = room.groups["alice"], room.groups["bob"]
    assert alice.epoch_authenticator() == bob.epoch_authenticator()
    assert len(alice.epoch_authenticator()) == 32
    first = alice.safe_export_secret(TOPIC)
    assert bob.safe_export_secret(TOPIC) == first
    assert alice.safe_export_secret(NAME) != first
    with pytest.raises(NotAllowed):
        alice.safe_export_secret(TOPIC)
    restored = Client.load(room.clients["alice"].save()).group(GROUP_ID)
    with pytest.raises(NotAllowed):
        restored.safe_export_secret(TOPIC)
    authenticator = alice.epoch_authenticator()
    room.accept(bob.commit(), "bob")
    assert alice.epoch_authenticator() == bob.epoch_authenticator() != authenticator
    assert alice.safe_export_secret(TOPIC) == bob.safe_export_secret(TOPIC) != first
    room.accept(alice.commit(remove=[1]), "alice")
    with pytest.raises(NotAllowed):
        bob.safe_export_secret(TOPIC)
