"""What a hub and members see of a leaf, before and after it is updated."""

import openmls
from forge import ForgedKeyPackage, extension_vector, vector
from openmls import Client
from support import WEEK, Room, uri

APP_DATA_DICTIONARY = 6
COMPONENT = 0x8001


def test_a_member_shows_the_leaf_of_its_key_package(room: Room) -> None:
    room.client("bob")
    package = room.key_package("bob")
    (bob,) = room.accept(room.groups["alice"].commit(add=[package]), "alice").added
    info = openmls.inspect_key_package(package, now=room.now)
    assert bob.encryption_key == info.encryption_key
    assert bob.signature_key == info.signature_key
    assert bob.credential == info.credential
    assert bob.capabilities == info.capabilities
    assert bob.extensions == info.leaf_extensions == {}
    assert bob.app_data == info.leaf_app_data == {}
    assert bob.lifetime == (info.not_before, info.not_after)
    assert room.hub.member(1) == room.hub.members()[1] == room.groups["alice"].members()[1] == bob
    assert room.hub.member(2) is None
    assert room.hub.member((1 << 32) - 1) is None


def test_a_leaf_shows_its_extensions_and_application_data(room: Room) -> None:
    forged = ForgedKeyPackage.read(room.client("bob").key_package(now=room.now, lifetime=WEEK))
    dictionary = vector(COMPONENT.to_bytes(2, "big") + vector(b"my data"))
    forged.leaf_extensions = extension_vector({APP_DATA_DICTIONARY: dictionary})[1:]
    package = forged.sign(room.clients["bob"])
    staged = room.hub.stage_commit(room.groups["alice"].commit(add=[package]).commit)
    for bob in (staged.added[0], staged.members[1]):
        assert bob.extensions == {APP_DATA_DICTIONARY: dictionary}
        assert bob.app_data == {COMPONENT: b"my data"}


def test_an_update_path_changes_the_encryption_key_and_ends_the_lifetime(room: Room) -> None:
    room.add("bob")
    before = room.hub.members()[1]
    staged = room.accept(room.groups["bob"].commit(), "bob")
    after = room.hub.members()[1]
    assert before.lifetime is not None
    assert after.lifetime is None
    assert after.encryption_key != before.encryption_key
    assert (after.signature_key, after.credential) == (before.signature_key, before.credential)
    assert after != before
    assert staged.committer == before
    assert staged.updated == ()  # neither credential nor signature key changed


def test_members_are_equal_and_hash_alike_if_everything_in_them_is(room: Room) -> None:
    room.add("bob", "carol")
    hub, alice = room.hub.members(), room.groups["alice"].members()
    assert hub == alice
    assert len({*hub, *alice}) == 3
    assert hub[1] != hub[2]
    again = openmls.PublicGroup.load(room.hub.save()).members()
    assert again == hub
    assert {member: member.identity for member in hub}[again[2]] == uri("carol")


def test_many_adds_and_removes_fill_the_leaves_that_the_tree_fills(room: Room) -> None:
    """`Room.accept` compares the predicted leaves with those of the merged tree."""
    names = [f"user{number}" for number in range(40)]
    bundle = room.groups["alice"].commit(
        add=[Client.create(identity=uri(name)).key_package(now=room.now, lifetime=WEEK) for name in names]
    )
    room.accept(bundle, "alice")
    gaps = [1, 2, 3, 7, 8, 20, 39, 40]
    fresh = [
        Client.create(identity=uri(f"new{number}")).key_package(now=room.now, lifetime=WEEK)
        for number in range(len(gaps) + 2)
    ]
    staged = room.accept(room.groups["alice"].commit(add=fresh[:3], remove=gaps), "alice")
    assert [member.leaf_index for member in staged.added] == gaps[:3]
    staged = room.accept(room.groups["alice"].commit(add=fresh[3:]), "alice")
    assert [member.leaf_index for member in staged.added] == [*gaps[3:], 41, 42]
    assert [member.leaf_index for member in room.hub.members()] == list(range(43))
