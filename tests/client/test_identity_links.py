"""Checking who is behind a pseudonym: every way in which a link can be wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openmls
import pytest

from linearized.client import UntrustedIdentity
from linearized.client.device import CIPHERSUITE
from linearized.client.identity_links import RealIdentity, check_link
from linearized.client.transport import JsonObject
from linearized.mimi.identity_links import LINK_LABEL, AttestedIdentityLink, seal_link
from linearized.mimi.key_material import basic_credential
from linearized.mimi.pseudonyms import IdentityLinkTBE, PseudonymousCredential, PseudonymousCredentialTBS
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import canonical_json
from linearized.protocol.signing import SigningKey, sign_json

NOW = 1_700_000_000_000
USER = "0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f"
CLIENT = "9d3f6a10-2b4c-4e8f-8a7b-6c5d4e3f2a1b"
KEY = bytes(range(32))
SERVER = SigningKey.generate("1", bytes(32))
OLD = SigningKey.generate("0", bytes([1]) * 32)
BOB = openmls.SignatureKeyPair.generate(ciphersuite=CIPHERSUITE)
SIGNED = PseudonymousCredentialTBS(
    client_pseudonym=f"mimi://b.example/d/{USER}/{CLIENT}",
    user_pseudonym=f"mimi://b.example/u/{USER}",
    signature_public_key=b"the pseudonym's own key",
)
REAL = b"mimi://b.example/d/bob/PHONE"


def document(key: SigningKey = SERVER, **members: Any) -> JsonObject:
    """What the provider says of its signing keys."""
    said = {
        "server_name": "b.example",
        "valid_until_ts": NOW,
        "verify_keys": {key.key_id: {"key": encode_base64(key.verify_key)}},
        "old_verify_keys": {},
        **members,
    }
    return sign_json(said, name="b.example", key=key)


def statement(key: SigningKey = SERVER, **members: Any) -> bytes:
    said: JsonObject = {
        "type": "dev.linearized.client_key",
        "user_id": "@bob:b.example",
        "device_id": "PHONE",
        "signature_key": encode_base64(BOB.public_key),
        "issued_ts": NOW,
        **members,
    }
    return canonical_json(sign_json(said, name="b.example", key=key))


def credential(
    *,
    said: bytes | None = None,
    real: bytes = REAL,
    signer: openmls.SignatureKeyPair = BOB,
    signed: PseudonymousCredentialTBS = SIGNED,
    client_credential: bytes | None = None,
) -> PseudonymousCredential:
    """Bob's pseudonym, or what is wrong with it."""
    link = AttestedIdentityLink(
        link=IdentityLinkTBE(
            pseudonymous_credential_signature=signer.sign_with_label(
                label=LINK_LABEL, content=signed.encode()
            ),
            client_credential=client_credential or basic_credential(real),
        ),
        statement=statement() if said is None else said,
    )
    return PseudonymousCredential(
        client_pseudonym=SIGNED.client_pseudonym,
        user_pseudonym=SIGNED.user_pseudonym,
        signature_public_key=SIGNED.signature_public_key,
        identity_link_ciphertext=seal_link(KEY, SIGNED, link),
    )


def refused(broken: PseudonymousCredential, *documents: JsonObject) -> str:
    with pytest.raises(UntrustedIdentity) as raised:
        check_link(broken, KEY, documents or [document()])
    return str(raised.value)


def test_a_link_that_holds_tells_who_it_is() -> None:
    assert check_link(credential(), KEY, [document()]) == RealIdentity(
        "@bob:b.example", "PHONE", BOB.public_key
    )


def test_a_link_of_another_pseudonym_is_refused() -> None:
    other = replace(SIGNED, signature_public_key=b"the thief's")
    assert refused(credential(signed=other))


def test_a_signature_by_another_key_than_the_attested_one_is_refused() -> None:
    assert refused(credential(signer=openmls.SignatureKeyPair.generate(ciphersuite=CIPHERSUITE)))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\xff", "not JSON"),
        (b"[]", "something else"),
        (statement(type="dev.linearized.other"), "something else"),
        (statement(user_id="@carol:b.example"), "another client"),
        (statement(device_id="LAPTOP"), "another client"),
        (statement(issued_ts="now"), "no key or no time"),
        (statement(signature_key=5), "no key or no time"),
        (statement(signature_key="!"), "base64"),
        (statement(signature_key=encode_base64(bytes(32))), ""),
        (statement(OLD), ""),
    ],
)
def test_a_statement_that_does_not_hold_is_refused(said: bytes, reason: str) -> None:
    assert reason in refused(credential(said=said))


def test_a_real_user_is_of_the_pseudonyms_provider() -> None:
    said = statement(user_id="@bob:c.example")
    text = refused(credential(real=b"mimi://c.example/d/bob/PHONE", said=said))
    assert "pseudonym's provider" in text


def test_a_pseudonym_of_a_pseudonym_is_nobody() -> None:
    assert "pseudonym's provider" in refused(credential(real=credential().encode()))


def test_a_credential_that_names_nobody_is_refused() -> None:
    assert refused(credential(real=b"mimi://b.example/u/bob"))


def test_the_keys_of_another_server_are_no_keys() -> None:
    said = {
        "server_name": "c.example",
        "valid_until_ts": NOW,
        "verify_keys": {SERVER.key_id: {"key": encode_base64(SERVER.verify_key)}},
    }
    assert refused(credential(), sign_json(said, name="c.example", key=SERVER))


def test_a_key_that_was_given_up_later_still_counts() -> None:
    old = {OLD.key_id: {"key": encode_base64(OLD.verify_key), "expired_ts": NOW + 1}}
    link = credential(said=statement(OLD))
    assert check_link(link, KEY, [document(old_verify_keys=old)]).user_id == "@bob:b.example"
    old[OLD.key_id]["expired_ts"] = NOW
    assert refused(link, document(old_verify_keys=old))
    kinds: list[Any] = [[], {OLD.key_id: "key"}, {OLD.key_id: {"expired_ts": NOW + 1}}]
    for broken in kinds:
        assert refused(link, document(old_verify_keys=broken))


def test_a_document_that_its_server_did_not_sign_is_refused() -> None:
    assert refused(credential(), {**document(), "valid_until_ts": 0})
