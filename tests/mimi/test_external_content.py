"""Files of external parts."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import MimiDecodeError
from linearized.mimi.content import AES_128_GCM, Disposition, ExternalPart
from linearized.mimi.external_content import open_file, seal_file

KEY, NONCE, FILE = bytes(range(16)), bytes(range(12)), b"a file"
SEALED, PART = seal_file(FILE, key=KEY, nonce=NONCE, content_type="image/png", filename="cat.png")


def test_a_sealed_file_is_aes_128_gcm_and_the_part_says_how_to_open_it() -> None:
    assert AESGCM(KEY).decrypt(NONCE, SEALED, b"") == FILE
    assert (PART.enc_alg, PART.key, PART.nonce, PART.aad) == (AES_128_GCM, KEY, NONCE, b"")
    assert (PART.hash_alg, PART.content_hash) == (1, hashlib.sha256(SEALED).digest())
    assert (PART.size, PART.content_type, PART.filename) == (6, "image/png", "cat.png")
    assert PART.disposition is Disposition.ATTACHMENT
    assert open_file(PART, SEALED) == FILE


@pytest.mark.parametrize(
    ("number", "aead"),
    [(1, AESGCM(KEY)), (2, AESGCM(KEY * 2)), (29, ChaCha20Poly1305(KEY * 2))],
    ids=["AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"],
)
def test_files_sealed_by_others_open(number: int, aead: AESGCM | ChaCha20Poly1305) -> None:
    key = KEY if number == 1 else KEY * 2
    part = ExternalPart(
        content_type="a/b", url="x", enc_alg=number, key=key, nonce=NONCE, aad=b"aad", hash_alg=0
    )
    assert open_file(part, aead.encrypt(NONCE, FILE, b"aad")) == FILE


@pytest.mark.parametrize(("number", "name"), [(1, "sha256"), (7, "sha384"), (8, "sha512")])
def test_a_file_that_is_not_sealed_is_held_to_its_hash(number: int, name: str) -> None:
    part = ExternalPart(
        content_type="a/b", url="x", hash_alg=number, content_hash=hashlib.new(name, FILE).digest()
    )
    assert open_file(part, FILE) == FILE
    with pytest.raises(MimiDecodeError, match="not the one"):
        open_file(part, FILE + b".")


def test_a_file_without_hash_and_seal_is_whatever_is_there() -> None:
    assert open_file(ExternalPart(content_type="a/b", url="x", hash_alg=0), FILE) == FILE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"content_hash": bytes(32)}, "not the one"),
        ({"hash_alg": 5}, "hashed"),
        ({"key": bytes(16)}, "does not open"),
        ({"nonce": bytes(12)}, "does not open"),
        ({"aad": b"x"}, "does not open"),
        ({"key": bytes(32)}, "sealed"),
        ({"nonce": bytes(11)}, "sealed"),
        ({"enc_alg": 3}, "sealed"),
    ],
)
def test_another_file_key_or_algorithm_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(MimiDecodeError, match=reason):
        open_file(replace(PART, **changes), SEALED)


@given(data=st.binary(max_size=64))
def test_any_other_bytes_do_not_open(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        open_file(replace(PART, content_hash=b""), data)
