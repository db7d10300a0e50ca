"""Oblivious HTTP (RFC 9458): requests that a relay forwards and only a gateway reads.

Key configurations, requests sealed to one of them, and responses sealed to their request. Randomness is an
argument: the key pair that a request is sealed with, the nonce of a response. What is sealed is a message of
``linearized.mimi.binary_http``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey
from pyhpke.exceptions import PyHPKEError
from pyhpke.kem_key import KEMKeyPair

from linearized.exceptions import InvalidInput, MimiDecodeError
from linearized.mimi.tls import Bytes, Reader, String, Struct

REQUEST_TYPE: Final = "message/ohttp-req"
RESPONSE_TYPE: Final = "message/ohttp-res"
KEYS_TYPE: Final = "application/ohttp-keys"
UNKNOWN_KEY_PROBLEM: Final = "https://iana.org/assignments/http-problem-types#ohttp-key"
"""The problem type of a request whose key configuration the gateway does not have (section 5.3)."""

KEY_BYTES: Final = 32  # Npk, Nenc and Nsk of DHKEM(X25519, HKDF-SHA256) (RFC 9180, section 7.1)
# A gateway has a present key and the one before; others may have a few more, and of kinds we do not know.
MAX_KEYS_BYTES: Final = 4 * 1024
OVERHEAD_BYTES: Final = 32 + 16  # what a response is longer than what it seals: nonce and tag

SIGNATURE_LABEL: Final = "LinearizedKeyConfigsTBS"
"""Label of ``SignWithLabel`` for key configurations; no draft has one."""

_REQUEST_LABEL: Final = b"message/bhttp request"
_RESPONSE_LABEL: Final = b"message/bhttp response"
_X25519: Final = KEMId.DHKEM_X25519_HKDF_SHA256.value
_SHA256: Final = KDFId.HKDF_SHA256.value
_HEADER: Final = struct.Struct(">BHHH")  # key identifier, KEM, KDF, AEAD
_TAG_BYTES: Final = 16
_NONCE_BYTES: Final = 12  # Nn of every AEAD of HPKE
_PAIR_BYTES: Final = 4
_PADDING_STEP: Final = 512  # of requests: URLs of assets differ by less than that


class _Aead(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


# AEAD identifier: key length in bytes (RFC 9180, section 7.3), and the AEAD.
_AEADS: Final[dict[int, tuple[int, Callable[[bytes], _Aead]]]] = {
    AEADId.AES128_GCM.value: (16, AESGCM),
    AEADId.AES256_GCM.value: (32, AESGCM),
    AEADId.CHACHA20_POLY1305.value: (32, ChaCha20Poly1305),
}


class ObliviousError(InvalidInput):
    """A request or response cannot be opened: truncated, changed, or not sealed to this key."""


class UnknownKey(ObliviousError):  # noqa: N818 - names the fact
    """A request is sealed to a key configuration that the gateway does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """A gateway's key (section 3.1), of DHKEM(X25519, HKDF-SHA256).

    ``algorithms`` are pairs of KDF and AEAD identifiers, at least one, the gateway's favourite first.
    """

    key_id: int
    public_key: bytes
    algorithms: tuple[tuple[int, int], ...]

    @property
    def aead(self) -> int | None:
        """The gateway's favourite of those algorithms that we know; None if we know none."""
        return next((aead for kdf, aead in self.algorithms if kdf == _SHA256 and aead in _AEADS), None)

    def encode(self) -> bytes:
        """The Key Config structure."""
        pairs = b"".join(struct.pack(">HH", *pair) for pair in self.algorithms)
        head = struct.pack(">BH", self.key_id, _X25519)
        return head + self.public_key + len(pairs).to_bytes(2, "big") + pairs

    @classmethod
    def decode(cls, data: bytes) -> KeyConfig | None:
        """Read one structure; None if it is of a KEM that we do not know, whose key length nobody can tell.

        Raises:
            MimiDecodeError: it is malformed.
        """
        reader = Reader(data)
        key_id, kem = reader.uint(1), reader.uint(2)
        if kem != _X25519:
            return None
        public_key = reader.take(KEY_BYTES)
        pairs = Reader(reader.take(reader.uint(2)))
        reader.finish()
        # The length of the algorithms is "4..65532" bytes, four for each.
        if not pairs.remaining or pairs.remaining % _PAIR_BYTES:
            raise MimiDecodeError("a key configuration needs pairs of algorithms")
        algorithms: list[tuple[int, int]] = []
        while pairs.remaining:
            algorithms.append((pairs.uint(2), pairs.uint(2)))
        return cls(key_id=key_id, public_key=public_key, algorithms=tuple(algorithms))


def encode_key_configs(configs: Iterable[KeyConfig]) -> bytes:
    """``application/ohttp-keys`` (section 3.2), the favourite first."""
    encoded = (config.encode() for config in configs)
    return b"".join(len(item).to_bytes(2, "big") + item for item in encoded)


def decode_key_configs(data: bytes) -> tuple[KeyConfig, ...]:
    """Those configurations of ``application/ohttp-keys`` that we can use the KEM of.

    Raises:
        MimiDecodeError: it is malformed, or too much.
    """
    if len(data) > MAX_KEYS_BYTES:
        raise MimiDecodeError(f"key configurations of more than {MAX_KEYS_BYTES} bytes")
    reader = Reader(data)
    found: list[KeyConfig] = []
    while reader.remaining:
        config = KeyConfig.decode(reader.take(reader.uint(2)))
        if config is not None:
            found.append(config)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfigsTBS(Struct):
    """What a hub signs of its key configurations, so that no relay can put its own in their place.

    RFC 9458 leaves to others how a client comes to trust a configuration (section 6.1). The key is that of
    the ``hub_sender``, which the groups of the hub's rooms hold as their external sender.
    """

    provider: String
    key_configs: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedKeyConfigs(KeyConfigsTBS):
    """``key_configs`` (``application/ohttp-keys``) of ``provider``, a domain, with its hub's signature."""

    signature: Bytes  # SignWithLabel(hub_sender.signature_key, SIGNATURE_LABEL, KeyConfigsTBS)

    def signed(self) -> bytes:
        """The KeyConfigsTBS that was signed."""
        return KeyConfigsTBS(provider=self.provider, key_configs=self.key_configs).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayKey:
    """A key of a gateway, with its secret half (32 bytes)."""

    key_id: int
    secret: bytes = field(repr=False)

    def config(self) -> KeyConfig:
        """What is told of it."""
        public = X25519PrivateKey.from_private_bytes(self.secret).public_key()
        algorithms = tuple((_SHA256, aead) for aead in sorted(_AEADS))
        return KeyConfig(key_id=self.key_id, public_key=public.public_bytes_raw(), algorithms=algorithms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a request and its response share; made by whoever seals the request, or opens it."""

    aead: int
    enc: bytes
    secret: bytes = field(repr=False)

    @property
    def nonce_bytes(self) -> int:
        """How long the random nonce of a response is: ``max(Nn, Nk)``."""
        return _secret_bytes(self.aead)

    def seal_response(self, response: bytes, *, nonce: bytes) -> bytes:
        """An Encapsulated Response (section 4.4); ``nonce`` has ``nonce_bytes`` fresh random bytes."""
        aead, aead_nonce = self._keys(nonce)
        return nonce + aead.encrypt(aead_nonce, response, b"")

    def open_response(self, data: bytes) -> bytes:
        """What an Encapsulated Response seals.

        Raises:
            ObliviousError: it is no response to this request.
        """
        nonce, sealed = data[: self.nonce_bytes], data[self.nonce_bytes :]
        if len(sealed) < _TAG_BYTES:
            raise ObliviousError("the response is too short")
        aead, aead_nonce = self._keys(nonce)
        try:
            return aead.decrypt(aead_nonce, sealed, b"")
        except InvalidTag as error:
            raise ObliviousError("the response does not belong to the request") from error

    def _keys(self, nonce: bytes) -> tuple[_Aead, bytes]:
        # "salt = concat(enc, response_nonce); prk = Extract(salt, secret); aead_key = Expand(prk, "key", Nk);
        # aead_nonce = Expand(prk, "nonce", Nn)"
        length, aead = _AEADS[self.aead]
        extract = HMAC(self.enc + nonce, SHA256())
        extract.update(self.secret)
        prk = extract.finalize()
        key = HKDFExpand(SHA256(), length, b"key").derive(prk)
        return aead(key), HKDFExpand(SHA256(), _NONCE_BYTES, b"nonce").derive(prk)


def seal_request(config: KeyConfig, request: bytes, *, ephemeral: bytes) -> tuple[bytes, Exchange]:
    """An Encapsulated Request (section 4.3), and what opens its response.

    Args:
        ephemeral: 32 fresh random bytes, the secret key of this one request.

    Raises:
        ObliviousError: the gateway has no algorithms that we know, or its key is none.
    """
    aead = config.aead
    if aead is None:
        raise ObliviousError("the gateway has no algorithms that we know")
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    pair = KEMKeyPair(
        KEMKey.from_pyca_cryptography_key(private), KEMKey.from_pyca_cryptography_key(private.public_key())
    )
    recipient = KEMKey.from_pyca_cryptography_key(X25519PublicKey.from_public_bytes(config.public_key))
    header = _HEADER.pack(config.key_id, _X25519, _SHA256, aead)
    try:
        enc, context = _suite(aead).create_sender_context(recipient, info=_info(header), eks=pair)
    except ValueError as error:  # a point of small order, with which everybody shares the same secret
        raise ObliviousError("the gateway's key is none") from error
    exchange = Exchange(aead=aead, enc=enc, secret=context.export(_RESPONSE_LABEL, _secret_bytes(aead)))
    return header + enc + context.seal(request), exchange


def open_request(keys: Iterable[GatewayKey], data: bytes) -> tuple[bytes, Exchange]:
    """What an Encapsulated Request seals, and what seals its response.

    Raises:
        UnknownKey: it is sealed to none of ``keys``.
        ObliviousError: it is malformed, or was changed on its way.
    """
    if len(data) < _HEADER.size + KEY_BYTES + _TAG_BYTES:
        raise ObliviousError("the request is too short")
    key_id, kem, kdf, aead = _HEADER.unpack_from(data)
    key = next((key for key in keys if key.key_id == key_id), None)
    if key is None:
        raise UnknownKey(f"there is no key {key_id}")
    # Only what the key configuration offers (section 4.3).
    if kem != _X25519 or (kdf, aead) not in key.config().algorithms:
        raise UnknownKey(f"key {key_id} is not for these algorithms")
    header, rest = data[: _HEADER.size], data[_HEADER.size :]
    enc, sealed = rest[:KEY_BYTES], rest[KEY_BYTES:]
    secret = KEMKey.from_pyca_cryptography_key(X25519PrivateKey.from_private_bytes(key.secret))
    try:
        context = _suite(aead).create_recipient_context(enc, secret, info=_info(header))
        request = context.open(sealed)
    except (PyHPKEError, ValueError) as error:  # ValueError: a point of small order, as above
        raise ObliviousError("the request does not open") from error
    return request, Exchange(aead=aead, enc=enc, secret=context.export(_RESPONSE_LABEL, _secret_bytes(aead)))


def padded_request(request: bytes) -> bytes:
    """The request with zeros up to the next multiple of 512 bytes, so that its size tells nothing."""
    return request + bytes(-len(request) % _PADDING_STEP)


def padded_response(response: bytes) -> bytes:
    """The response with zeros up to a size that has few significant bits: files of nearly the same size come
    to the same, and at most an eighth is added to any.
    """
    step = 1 << max(len(response).bit_length() - 4, 0)
    return response + bytes(-len(response) % step)


def _suite(aead: int) -> CipherSuite:
    return CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId(aead))


def _info(header: bytes) -> bytes:
    # "info = concat(encode_str("message/bhttp request"), encode(1, 0), hdr)"
    return _REQUEST_LABEL + b"\0" + header


def _secret_bytes(aead: int) -> int:
    return max(_NONCE_BYTES, _AEADS[aead][0])
