"""X.509 credentials (RFC 9420 section 5.3): passed along as they are, and never taken for basic ones."""

from dataclasses import replace

import pytest

import openmls
from forge import ForgedKeyPackage, extension_vector, vector
from openmls import Client, InvalidKeyPackage, NotAllowed, PublicGroup, SignatureKeyPair
from support import GROUP_ID, WEEK, Room, uri

CHAIN = (b"the client's certificate", b"who signed it" * 20)
ENCODED = b"\x00\x02" + vector(b"".join(map(vector, CHAIN)))
REQUIRED_CAPABILITIES = 3


def certified(*chain: bytes, ciphersuite: int = 1) -> Client:
    keys = SignatureKeyPair.generate(ciphersuite=ciphersuite)
    return Client.create(certificates=chain or CHAIN, signature_key=keys, ciphersuite=ciphersuite)


def join(room: Room, name: str, client: Client) -> None:
    room.clients[name] = client
    bundle = room.groups["alice"].commit(add=[room.key_package(name)])
    room.accept(bundle, "alice")
    assert bundle.welcome is not None
    room.groups[name] = client.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)


def test_a_client_has_the_certificates_it_was_made_with(now: int) -> None:
    client = certified()
    assert client.certificates == CHAIN
    assert client.credential == ENCODED
    assert client.identity == b""
    info = openmls.inspect_key_package(client.key_package(now=now, lifetime=WEEK), now=now)
    assert (info.certificates, info.credential, info.identity) == (CHAIN, ENCODED, b"")
    assert info.signature_key == client.signature_key
    assert info.capabilities.credentials == (1, 2)
    basic = Client.create(identity=uri("bob"))
    assert basic.certificates == ()
    assert openmls.inspect_key_package(basic.key_package(now=now, lifetime=WEEK), now=now).certificates == ()


RENEWED = (b"the client's next certificate", CHAIN[1])


def test_renewed_certificates_come_with_the_next_commit_or_update(room: Room, now: int) -> None:
    room.add("bob")
    join(room, "carol", certified())
    carol, key = room.clients["carol"], room.clients["carol"].signature_key
    carol.renew(certificates=RENEWED)
    assert (carol.certificates, carol.signature_key) == (RENEWED, key)
    info = openmls.inspect_key_package(carol.key_package(now=now, lifetime=WEEK), now=now)
    assert info.certificates == RENEWED
    # Her leaf is as it was, and so is what she says, until she commits.
    assert room.hub.members()[2].certificates == CHAIN
    assert room.groups["bob"].process(room.groups["carol"].encrypt(b"hello")).plaintext == b"hello"
    # A commit that comes to nothing takes nothing with it.
    room.groups["carol"].commit()
    room.groups["carol"].clear_pending_commit()
    again = Client.load(carol.save())
    assert again.certificates == RENEWED
    bundle = room.groups["carol"].commit()
    staged = room.hub.stage_commit(bundle.commit, now=now)
    assert [member.certificates for member in staged.updated] == [RENEWED]
    room.accept(bundle, "carol")
    for group in (room.hub, room.groups["bob"], room.groups["carol"]):
        assert [member.certificates for member in group.members()] == [(), (), RENEWED]
        assert group.members()[2].signature_key == key
    answer = room.groups["bob"].process(room.groups["carol"].encrypt(b"me again"))
    assert answer.sender_credential == carol.credential


def test_an_update_proposal_brings_renewed_certificates(room: Room) -> None:
    join(room, "carol", certified())
    room.clients["carol"].renew(certificates=RENEWED)
    proposal = room.groups["carol"].propose_update()
    processed = room.groups["alice"].process(proposal)
    assert processed.proposal is not None
    assert processed.proposal.updated is not None
    assert processed.proposal.updated.certificates == RENEWED
    bundle = room.groups["alice"].commit()
    room.groups["carol"].process(bundle.commit)
    room.groups["alice"].merge_pending_commit()
    assert [member.certificates for member in room.groups["carol"].members()] == [(), RENEWED]


def test_only_certificates_can_be_renewed(room: Room) -> None:
    with pytest.raises(NotAllowed, match="has no certificates"):
        room.clients["alice"].renew(certificates=RENEWED)
    client = certified()
    for chain in ((), (b"",)):
        with pytest.raises(NotAllowed):
            client.renew(certificates=chain)
    assert client.certificates == CHAIN


def test_members_with_certificates_and_without_share_a_group(room: Room) -> None:
    room.add("bob")
    join(room, "carol", certified())
    carol = room.hub.members()[2]
    assert (carol.certificates, carol.credential, carol.identity) == (CHAIN, ENCODED, b"")
    assert [member.certificates for member in room.groups["bob"].members()] == [(), (), CHAIN]
    message = room.groups["bob"].process(room.groups["carol"].encrypt(b"hello"))
    assert (message.plaintext, message.sender_identity, message.sender_credential) == (b"hello", b"", ENCODED)
    answer = room.groups["carol"].process(room.groups["bob"].encrypt(b"hello you"))
    assert (answer.sender_identity, answer.sender_credential) == (uri("bob"), room.clients["bob"].credential)
    bundle = room.groups["carol"].commit()
    processed = room.groups["bob"].process(bundle.commit)
    assert (processed.sender_identity, processed.sender_credential) == (b"", ENCODED)
    again = PublicGroup.load(room.hub.save())
    assert again.members()[2] == carol


def test_what_is_saved_has_the_certificates(room: Room) -> None:
    join(room, "carol", certified())
    again = Client.load(room.clients["carol"].save())
    assert (again.certificates, again.signature_key) == (CHAIN, room.clients["carol"].signature_key)
    room.groups["carol"] = again.group(GROUP_ID)
    message = room.groups["alice"].process(room.groups["carol"].encrypt(b"here again"))
    assert message.plaintext == b"here again"


def test_a_group_of_a_client_with_certificates_asks_for_both_types() -> None:
    def asked(client: Client) -> bytes:
        group_info, tree = client.create_group(group_id=GROUP_ID).group_info()
        observed = PublicGroup.observe(group_info=group_info, ratchet_tree=tree)
        return observed.extensions()[REQUIRED_CAPABILITIES]

    assert asked(certified()).endswith(vector(b"\x00\x01\x00\x02"))
    assert asked(Client.create(identity=uri("bob"))).endswith(vector(b"\x00\x01"))


def test_a_client_that_knows_no_certificates_keeps_them_out_of_its_group(room: Room) -> None:
    room.client("bob")
    package = ForgedKeyPackage.read(room.key_package("bob"))
    package.capabilities[4] = b"\x00\x01"
    room.accept(room.groups["alice"].commit(add=[package.sign(room.clients["bob"])]), "alice")
    room.clients["carol"] = certified()
    with pytest.raises(openmls.MlsError):
        room.hub.stage_commit(room.groups["alice"].commit(add=[room.key_package("carol")]).commit)


def test_a_client_is_made_with_an_identity_or_with_certificates_for_a_key() -> None:
    keys = SignatureKeyPair.generate()
    with pytest.raises(NotAllowed, match="either"):
        Client.create(signature_key=keys)
    with pytest.raises(NotAllowed, match="either"):
        Client.create(identity=uri("bob"), certificates=CHAIN, signature_key=keys)
    with pytest.raises(NotAllowed, match="signature key"):
        Client.create(certificates=CHAIN)
    for chain in ((), (b"",), (*CHAIN, b"")):
        with pytest.raises(NotAllowed, match="certificates"):
            Client.create(certificates=chain, signature_key=keys)


@pytest.mark.parametrize(
    "content", [b"", vector(b""), vector(b"one") + b"\x05two", vector(b"one") + vector(b"")]
)
def test_a_chain_that_is_none_is_refused(content: bytes, now: int) -> None:
    client = certified()
    package = ForgedKeyPackage.read(client.key_package(now=now, lifetime=WEEK))
    forged = replace(package, credential=b"\x00\x02" + vector(content))
    with pytest.raises(InvalidKeyPackage):
        openmls.inspect_key_package(forged.sign(client), now=now)


def test_the_content_of_a_basic_credential_is_no_chain(now: int) -> None:
    client = Client.create(identity=b"".join(map(vector, CHAIN)))
    info = openmls.inspect_key_package(client.key_package(now=now, lifetime=WEEK), now=now)
    assert info.certificates == ()
    assert info.credential != ENCODED


def test_extension_lists_of_a_certified_leaf_are_shown_like_any_other(now: int) -> None:
    client = certified(ciphersuite=2)
    package = ForgedKeyPackage.read(client.key_package(now=now, lifetime=WEEK))
    dictionary = vector(b"\x80\x01" + vector(b"mine"))
    package.leaf_extensions = extension_vector({6: dictionary})[1:]
    info = openmls.inspect_key_package(package.sign(client), now=now)
    assert (info.leaf_app_data, info.certificates) == ({0x8001: b"mine"}, CHAIN)
