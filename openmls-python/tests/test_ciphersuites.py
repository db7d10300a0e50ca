"""What has to work in every ciphersuite beyond the lifecycle, and what is refused between them."""

from collections.abc import Callable

import pytest

import openmls
from openmls import (
    Client,
    HpkeKeyPair,
    InvalidKeyPackage,
    InvalidProposal,
    InvalidSignature,
    MalformedMessage,
    MlsError,
    NotAllowed,
    PublicGroup,
    SignatureKeyPair,
    group_info_details,
    inspect_key_package,
    inspect_message,
)
from support import GROUP_ID, SUITES, WEEK, Room, uri

CONSTANTS = {
    1: openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519,
    2: openmls.CIPHERSUITE_P256_AES128GCM_SHA256_P256,
    3: openmls.CIPHERSUITE_X25519_CHACHA20POLY1305_SHA256_ED25519,
    7: openmls.CIPHERSUITE_P384_AES256GCM_SHA384_P384,
    0x4D: openmls.CIPHERSUITE_XWING_CHACHA20POLY1305_SHA256_ED25519,
}
# The other suites of RFC 9420; numbers that OpenMLS gives to post-quantum suites; GREASE and private use.
UNSUPPORTED = (0, 4, 5, 6, 8, 0x42, 0x4E, 0x4F, 0x50, 0x51, 0x52, 0x0906, 0x0907, 0x0A0A, 0xF042, 0xFFFF)
# Lengths in bytes. HPKE: private and public key, encapsulated key. Signatures: private and public key.
HPKE_LENGTHS = {1: (32, 32, 32), 2: (32, 65, 65), 3: (32, 32, 32), 7: (48, 97, 97), 0x4D: (32, 1216, 1120)}
SIGNATURE_LENGTHS = {1: (32, 32), 2: (32, 65), 3: (32, 32), 7: (48, 97), 0x4D: (32, 32)}
HASH_LENGTHS = {1: 32, 2: 32, 3: 32, 7: 48, 0x4D: 32}


@pytest.fixture(params=SUITES, ids=hex)
def ciphersuite(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def test_the_constants_are_the_supported_numbers() -> None:
    assert {number: number for number in SUITES} == CONSTANTS


def test_a_group_and_everything_about_it_names_its_ciphersuite(room: Room, ciphersuite: int) -> None:
    room.client("bob")
    package = room.key_package("bob")
    info = inspect_key_package(package, now=room.now)
    assert info.ciphersuite == ciphersuite
    assert inspect_message(b"\x00\x01\x00\x05" + package).ciphersuite == ciphersuite
    assert info.capabilities.ciphersuites == SUITES
    bundle = room.groups["alice"].commit(add=[package])
    assert bundle.welcome is not None
    assert inspect_message(bundle.welcome).ciphersuite == ciphersuite
    assert openmls.welcome_references(bundle.welcome) == (info.reference,)
    assert len(info.reference) == HASH_LENGTHS[ciphersuite]
    details = group_info_details(bundle.group_info)
    assert details.ciphersuite == ciphersuite
    assert len(details.tree_hash) == len(details.confirmation_tag) == HASH_LENGTHS[ciphersuite]
    assert room.hub.ciphersuite == room.groups["alice"].ciphersuite == ciphersuite
    assert room.clients["bob"].ciphersuite == room.hub_key.ciphersuite == ciphersuite


def test_clients_join_from_outside_and_come_back_with_new_keys_in_place_of_their_old_leaf(room: Room) -> None:
    room.add("bob")
    room.join("carol")
    leaf = room.leaf("bob")
    del room.groups["bob"]
    staged = room.join("bob", replace_leaf=leaf)
    assert staged.is_external
    assert [(member.leaf_index, member.identity) for member in staged.removed] == [(leaf, uri("bob"))]
    room.talk()


def test_app_data_is_updated(room: Room) -> None:
    room.add("bob")
    bundle = room.groups["bob"].commit(app_data_updates={0x8001: b"new topic"}, new_app_data={0x8001: b"t"})
    room.accept(bundle, "bob", {0x8001: b"t"})
    assert room.groups["alice"].app_data()[0x8001] == b"t"


def test_clients_and_hubs_are_restored_and_carry_on(room: Room) -> None:
    room.add("bob", "carol")
    winner = room.groups["alice"].commit(remove=[room.leaf("carol")])
    for name in ("alice", "bob", "carol"):
        saved = room.clients[name].save()
        room.clients[name] = Client.load(saved)
        assert room.clients[name].save() == saved
        room.groups[name] = room.clients[name].group(GROUP_ID)
    room.hub = PublicGroup.load(room.hub.save())
    room.accept(winner, "alice")
    room.talk()


def test_commits_are_judged_by_the_time_they_were_accepted_at(room: Room) -> None:
    # With `now`, OpenMLS is shown other lifetimes than the genuine ones; hashes must not notice.
    room.add("bob")
    bundle = room.groups["alice"].commit()
    staged = room.hub.stage_commit(bundle.commit, now=room.now)
    room.hub.verify_group_info(staged=staged, group_info=bundle.group_info)
    room.hub.merge(staged)
    room.groups["alice"].merge_pending_commit()
    room.groups["bob"].process(bundle.commit, now=room.now)
    room.check()
    room.talk()


def test_a_hub_whose_key_is_of_another_ciphersuite_cannot_propose(room: Room, ciphersuite: int) -> None:
    room.add("bob")
    other = SignatureKeyPair.generate(ciphersuite=2 if ciphersuite != 2 else 1)
    with pytest.raises(InvalidSignature):
        room.hub.propose_remove(signer=other, sender_index=0, leaf_index=1)


def test_a_key_package_of_any_other_ciphersuite_is_refused(room: Room, ciphersuite: int) -> None:
    before = room.clients["alice"].save()
    for number in SUITES:
        if number != ciphersuite:
            stranger = Client.create(identity=uri("bob"), ciphersuite=number)
            with pytest.raises(InvalidProposal):
                room.groups["alice"].commit(add=[stranger.key_package(now=room.now, lifetime=WEEK)])
    assert room.clients["alice"].save() == before


def test_a_client_of_any_other_ciphersuite_cannot_join(room: Room, ciphersuite: int) -> None:
    room.client("bob")
    bundle = room.groups["alice"].commit(add=[room.key_package("bob")])
    assert bundle.welcome is not None
    for number in SUITES:
        if number != ciphersuite:
            stranger = Client.create(identity=uri("bob"), ciphersuite=number)
            before = stranger.save()
            with pytest.raises(MlsError):
                stranger.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
            with pytest.raises(NotAllowed):
                stranger.join_external(group_info=room.group_info, ratchet_tree=room.tree)
            assert stranger.save() == before


def test_a_key_package_renamed_to_any_other_ciphersuite_is_refused(room: Room, ciphersuite: int) -> None:
    package = room.client("bob").key_package(now=room.now, lifetime=WEEK)
    assert package[2:4] == ciphersuite.to_bytes(2, "big")
    for number in (*SUITES, *UNSUPPORTED):
        if number != ciphersuite:
            with pytest.raises(InvalidKeyPackage):
                inspect_key_package(package[:2] + number.to_bytes(2, "big") + package[4:], now=room.now)


def test_a_group_info_renamed_to_any_other_ciphersuite_is_refused(room: Room, ciphersuite: int) -> None:
    assert room.group_info[2:4] == ciphersuite.to_bytes(2, "big")
    for number in (*SUITES, *UNSUPPORTED):
        if number != ciphersuite:
            renamed = room.group_info[:2] + number.to_bytes(2, "big") + room.group_info[4:]
            with pytest.raises(MlsError) as raised:
                PublicGroup.observe(group_info=renamed, ratchet_tree=room.tree)
            assert raised.value.code != "poisoned"


@pytest.mark.parametrize("number", UNSUPPORTED, ids=hex)
def test_a_ciphersuite_that_is_not_supported_is_refused_by_name(number: int) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: SignatureKeyPair.generate(ciphersuite=number),
        lambda: SignatureKeyPair.from_bytes(bytes(32), ciphersuite=number),
        lambda: HpkeKeyPair.generate(ciphersuite=number),
        lambda: HpkeKeyPair.from_bytes(bytes(32), ciphersuite=number),
        lambda: Client.create(identity=b"x", ciphersuite=number),
        lambda: openmls.hash(number, b""),
        lambda: openmls.verify_with_label(
            ciphersuite=number, public_key=b"", label="L", content=b"", signature=b""
        ),
        lambda: openmls.encrypt_with_label(
            ciphersuite=number, public_key=b"", label="L", context=b"", plaintext=b""
        ),
    ]
    for attempt in attempts:
        with pytest.raises(NotAllowed, match=f"ciphersuite {number:#06x} is not supported"):
            attempt()


def test_signature_keys_have_the_documented_lengths_and_survive_being_stored(ciphersuite: int) -> None:
    pair = SignatureKeyPair.generate(ciphersuite=ciphersuite)
    assert (len(pair.to_bytes()), len(pair.public_key)) == SIGNATURE_LENGTHS[ciphersuite]
    again = SignatureKeyPair.from_bytes(pair.to_bytes(), ciphersuite=ciphersuite)
    assert (again.to_bytes(), again.public_key) == (pair.to_bytes(), pair.public_key)
    assert SignatureKeyPair.generate(ciphersuite=ciphersuite).to_bytes() != pair.to_bytes()


def test_hpke_keys_have_the_documented_lengths_and_survive_being_stored(ciphersuite: int) -> None:
    private, public, encapsulated = HPKE_LENGTHS[ciphersuite]
    pair = HpkeKeyPair.generate(ciphersuite=ciphersuite)
    assert (len(pair.to_bytes()), len(pair.public_key)) == (private, public)
    again = HpkeKeyPair.from_bytes(pair.to_bytes(), ciphersuite=ciphersuite)
    assert (again.to_bytes(), again.public_key) == (pair.to_bytes(), pair.public_key)
    sealed = openmls.encrypt_with_label(
        ciphersuite=ciphersuite, public_key=pair.public_key, label="L", context=b"c", plaintext=b"p"
    )
    header = 1 if encapsulated < 1 << 6 else 2
    assert len(sealed) == header + encapsulated + 1 + len(b"p") + 16
    assert again.decrypt_with_label(label="L", context=b"c", ciphertext=sealed) == b"p"
    assert HpkeKeyPair.generate(ciphersuite=ciphersuite).to_bytes() != pair.to_bytes()


def test_what_is_no_private_key_is_malformed(ciphersuite: int) -> None:
    signature, hpke = SIGNATURE_LENGTHS[ciphersuite][0], HPKE_LENGTHS[ciphersuite][0]
    for length in {0, 31, 33, 47, 49, 64} - {signature}:
        with pytest.raises(MalformedMessage):
            SignatureKeyPair.from_bytes(b"\x01" * length, ciphersuite=ciphersuite)
    for length in {0, 31, 33, 47, 49, 64} - {hpke}:
        with pytest.raises(MalformedMessage):
            HpkeKeyPair.from_bytes(b"\x01" * length, ciphersuite=ciphersuite)


@pytest.mark.parametrize("number", [2, 7])
@pytest.mark.parametrize("octet", [0, 0xFF])
def test_zero_and_what_exceeds_the_order_of_a_nist_curve_are_no_private_keys(number: int, octet: int) -> None:
    scalar = bytes([octet]) * SIGNATURE_LENGTHS[number][0]
    with pytest.raises(MalformedMessage):
        SignatureKeyPair.from_bytes(scalar, ciphersuite=number)
    with pytest.raises(MalformedMessage):
        HpkeKeyPair.from_bytes(scalar, ciphersuite=number)


def test_what_is_no_public_key_is_refused(ciphersuite: int) -> None:
    public = HpkeKeyPair.generate(ciphersuite=ciphersuite).public_key
    # Coefficients of ML-KEM are below 3329, and 0xFF octets encode 4095. No coordinate exceeds the prime.
    bad = [b"", public[:-1], public + b"\x00"]
    if ciphersuite in {2, 7, 0x4D}:
        bad.append(public[:1] + b"\xff" * (len(public) - 1))
    for key in bad:
        with pytest.raises(NotAllowed):
            openmls.encrypt_with_label(
                ciphersuite=ciphersuite, public_key=key, label="L", context=b"", plaintext=b""
            )
