"""Groups from creation to the last removal, with the hub in step, in every ciphersuite."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openmls import CannotDecrypt, Client, Group, InvalidProposal, NotAllowed, UnknownGroup, WrongEpoch
from support import GROUP_ID, SUITES, Room, uri


@pytest.fixture(params=SUITES, ids=hex)
def ciphersuite(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def test_two_clients_talk_after_a_welcome_with_the_tree_delivered_apart(room: Room) -> None:
    staged = room.add("bob")
    assert [member.identity for member in staged.added] == [uri("bob")]
    assert staged.proposal_kinds == ("add",)
    assert staged.sender_leaf == 0
    assert staged.committer_identity == uri("alice")
    assert not staged.is_external
    room.talk()


def test_ten_clients_added_at_once_agree_and_talk(room: Room) -> None:
    names = [f"user{number}" for number in range(9)]
    room.add(*names)
    assert [member.leaf_index for member in room.hub.members()] == list(range(10))
    room.talk()


def test_members_are_added_removed_and_added_again_into_the_free_leaf(room: Room) -> None:
    room.add("bob", "carol")
    staged = room.accept(room.groups["carol"].commit(remove=[room.leaf("bob")]), "carol")
    assert [member.identity for member in staged.removed] == [uri("bob")]
    assert "bob" not in room.groups
    staged = room.add("dave", by="carol")
    assert staged.added[0].leaf_index == 1
    room.talk()


def test_add_and_remove_in_one_commit_use_the_leaf_that_becomes_free(room: Room) -> None:
    room.add("bob", "carol")
    room.client("dave")
    bundle = room.groups["alice"].commit(add=[room.key_package("dave")], remove=[room.leaf("bob")])
    staged = room.accept(bundle, "alice")
    assert staged.added[0].leaf_index == 1
    assert bundle.welcome is not None
    room.groups["dave"] = room.clients["dave"].join_welcome(
        welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree
    )
    room.talk()


def test_a_removed_client_can_do_nothing_more_in_the_group(room: Room) -> None:
    room.add("bob")
    bob = room.groups["bob"]
    room.accept(room.groups["alice"].commit(remove=[room.leaf("bob")]), "alice")
    with pytest.raises(NotAllowed):
        bob.encrypt(b"still here?")
    with pytest.raises(NotAllowed):
        bob.commit()
    with pytest.raises(NotAllowed):
        bob.group_info()
    room.clients["bob"].forget_group(GROUP_ID)
    with pytest.raises(UnknownGroup):
        _ = bob.epoch


def test_a_removed_client_can_be_added_again_with_its_old_state_still_there(room: Room) -> None:
    room.add("bob")
    room.accept(room.groups["alice"].commit(remove=[room.leaf("bob")]), "alice")
    bundle = room.groups["alice"].commit(add=[room.key_package("bob")])
    room.accept(bundle, "alice")
    assert bundle.welcome is not None
    room.groups["bob"] = room.clients["bob"].join_welcome(
        welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree
    )
    room.talk()


def test_a_member_leaves_by_self_remove_and_the_committer_takes_it_by_reference(room: Room) -> None:
    room.add("bob", "carol")
    proposal = room.groups["bob"].propose_self_remove()
    info = room.hub.add_proposal(proposal)
    assert (info.kind, info.sender_leaf, info.removed_leaf) == ("self_remove", 1, 1)
    for name in ("alice", "carol"):
        processed = room.groups[name].process(proposal)
        assert processed.kind == "proposal"
        assert processed.proposal is not None
        assert processed.proposal.reference == info.reference
    staged = room.accept(room.groups["carol"].commit(), "carol")
    assert staged.proposal_references == (info.reference,)
    assert [member.identity for member in staged.removed] == [uri("bob")]
    assert room.hub.proposals() == ()
    room.talk()


def test_a_member_who_proposed_to_leave_can_still_commit_without_that_proposal(room: Room) -> None:
    room.add("bob")
    room.hub.add_proposal(room.groups["bob"].propose_self_remove())
    staged = room.accept(room.groups["bob"].commit(), "bob")
    assert staged.removed == ()


def test_a_remove_proposal_of_a_member_is_committed_by_another(room: Room) -> None:
    room.add("bob", "carol")
    proposal = room.groups["bob"].propose_remove(room.leaf("carol"))
    room.hub.add_proposal(proposal)
    room.groups["alice"].process(proposal)
    room.groups["carol"].process(proposal)
    staged = room.accept(room.groups["alice"].commit(), "alice")
    assert [member.identity for member in staged.removed] == [uri("carol")]


def test_a_remove_proposal_of_the_hub_as_external_sender_is_committed(room: Room) -> None:
    room.add("bob", "carol")
    proposal = room.hub.propose_remove(signer=room.hub_key, sender_index=0, leaf_index=room.leaf("bob"))
    info = room.hub.add_proposal(proposal)
    assert (info.kind, info.sender_leaf, info.external_sender, info.removed_leaf) == ("remove", None, 0, 1)
    for group in room.groups.values():
        assert group.process(proposal).kind == "proposal"
    staged = room.accept(room.groups["carol"].commit(), "carol")
    assert staged.proposal_references == (info.reference,)


def test_processing_a_proposal_twice_stores_it_once(room: Room) -> None:
    room.add("bob", "carol")
    proposal = room.groups["bob"].propose_self_remove()
    first = room.groups["alice"].process(proposal)
    second = room.groups["alice"].process(proposal)
    assert first.proposal is not None
    assert second.proposal is not None
    assert first.proposal.reference == second.proposal.reference
    room.groups["carol"].process(proposal)
    assert room.hub.add_proposal(proposal).reference == room.hub.add_proposal(proposal).reference
    assert len(room.hub.proposals()) == 1
    assert len(room.accept(room.groups["alice"].commit(), "alice").proposal_references) == 1


def test_every_commit_carries_the_aad_to_the_hub(room: Room) -> None:
    bundle = room.groups["alice"].commit(aad=b"participant list hash")
    assert room.accept(bundle, "alice").authenticated_data == b"participant list hash"


def test_a_message_encrypted_just_before_a_commit_is_read_after_it(room: Room) -> None:
    room.add("bob")
    late = room.groups["bob"].encrypt(b"crossed in the post")
    room.accept(room.groups["alice"].commit(), "alice")
    heard = room.groups["alice"].process(late)
    assert heard.plaintext == b"crossed in the post"
    assert heard.epoch == 1


def test_a_message_of_an_epoch_long_past_can_no_longer_be_decrypted(room: Room) -> None:
    room.add("bob")
    old = room.groups["bob"].encrypt(b"too late")
    for _ in range(5):
        room.accept(room.groups["alice"].commit(), "alice")
    with pytest.raises(CannotDecrypt):
        room.groups["alice"].process(old)


def test_a_message_of_an_epoch_to_come_is_refused(room: Room) -> None:
    room.add("bob")
    bundle = room.groups["alice"].commit()
    room.hub.merge(room.hub.stage_commit(bundle.commit))
    room.groups["alice"].merge_pending_commit()
    with pytest.raises(WrongEpoch) as raised:
        room.groups["bob"].process(room.groups["alice"].encrypt(b"from the future"))
    assert raised.value.current_epoch == 1
    room.groups["bob"].process(bundle.commit)
    room.talk()


def test_messages_arriving_out_of_order_are_all_read_once(room: Room) -> None:
    room.add("bob")
    messages = [room.groups["bob"].encrypt(b"%d" % number) for number in range(20)]
    for number in reversed(range(20)):
        assert room.groups["alice"].process(messages[number]).plaintext == b"%d" % number
    with pytest.raises(CannotDecrypt):
        room.groups["alice"].process(messages[7])


def test_a_client_cannot_process_its_own_messages(room: Room) -> None:
    room.add("bob")
    alice = room.groups["alice"]
    with pytest.raises(CannotDecrypt):
        alice.process(alice.encrypt(b"to myself"))
    bundle = alice.commit()
    with pytest.raises(CannotDecrypt):
        alice.process(bundle.commit)
    room.accept(bundle, "alice")
    with pytest.raises(WrongEpoch):
        alice.process(bundle.commit)


def pending(group: Group) -> bool:
    return group.has_pending_commit


def test_of_two_competing_commits_the_second_is_refused_and_cleared(room: Room) -> None:
    room.add("bob")
    winner = room.groups["alice"].commit()
    loser = room.groups["bob"].commit()
    assert pending(room.groups["bob"])
    room.accept(winner, "alice")
    assert not pending(room.groups["bob"])
    with pytest.raises(WrongEpoch) as raised:
        room.hub.stage_commit(loser.commit)
    assert raised.value.current_epoch == 2
    room.talk()


def test_a_cleared_commit_leaves_the_group_as_it_was(room: Room) -> None:
    room.add("bob")
    alice = room.groups["alice"]
    alice.commit(remove=[1])
    with pytest.raises(NotAllowed):
        alice.commit()
    alice.clear_pending_commit()
    with pytest.raises(NotAllowed):
        alice.merge_pending_commit()
    room.check()
    room.talk()


def test_removing_a_leaf_that_is_empty_is_refused(room: Room) -> None:
    with pytest.raises(InvalidProposal):
        room.groups["alice"].commit(remove=[4])
    with pytest.raises(InvalidProposal):
        room.groups["alice"].propose_remove(4)


def test_a_member_cannot_commit_its_own_removal(room: Room) -> None:
    room.add("bob")
    with pytest.raises(NotAllowed):
        room.groups["bob"].commit(remove=[1])
    proposal = room.groups["alice"].propose_remove(1)
    room.hub.add_proposal(proposal)
    room.groups["bob"].process(proposal)
    # A proposal of somebody else to that end is left for others to commit.
    assert room.accept(room.groups["bob"].commit(), "bob").removed == ()


def test_a_client_added_twice_is_refused(room: Room) -> None:
    room.add("bob")
    with pytest.raises(InvalidProposal):
        room.groups["alice"].commit(add=[room.key_package("bob")])
    assert not room.groups["alice"].has_pending_commit
    room.talk()


def test_exported_secrets_agree_and_depend_on_label_context_and_epoch(room: Room) -> None:
    room.add("bob")
    alice, bob = room.groups["alice"], room.groups["bob"]
    first = alice.export_secret(label="franking", context=b"c", length=32)
    assert len(first) == 32
    assert bob.export_secret(label="franking", context=b"c", length=32) == first
    assert bob.export_secret(label="other", context=b"c", length=32) != first
    assert bob.export_secret(label="franking", context=b"d", length=32) != first
    room.accept(alice.commit(), "alice")
    assert alice.export_secret(label="franking", context=b"c", length=32) != first


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "join", "rejoin", "leave", "update"]), st.integers(0, 99)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_sequence_of_membership_changes_keeps_hub_and_members_in_step(
    steps: list[tuple[str, int]], now: int, ciphersuite: int
) -> None:
    room = Room(now=now, ciphersuite=ciphersuite)
    for number, (step, choice) in enumerate(steps):
        names = list(room.groups)
        actor, target = names[choice % len(names)], names[(choice // 7) % len(names)]
        match step:
            case "add":
                room.add(f"new{number}a", f"new{number}b", by=actor)
            case "join":
                room.join(f"new{number}")
            case "rejoin":
                leaf = room.leaf(target)
                del room.groups[target]
                staged = room.join(target, replace_leaf=leaf)
                assert [member.leaf_index for member in staged.removed] == [leaf]
            case "remove" if actor != target:
                room.accept(room.groups[actor].commit(remove=[room.leaf(target)]), actor)
            case "leave" if actor != target:
                proposal = room.groups[target].propose_self_remove()
                room.hub.add_proposal(proposal)
                for name, group in room.groups.items():
                    if name != target:
                        group.process(proposal)
                room.accept(room.groups[actor].commit(), actor)
            case _:
                room.accept(room.groups[actor].commit(), actor)
    room.talk()


def test_a_plain_group_has_no_extensions_until_something_needs_one() -> None:
    alice = Client.create(identity=uri("alice"))
    plain = alice.create_group(group_id=b"plain", required_capabilities=False)
    assert plain.group_context().endswith(b"\x00")  # extensions<V>, empty
    assert plain.app_data() == {}
    required = alice.create_group(group_id=b"not plain")
    assert len(required.group_context()) > len(plain.group_context())
    values = {0x8001: b"topic"}
    assert (
        alice.create_group(group_id=b"with data", app_data=values, required_capabilities=False).app_data()
        == values
    )
    plain.commit(app_data_updates=values, new_app_data=values)
    plain.merge_pending_commit()
    assert plain.app_data() == values
