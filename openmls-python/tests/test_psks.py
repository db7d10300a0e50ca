"""Pre-shared keys in commits, proposals, Welcomes and external joins."""

import pytest

from openmls import Client, MlsError, NotAllowed, PskId
from support import GROUP_ID, Room

SHARED = PskId.external(b"password of the club")
COMPONENT = PskId.application(0x8001, b"file hash")
SECRET = b"correct horse battery staple"


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now)
    room.add("bob", "carol")
    return room


def share(room: Room, psk: PskId = SHARED, secret: bytes = SECRET) -> None:
    for name in room.groups:
        room.clients[name].add_psk(psk, secret)


def test_ids_tell_what_they_name() -> None:
    resumption = PskId.resumption(7)
    assert (SHARED.kind, SHARED.psk_id, SHARED.component_id, SHARED.epoch) == (
        "external",
        b"password of the club",
        None,
        None,
    )
    assert (COMPONENT.kind, COMPONENT.psk_id, COMPONENT.component_id) == ("application", b"file hash", 0x8001)
    assert (resumption.kind, resumption.psk_id, resumption.epoch) == ("resumption", None, 7)
    assert PskId.external(b"a") == PskId.external(b"a") != PskId.external(b"b")
    assert PskId.application(1, b"a") != PskId.external(b"a")
    assert len({PskId.external(b"a"), PskId.external(b"a")}) == 1
    assert repr(PskId.external(b"abcd")) == "<PskId external 61626364>"
    assert repr(resumption) == "<PskId resumption epoch=7>"
    assert "0x8001" in repr(COMPONENT)


@pytest.mark.parametrize("psk", [SHARED, COMPONENT], ids=["external", "application"])
def test_all_who_have_a_key_enter_the_epoch_that_needs_it(room: Room, psk: PskId) -> None:
    share(room, psk)
    staged = room.accept(room.groups["alice"].commit(psks=[psk]), "alice")
    assert staged.proposal_kinds == ("psk",)
    room.talk()


def test_who_has_no_key_or_another_one_stays_behind(room: Room) -> None:
    share(room)
    room.clients["bob"].remove_psk(SHARED)
    room.clients["carol"].add_psk(SHARED, b"incorrect horse")
    bundle = room.groups["alice"].commit(psks=[SHARED])
    for name, error in (("bob", NotAllowed), ("carol", MlsError)):
        before = room.clients[name].save()
        with pytest.raises(error) as refused:
            room.groups[name].process(bundle.commit)
        assert SECRET.decode() not in str(refused.value)
        assert room.clients[name].save() == before
    share(room)
    room.accept(bundle, "alice")
    room.talk()


def test_a_key_that_is_not_here_is_neither_committed_nor_proposed(room: Room) -> None:
    alice = room.groups["alice"]
    for unknown in (SHARED, COMPONENT, PskId.resumption(99)):
        with pytest.raises(NotAllowed):
            alice.commit(psks=[unknown])
        with pytest.raises(NotAllowed):
            alice.propose_psk(unknown)
    assert alice.pending_proposals() == ()
    assert not alice.has_pending_commit


def test_a_proposed_key_is_committed_by_reference_beside_others_by_value(room: Room) -> None:
    share(room)
    share(room, COMPONENT, b"another")
    proposal = room.groups["bob"].propose_psk(SHARED)
    reference = room.hub.add_proposal(proposal).reference
    for name in ("alice", "carol"):
        processed = room.groups[name].process(proposal)
        assert processed.proposal is not None
        assert processed.proposal.kind == "psk"
    # Receivers follow the order of the commit, whatever way each key came into it.
    bundle = room.groups["alice"].commit(psks=[COMPONENT, PskId.resumption(1), SHARED])
    assert room.accept(bundle, "alice").proposal_references == (reference,)
    room.talk()


def test_a_pending_key_that_is_not_here_or_not_wanted_is_left_out(room: Room) -> None:
    for name in ("bob", "carol"):
        room.clients[name].add_psk(SHARED, SECRET)
    proposal = room.groups["bob"].propose_psk(SHARED)
    room.hub.add_proposal(proposal)
    for name in ("alice", "carol"):
        room.groups[name].process(proposal)
    assert room.accept(room.groups["alice"].commit(), "alice").proposal_references == ()
    room.talk()
    proposal = room.groups["bob"].propose_psk(SHARED)
    room.hub.add_proposal(proposal)
    for name in ("alice", "carol"):
        room.groups[name].process(proposal)
    assert room.accept(room.groups["carol"].commit(pending=False), "carol").proposal_references == ()
    room.talk()


def test_a_commit_with_a_key_that_is_dropped_leaves_nothing_behind(room: Room) -> None:
    share(room)
    alice = room.groups["alice"]
    alice.commit(psks=[SHARED])
    assert alice.pending_proposals() == ()
    alice.clear_pending_commit()
    assert alice.pending_proposals() == ()
    room.accept(alice.commit(), "alice")
    room.talk()


def test_a_joiner_needs_the_key_that_the_welcome_names(room: Room) -> None:
    share(room)
    dave = room.client("dave")
    bundle = room.groups["alice"].commit(add=[room.key_package("dave")], psks=[SHARED])
    room.accept(bundle, "alice")
    assert bundle.welcome is not None
    before = dave.save()
    with pytest.raises(NotAllowed):
        dave.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert dave.save() == before
    dave.add_psk(SHARED, b"incorrect horse")
    with pytest.raises(MlsError):
        dave.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    dave.add_psk(SHARED, SECRET)
    room.groups["dave"] = dave.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    room.talk()
    assert dave.psks() == (SHARED,)


def test_an_external_joiner_can_prove_that_it_has_a_key(room: Room) -> None:
    share(room)
    dave = room.client("dave")
    with pytest.raises(NotAllowed):
        dave.join_external(group_info=room.group_info, ratchet_tree=room.tree, psks=[SHARED])
    with pytest.raises(NotAllowed):
        dave.join_external(group_info=room.group_info, ratchet_tree=room.tree, psks=[PskId.resumption(1)])
    dave.add_psk(SHARED, SECRET)
    group, bundle = dave.join_external(group_info=room.group_info, ratchet_tree=room.tree, psks=[SHARED])
    room.groups["dave"] = group
    assert set(room.accept(bundle, "dave").proposal_kinds) == {"external_init", "psk"}
    room.talk()


def test_the_resumption_secret_of_an_earlier_epoch_proves_membership_then(room: Room) -> None:
    room.accept(room.groups["bob"].commit(), "bob")
    room.accept(room.groups["alice"].commit(psks=[PskId.resumption(1)]), "alice")
    room.talk()
    room.add("dave")  # was not there in epoch 1
    bundle = room.groups["alice"].commit(psks=[PskId.resumption(1)])
    with pytest.raises(NotAllowed):
        room.groups["dave"].process(bundle.commit)
    del room.groups["dave"]
    room.accept(bundle, "alice")


def test_resumption_secrets_survive_saving(room: Room) -> None:
    for name in list(room.groups):
        room.clients[name] = Client.load(room.clients[name].save())
        room.groups[name] = room.clients[name].group(GROUP_ID)
    room.accept(room.groups["carol"].commit(psks=[PskId.resumption(1)]), "carol")
    room.talk()


def test_a_resumption_secret_does_not_go_into_a_welcome(room: Room) -> None:
    room.client("dave")
    with pytest.raises(NotAllowed):
        room.groups["alice"].commit(add=[room.key_package("dave")], psks=[PskId.resumption(1)])
    assert room.groups["alice"].pending_proposals() == ()


def test_keys_are_replaced_removed_listed_and_saved(room: Room) -> None:
    alice = room.clients["alice"]
    alice.add_psk(COMPONENT, b"1")
    alice.add_psk(SHARED, b"2")
    alice.add_psk(SHARED, SECRET)
    assert alice.psks() == (SHARED, COMPONENT)
    restored = Client.load(alice.save())
    assert restored.psks() == alice.psks()
    room.clients["bob"].add_psk(SHARED, SECRET)
    room.clients["carol"].add_psk(SHARED, SECRET)
    room.clients["alice"], room.groups["alice"] = restored, restored.group(GROUP_ID)
    room.accept(restored.group(GROUP_ID).commit(psks=[SHARED]), "alice")
    restored.remove_psk(SHARED)
    assert restored.psks() == (COMPONENT,)
    assert SECRET not in restored.save()
    with pytest.raises(NotAllowed):
        restored.remove_psk(SHARED)


def test_keys_are_bounded_and_those_of_groups_cannot_be_set() -> None:
    client = Client.create(identity=b"x")
    with pytest.raises(NotAllowed):
        client.add_psk(PskId.resumption(1), SECRET)
    with pytest.raises(NotAllowed):
        client.add_psk(SHARED, b"x" * 4097)
    with pytest.raises(NotAllowed):
        client.add_psk(PskId.external(b"x" * 4097), SECRET)
    for number in range(1024):
        client.add_psk(PskId.external(b"%d" % number), b"")
    with pytest.raises(NotAllowed):
        client.add_psk(SHARED, SECRET)
    client.add_psk(PskId.external(b"7"), SECRET)
    assert len(client.psks()) == 1024
