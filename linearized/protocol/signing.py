"""Ed25519 signatures on JSON objects (draft, Signing; RFC 8032).

``openmls.ed25519_verify`` is the one verifier of this server: implementations disagree about crafted
signatures, and two of them would let an event be valid in one place and not in another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openmls import Ed25519Key, ed25519_verify, ed25519_verify_all

from linearized.exceptions import ConfigError, InvalidInput, SignatureError
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.identifiers import is_key_id
from linearized.protocol.values import value_object

KEY_BYTES = 32
"""Ed25519 seeds and public keys (RFC 8032, section 5.1.5)."""

SIGNATURE_BYTES = 64

MAX_SIGNATURES_PER_ENTITY = 16
"""A server has one key, a few while it rotates them; each further signature only costs the verifier 50 µs."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair. Its ``repr`` does not show the seed."""

    key_id: str  # "ed25519:a_xyz"
    seed: bytes = field(repr=False)
    _signer: Ed25519Key = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not is_key_id(self.key_id):
            raise ConfigError("signing key: the version may hold only ASCII letters, digits and underscores")
        if len(self.seed) != KEY_BYTES:
            raise ConfigError("signing key: the seed must be 32 bytes")
        object.__setattr__(self, "_signer", Ed25519Key.from_seed(self.seed))

    @classmethod
    def generate(cls, version: str, seed: bytes) -> SigningKey:
        """Make the key with this version from 32 bytes of randomness.

        Raises:
            ConfigError: the version or the seed's length is wrong.
        """
        return cls(f"ed25519:{version}", seed)

    @classmethod
    def parse(cls, line: str) -> SigningKey:
        """Read a line of a key file in signedjson's format: ``ed25519 <version> <unpadded base64 seed>``.

        Raises:
            ConfigError: the line is not in that format; the text does not repeat it.
        """
        parts = line.split()
        if len(parts) != 3 or parts[0] != "ed25519":  # noqa: PLR2004 - the three words of the format
            raise ConfigError("signing key: expected 'ed25519 <version> <base64 seed>'")
        try:
            seed = decode_base64(parts[2])
        except InvalidInput:
            # The cause would carry the secret into a log.
            raise ConfigError("signing key: the seed is not base64") from None
        return cls.generate(parts[1], seed)

    def to_line(self) -> str:
        """Give the key file line that ``parse`` reads, without a line end. It holds the secret."""
        return f"ed25519 {self.version} {encode_base64(self.seed)}"

    @property
    def version(self) -> str:
        """The part of the key ID after ``ed25519:``."""
        return self.key_id.partition(":")[2]

    @property
    def verify_key(self) -> bytes:
        """The public key, 32 bytes."""
        return self._signer.public_key

    def sign(self, message: bytes) -> bytes:
        """Sign bytes; gives the 64-byte signature."""
        return self._signer.sign(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredKey:
    """The public half of a key that signs nothing any more: 32 bytes, and when it ceased, milliseconds since
    the Unix epoch.
    """

    key_id: str
    verify_key: bytes
    expired_ts: int


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """A server's name, the key it signs with, and those it signed with before."""

    name: str
    key: SigningKey
    retired: tuple[RetiredKey, ...] = ()

    @property
    def verify_keys(self) -> dict[str, bytes]:
        """Every public key of the server by key ID: what it ever signed can be verified with these."""
        return {**{key.key_id: key.verify_key for key in self.retired}, self.key.key_id: self.key.verify_key}


def sign_json(obj: JsonObject, *, name: str, key: SigningKey) -> JsonObject:
    """Give a copy of ``obj`` with the signature of ``name`` added to ``signatures`` (Signing Arbitrary
    Objects).

    The signature covers everything but ``signatures``. Events are redacted first, see
    ``linearized.protocol.build``.

    Raises:
        CanonicalJsonError: ``obj`` has no canonical form.
    """
    signature = key.sign(
        canonical_json({field: value for field, value in obj.items() if field != "signatures"})
    )
    return add_signature(obj, name=name, key_id=key.key_id, signature=signature)


def add_signature(obj: JsonObject, *, name: str, key_id: str, signature: bytes) -> JsonObject:
    """Give a copy of ``obj`` whose ``signatures`` also hold this one."""
    signatures = dict(obj.get("signatures", {}))
    signatures[name] = {**signatures.get(name, {}), key_id: encode_base64(signature)}
    return {**obj, "signatures": signatures}


def verify_json(obj: JsonObject, *, name: str, keys: Mapping[str, bytes]) -> None:
    """Check that ``name`` signed ``obj`` (Checking Signatures; events are to be redacted before).

    ``keys`` maps key IDs to raw 32-byte public keys of ``name``. At least one signature must be by a known
    key, and each one that is must be right.

    Raises:
        SignatureError: missing, structurally invalid, by no known key, or wrong.
        CanonicalJsonError: ``obj`` has no canonical form.
    """
    message = canonical_json({field: value for field, value in obj.items() if field != "signatures"})
    verify_message(message, signatures_of(obj, name), name=name, keys=keys)


def signatures_of(obj: JsonObject, name: str) -> Mapping[str, str]:
    """Give the signatures of ``name`` on ``obj``, by key ID, unchecked but well-formed.

    Raises:
        SignatureError: there are none, too many, or they are not strings.
    """
    # "If the signatures field is missing, doesn't contain the entity that is expected to have done the
    # signing (usually a server name), doesn't have a known key ID, or is otherwise structurally invalid then
    # the signature check fails."
    signatures = obj.get("signatures")
    if not isinstance(signatures, dict):
        raise SignatureError("there are no signatures")
    found = signatures.get(name)
    if not isinstance(found, dict) or not found:
        raise SignatureError(f"there is no signature of {name}")
    if len(found) > MAX_SIGNATURES_PER_ENTITY:
        raise SignatureError(f"there are too many signatures of {name}")
    if not all(isinstance(signature, str) for signature in found.values()):
        raise SignatureError(f"a signature of {name} is not a string")
    return found


def verify_message(
    message: bytes, signatures: Mapping[str, str], *, name: str, keys: Mapping[str, bytes]
) -> None:
    """Check base64 signatures on bytes; ``name`` is only for the error's text. As ``verify_json`` otherwise.

    Raises:
        SignatureError: no signature by a known key, or a wrong one.
    """
    for claim in claims_on(message, signatures, name=name, keys=keys):
        verify_bytes(message, claim.signature, claim.key, name=claim.name)


@value_object
class Claim:
    """That a raw signature on a message is by the owner of a raw key: still to be checked. ``name`` is for
    the error's text.
    """

    key: bytes
    message: bytes
    signature: bytes
    name: str


def claims_on(
    message: bytes, signatures: Mapping[str, str], *, name: str, keys: Mapping[str, bytes]
) -> list[Claim]:
    """What base64 signatures on bytes claim, those by known keys; each has to be right.

    Raises:
        SignatureError: there is none by a known key, or one is not base64.
    """
    known = [key_id for key_id in signatures if is_key_id(key_id) and key_id in keys]
    if not known:
        raise SignatureError(f"no signature of {name} is by a known key")
    claims: list[Claim] = []
    for key_id in known:
        try:
            signature = decode_base64(signatures[key_id])
        except InvalidInput as error:
            raise SignatureError(f"the signature of {name} with {key_id} is not base64") from error
        claims.append(
            Claim(key=keys[key_id], message=message, signature=signature, name=f"{name} with {key_id}")
        )
    return claims


def check_claims(claims: Sequence[Claim]) -> list[SignatureError | None]:
    """Check many signatures at once; for each what is wrong with it. Other threads run meanwhile."""
    right = ed25519_verify_all([(claim.key, claim.message, claim.signature) for claim in claims])
    return [None if is_right else _wrong(claim) for claim, is_right in zip(claims, right, strict=True)]


def verify_bytes(message: bytes, signature: bytes, key: bytes, *, name: str) -> None:
    """Check one raw signature on bytes; ``name`` is only for the error's text.

    Raises:
        SignatureError: it is wrong, or has not 64 bytes, or the key not 32.
    """
    if not ed25519_verify(key, message, signature):
        raise _wrong(Claim(key=key, message=message, signature=signature, name=name))


def _wrong(claim: Claim) -> SignatureError:
    if len(claim.signature) != SIGNATURE_BYTES or len(claim.key) != KEY_BYTES:
        return SignatureError(f"the signature of {claim.name} or that key has a wrong length")
    return SignatureError(f"the signature of {claim.name} is wrong")
