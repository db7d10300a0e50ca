"""Key packages and Welcomes: what we make, what we accept."""

import pytest

from openmls import (
    CannotDecrypt,
    Client,
    InvalidKeyPackage,
    MalformedMessage,
    NotAllowed,
    inspect_key_package,
    inspect_message,
    welcome_references,
)
from support import WEEK, Room, uri

MLS_MESSAGE_KEY_PACKAGE = b"\x00\x01\x00\x05"


@pytest.fixture
def bob() -> Client:
    return Client.create(identity=uri("bob"))


def test_a_key_package_announces_what_mimi_needs(bob: Client, now: int) -> None:
    info = inspect_key_package(bob.key_package(now=now, lifetime=WEEK), now=now)
    assert info.identity == uri("bob")
    assert info.credential == bob.credential == b"\x00\x01" + bytes([len(uri("bob"))]) + uri("bob")
    assert info.signature_key == bob.signature_key
    assert info.ciphersuite == bob.ciphersuite == 1
    assert not info.last_resort
    assert 0x0006 in info.capabilities.extensions  # app_data_dictionary
    assert {0x0008, 0x000A} <= set(info.capabilities.proposals)  # AppDataUpdate, SelfRemove
    assert info.capabilities.versions == (1,)
    assert info.capabilities.credentials == (1,)
    assert 1 in info.capabilities.ciphersuites
    assert not set(info.capabilities.extensions) & {1, 2, 3, 4, 5}  # RFC 9420 7.2: defaults are not listed
    assert (info.not_before, info.not_after) == (now - 3600, now + WEEK)
    assert len(info.reference) == 32


def test_a_key_package_may_come_as_an_mls_message(bob: Client, now: int) -> None:
    package = bob.key_package(now=now, lifetime=WEEK)
    wrapped = inspect_key_package(MLS_MESSAGE_KEY_PACKAGE + package, now=now)
    assert wrapped.reference == inspect_key_package(package, now=now).reference
    message = inspect_message(MLS_MESSAGE_KEY_PACKAGE + package)
    assert (message.wire_format, message.ciphersuite) == ("key_package", 1)


def test_key_packages_are_all_different(bob: Client, now: int) -> None:
    references = {
        inspect_key_package(bob.key_package(now=now, lifetime=WEEK), now=now).reference for _ in range(5)
    }
    assert len(references) == 5


@pytest.mark.parametrize(
    ("start", "lifetime"), [(-2 * WEEK, WEEK), (WEEK, WEEK)], ids=["expired", "not yet valid"]
)
def test_a_key_package_outside_its_lifetime_is_refused(
    bob: Client, now: int, start: int, lifetime: int
) -> None:
    package = bob.key_package(now=now + start, lifetime=lifetime)
    with pytest.raises(InvalidKeyPackage):
        inspect_key_package(package, now=now)
    group = Client.create(identity=uri("alice")).create_group(group_id=b"g")
    with pytest.raises(InvalidKeyPackage):
        group.commit(add=[package])


def test_the_injected_time_counts_too(bob: Client, now: int) -> None:
    package = bob.key_package(now=now, lifetime=WEEK)
    for wrong in (now - 3601, now + WEEK, 0):
        with pytest.raises(InvalidKeyPackage):
            inspect_key_package(package, now=wrong)
    inspect_key_package(package, now=now + WEEK - 1)


def test_a_lifetime_that_peers_would_refuse_is_not_made(bob: Client, now: int) -> None:
    with pytest.raises(NotAllowed):
        bob.key_package(now=now, lifetime=100 * 24 * 3600)
    with pytest.raises(NotAllowed):
        bob.key_package(now=now, lifetime=(1 << 64) - 1)


def test_no_bit_of_a_key_package_can_be_flipped_unnoticed(bob: Client, now: int) -> None:
    package = bob.key_package(now=now, lifetime=WEEK)
    for position in range(len(package)):
        damaged = package[:position] + bytes([package[position] ^ 1]) + package[position + 1 :]
        with pytest.raises(InvalidKeyPackage):
            inspect_key_package(damaged, now=now)
    with pytest.raises(InvalidKeyPackage):
        inspect_key_package(package + b"\x00", now=now)


def test_a_welcome_names_the_key_packages_it_is_for(room: Room) -> None:
    for name in ("bob", "carol"):
        room.client(name)
    packages = [room.key_package(name) for name in ("bob", "carol")]
    welcome = room.groups["alice"].commit(add=packages).welcome
    assert welcome is not None
    references = [inspect_key_package(package, now=room.now).reference for package in packages]
    assert sorted(welcome_references(welcome)) == sorted(references)
    assert welcome_references(welcome[4:]) == welcome_references(welcome)
    assert inspect_message(welcome).wire_format == "welcome"
    with pytest.raises(MalformedMessage):
        welcome_references(welcome + b"\x00")


def test_a_welcome_for_somebody_else_cannot_be_used(room: Room, bob: Client) -> None:
    room.client("carol")
    bundle = room.groups["alice"].commit(add=[room.key_package("carol")])
    assert bundle.welcome is not None
    with pytest.raises(CannotDecrypt):
        bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)


def test_an_ordinary_key_package_works_once_and_a_last_resort_one_again(now: int, bob: Client) -> None:
    alice = Client.create(identity=uri("alice"))

    def invite(package: bytes, group_id: bytes) -> None:
        group = alice.create_group(group_id=group_id)
        bundle = group.commit(add=[package])
        assert bundle.welcome is not None
        bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)

    once = bob.key_package(now=now, lifetime=WEEK)
    invite(once, b"1")
    with pytest.raises(CannotDecrypt):
        invite(once, b"2")
    last = bob.key_package(now=now, lifetime=WEEK, last_resort=True)
    assert inspect_key_package(last, now=now).last_resort
    assert b"\x00\x06\x04\x03\x00\x04\x00" in last  # app_data_dictionary: component 0x0004, no data
    invite(last, b"3")
    invite(last, b"4")
    assert bob.group_ids() == (b"1", b"3", b"4")


def test_a_welcome_cannot_replace_a_group_we_are_in(room: Room, now: int) -> None:
    room.add("bob")
    attacker = Client.create(identity=uri("mallory"))
    impostor = attacker.create_group(group_id=room.groups["bob"].group_id)
    bundle = impostor.commit(add=[room.clients["bob"].key_package(now=now, lifetime=WEEK)])
    assert bundle.welcome is not None
    with pytest.raises(NotAllowed):
        room.clients["bob"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    room.talk()
