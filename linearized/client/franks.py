"""Franking at the client: committing to what is sent, and checking what the hub stamped
(draft-ietf-mimi-protocol-06, "Message Franking").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

import openmls

from linearized.client.errors import UntrustedAnswer
from linearized.client.identity import LeafOwner
from linearized.exceptions import IdentifierError, MimiDecodeError, SignatureError
from linearized.mimi.content import MimiContent, sender_extensions
from linearized.mimi.franking import (
    Claims,
    FrankAAD,
    FrankingAgentData,
    ServerFrankingContext,
    agent_uri,
    franking_tag,
    verify_frank,
    verify_franking_tag,
)
from linearized.mimi.messages import Frank
from linearized.mimi.participants import FRANK_AAD, FRANKING_AGENT
from linearized.protocol.identifiers import provider_of_uri, room_uri, user_uri

__all__ = ["FrankError", "FrankFault", "agent_of", "check_frank", "safe_aad", "with_claims"]


class FrankFault(StrEnum):
    """What is wrong with a franked message."""

    AGENT = "agent"  # the group's franking agent is not the hub's, or cannot be read
    SIGNATURE = "signature"  # a provider on the way changed the stamp, the time, or the sender it vouches for
    TAG = "tag"  # the sender committed to other content
    CLAIMS = "claims"  # the content names another sender or room, or none
    FRANK = "frank"  # the stamp cannot be read


class FrankError(UntrustedAnswer):
    """A message's frank does not hold.

    Attributes:
        fault: which part of it.
    """

    def __init__(self, fault: FrankFault, text: str) -> None:
        super().__init__(f"franking ({fault.value}): {text}")
        self.fault = fault


def with_claims(content: MimiContent, *, user_id: str, room_id: str) -> MimiContent:
    """The content with the sender and the room that a franked message commits to."""
    claims = sender_extensions(sender_uri=user_uri(user_id), room_uri=room_uri(room_id))
    return replace(content, extensions={**content.extensions, **claims})


def safe_aad(payload: bytes) -> dict[int, bytes]:
    """The ``frank_aad`` component for MIMI content.

    Raises:
        MimiDecodeError: the content does not name its sender and room (see ``with_claims``).
    """
    tag = franking_tag(salt=Claims.of(payload).salt, application_data=payload)
    return {FRANK_AAD: FrankAAD(franking_tag=tag).encode()}


def agent_of(encoded: bytes, hub: str) -> FrankingAgentData:
    """A franking agent that the hub of a room may have.

    "It verifies the domain name in the franking_agent.credential corresponds to the domain of the Hub".

    Raises:
        FrankError: it cannot be read, or is another provider's.
    """
    try:
        provider = provider_of_uri(agent_uri(encoded))
    except (MimiDecodeError, IdentifierError) as error:
        raise FrankError(FrankFault.AGENT, "the franking agent cannot be read") from error
    if provider != hub:
        raise FrankError(FrankFault.AGENT, f"the franking agent is {provider}'s, not the hub's")
    return FrankingAgentData.decode(encoded)


def check_frank(
    processed: openmls.Processed,
    *,
    app_data: Mapping[int, bytes],
    cipher_suite: int,
    frank: bytes | None,
    owner: LeafOwner,
    room_id: str,
    hub: str,
    timestamp: int,
) -> None:
    """Check a decrypted message as far as it is franked.

    Args:
        processed: the message; ``owner`` is who MLS says sent it.
        app_data: the group's ``app_data_dictionary``.
        frank: the encoded Frank that came with it. Without one only the sender's commitment is checked.
        hub: the provider that orders the room.
        timestamp: when the hub says it accepted the message, milliseconds since the Unix epoch.

    Raises:
        FrankError: see ``FrankFault``.
    """
    tag = (processed.safe_aad or {}).get(FRANK_AAD)
    if FRANKING_AGENT not in app_data or tag is None or processed.plaintext is None:
        return
    check_commitment(tag, processed.plaintext, sender_uri=owner.user_uri, room_id=room_id)
    if frank is None:
        return
    agent = agent_of(app_data[FRANKING_AGENT], hub)

    def verify(*, label: str, content: bytes, signature: bytes) -> None:
        openmls.verify_with_label(
            ciphersuite=cipher_suite,
            public_key=agent.franking_signature_key,
            label=label,
            content=content,
            signature=signature,
        )

    try:
        stamp = Frank.decode(frank)
    except MimiDecodeError as error:
        raise FrankError(FrankFault.FRANK, "the frank cannot be read") from error
    context = ServerFrankingContext(
        sender_uri=owner.user_uri, room_uri=room_uri(room_id), accepted_timestamp=timestamp
    )
    try:
        verify_frank(stamp, context=context, cipher_suite=cipher_suite, verify=verify)
    except (SignatureError, openmls.MlsError) as error:
        raise FrankError(FrankFault.SIGNATURE, "the hub did not sign this sender, room and time") from error


def check_commitment(tag: bytes, payload: bytes, *, sender_uri: str, room_id: str) -> None:
    """Check content against what its sender committed to (an encoded FrankAAD).

    "Finally it verifies the construction of the franking_tag from the content format of the message
    (including the embedded salt), that the sender's identity in its credential in its MLS LeafNode matches
    the sender_uri … and that the room_uri … matches the room ID in the received message."
    """
    try:
        claims = Claims.of(payload)
        commitment = FrankAAD.decode(tag).franking_tag
        verify_franking_tag(commitment, salt=claims.salt, application_data=payload)
    except (MimiDecodeError, SignatureError) as error:
        fault = FrankFault.TAG if isinstance(error, SignatureError) else FrankFault.CLAIMS
        raise FrankError(fault, str(error)) from error
    if (claims.sender_uri, claims.room_uri) != (sender_uri, room_uri(room_id)):
        raise FrankError(FrankFault.CLAIMS, "the content names another sender or room")
