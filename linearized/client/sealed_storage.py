"""A device's state, encrypted at rest under a key that is kept elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linearized.client.errors import StateFileError
from linearized.client.storage import StateStorage

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # of AES-GCM
# What every sealed state begins with, and no other.
SEALED: Final = b"\x00linearized sealed state 1\x00"
_LABEL: Final = b"linearized device state, "


class SealedStorage:
    """Encrypts what another storage keeps: AES-256-GCM, a new nonce for each save.

    Each owner's key is derived from ``key`` and ``owner``, so that no key comes near the number of random
    nonces it may have, and no owner's state opens as another's. A state that was saved before it was to be
    sealed is read as it is, and sealed when it is saved next.

    Args:
        key: 32 bytes.
        owner: whose state it is: a user and device, say.
        random: gives as many random bytes as it is asked for.
    """

    def __init__(
        self, inner: StateStorage, *, key: bytes, owner: str, random: Callable[[int], bytes]
    ) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a storage key has {KEY_BYTES} bytes")
        derived = HKDF(SHA256(), KEY_BYTES, salt=None, info=_LABEL + owner.encode()).derive(key)
        self._cipher = AESGCM(derived)
        self._inner = inner
        self._random = random

    def load(self) -> bytes | None:
        """As ``StateStorage``.

        Raises:
            StateFileError: it was sealed with another key, or changed.
        """
        data = self._inner.load()
        if data is None or not data.startswith(SEALED):
            return data
        nonce, sealed = data[len(SEALED) :][:_NONCE_BYTES], data[len(SEALED) + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, sealed, SEALED)
        except (InvalidTag, ValueError) as error:
            raise StateFileError("the saved state does not open with this key") from error

    def save(self, data: bytes) -> None:
        """As ``StateStorage``."""
        nonce = self._random(_NONCE_BYTES)
        self._inner.save(SEALED + nonce + self._cipher.encrypt(nonce, data, SEALED))
