"""Password hashes."""

from __future__ import annotations

import hashlib

from linearized.protocol.base64 import encode_base64
from linearized.server.clients.passwords import SALT_BYTES, check_password, hash_password

SALT = bytes(range(SALT_BYTES))


def test_a_hash_accepts_its_password_and_no_other() -> None:
    stored = hash_password("päßword", salt=SALT)
    assert check_password("päßword", stored)
    assert not check_password("passwort", stored)


def test_a_hash_names_its_parameters_and_not_the_password() -> None:
    kind, cost, block_size, parallelism, _, _ = hash_password("secret", salt=SALT).split("$")
    assert (kind, cost, block_size, parallelism) == ("scrypt", "32768", "8", "1")


def test_a_hash_made_with_other_parameters_is_still_checked() -> None:
    key = hashlib.scrypt(b"old", salt=SALT, n=2, r=1, p=1, dklen=32)
    assert check_password("old", f"scrypt$2$1$1${encode_base64(SALT)}${encode_base64(key)}")


def test_the_salt_makes_equal_passwords_differ() -> None:
    assert hash_password("x", salt=SALT) != hash_password("x", salt=bytes(SALT_BYTES))
