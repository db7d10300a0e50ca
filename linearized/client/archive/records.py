"""Sealing records and opening them again.

A record is bound to its place: whose archive, which of its records, which entry of which room's log, and the
very ciphertext in it. So the provider cannot pass one off as another, nor put it elsewhere. A stub proves the
place without the content, for when the content has gone.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linearized.client.errors import UntrustedAnswer
from linearized.mimi.pseudonyms import PseudonymousCredential
from linearized.protocol.identifiers import client_from_uri, user_uri

KEY_BYTES: Final = 32
NAME_BYTES: Final = 16  # random, so that no two archives of a user meet
TAG_BYTES: Final = 16
_NONCE_BYTES: Final = 12  # of AES-GCM; random, for far fewer records under one key than the 2^32 it bears
_LABEL: Final = "linearized archive 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a record is bound to. ``digest`` is the SHA-256 of the MLSMessage in the entry; ``expires_ts`` is
    in milliseconds since the Unix epoch, None for never.
    """

    user_id: str
    room_id: str
    archive: bytes
    number: int
    seq: int
    event_id: str
    digest: bytes
    tag: bytes
    expires_ts: int | None

    def encode(self) -> bytes:
        """Deterministic bytes."""
        fields = (
            self.user_id,
            self.room_id,
            self.archive,
            self.number,
            self.seq,
            self.event_id,
            self.digest,
            self.tag,
            self.expires_ts,
        )
        return cbor2.dumps([_LABEL, *fields], canonical=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """Who is behind the pseudonym of a sender: its encoded ``PseudonymousCredential``, and the key of the
    identity link in that, empty if nobody had told it.
    """

    credential: bytes
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a record holds: a message as this device read it, or why it could not (``reason``).

    ``payload`` is the MIMI content, ``frank`` the hub's stamp, as in ``DecryptedMessage``; ``timestamp`` is
    in milliseconds since the Unix epoch. ``introduction`` is there in minimal metadata rooms, for who comes
    when the sender has gone.
    """

    timestamp: int
    client_uri: str = ""
    epoch: int = 0
    payload: bytes = b""
    frank: bytes | None = None
    reason: str | None = None
    introduction: Introduction | None = None

    @property
    def sender_uri(self) -> str:
        """The URI of the user, or pseudonym, whose client sent the message.

        Raises:
            InvalidInput: the client is another's, or nobody's.
        """
        if self.introduction is None:
            return user_uri(client_from_uri(self.client_uri)[0])
        credential = PseudonymousCredential.decode(self.introduction.credential)
        if credential.client_pseudonym != self.client_uri:
            raise UntrustedAnswer("the introduction is of somebody else")
        return credential.user_pseudonym

    def encode(self) -> bytes:
        """CBOR."""
        fields = [self.timestamp, self.client_uri, self.epoch, self.payload, self.frank, self.reason]
        if self.introduction is not None:
            fields += [self.introduction.credential, self.introduction.key]
        return cbor2.dumps(fields)

    @classmethod
    def decode(cls, data: bytes) -> Content:
        """The inverse; only of what a device of the same user sealed.

        Raises:
            UntrustedAnswer: it is something else.
        """
        try:
            timestamp, client_uri, epoch, payload, frank, reason, *introduced = cbor2.loads(data)
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            raise UntrustedAnswer("the record holds something else") from error
        types: tuple[tuple[Any, type | tuple[type, ...]], ...] = (
            (timestamp, int),
            (client_uri, str),
            (epoch, int),
            (payload, bytes),
            (frank, (bytes, type(None))),
            (reason, (str, type(None))),
        )
        known = [type(value) for value in introduced] in ([], [bytes, bytes])
        if not known or not all(isinstance(value, kind) for value, kind in types):
            raise UntrustedAnswer("the record holds something else")
        return cls(
            timestamp=timestamp,
            client_uri=client_uri,
            epoch=epoch,
            payload=payload,
            frank=frank,
            reason=reason,
            introduction=Introduction(credential=introduced[0], key=introduced[1]) if introduced else None,
        )


class ArchiveKey:
    """One archive's key, at work. What it is used for each has a key of its own.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"an archive key has {KEY_BYTES} bytes")
        self._cipher = AESGCM(_derived(key, "content"))
        self._stub, self._tag, self._release = (_derived(key, use) for use in ("stub", "tag", "release"))

    def seal(self, place: Place, content: Content, *, random: Callable[[int], bytes]) -> bytes:
        """The content, encrypted and bound to its place. ``random`` gives that many random bytes."""
        nonce = random(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content.encode(), place.encode())

    def open(self, place: Place, sealed: bytes) -> Content:
        """The inverse.

        Raises:
            UntrustedAnswer: it was not sealed with this key, or not for this place.
        """
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return Content.decode(self._cipher.decrypt(nonce, rest, place.encode()))
        except (InvalidTag, ValueError) as error:
            raise UntrustedAnswer("the record is not what was archived of this entry") from error

    def stub(self, place: Place) -> bytes:
        """32 bytes that prove the place."""
        return hmac.digest(self._stub, place.encode(), "sha256")

    def check_stub(self, place: Place, stub: bytes) -> None:
        """Check that a record was made for this place.

        Raises:
            UntrustedAnswer: it was not.
        """
        if not hmac.compare_digest(self.stub(place), stub):
            raise UntrustedAnswer("no such record was archived of this entry")

    def tag(self, message_id: bytes, *, sender_uri: str) -> bytes:
        """What finds the record of a message to who knows its ID and sender: nobody else may take it back."""
        said = cbor2.dumps([sender_uri, message_id], canonical=True)
        return hmac.digest(self._tag, said, "sha256")[:TAG_BYTES]

    def release(self, tag: bytes) -> bytes:
        """32 bytes that prove that who has the key wants the content gone."""
        return hmac.digest(self._release, tag, "sha256")

    def check_release(self, tag: bytes, release: bytes) -> None:
        """Check that somebody who has the key had the content go.

        Raises:
            UntrustedAnswer: nobody did.
        """
        if not hmac.compare_digest(self.release(tag), release):
            raise UntrustedAnswer("nobody released this record")


def _derived(key: bytes, use: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"{_LABEL}, {use}".encode()).derive(key)
