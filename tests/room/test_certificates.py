"""Leaves with certificates: who lets them in, and until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import openmls
import pytest
from cryptography.x509 import Certificate

from linearized.exceptions import CertificateError, IdentifierError
from linearized.mimi.certificates import certified_credential, encode_oid
from linearized.mimi.key_material import basic_credential
from linearized.mimi.participants import ParticipantListUpdate
from linearized.mimi.policy.preauth import Claim, ClaimId, PreAuthData, PreAuthRoleEntry
from linearized.mimi.policy.roles import Role
from linearized.room.certificates import nobody_trusted, verify_credential
from linearized.room.claims import BASIC, CERTIFIED, PROVIDER, claims_of, preauthorized_role
from linearized.room.credentials import ClientIdentity, client_of, pseudonym_of
from linearized.room.submissions import Handshake, Reason, Rejected
from linearized.room.tie import keeps_identity
from tests.certificates import BADGE, DAY, Authority, public_key
from tests.room.party import Party, commit_pending, offer
from tests.room.support import ANNA, BOB, MLS, NOW, Member, handshake, member, refusal

CA = Authority.new(MLS.now)
CA_OF_A = Authority.new(MLS.now, "Clients of a.example")
DEVICE = "mimi://b.example/d/bob/DEV"
KEY = openmls.SignatureKeyPair.generate()
CREDENTIAL = certified_credential([CA.certify(public_key(KEY.public_key), DEVICE)])
DAY_MS = int(DAY.total_seconds()) * 1000


def trusted(domain: str) -> Sequence[Certificate]:
    trust: Mapping[str, Authority] = {"a.example": CA_OF_A, "b.example": CA}
    return [trust[domain].certificate] if domain in trust else []


def certified_bob(authority: Authority = CA, uri: str = DEVICE, **about: Any) -> Member:
    bob = Member(BOB)
    bob.client = authority.client(uri, **about)
    return bob


def test_a_certificate_names_user_and_device_and_only_for_its_own_key() -> None:
    assert client_of(CREDENTIAL) == ClientIdentity(BOB, "DEV")
    assert client_of(CREDENTIAL, signature_key=KEY.public_key) == ClientIdentity(BOB, "DEV")
    with pytest.raises(IdentifierError, match="another signature key"):
        client_of(CREDENTIAL, signature_key=bytes(32))
    assert pseudonym_of(CREDENTIAL) is None


@pytest.mark.parametrize(
    "uri", ["mimi://b.example/d/bob", "mimi://b.example/d/bob/no device", "mimi://b.example/u/bob"]
)
def test_a_certificate_of_no_client_is_refused(uri: str) -> None:
    with pytest.raises(IdentifierError):
        client_of(certified_credential([CA.certify(public_key(KEY.public_key), uri)]))


def test_a_credential_of_another_type_is_refused() -> None:
    for read in (client_of, pseudonym_of):
        with pytest.raises(IdentifierError):
            read(b"\x00\x03" + basic_credential(DEVICE.encode())[2:])


def test_the_authorities_of_a_provider_certify_its_own_users_alone() -> None:
    verify_credential(CREDENTIAL, trusted, now=NOW)
    with pytest.raises(CertificateError, match=r"no authority is trusted for certificates of b\.example"):
        verify_credential(CREDENTIAL, nobody_trusted, now=NOW)
    foreign = certified_credential([CA_OF_A.certify(public_key(KEY.public_key), DEVICE)])
    with pytest.raises(CertificateError, match="does not hold"):
        verify_credential(foreign, trusted, now=NOW)
    verify_credential(basic_credential(DEVICE.encode()), nobody_trusted, now=NOW)


def test_clients_with_certificates_and_without_share_a_room() -> None:
    bob, anna = certified_bob(), Member(ANNA)
    party = Party(anna, bob, authorities=trusted)
    assert [leaf.certificates != () for leaf in party.group_of_hub().members()] == [False, False, True]
    accepted = party.room.submit(bob.message(b"hello"), now=NOW)
    assert accepted.entries[0].event.sender == BOB
    assert party.alice.joined().process(bob.joined().encrypt(b"again")).plaintext == b"again"
    party.submit(bob.change(ParticipantListUpdate()), by=bob)
    assert anna.joined().epoch == bob.joined().epoch == party.room.epoch == 3


def test_a_room_is_founded_with_certificates_and_others_come_without() -> None:
    founder = CA_OF_A.client("mimi://a.example/d/alice/DEV")
    party = Party(Member(BOB), authorities=trusted, founder=founder)
    assert [leaf.certificates != () for leaf in party.group_of_hub().members()] == [True, False]


def untrusted() -> dict[str, Member]:
    keys = openmls.SignatureKeyPair.generate()
    other_key, nonsense = Member(BOB), Member(BOB)
    chain = [CA.certify(public_key(KEY.public_key), DEVICE)]
    other_key.client = openmls.Client.create(certificates=chain, signature_key=keys)
    nonsense.client = openmls.Client.create(certificates=[b"certificate"], signature_key=keys)
    return {
        "another authority": certified_bob(Authority.new(MLS.now)),
        "another provider's authority": certified_bob(CA_OF_A),
        "expired": certified_bob(until=-DAY / 2),
        "another key": other_key,
        "no certificate": nonsense,
    }


@pytest.mark.parametrize("case", untrusted())
def test_who_is_not_certified_is_not_added(case: str) -> None:
    party = Party(authorities=trusted)
    error = refusal(party.room, party.alice.add(untrusted()[case]), Reason.INVALID_COMMIT)
    assert "certificate" in str(error) or "signature key" in str(error)


def test_a_hub_that_trusts_nobody_takes_no_certificates() -> None:
    party = Party()
    error = refusal(party.room, party.alice.add(certified_bob()), Reason.INVALID_COMMIT)
    assert "no authority" in str(error)


def test_certificates_do_not_stand_in_for_the_providers_own_word() -> None:
    party = Party(authorities=trusted)
    made = party.alice.add(certified_bob())
    unknown = Handshake(bundle=made.bundle, provider=made.provider)
    assert "handed out" in str(refusal(party.room, unknown, Reason.FORBIDDEN))


def test_who_proposes_a_client_without_certificates_that_hold_proposes_nothing() -> None:
    party = Party(Member(BOB), authorities=trusted)
    bob = party.members[1]
    for tablet in (certified_bob(CA_OF_A, "mimi://b.example/d/bob/TAB"), certified_bob(until=-DAY / 2)):
        proposal = bob.joined().propose_add(tablet.key_package())
        error = refusal(party.room, offer(bob, proposal), Reason.INVALID_PROPOSAL)
        assert error.invalid_proposals == tuple(found.reference for found in bob.joined().pending_proposals())
        bob.joined().remove_pending_proposal(error.invalid_proposals[0])


def test_a_proposed_client_whose_certificate_has_expired_meanwhile_can_be_left_out() -> None:
    party = Party(Member(BOB), authorities=trusted)
    bob, tablet = party.members[1], certified_bob(uri="mimi://b.example/d/bob/TAB", until=DAY)
    proposal = bob.joined().propose_add(tablet.key_package())
    party.submit(offer(bob, proposal), by=bob)
    (pending,) = party.alice.joined().pending_proposals()
    with pytest.raises(Rejected) as raised:
        party.room.submit(commit_pending(party.alice), now=NOW + 2 * DAY_MS)
    assert (raised.value.code, raised.value.invalid_proposals) == (
        Reason.INVALID_PROPOSAL,
        (pending.reference,),
    )
    party.alice.joined().clear_pending_commit()
    party.room.submit(commit_pending(party.alice), now=NOW + DAY_MS // 2)


def test_a_client_whose_certificate_has_expired_stays_and_commits_nothing_more() -> None:
    bob = certified_bob(until=DAY)
    party = Party(bob, authorities=trusted)
    with pytest.raises(Rejected, match="does not hold") as raised:
        party.room.submit(bob.change(ParticipantListUpdate()), now=NOW + 2 * DAY_MS)
    assert raised.value.code is Reason.INVALID_COMMIT
    bob.joined().clear_pending_commit()
    party.room.submit(party.alice.change(ParticipantListUpdate()), now=NOW + 2 * DAY_MS)
    assert len(party.group_of_hub().members()) == 2


def renewed(bob: Member, authority: Authority = CA, uri: str = DEVICE, **about: Any) -> Handshake:
    """A commit of bob's with other certificates for his key."""
    bob.client.renew(certificates=[authority.certify(public_key(bob.client.signature_key), uri, **about)])
    return bob.change(ParticipantListUpdate())


def test_a_certificate_is_renewed_in_place_also_after_it_has_expired() -> None:
    bob = certified_bob(until=DAY)
    party = Party(bob, authorities=trusted)
    before = party.group_of_hub().members()[1]
    party.room.submit(renewed(bob, until=5 * DAY), now=NOW + 2 * DAY_MS)
    bob.accept()
    after = party.group_of_hub().members()[1]
    assert after.signature_key == before.signature_key
    assert after.certificates == bob.client.certificates != before.certificates
    party.room.submit(bob.change(ParticipantListUpdate()), now=NOW + 4 * DAY_MS)


@pytest.mark.parametrize(
    ("authority", "about", "reason"),
    [
        (CA, {"uri": "mimi://b.example/d/bert/DEV"}, "whose leaf"),
        (CA, {"uri": "mimi://b.example/d/bob/TAB"}, "whose leaf"),
        (CA_OF_A, {"uri": "mimi://a.example/d/bob/DEV"}, "whose leaf"),
        (CA, {"until": -DAY / 2}, "does not hold"),
        (CA_OF_A, {}, "does not hold"),
    ],
)
def test_nobody_elses_nor_an_expired_nor_an_unknown_authoritys_certificate_takes_its_place(
    authority: Authority, about: dict[str, Any], reason: str
) -> None:
    bob = certified_bob()
    party = Party(bob, authorities=trusted)
    update = renewed(bob, authority, **about)
    assert reason in str(refusal(party.room, update, Reason.INVALID_COMMIT))


def joining(party: Party, who: Member) -> Handshake:
    who.group, bundle = who.client.join_external(
        group_info=party.group.group_info, ratchet_tree=party.group.ratchet_tree
    )
    return handshake(who, bundle)


def test_a_client_joins_by_itself_with_certificates_that_hold() -> None:
    party = Party(authorities=trusted)
    party.submit(member(ANNA, "join"))
    uri = "mimi://a.example/d/anna/DEV"
    for client in (CA.client(uri), CA_OF_A.client(uri, until=-DAY / 2)):
        stranger = Member(ANNA)
        stranger.client = client
        assert "does not hold" in str(refusal(party.room, joining(party, stranger), Reason.INVALID_COMMIT))
    anna = Member(ANNA)
    anna.client = CA_OF_A.client(uri)
    party.submit(joining(party, anna), by=anna)
    assert anna.joined().epoch == party.room.epoch


def leaf(credential: bytes, key: bytes = KEY.public_key) -> Any:
    return SimpleNamespace(credential=credential, signature_key=key)


def test_an_update_may_bring_new_certificates_of_the_same_client() -> None:
    before = leaf(CREDENTIAL)
    keys = openmls.SignatureKeyPair.generate().public_key
    renewed = leaf(certified_credential([CA.certify(public_key(keys), DEVICE)]), keys)
    other = leaf(certified_credential([CA.certify(public_key(keys), "mimi://b.example/d/bob/TAB")]), keys)
    basic = leaf(basic_credential(DEVICE.encode()))
    assert keeps_identity(before, before)
    assert keeps_identity(before, renewed)
    assert not keeps_identity(before, other)
    assert not keeps_identity(before, basic)
    assert not keeps_identity(basic, before)


def rules(*claims: tuple[int, bytes, bytes]) -> PreAuthData:
    claimset = tuple(
        Claim(claim_id=ClaimId(credential_type=kind, id=name), claim_value=value)
        for kind, name, value in claims
    )
    return PreAuthData(
        preauthorized_entries=(
            PreAuthRoleEntry(claimset=claimset, target_role=Role(role_index=3, role_name="role")),
        )
    )


def test_a_certificate_preauthorizes_by_its_subject_and_its_own_extensions() -> None:
    leaf = CA.certify(public_key(KEY.public_key), DEVICE, units=("Gardeners", "Board"), badge=b"blue")
    claims = claims_of(BOB, certified_credential([leaf]))
    unit, badge = bytes.fromhex("060355040b"), encode_oid(BADGE)
    for met in (
        [(CERTIFIED, unit, b"Board")],
        [(CERTIFIED, unit, b"Gardeners"), (CERTIFIED, badge, b"blue")],
        [(CERTIFIED, unit, b"Board"), (BASIC, PROVIDER, b"b.example")],
    ):
        assert preauthorized_role(rules(*met), claims) == 3
    for unmet in (
        [(CERTIFIED, unit, b"board")],
        [(CERTIFIED, unit, b"Board"), (CERTIFIED, badge, b"red")],
        [(BASIC, unit, b"Board")],
        [(BASIC, b"", DEVICE.encode())],
    ):
        assert preauthorized_role(rules(*unmet), claims) is None
