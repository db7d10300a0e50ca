"""Reading whose leaf it is."""

from __future__ import annotations

import openmls
import pytest

from linearized.exceptions import IdentifierError
from linearized.mimi.pseudonyms import PseudonymousCredential
from linearized.mimi.tls import encode_vector
from linearized.room.credentials import ClientIdentity, client_of, decode_credential, encode_credential
from linearized.room.submissions import Reason
from tests.room.support import ALICE, Member, new_room, refusal


def test_a_client_uri_names_user_and_device() -> None:
    assert client_of(b"mimi://a.example/d/alice/ABC") == ClientIdentity("@alice:a.example", "ABC")


def test_the_linearized_matrix_credential_names_user_and_device() -> None:
    identity = encode_vector(b"@alice:a.example") + encode_vector(b"ABC") + encode_vector(bytes(32))
    assert client_of(identity) == ClientIdentity("@alice:a.example", "ABC")


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
        client_of(identity)


def test_the_credential_names_the_leafs_own_key_or_is_refused() -> None:
    identity = encode_credential("@alice:a.example", "ABC", b"k" * 32)
    assert decode_credential(identity) == ("@alice:a.example", "ABC", b"k" * 32)
    assert client_of(identity, signature_key=b"k" * 32).device_id == "ABC"
    with pytest.raises(IdentifierError, match="another signature key"):
        client_of(identity, signature_key=b"x" * 32)


def test_a_client_uri_names_no_key() -> None:
    assert client_of(b"mimi://a.example/d/alice/ABC", signature_key=b"x").device_id == "ABC"


def test_a_minimal_metadata_room_is_refused_by_that_name() -> None:
    pseudonym = PseudonymousCredential(
        client_pseudonym="mimi://a.example/d/9d3f6a10-2b4c-4e8f-8a7b-6c5d4e3f2a1b",
        user_pseudonym="mimi://a.example/u/0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f",
        signature_public_key=b"key",
        identity_link_ciphertext=b"sealed",
    )
    alice = Member(ALICE)
    alice.client = openmls.Client.create(identity=pseudonym.encode())
    assert "minimal metadata" in str(refusal(new_room(), alice.create(), Reason.INVALID_COMMIT))
