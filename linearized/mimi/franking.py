"""Message franking (draft-ietf-mimi-protocol-06, "Message Franking").

The sender commits to a message with a ``franking_tag``, the hub stamps what it accepted with a ``Frank``,
receivers check both, and the hub recognises its own stamp in an abuse report. Signing and verifying are
arguments, because the algorithm is that of the group's cipher suite.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from linearized.exceptions import MimiDecodeError, SignatureError
from linearized.mimi.app_data import SAFE_AAD_COMPONENT, ComponentsList, SafeAAD
from linearized.mimi.key_material import basic_identity
from linearized.mimi.media_types import read_message
from linearized.mimi.messages import SERVER_FRANK_BYTES, Frank
from linearized.mimi.mls_framing import walk_credential
from linearized.mimi.participants import FRANK_AAD, FRANKING_AGENT
from linearized.mimi.tls import Bytes, Fixed, Raw, Struct, Uint16, Uint64, Uri

FRANKING_TAG_BYTES = 32  # HMAC-SHA256
SIGNATURE_LABEL = "FrankingIntegrityTBS"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrankAAD(Struct):
    """The ``frank_aad`` Safe AAD component of an application message."""

    franking_tag: Annotated[bytes, Fixed(FRANKING_TAG_BYTES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrankingAgentData(Struct):
    """The ``franking_agent`` component, data and update: the hub's raw key and TLS-encoded credential."""

    franking_signature_key: Bytes
    credential: Annotated[bytes, Raw(walk_credential)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFrankingContext(Struct):
    """What the hub vouches for: sender, room, and when it accepted (milliseconds since the Unix epoch)."""

    sender_uri: Uri
    room_uri: Uri
    accepted_timestamp: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class FrankingIntegrityTBS(Struct):
    """What the hub signs, with ``SIGNATURE_LABEL``, so that followers cannot change the context."""

    server_frank: Annotated[bytes, Fixed(SERVER_FRANK_BYTES)]
    franking_signature_ciphersuite: Uint16
    context: ServerFrankingContext


def franking_components(agent: bytes) -> dict[int, bytes]:
    """What a new group's ``app_data_dictionary`` has so that its messages are franked.

    Args:
        agent: the hub's FrankingAgentData, encoded.

    The ``safe_aad`` list is empty: it frames every message's authenticated data, and leaves members free to
    know nothing of franking as long as they only read.
    """
    return {SAFE_AAD_COMPONENT: ComponentsList().encode(), FRANKING_AGENT: agent}


def is_franked(app_data: Mapping[int, bytes], agent: bytes | None) -> bool:
    """Whether a group with this ``app_data_dictionary`` has its messages franked by the hub of ``agent``."""
    return agent is not None and app_data.get(FRANKING_AGENT) == agent


def agent_uri(agent: bytes) -> str:
    """The URI in the credential of an encoded FrankingAgentData, which should be its provider's.

    Raises:
        MimiDecodeError: it cannot be read, or has another credential than a basic one with an ASCII text.
    """
    try:
        return basic_identity(FrankingAgentData.decode(agent).credential).decode("ascii")
    except UnicodeDecodeError as error:
        raise MimiDecodeError("the franking agent's credential is no URI") from error


def tag_in(authenticated_data: bytes) -> bytes | None:
    """The franking tag that a message carries; None if it has no ``frank_aad`` item.

    Args:
        authenticated_data: of a message in a group with the ``safe_aad`` component.

    Raises:
        MimiDecodeError: it is no SafeAAD, or the item is no FrankAAD.
    """
    item = SafeAAD.decode(authenticated_data).item(FRANK_AAD)
    return None if item is None else FrankAAD.decode(item).franking_tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the sender of a message has committed to, from inside its content."""

    salt: bytes
    sender_uri: str
    room_uri: str

    @classmethod
    def of(cls, application_data: bytes) -> Claims:
        """The salt, sender and room in MIMI content, framed or not.

        Raises:
            MimiDecodeError: it is no MIMI content, or names no sender or no room: "the sender includes the
                sender's user URI and room URI in the MIMI content extensions map" (Client creation and
                sending).
        """
        content = read_message(application_data)
        if content.sender_uri is None or content.room_uri is None:
            raise MimiDecodeError("a franked message names its sender and its room")
        return cls(salt=content.salt, sender_uri=content.sender_uri, room_uri=content.room_uri)


class Sign(Protocol):
    """``SignWithLabel`` (RFC 9420, Section 5.1.2) with the private key of the room's ``franking_agent``."""

    def __call__(self, *, label: str, content: bytes) -> bytes:
        """The signature over ``content`` under ``label``."""
        ...


class Verify(Protocol):
    """``VerifyWithLabel`` with the public key of the ``franking_agent``; raises if it does not fit."""

    def __call__(self, *, label: str, content: bytes, signature: bytes) -> object:
        """Return, or raise."""
        ...


def franking_tag(*, salt: bytes, application_data: bytes) -> bytes:
    """The sender's commitment; ``salt`` is that of the MIMI content in ``application_data``."""
    return hmac.digest(salt, application_data, "sha256")


def server_frank(*, hub_key: bytes, tag: bytes, context: ServerFrankingContext) -> bytes:
    """The hub's stamp; ``hub_key`` is a secret of the hub's own."""
    return hmac.digest(hub_key, tag + context.encode(), "sha256")


def make_frank(
    *,
    hub_key: bytes,
    tag: bytes,
    context: ServerFrankingContext,
    cipher_suite: int,
    sign: Sign,
) -> Frank:
    """Stamp a message with tag ``tag``; ``cipher_suite`` is the group's."""
    stamp = server_frank(hub_key=hub_key, tag=tag, context=context)
    tbs = FrankingIntegrityTBS(
        server_frank=stamp, franking_signature_ciphersuite=cipher_suite, context=context
    )
    return Frank(
        server_frank=stamp,
        franking_signature_ciphersuite=cipher_suite,
        franking_integrity_signature=sign(label=SIGNATURE_LABEL, content=tbs.encode()),
    )


def verify_frank(
    frank: Frank,
    *,
    context: ServerFrankingContext,
    cipher_suite: int,
    verify: Verify,
) -> None:
    """Check a received frank.

    ``cipher_suite`` is the group's.

    Raises:
        SignatureError: the frank is of another cipher suite; and whatever ``verify`` raises.
    """
    # The draft goes on only if "the `franking_signature_ciphersuite` matches the MLS cipher suite in-use".
    if frank.franking_signature_ciphersuite != cipher_suite:
        raise SignatureError("the frank is of another cipher suite than the group")
    tbs = FrankingIntegrityTBS(
        server_frank=frank.server_frank, franking_signature_ciphersuite=cipher_suite, context=context
    )
    verify(label=SIGNATURE_LABEL, content=tbs.encode(), signature=frank.franking_integrity_signature)


def verify_franking_tag(tag: bytes, *, salt: bytes, application_data: bytes) -> None:
    """Check a sender's commitment; ``SignatureError`` if it is to other data."""
    if not hmac.compare_digest(tag, franking_tag(salt=salt, application_data=application_data)):
        raise SignatureError("the franking tag is not for this message")


def verify_server_frank(stamp: bytes, *, hub_key: bytes, tag: bytes, context: ServerFrankingContext) -> None:
    """Recognise the hub's own stamp, in an abuse report; ``SignatureError`` if it is not."""
    if not hmac.compare_digest(stamp, server_frank(hub_key=hub_key, tag=tag, context=context)):
        raise SignatureError("the server frank is not this hub's for this message")
