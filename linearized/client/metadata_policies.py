"""Asking a hub what it keeps, before joining a room of it."""

from __future__ import annotations

from typing import Final

import openmls

from linearized.client.api import ProviderApi
from linearized.client.errors import UntrustedAnswer
from linearized.exceptions import InvalidInput
from linearized.mimi.group_info import ExternalSenders
from linearized.mimi.key_material import basic_identity
from linearized.mimi.metadata_policy import (
    SIGNATURE_LABEL,
    MetadataPolicy,
    RequiredPolicy,
    SignedMetadataPolicy,
    require_no_logging,
    require_policy,
)
from linearized.mimi.policy.components import LOGGING_POLICY
from linearized.mimi.policy.retention import LoggingPolicy

# Hubs of ours sign with Ed25519; of a suite, only its scheme counts here.
_ED25519: Final = openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519
_HUB: Final = "mimi://"
_EXTERNAL_SENDERS: Final = 0x0005  # ExtensionType external_senders (RFC 9420, section 17.3)


async def check_before_joining(
    api: ProviderApi, group: openmls.PublicGroup, required: RequiredPolicy
) -> None:
    """Hold the room of a group, and its hub, to what is required.

    The hub's word comes by way of our provider, so it has to be signed with the key that the group holds for
    its hub.

    Args:
        group: as the hub gave it, before anybody joins it.

    Raises:
        MetadataPolicyError: the hub or the room falls short.
        UntrustedAnswer: the policy is not the hub's, or the group has no key of it.
        ApiError, ServerUnreachable: the hub says nothing of what it keeps, or cannot be asked.
    """
    hub, key = _hub_of(group)
    data = group.app_data().get(LOGGING_POLICY)
    require_no_logging(hub, None if data is None else LoggingPolicy.decode(data), required)
    if required.of_hub:
        if not hub:
            raise UntrustedAnswer("the room's group has no key of its hub")
        require_policy(hub, _policy(await api.metadata_policy(hub), hub, key), required)


def _hub_of(group: openmls.PublicGroup) -> tuple[str, bytes]:
    """The hub's name and key; both empty if the group does not say."""
    extension = group.extensions().get(_EXTERNAL_SENDERS)
    senders = () if extension is None else ExternalSenders.decode(extension).senders
    for sender in senders:
        name = basic_identity(sender.credential).decode(errors="replace")
        if name.startswith(_HUB):
            return name.removeprefix(_HUB), sender.signature_key
    return "", b""


def _policy(answer: bytes, hub: str, key: bytes) -> MetadataPolicy:
    try:
        signed = SignedMetadataPolicy.decode(answer)
        openmls.verify_with_label(
            ciphersuite=_ED25519,
            public_key=key,
            label=SIGNATURE_LABEL,
            content=signed.signed(),
            signature=signed.signature,
        )
        policy = MetadataPolicy.decode(signed.policy)
    except (InvalidInput, openmls.MlsError) as error:
        raise UntrustedAnswer(f"the metadata policy of {hub} is not signed by it") from error
    if signed.provider != hub:
        raise UntrustedAnswer(f"the metadata policy is not of {hub}")
    return policy
