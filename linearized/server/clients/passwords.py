"""Password hashes: scrypt, its parameters stored with each hash so that they can be raised later.

The functions block for as long as a guess should cost; the server runs them in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from linearized.protocol.base64 import decode_base64, encode_base64

# 2**15 blocks of 8 * 128 bytes: 32 MiB and about a tenth of a second, the upper of the two sizes RFC 7914's
# author recommends for logins.
COST: Final = 2**15
BLOCK_SIZE: Final = 8
PARALLELISM: Final = 1
KEY_BYTES: Final = 32
SALT_BYTES: Final = 16  # more salts than there will ever be accounts
# scrypt needs 128 * cost * block size; OpenSSL wants the bound stated and some room above it.
_MEMORY: Final = 256 * COST * BLOCK_SIZE
# A long password must not cost more than a short one to refuse; nobody types more.
MAX_PASSWORD: Final = 512


def hash_password(password: str, *, salt: bytes) -> str:
    """``scrypt$<cost>$<block size>$<parallelism>$<salt>$<key>``, salt and key in unpadded base64.

    Args:
        salt: ``SALT_BYTES`` random bytes, never used before.
    """
    key = _derive(password, salt, COST, BLOCK_SIZE, PARALLELISM)
    return f"scrypt${COST}${BLOCK_SIZE}${PARALLELISM}${encode_base64(salt)}${encode_base64(key)}"


def check_password(password: str, stored: str) -> bool:
    """Whether ``password`` is the one behind ``stored``; compared in constant time."""
    _, cost, block_size, parallelism, salt, key = stored.split("$")
    derived = _derive(password, decode_base64(salt), int(cost), int(block_size), int(parallelism))
    return hmac.compare_digest(derived, decode_base64(key))


def _derive(password: str, salt: bytes, cost: int, block_size: int, parallelism: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block_size, p=parallelism, maxmem=_MEMORY, dklen=KEY_BYTES
    )
