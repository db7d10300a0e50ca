"""Files of external parts (draft-ietf-mimi-content, "External content"): sealed before they are uploaded,
checked and opened after they were fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from linearized.exceptions import MimiDecodeError
from linearized.mimi.content import AES_128_GCM, HASH_SHA256, Disposition, ExternalPart

KEY_BYTES: Final = 16  # of AES-128-GCM, with which files are sealed here
NONCE_BYTES: Final = 12  # of all three
NOT_ENCRYPTED: Final = 0


class _Aead(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


# By their IANA AEAD numbers, with the length of the key in bytes. "Implementations of this specification MUST
# implement the AES-128-GCM algorithm."
_AEADS: Final[Mapping[int, tuple[int, Callable[[bytes], _Aead]]]] = MappingProxyType(
    {AES_128_GCM: (KEY_BYTES, AESGCM), 2: (32, AESGCM), 29: (32, ChaCha20Poly1305)}
)
# By their IANA Named Information numbers.
_HASHES: Final[Mapping[int, Callable[[bytes], hashlib._Hash]]] = MappingProxyType(
    {HASH_SHA256: hashlib.sha256, 7: hashlib.sha384, 8: hashlib.sha512}
)


def seal_file(
    data: bytes,
    *,
    key: bytes,
    nonce: bytes,
    content_type: str,
    filename: str = "",
    description: str = "",
    disposition: Disposition = Disposition.ATTACHMENT,
) -> tuple[bytes, ExternalPart]:
    """What to upload, and the part that refers to it once it has its ``url``.

    Args:
        key, nonce: 16 and 12 fresh random bytes, for this file alone.
    """
    sealed = AESGCM(key).encrypt(nonce, data, b"")
    part = ExternalPart(
        disposition=disposition,
        content_type=content_type,
        url="",
        size=len(data),
        enc_alg=AES_128_GCM,
        key=key,
        nonce=nonce,
        hash_alg=HASH_SHA256,
        # "hash of the content at the target url": as it lies there, sealed.
        content_hash=hashlib.sha256(sealed).digest(),
        description=description,
        filename=filename,
    )
    return sealed, part


def open_file(part: ExternalPart, data: bytes) -> bytes:
    """The file that a part refers to.

    Args:
        data: what was fetched from its URL.

    Raises:
        MimiDecodeError: it is another file, or sealed or hashed in a way that we do not know.
    """
    if part.content_hash:
        digest = _HASHES.get(part.hash_alg)
        if digest is None:
            raise MimiDecodeError(f"the file is hashed with algorithm {part.hash_alg}, which we do not know")
        if digest(data).digest() != part.content_hash:
            raise MimiDecodeError("the file is not the one that the message refers to")
    if part.enc_alg == NOT_ENCRYPTED:
        return data
    length, aead = _AEADS.get(part.enc_alg, (0, AESGCM))
    if not length or (len(part.key), len(part.nonce)) != (length, NONCE_BYTES):
        raise MimiDecodeError(f"the file is sealed in a way that we do not know ({part.enc_alg})")
    try:
        return aead(part.key).decrypt(part.nonce, data, part.aad)
    except InvalidTag as error:
        raise MimiDecodeError("the file does not open with the message's key") from error
