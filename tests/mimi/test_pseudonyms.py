"""Credentials of minimal metadata rooms on the wire."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.pseudonyms import (
    MAX_LINK_BYTES,
    IdentityLinkTBE,
    PseudonymousCredential,
    PseudonymousCredentialTBS,
    is_pseudonym,
)
from tests.mimi.support import BASIC, vec

USER_UUID = "0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f"
CLIENT_UUID = "9d3f6a10-2b4c-4e8f-8a7b-6c5d4e3f2a1b"
USER = f"mimi://a.example/u/{USER_UUID}"
CLIENT = f"mimi://a.example/d/{CLIENT_UUID}"


def test_a_pseudonymous_credential_is_written_as_the_draft_lays_it_out() -> None:
    credential = PseudonymousCredential(
        client_pseudonym=CLIENT,
        user_pseudonym=USER,
        signature_public_key=b"key",
        identity_link_ciphertext=b"sealed",
    )
    encoded = vec(CLIENT.encode()) + vec(USER.encode()) + vec(b"key") + vec(b"sealed")
    assert credential.encode() == encoded
    assert PseudonymousCredential.decode(encoded) == credential
    signed = PseudonymousCredentialTBS(
        client_pseudonym=CLIENT, user_pseudonym=USER, signature_public_key=b"key"
    )
    assert signed.encode() == encoded[: -len(vec(b"sealed"))]


def test_an_identity_link_holds_a_signature_and_the_real_credential() -> None:
    link = IdentityLinkTBE(pseudonymous_credential_signature=b"signature", client_credential=BASIC)
    assert link.encode() == vec(b"signature") + BASIC
    assert IdentityLinkTBE.decode(link.encode()) == link


@pytest.mark.parametrize(
    ("client", "user", "reason"),
    [
        ("mimi://a.example/d/alice/ABC", USER, "random UUID"),
        (CLIENT, "mimi://a.example/u/alice", "random UUID"),
        (CLIENT.replace("-4e8f-", "-1e8f-"), USER, "random UUID"),
        (CLIENT, USER.replace("a.example", "b.example"), "one provider"),
    ],
)
def test_a_pseudonym_is_a_random_uuid_at_the_users_provider(client: str, user: str, reason: str) -> None:
    with pytest.raises(MimiDecodeError, match=reason):
        PseudonymousCredentialTBS.decode(vec(client.encode()) + vec(user.encode()) + vec(b"key"))


def test_a_client_may_be_named_below_its_user_and_no_other() -> None:
    below = f"mimi://a.example/d/{USER_UUID}/{CLIENT_UUID}"
    rest = vec(USER.encode()) + vec(b"key") + vec(b"sealed")
    assert PseudonymousCredential.decode(vec(below.encode()) + rest).device_id == CLIENT_UUID.replace(
        "-", "_"
    )
    other = f"mimi://a.example/d/{CLIENT_UUID}/{CLIENT_UUID}"
    with pytest.raises(MimiDecodeError, match="another user"):
        PseudonymousCredential.decode(vec(other.encode()) + rest)


def test_an_identity_link_has_a_bounded_length() -> None:
    start = vec(CLIENT.encode()) + vec(USER.encode()) + vec(b"key")
    assert PseudonymousCredential.decode(start + vec(bytes(MAX_LINK_BYTES)))
    with pytest.raises(MimiDecodeError, match="too long"):
        PseudonymousCredential.decode(start + vec(bytes(MAX_LINK_BYTES + 1)))


def test_only_a_random_uuid_is_a_pseudonym() -> None:
    assert is_pseudonym(USER_UUID)
    assert not is_pseudonym("alice")
    assert not is_pseudonym(USER_UUID.replace("-4c6b-", "-1c6b-"))
