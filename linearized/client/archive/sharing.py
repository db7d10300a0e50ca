"""Handing archive keys from one device of a user to another. No network.

The new device asks with a request that names its MLS signature key and a fresh HPKE key, and shows its user a
code. The user types the code into the old device, which answers if the request was made with that code, is
signed with the key that it names, and a leaf of the room's group has that key and is this user's. The code is
a secret of 120 bits between the two devices: the provider, who carries the messages and could add devices of
its own to the account, can neither ask nor answer in their place.
"""

from __future__ import annotations

import hmac
from base64 import b32decode, b32encode
from binascii import Error as Base32Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import cbor2
import openmls
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linearized.client.archive.records import KEY_BYTES, NAME_BYTES
from linearized.client.archive.state import KnownArchive, OpenRequest
from linearized.client.device import CIPHERSUITE, MlsDevice
from linearized.client.errors import ArchiveRefused, UntrustedAnswer
from linearized.client.identity import client_named
from linearized.client.items import ArchiveRequested
from linearized.client.transport import JsonObject
from linearized.exceptions import IdentifierError, InvalidInput
from linearized.protocol.base64 import decode_base64, encode_base64

REQUEST: Final = "dev.linearized.archive.request"
KEYS: Final = "dev.linearized.archive.keys"
"""Types of the two to-device messages."""
# 24 letters and digits in base32: to be read aloud or scanned, and beyond anybody's trying offline.
SECRET_BYTES: Final = 15
_GROUP: Final = 4  # characters of the code between two dashes
# Keys in one message, which has at most 64 KiB: each takes about 150 bytes with its room.
KEYS_AT_ONCE: Final = 200
_REQUEST_LABEL: Final = "linearized archive request 1"
_KEYS_LABEL: Final = "linearized archive keys 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who asks: the client (URI) with its raw MLS signature key, and the raw HPKE key for the answer."""

    client_uri: str
    signature_key: bytes
    hpke_key: bytes

    def encode(self) -> bytes:
        """Deterministic bytes."""
        return cbor2.dumps([_REQUEST_LABEL, self.client_uri, self.signature_key, self.hpke_key])

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """The inverse.

        Raises:
            UntrustedAnswer: it is no request.
        """
        client_uri, signature_key, hpke_key = _fields(data, _REQUEST_LABEL, str, bytes, bytes)
        return cls(client_uri=client_uri, signature_key=signature_key, hpke_key=hpke_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a request: keys by room, by whom they were given, and whether more are to come."""

    client_uri: str
    archives: Mapping[str, list[KnownArchive]]
    more: bool


# --- the new device ---


def new_request(device: MlsDevice, *, secret: bytes) -> tuple[OpenRequest, JsonObject]:
    """A request to be remembered, and the content of its to-device message."""
    keys = openmls.HpkeKeyPair.generate(ciphersuite=CIPHERSUITE)
    request = Request(
        client_uri=device.owner.client_uri,
        signature_key=device.client.signature_key,
        hpke_key=keys.public_key,
    ).encode()
    content = {
        "request": encode_base64(request),
        "signature": encode_base64(device.client.sign_with_label(label=_REQUEST_LABEL, content=request)),
        "mac": encode_base64(_mac(secret, _REQUEST_LABEL, request)),
    }
    return OpenRequest(secret=secret, keys=keys.to_bytes(), request=request), content


def code_of(secret: bytes) -> str:
    """What the user carries from the new device to the old one."""
    text = b32encode(secret).decode()
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def open_answer(device: MlsDevice, asked: OpenRequest, content: JsonObject) -> Answer:
    """The keys in an answer to our request, of rooms that both devices are in the groups of.

    Raises:
        UntrustedAnswer: who answers does not know our code, or is no client of our user in any room.
        openmls.MlsError: it is signed or encrypted otherwise than it says.
    """
    sealed = _binary(content, "keys")
    digest = sha256(asked.request).digest()
    _check_mac(asked.secret, _KEYS_LABEL, digest + sealed, _binary(content, "mac"))
    giver, signature_key, ciphertext = _fields(sealed, _KEYS_LABEL, str, bytes, bytes)
    openmls.verify_with_label(
        ciphersuite=CIPHERSUITE,
        public_key=signature_key,
        label=_KEYS_LABEL,
        content=digest + sealed,
        signature=_binary(content, "signature"),
    )
    keys = openmls.HpkeKeyPair.from_bytes(asked.keys, ciphersuite=CIPHERSUITE)
    plaintext = keys.decrypt_with_label(label=_KEYS_LABEL, context=digest, ciphertext=ciphertext)
    given, more = _fields(plaintext, _KEYS_LABEL, list, bool)
    archives: dict[str, list[KnownArchive]] = {}
    for one in given:
        room_id, archive = _archive(one)
        if _is_own_leaf(device, room_id, client_uri=giver, signature_key=signature_key):
            archives.setdefault(room_id, []).append(archive)
    if given and not archives:
        raise UntrustedAnswer(f"{giver} is no client of ours in any of the rooms")
    return Answer(client_uri=giver, archives=archives, more=more)


# --- the old device ---


def read_request(content: JsonObject) -> ArchiveRequested:
    """The item for the content of a to-device message with a request.

    Raises:
        UntrustedAnswer: it is none.
    """
    request = _binary(content, "request")
    return ArchiveRequested(
        room_id="",
        client_uri=Request.decode(request).client_uri,
        request=request,
        signature=_binary(content, "signature"),
        mac=_binary(content, "mac"),
    )


def check_request(device: MlsDevice, asked: ArchiveRequested, code: str) -> tuple[Request, bytes]:
    """What a request asks, and the secret in the code, once the two belong together.

    Raises:
        ArchiveRefused: the code is another's, or mistyped; or who asks is another user, or this device.
    """
    request = Request.decode(asked.request)
    try:
        secret = b32decode("".join(code.split("-")).replace(" ", "").upper())
        _check_mac(secret, _REQUEST_LABEL, asked.request, asked.mac)
        openmls.verify_with_label(
            ciphersuite=CIPHERSUITE,
            public_key=request.signature_key,
            label=_REQUEST_LABEL,
            content=asked.request,
            signature=asked.signature,
        )
        user_id, _ = client_named(request.client_uri)
    except (Base32Error, UntrustedAnswer, ValueError) as error:
        raise ArchiveRefused("the code is not the one that the new device shows") from error
    except (openmls.MlsError, IdentifierError) as error:
        raise ArchiveRefused("the request is not signed by who it says it is from") from error
    if user_id != device.owner.user_id:
        raise ArchiveRefused("the device is another user's")
    if request.signature_key == device.client.signature_key:
        raise ArchiveRefused("the request is our own")
    return request, secret


def may_have(device: MlsDevice, room_id: str, request: Request) -> bool:
    """Whether who asks is a client of our own user in a room's group, by the key that they asked with."""
    return _is_own_leaf(device, room_id, client_uri=request.client_uri, signature_key=request.signature_key)


def answers(
    device: MlsDevice, request: Request, secret: bytes, archives: Iterable[tuple[str, KnownArchive]]
) -> list[JsonObject]:
    """The contents of the to-device messages with these keys."""
    asked = sha256(request.encode()).digest()
    listed = [[room_id, archive.name, archive.key, archive.records] for room_id, archive in archives]
    pages = [listed[start : start + KEYS_AT_ONCE] for start in range(0, len(listed), KEYS_AT_ONCE)]
    contents: list[JsonObject] = []
    for number, page in enumerate(pages, start=1):
        ciphertext = openmls.encrypt_with_label(
            ciphersuite=CIPHERSUITE,
            public_key=request.hpke_key,
            label=_KEYS_LABEL,
            context=asked,
            plaintext=cbor2.dumps([_KEYS_LABEL, page, number < len(pages)]),
        )
        sealed = cbor2.dumps([_KEYS_LABEL, device.owner.client_uri, device.client.signature_key, ciphertext])
        signature = device.client.sign_with_label(label=_KEYS_LABEL, content=asked + sealed)
        contents.append(
            {
                "keys": encode_base64(sealed),
                "signature": encode_base64(signature),
                "mac": encode_base64(_mac(secret, _KEYS_LABEL, asked + sealed)),
            }
        )
    return contents


def _is_own_leaf(device: MlsDevice, room_id: str, *, client_uri: str, signature_key: bytes) -> bool:
    if not device.in_group(room_id):
        return False
    wanted, owners = client_named(client_uri), device.members(room_id)
    return wanted[0] == device.owner.user_id and any(
        member.signature_key == signature_key
        and (owner := owners.get(member.leaf_index)) is not None
        and owner.client == wanted
        for member in device.group(room_id).members()
    )


def _mac(secret: bytes, use: str, data: bytes) -> bytes:
    key = HKDF(SHA256(), KEY_BYTES, salt=None, info=use.encode()).derive(secret)
    return hmac.digest(key, data, "sha256")


def _check_mac(secret: bytes, use: str, data: bytes, mac: bytes) -> None:
    if len(secret) != SECRET_BYTES or not hmac.compare_digest(_mac(secret, use, data), mac):
        raise UntrustedAnswer("it was not made with our code")


def _archive(value: Any) -> tuple[str, KnownArchive]:
    try:
        room_id, name, key, records = value
        fits = isinstance(room_id, str) and isinstance(records, int) and records >= 0
        fits = fits and isinstance(name, bytes) and isinstance(key, bytes)
        if not fits or (len(name), len(key)) != (NAME_BYTES, KEY_BYTES):
            raise UntrustedAnswer("that is no archive's key")
    except (TypeError, ValueError) as error:
        raise UntrustedAnswer("that is no archive's key") from error
    return room_id, KnownArchive(name=name, key=key, records=records)


def _fields(data: bytes, label: str, *types: type) -> list[Any]:
    try:
        value = cbor2.loads(data)
    except (cbor2.CBORDecodeError, UnicodeDecodeError) as error:
        raise UntrustedAnswer("the message is damaged") from error
    if not isinstance(value, list) or [type(one) for one in value] != [str, *types] or value[0] != label:
        raise UntrustedAnswer(f"the message is no {label!r}")
    return value[1:]


def _binary(content: JsonObject, name: str) -> bytes:
    value = content.get(name)
    if not isinstance(value, str):
        raise UntrustedAnswer(f"{name!r} is missing")
    try:
        return decode_base64(value)
    except InvalidInput as error:
        raise UntrustedAnswer(f"{name!r} is not base64") from error
