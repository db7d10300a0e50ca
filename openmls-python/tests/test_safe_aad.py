"""Safe AAD (draft-ietf-mls-extensions section 4.9): additional data that belongs to components."""

import pytest

from openmls import MlsError, NotAllowed, inspect_message
from support import Room

SAFE_AAD = 0x0002
FIRST, SECOND = 0x8001, 0x8002


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now, app_data={SAFE_AAD: b"\x00"})
    room.add("bob")
    return room


def test_a_message_and_a_commit_carry_items_that_are_read_per_component(room: Room) -> None:
    items = {SECOND: b"two", FIRST: b""}
    message = room.groups["alice"].encrypt(b"hello", safe_aad=items)
    # SafeAADItem aad_items<V>, in increasing order of the component
    framed = b"\x09\x80\x01\x00\x80\x02\x03two"
    assert inspect_message(message).authenticated_data == framed
    heard = room.groups["bob"].process(message)
    assert (heard.plaintext, heard.safe_aad, heard.aad) == (b"hello", items, b"")
    bundle = room.groups["bob"].commit(safe_aad=items)
    assert inspect_message(bundle.commit).authenticated_data == framed
    assert room.hub.stage_commit(bundle.commit).authenticated_data == framed
    processed = room.groups["alice"].process(bundle.commit)
    assert (processed.safe_aad, processed.aad) == (items, b"")


def test_what_has_no_items_is_framed_as_well(room: Room) -> None:
    alice, bob = room.groups["alice"], room.groups["bob"]
    assert bob.process(alice.encrypt(b"x")).safe_aad == {}
    for proposal in (
        alice.propose_remove(1),
        alice.propose_app_ephemeral(FIRST, b"data"),
        alice.propose_reinit(group_id=b"next"),
    ):
        assert inspect_message(proposal).authenticated_data == b"\x00"
        assert bob.process(proposal).safe_aad == {}
    alice.clear_pending_proposals()
    bob.clear_pending_proposals()
    group, bundle = room.client("carol").join_external(group_info=room.group_info, ratchet_tree=room.tree)
    assert inspect_message(bundle.commit).authenticated_data == b"\x00"
    room.groups["carol"] = group
    room.accept(bundle, "carol")


def test_data_of_nobody_is_not_sent_in_such_a_group(room: Room) -> None:
    alice = room.groups["alice"]
    with pytest.raises(NotAllowed):
        alice.encrypt(b"x", aad=b"loose")
    with pytest.raises(NotAllowed):
        alice.commit(aad=b"loose")
    with pytest.raises(NotAllowed):
        room.client("carol").join_external(group_info=room.group_info, ratchet_tree=room.tree, aad=b"loose")
    assert not alice.has_pending_commit
    assert room.groups["bob"].process(alice.encrypt(b"x", safe_aad={FIRST: b"y"})).safe_aad == {FIRST: b"y"}


def test_items_are_not_sent_in_another_group(now: int) -> None:
    plain = Room(now=now)
    plain.add("bob")
    alice = plain.groups["alice"]
    with pytest.raises(NotAllowed):
        alice.encrypt(b"x", safe_aad={FIRST: b""})
    with pytest.raises(NotAllowed):
        alice.commit(safe_aad={FIRST: b""})
    heard = plain.groups["bob"].process(alice.encrypt(b"x", aad=b"loose"))
    assert (heard.safe_aad, heard.aad) == (None, b"loose")


def test_a_commit_can_turn_it_on(now: int) -> None:
    room = Room(now=now)
    room.add("bob")
    values = {SAFE_AAD: b"\x00"}
    room.accept(room.groups["alice"].commit(app_data_updates=values, new_app_data=values), "alice", values)
    heard = room.groups["bob"].process(room.groups["alice"].encrypt(b"x", safe_aad={FIRST: b"y"}))
    assert heard.safe_aad == {FIRST: b"y"}


def test_badly_framed_data_is_refused(room: Room) -> None:
    message = bytearray(room.groups["alice"].encrypt(b"x", safe_aad={FIRST: b"1", SECOND: b"2"}))
    at = message.index(b"\x80\x01\x011\x80\x02")
    message[at : at + 8] = b"\x80\x02\x012\x80\x01\x011"
    with pytest.raises(MlsError):
        room.groups["bob"].process(bytes(message))
