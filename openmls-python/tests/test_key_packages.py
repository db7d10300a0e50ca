"""Key packages and Welcomes: what we make, what we accept."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from forge import ForgedKeyPackage, extension_vector, vector
from openmls import (
    CannotDecrypt,
    Client,
    InvalidKeyPackage,
    MalformedMessage,
    NotAllowed,
    inspect_key_package,
    inspect_message,
    key_package_reference,
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
    assert info.capabilities.credentials == (1, 2)
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


def test_the_injected_time_is_the_only_clock(bob: Client, now: int) -> None:
    package = bob.key_package(now=now, lifetime=WEEK)
    for wrong in (now - 3601, now + WEEK, 0, (1 << 64) - 1):
        with pytest.raises(InvalidKeyPackage, match="not at"):
            inspect_key_package(package, now=wrong)
    inspect_key_package(package, now=now + WEEK - 1)
    inspect_key_package(package, now=now - 3600)


@pytest.mark.parametrize("then", [1_000_000_000, 2_220_000_000], ids=["2001", "2040"])
def test_a_key_package_is_judged_by_its_own_time(bob: Client, now: int, then: int) -> None:
    package = bob.key_package(now=then, lifetime=WEEK, last_resort=True)
    info = inspect_key_package(package, now=then)
    assert (info.not_before, info.not_after) == (then - 3600, then + WEEK)
    assert info.reference == key_package_reference(package)
    assert info.last_resort
    for wrong in (now, then - 3601, then + WEEK):
        with pytest.raises(InvalidKeyPackage, match="not at"):
            inspect_key_package(package, now=wrong)
    for position in range(len(package)):
        damaged = package[:position] + bytes([package[position] ^ 1]) + package[position + 1 :]
        with pytest.raises(InvalidKeyPackage):
            inspect_key_package(damaged, now=then)


def test_a_key_package_that_is_about_to_expire_is_judged_like_any_other(bob: Client, now: int) -> None:
    """OpenMLS reads the clock itself; close to the bounds it must not be the one that decides."""
    package = bob.key_package(now=now, lifetime=5)
    assert inspect_key_package(package, now=now + 4).not_after == now + 5
    with pytest.raises(InvalidKeyPackage):
        inspect_key_package(package, now=now + 5)


@pytest.mark.parametrize("then", [1_000_000_000, None], ids=["2001", "now"])
def test_a_key_package_valid_for_too_long_is_refused(bob: Client, now: int, then: int | None) -> None:
    then = then or now
    forged = ForgedKeyPackage.read(bob.key_package(now=then, lifetime=WEEK))
    assert inspect_key_package(forged.sign(bob), now=then).identity == uri("bob")
    forged.not_after = forged.not_before + 3600 + 84 * 24 * 3600
    inspect_key_package(forged.sign(bob), now=then)
    forged.not_after += 1
    with pytest.raises(InvalidKeyPackage, match="too long"):
        inspect_key_package(forged.sign(bob), now=then)
    forged.not_before, forged.not_after = 0, (1 << 64) - 1
    with pytest.raises(InvalidKeyPackage, match="too long"):
        inspect_key_package(forged.sign(bob), now=then)


@pytest.mark.parametrize("then", [1_000_000_000, None], ids=["2001", "now"])
def test_all_that_is_wrong_with_a_key_package_is_found_at_any_time(
    bob: Client, now: int, then: int | None
) -> None:
    then = then or now
    honest = bob.key_package(now=then, lifetime=WEEK)

    def refused(source: bytes | None = None, signer: Client = bob, **changes: Any) -> None:
        forged = replace(ForgedKeyPackage.read(honest), **changes)
        with pytest.raises(InvalidKeyPackage):
            inspect_key_package(forged.sign(signer, source), now=then)

    stranger = Client.create(identity=uri("mallory"))
    refused(signer=stranger)
    refused(signature_key=stranger.signature_key)
    refused(init_key=ForgedKeyPackage.read(honest).encryption_key)  # RFC 9420 10.1: they must differ
    refused(source=b"\x02")  # the leaf of an Update
    refused(source=b"\x03" + vector(bytes(32)))  # the leaf of a commit
    refused(credential=b"\x00\x02" + vector(b""))  # x509
    refused(credential=b"\xf0\x0d" + vector(uri("bob")))
    refused(extensions=b"\xf0\x00" + vector(b""))  # an extension that the leaf does not announce
    refused(leaf_extensions=b"\xf0\x00" + vector(b""))
    refused(ciphersuite=0xF000)
    announced = ForgedKeyPackage.read(honest).capabilities
    for index in (0, 1, 4):  # versions, ciphersuites, credentials
        refused(capabilities=[b"" if position == index else part for position, part in enumerate(announced)])


def test_a_key_package_shows_all_that_is_in_it(bob: Client, now: int) -> None:
    forged = ForgedKeyPackage.read(bob.key_package(now=now, lifetime=WEEK, last_resort=True))
    dictionary = {
        number: vector(number.to_bytes(2, "big") + vector(data))
        for number, data in ((0x8001, b"of the leaf"), (0x8002, b"of the package"))
    }
    forged.leaf_extensions = extension_vector({6: dictionary[0x8001]})[1:]
    forged.extensions = extension_vector({6: dictionary[0x8002]})[1:]
    info = inspect_key_package(forged.sign(bob), now=now)
    assert info.init_key == forged.init_key
    assert info.encryption_key == forged.encryption_key
    assert info.leaf_extensions == {6: dictionary[0x8001]}
    assert info.leaf_app_data == {0x8001: b"of the leaf"}
    assert info.extensions == {6: dictionary[0x8002]}
    assert info.app_data == {0x8002: b"of the package"}
    assert not info.last_resort
    last = inspect_key_package(bob.key_package(now=now, lifetime=WEEK, last_resort=True), now=now)
    assert last.app_data == {4: b""}  # last_resort_key_package
    assert list(last.extensions) == [6, 10]
    assert last.leaf_extensions == last.leaf_app_data == {}


def test_what_a_client_lacks_is_named(bob: Client, now: int) -> None:
    package = bob.key_package(now=now, lifetime=WEEK)
    fits: dict[str, Any] = {
        "ciphersuite": 1,
        "required_extensions": [1, 2, 3, 4, 5, 6],
        "required_proposals": [1, 2, 3, 4, 5, 6, 7, 8, 10],
        "required_credentials": (1, 2),
    }
    assert inspect_key_package(package, now=now, **fits).identity == uri("bob")
    with pytest.raises(InvalidKeyPackage, match="ciphersuite 0x0001, not 0x0002"):
        inspect_key_package(package, now=now, ciphersuite=2)
    with pytest.raises(InvalidKeyPackage, match=r"extension 0x0007, extension 0xf000$"):
        inspect_key_package(package, now=now, required_extensions=[6, 7, 0xF000])
    with pytest.raises(InvalidKeyPackage, match="proposal 0xf009"):
        inspect_key_package(package, now=now, required_proposals=[8, 0xF009])
    with pytest.raises(InvalidKeyPackage, match="credential 0x0003"):
        inspect_key_package(package, now=now, required_credentials=[3])
    with pytest.raises(InvalidKeyPackage, match=r"extension 0x0000, proposal 0x0000, credential 0x0000$"):
        inspect_key_package(
            package, now=now, required_extensions=[0], required_proposals=[0], required_credentials=[0]
        )
    with pytest.raises(OverflowError):
        inspect_key_package(package, now=now, required_extensions=[1 << 16])


def test_the_reference_needs_no_valid_key_package(bob: Client, now: int) -> None:
    package = bob.key_package(now=now - 2 * WEEK, lifetime=WEEK)
    labelled = vector(b"MLS 1.0 KeyPackage Reference") + vector(package)
    assert key_package_reference(package) == hashlib.sha256(labelled).digest()
    assert key_package_reference(MLS_MESSAGE_KEY_PACKAGE + package) == key_package_reference(package)
    unsigned = package[:-1] + bytes([package[-1] ^ 1])
    assert key_package_reference(unsigned) != key_package_reference(package)
    for damaged in (b"", package[:-1], package + b"\x00", package[1:]):
        with pytest.raises(MalformedMessage):
            key_package_reference(damaged)
    with pytest.raises((NotAllowed, MalformedMessage)):
        key_package_reference(package[:2] + b"\xf0\x00" + package[4:])


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
