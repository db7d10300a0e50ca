"""A client's own key packages: what they carry, taking them over, counting and forgetting them."""

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from forge import Reader, vector
from openmls import (
    CannotDecrypt,
    Client,
    InvalidKeyPackage,
    NotAllowed,
    SignatureKeyPair,
    inspect_key_package,
    welcome_references,
)
from support import WEEK, Room, uri

TOPIC, DEVICE = 0x8001, 0x8002


@dataclass
class Elsewhere:
    """A key package with its raw private keys."""

    key_package: bytes
    init_key: bytes
    encryption_key: bytes


def made_elsewhere(client: Client, now: int) -> Elsewhere:
    """A key package of ``client`` with new HPKE keys, signed again (RFC 9420 sections 7.2 and 10)."""
    reader = Reader(client.key_package(now=now, lifetime=WEEK))
    init, leaf = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    header = reader.take(4)
    reader.vector()
    reader.vector()
    node = vector(leaf.public_key().public_bytes_raw()) + vector(reader.vector())
    node += reader.take(2) + vector(reader.vector())
    node += b"".join(vector(reader.vector()) for _ in range(5))
    node += reader.take(1 + 16) + vector(reader.vector())
    reader.vector()
    node += vector(client.sign_with_label(label="LeafNodeTBS", content=node))
    package = header + vector(init.public_key().public_bytes_raw()) + node + vector(reader.vector())
    package += vector(client.sign_with_label(label="KeyPackageTBS", content=package))
    return Elsewhere(package, init.private_bytes_raw(), leaf.private_bytes_raw())


def imported(client: Client, made: Elsewhere) -> bytes:
    return client.import_key_package(
        key_package=made.key_package, init_key=made.init_key, encryption_key=made.encryption_key
    )


@pytest.fixture
def bob() -> Client:
    return Client.create(identity=uri("bob"))


def test_a_key_package_carries_components_and_so_does_its_leaf(room: Room, bob: Client) -> None:
    package = bob.key_package(
        now=room.now, lifetime=WEEK, app_data={TOPIC: b"chess"}, leaf_app_data={DEVICE: b"phone"}
    )
    assert b"\x80\x01\x05chess" in package
    assert b"\x80\x02\x05phone" in package
    inspect_key_package(package, now=room.now)
    bundle = room.groups["alice"].commit(add=[package])
    room.accept(bundle, "alice")
    assert b"\x80\x02\x05phone" in room.tree
    assert b"chess" not in room.tree


def test_a_last_resort_key_package_can_have_components_too(bob: Client, now: int) -> None:
    package = bob.key_package(now=now, lifetime=WEEK, last_resort=True, app_data={TOPIC: b"chess"})
    assert inspect_key_package(package, now=now).last_resort
    assert b"\x80\x01\x05chess" in package


def test_the_last_resort_component_cannot_be_set_by_hand(bob: Client, now: int) -> None:
    with pytest.raises(NotAllowed):
        bob.key_package(now=now, lifetime=WEEK, app_data={4: b""})


def test_references_are_those_of_the_unused_key_packages(room: Room) -> None:
    bob = room.client("bob")
    packages = [room.key_package("bob") for _ in range(3)]
    references = [inspect_key_package(package, now=room.now).reference for package in packages]
    assert bob.key_package_references() == tuple(sorted(references))
    bundle = room.groups["alice"].commit(add=[packages[0]])
    assert bundle.welcome is not None
    bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert bob.key_package_references() == tuple(sorted(references[1:]))
    assert Client.load(bob.save()).key_package_references() == bob.key_package_references()


def test_a_forgotten_key_package_cannot_be_used_any_more(room: Room) -> None:
    bob = room.client("bob")
    package = room.key_package("bob")
    kept = bob.save()
    bundle = room.groups["alice"].commit(add=[package])
    assert bundle.welcome is not None
    (reference,) = welcome_references(bundle.welcome)
    bob.forget_key_package(reference)
    assert bob.key_package_references() == ()
    with pytest.raises(CannotDecrypt):
        bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    Client.load(kept).join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)


def test_only_what_is_there_can_be_forgotten(bob: Client) -> None:
    for unknown in (b"", b"\x07" * 32):
        with pytest.raises(NotAllowed):
            bob.forget_key_package(unknown)


def test_a_key_package_made_on_another_device_is_taken_over_and_used(room: Room) -> None:
    bob = room.client("bob")
    made = made_elsewhere(bob, room.now)
    for reference in bob.key_package_references():
        bob.forget_key_package(reference)
    reference = imported(bob, made)
    assert reference == inspect_key_package(made.key_package, now=room.now).reference
    assert bob.key_package_references() == (reference,)
    bob = room.clients["bob"] = Client.load(bob.save())
    bundle = room.groups["alice"].commit(add=[made.key_package])
    room.accept(bundle, "alice")
    assert bundle.welcome is not None
    room.groups["bob"] = bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    room.talk()
    room.accept(room.groups["alice"].commit(), "alice")
    room.accept(room.groups["bob"].commit(), "bob")
    room.talk()


def test_taking_over_twice_keeps_one(bob: Client, now: int) -> None:
    made = made_elsewhere(bob, now)
    count = len(bob.key_package_references())
    assert imported(bob, made) == imported(bob, made)
    assert len(bob.key_package_references()) == count + 1


def test_private_keys_must_belong_to_the_key_package(bob: Client, now: int) -> None:
    made, other = made_elsewhere(bob, now), made_elsewhere(bob, now)
    before = bob.save()
    for wrong in (
        Elsewhere(made.key_package, other.init_key, made.encryption_key),
        Elsewhere(made.key_package, made.init_key, other.encryption_key),
        Elsewhere(made.key_package, made.encryption_key, made.init_key),
        Elsewhere(made.key_package, b"", made.encryption_key),
        Elsewhere(made.key_package, made.init_key, b"\x01" * 31),
    ):
        with pytest.raises(NotAllowed) as refused:
            imported(bob, wrong)
        assert made.init_key.hex() not in str(refused.value)
    assert bob.save() == before


def test_a_key_package_of_somebody_else_is_not_taken_over(bob: Client, now: int) -> None:
    key = SignatureKeyPair.generate()
    for other in (
        Client.create(identity=uri("bob")),
        Client.create(identity=uri("mallory"), signature_key=key),
        Client.create(identity=uri("bob"), ciphersuite=3),
    ):
        with pytest.raises(NotAllowed):
            imported(bob, made_elsewhere(other, now))
    with pytest.raises(NotAllowed):
        imported(
            Client.create(identity=uri("bob"), signature_key=key),
            made_elsewhere(Client.create(identity=uri("mallory"), signature_key=key), now),
        )


def test_a_damaged_key_package_is_not_taken_over(bob: Client, now: int) -> None:
    made = made_elsewhere(bob, now)
    last = bytes([made.key_package[-1] ^ 1])
    for damaged in (made.key_package[:-1], made.key_package + b"\x00", made.key_package[:-1] + last):
        with pytest.raises(InvalidKeyPackage):
            imported(bob, Elsewhere(damaged, made.init_key, made.encryption_key))
