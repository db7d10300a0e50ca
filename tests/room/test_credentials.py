"""Reading whose leaf it is."""

from __future__ import annotations

import pytest

from linearized.exceptions import IdentifierError
from linearized.mimi.key_material import basic_credential
from linearized.mimi.pseudonyms import PseudonymousCredential
from linearized.mimi.tls import encode_vector
from linearized.room.credentials import (
    ClientIdentity,
    client_of,
    decode_credential,
    encode_credential,
    pseudonym_of,
)


def test_a_client_uri_names_user_and_device() -> None:
    assert client_of(basic_credential(b"mimi://a.example/d/alice/ABC")) == ClientIdentity(
        "@alice:a.example", "ABC"
    )


def test_the_linearized_matrix_credential_names_user_and_device() -> None:
    identity = encode_vector(b"@alice:a.example") + encode_vector(b"ABC") + encode_vector(bytes(32))
    assert client_of(basic_credential(identity)) == ClientIdentity("@alice:a.example", "ABC")


@pytest.mark.parametrize(
    "identity",
    [
        b"",
        b"mimi://a.example/d/alice/\xff",
        b"mimi://a.example/u/alice",
        encode_vector(b"@alice:a.example"),
        encode_vector(b"alice") + encode_vector(b"ABC") + encode_vector(b""),
        encode_vector(b"\xff") + encode_vector(b"ABC") + encode_vector(b""),
        encode_vector(b"@alice:a.example") + encode_vector(b"not a device") + encode_vector(b""),
        encode_vector(b"@alice:a.example") + encode_vector(b"ABC") + encode_vector(b"") + b"x",
    ],
)
def test_anything_else_is_refused(identity: bytes) -> None:
    with pytest.raises(IdentifierError):
        client_of(basic_credential(identity))


def test_the_credential_names_the_leafs_own_key_or_is_refused() -> None:
    identity = encode_credential("@alice:a.example", "ABC", b"k" * 32)
    assert decode_credential(identity) == ("@alice:a.example", "ABC", b"k" * 32)
    assert client_of(basic_credential(identity), signature_key=b"k" * 32).device_id == "ABC"
    with pytest.raises(IdentifierError, match="another signature key"):
        client_of(basic_credential(identity), signature_key=b"x" * 32)


def test_a_client_uri_names_no_key() -> None:
    assert client_of(basic_credential(b"mimi://a.example/d/alice/ABC"), signature_key=b"x").device_id == "ABC"


def test_a_pseudonymous_credential_names_a_pseudonym_and_its_key() -> None:
    user, client = "0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f", "9d3f6a10-2b4c-4e8f-8a7b-6c5d4e3f2a1b"
    pseudonym = PseudonymousCredential(
        client_pseudonym=f"mimi://a.example/d/{user}/{client}",
        user_pseudonym=f"mimi://a.example/u/{user}",
        signature_public_key=b"key",
        identity_link_ciphertext=b"sealed",
    )
    found = client_of(basic_credential(pseudonym.encode()), signature_key=b"key")
    assert found == ClientIdentity(f"@{user}:a.example", client.replace("-", "_"))
    assert pseudonym_of(basic_credential(pseudonym.encode())) == pseudonym
    assert pseudonym_of(basic_credential(b"mimi://a.example/d/alice/ABC")) is None
    with pytest.raises(IdentifierError, match="another signature key"):
        client_of(basic_credential(pseudonym.encode()), signature_key=b"other")
