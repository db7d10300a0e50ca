"""Encrypting and decrypting files piece by piece, as they pass: a file may be larger than the memory.

A cipher takes a file's bytes in order and gives as many as it has of the result; ``finish`` gives the rest,
once it is sure of the whole. ``growth`` is how much longer the result is.
"""

from __future__ import annotations

from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as Primitive
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM

from linearized.client import UntrustedAnswer
from linearized.mimi.content import AES_128_GCM, HASH_SHA256, ExternalPart

PART_KEY_BYTES, PART_NONCE_BYTES = 16, 12
_TAG_BYTES = 16
_FILE_KEY_BYTES = 32
# The counter block: half of it random, half zero, so that no file's counter overflows into the random part.
_IV_BYTES, _RANDOM_IV_BYTES = 16, 8

JsonObject = dict[str, Any]


class Cipher(Protocol):
    """What a file goes through; each is for one file."""

    growth: int

    def update(self, data: bytes) -> bytes:
        """The next bytes of the file; gives the next of the result, perhaps none."""
        ...

    def finish(self) -> bytes:
        """The file has ended; gives the rest of the result.

        Raises:
            UntrustedAnswer: it was not the file that it should have been.
        """
        ...


class PartSealer:
    """Encrypts a file for an external part: AES-128-GCM with empty additional data."""

    growth = _TAG_BYTES

    def __init__(self, *, key: bytes, nonce: bytes) -> None:
        self.key, self.nonce = key, nonce
        self._encryptor = Primitive(AES(key), GCM(nonce)).encryptor()
        self._hash = sha256()
        # Of the file as it was: its length so far, in bytes.
        self.size = 0

    def update(self, data: bytes) -> bytes:
        """As ``Cipher``."""
        self.size += len(data)
        return self._hashed(self._encryptor.update(data))

    def finish(self) -> bytes:
        """As ``Cipher``."""
        return self._hashed(self._encryptor.finalize() + self._encryptor.tag)

    @property
    def content_hash(self) -> bytes:
        """SHA-256 of the result: "hash of the content at the target url", before decryption."""
        return self._hash.digest()

    def _hashed(self, data: bytes) -> bytes:
        self._hash.update(data)
        return data


class PartOpener:
    """Checks and decrypts the file of an external part.

    Raises:
        UntrustedAnswer: it is encrypted in a way we do not know.
    """

    def __init__(self, part: ExternalPart) -> None:
        if part.content_hash and part.hash_alg != HASH_SHA256:
            raise UntrustedAnswer(f"the file is hashed with algorithm {part.hash_alg}")
        if part.enc_alg not in (0, AES_128_GCM):
            raise UntrustedAnswer(f"the file is encrypted with algorithm {part.enc_alg}")
        self._wanted, self._hash = part.content_hash, sha256()
        self._decryptor = None
        self.growth = 0
        if part.enc_alg == AES_128_GCM:
            if len(part.key) != PART_KEY_BYTES or len(part.nonce) != PART_NONCE_BYTES:
                raise UntrustedAnswer("the file's key is none")
            self._decryptor = Primitive(AES(part.key), GCM(part.nonce)).decryptor()
            self._decryptor.authenticate_additional_data(part.aad)
            self.growth = -_TAG_BYTES
        self._held = b""

    def update(self, data: bytes) -> bytes:
        """As ``Cipher``. The last bytes are held back: they are the tag, if nothing follows."""
        self._hash.update(data)
        if self._decryptor is None:
            return data
        data = self._held + data
        known = max(0, len(data) - _TAG_BYTES)
        self._held = data[known:]
        return self._decryptor.update(data[:known])

    def finish(self) -> bytes:
        """As ``Cipher``."""
        # The schema says of contentHash: "hash of the content at the target url", that is, before decryption.
        if self._wanted and self._hash.digest() != self._wanted:
            raise UntrustedAnswer("the file is not the one the message refers to")
        if self._decryptor is None:
            return b""
        try:
            return self._decryptor.finalize_with_tag(self._held)
        except (InvalidTag, ValueError) as error:
            raise UntrustedAnswer("the file does not decrypt") from error


class FileSealer:
    """Encrypts a file for an encrypted Matrix room (Matrix v1.16, "Sending encrypted attachments"): AES-CTR
    with a key of its own, which the event carries.
    """

    growth = 0

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._key = random(_FILE_KEY_BYTES)
        self._iv = random(_RANDOM_IV_BYTES) + bytes(_IV_BYTES - _RANDOM_IV_BYTES)
        self._encryptor = Primitive(AES(self._key), CTR(self._iv)).encryptor()
        self._hash = sha256()

    def update(self, data: bytes) -> bytes:
        """As ``Cipher``."""
        sealed = self._encryptor.update(data)
        self._hash.update(sealed)
        return sealed

    def finish(self) -> bytes:
        """As ``Cipher``."""
        return self.update(b"") + self._encryptor.finalize()

    @property
    def file(self) -> JsonObject:
        """The ``EncryptedFile`` object, which lacks the ``url`` still."""
        return {
            "v": "v2",
            "key": {
                "kty": "oct",
                "key_ops": ["encrypt", "decrypt"],
                "alg": "A256CTR",
                "k": urlsafe_b64encode(self._key).rstrip(b"=").decode(),
                "ext": True,
            },
            "iv": _unpadded(self._iv),
            "hashes": {"sha256": _unpadded(self._hash.digest())},
        }


class FileOpener:
    """Checks and decrypts what stands at the URL of an ``EncryptedFile`` object.

    Raises:
        UntrustedAnswer: it is encrypted in a way we do not know.
    """

    growth = 0

    def __init__(self, file: Mapping[str, Any]) -> None:
        key, hashes = file.get("key"), file.get("hashes")
        if file.get("v") != "v2" or not isinstance(key, dict) or key.get("alg") != "A256CTR":
            raise UntrustedAnswer("the file is encrypted in a way we do not know")
        secret, iv = _bytes(key.get("k")), _bytes(file.get("iv"))
        if len(secret) != _FILE_KEY_BYTES or len(iv) != _IV_BYTES:
            raise UntrustedAnswer("the file's key is none")
        self._wanted = _bytes(hashes.get("sha256") if isinstance(hashes, dict) else None)
        self._hash = sha256()
        self._decryptor = Primitive(AES(secret), CTR(iv)).decryptor()

    def update(self, data: bytes) -> bytes:
        """As ``Cipher``."""
        self._hash.update(data)
        return self._decryptor.update(data)

    def finish(self) -> bytes:
        """As ``Cipher``."""
        # AES-CTR authenticates nothing: without this anybody on the way could change what the file says.
        if self._hash.digest() != self._wanted:
            raise UntrustedAnswer("the file is not the one the message refers to")
        return self._decryptor.finalize()


async def through(chunks: AsyncIterator[bytes], ciphers: Sequence[Cipher]) -> AsyncGenerator[bytes, None]:
    """A file on its way through ciphers. Its end is held back until all of them are sure of it: whoever
    takes it gets no whole file that is false.

    Raises:
        UntrustedAnswer: it is not the file that it should be.
    """
    held = b""
    async for chunk in chunks:
        for cipher in ciphers:
            chunk = cipher.update(chunk)  # noqa: PLW2901 - what one gives, the next takes
        if chunk and held:
            yield held
        held = chunk or held
    yield held + _ends(ciphers)


def whole(cipher: Cipher, data: bytes) -> bytes:
    """A file that is in memory, through one cipher.

    Raises:
        UntrustedAnswer: it is not the file that it should be.
    """
    return cipher.update(data) + cipher.finish()


def _ends(ciphers: Sequence[Cipher]) -> bytes:
    rest = b""
    for cipher in ciphers:
        rest = cipher.update(rest) + cipher.finish()
    return rest


def _unpadded(data: bytes) -> str:
    return b64encode(data).rstrip(b"=").decode()


def _bytes(text: object) -> bytes:
    """What unpadded base64, in either alphabet, stands for; nothing for what is none."""
    if not isinstance(text, str):
        return b""
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:  # refused by its length
        return b""
