"""Identity links sealed and opened, and the keys that do it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from linearized.mimi.identity_links import (
    LINK_KEY_BYTES,
    MAX_LINK_KEYS,
    AttestedIdentityLink,
    IdentityLinkError,
    LinkKey,
    LinkKeys,
    open_link,
    seal_link,
)
from linearized.mimi.pseudonyms import IdentityLinkTBE, PseudonymousCredential, PseudonymousCredentialTBS
from linearized.mimi.tls import MAX_URI_BYTES
from tests.mimi.support import BASIC, vec

USER = "0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f"
CLIENT = f"mimi://a.example/d/{USER}/9d3f6a10-2b4c-4e8f-8a7b-6c5d4e3f2a1b"
SIGNED = PseudonymousCredentialTBS(
    client_pseudonym=CLIENT, user_pseudonym=f"mimi://a.example/u/{USER}", signature_public_key=b"key"
)
LINK = AttestedIdentityLink(
    link=IdentityLinkTBE(pseudonymous_credential_signature=b"signature", client_credential=BASIC),
    statement=b"{}",
)
KEY = bytes(range(LINK_KEY_BYTES))


def credential(sealed: bytes) -> PseudonymousCredential:
    return PseudonymousCredential(
        client_pseudonym=SIGNED.client_pseudonym,
        user_pseudonym=SIGNED.user_pseudonym,
        signature_public_key=SIGNED.signature_public_key,
        identity_link_ciphertext=sealed,
    )


def test_a_link_is_opened_with_its_key() -> None:
    sealed = credential(seal_link(KEY, SIGNED, LINK))
    assert open_link(KEY, sealed) == LINK
    assert LINK.encode() == vec(b"signature") + BASIC + vec(b"{}")


def test_no_other_key_opens_a_link() -> None:
    with pytest.raises(IdentityLinkError, match="does not open"):
        open_link(bytes(LINK_KEY_BYTES), credential(seal_link(KEY, SIGNED, LINK)))


def test_a_link_is_of_no_use_in_another_credential() -> None:
    sealed = credential(seal_link(KEY, SIGNED, LINK))
    with pytest.raises(IdentityLinkError, match="does not open"):
        open_link(KEY, replace(sealed, signature_public_key=b"another"))


@pytest.mark.parametrize("sealed", [b"", b"short"])
def test_what_is_no_ciphertext_is_refused(sealed: bytes) -> None:
    with pytest.raises(IdentityLinkError, match="does not open"):
        open_link(KEY, credential(sealed))


def test_a_malformed_link_is_refused() -> None:
    sealed = AESGCM(KEY).encrypt(bytes(12), b"\xff", SIGNED.encode())
    with pytest.raises(IdentityLinkError, match="malformed"):
        open_link(KEY, credential(sealed))


def test_a_handle_is_a_pseudonym_and_its_key() -> None:
    key = LinkKey(client_pseudonym=CLIENT, key=bytes([0xFB]) * LINK_KEY_BYTES)
    handle = key.handle()
    assert handle.startswith(f"{CLIENT}#-_v7")
    assert LinkKey.parse(handle) == key


@pytest.mark.parametrize(
    "handle",
    [
        "",
        CLIENT,
        f"{CLIENT}#short",
        f"https://a.example/#{'A' * 43}",
        f"mimi://{'a' * MAX_URI_BYTES}#{'A' * 43}",
    ],
)
def test_anything_else_is_no_handle(handle: str) -> None:
    with pytest.raises(IdentityLinkError, match="not the handle"):
        LinkKey.parse(handle)


def test_the_keys_of_a_message_are_a_bounded_vector() -> None:
    key = LinkKey(client_pseudonym=CLIENT, key=KEY)
    assert LinkKeys(keys=(key,)).encode() == vec(vec(CLIENT.encode()) + KEY)
    assert LinkKeys.decode(LinkKeys(keys=(key, key)).encode()).keys == (key, key)
    with pytest.raises(ValueError, match=str(MAX_LINK_KEYS)):
        LinkKeys(keys=(key,) * (MAX_LINK_KEYS + 1)).encode()
