"""What a device asks of a hub before a commit, signed: key packages of others, and the group's state."""

from __future__ import annotations

import openmls

from linearized.client.device import CIPHERSUITE, MlsDevice
from linearized.client.errors import JoinRefused, KeyMaterialUnavailable, UntrustedAnswer
from linearized.client.identity import leaf_owner
from linearized.mimi.group_info import (
    ENCRYPTION_LABEL,
    GroupInfoCode,
    GroupInfoRatchetTreeTBE,
    GroupInfoRequest,
    GroupInfoRequestTBS,
    GroupInfoResponse,
    GroupInfoResponseTBS,
)
from linearized.mimi.key_material import (
    KeyMaterialRequest,
    KeyMaterialRequestTBS,
    KeyMaterialResponse,
    RequiredCapabilities,
)
from linearized.protocol.identifiers import room_uri, user_uri


def key_material_request(device: MlsDevice, room_id: str, user_id: str) -> KeyMaterialRequest:
    """The request for a key package of each client of a user, for a room."""
    signed = KeyMaterialRequestTBS(
        requesting_user=user_uri(device.owner.user_id),
        target_user=user_uri(user_id),
        room_id=room_uri(room_id),
        acceptable_ciphersuites=(CIPHERSUITE,),
        required_capabilities=_required_by(device, room_id),
        requester_signature_key=device.client.signature_key,
        requester_credential=device.client.credential,
    )
    signature = device.client.sign_with_label(label="KeyMaterialRequestTBS", content=signed.encode())
    return KeyMaterialRequest(
        requesting_user=signed.requesting_user,
        target_user=signed.target_user,
        room_id=signed.room_id,
        acceptable_ciphersuites=signed.acceptable_ciphersuites,
        required_capabilities=signed.required_capabilities,
        requester_signature_key=signed.requester_signature_key,
        requester_credential=signed.requester_credential,
        signature=signature,
    )


def _required_by(device: MlsDevice, room_id: str) -> RequiredCapabilities:
    """What the room's group requires, if we are in it: a client without it could not be added."""
    required = device.group(room_id).required_capabilities() if device.in_group(room_id) else None
    if required is None:
        return RequiredCapabilities()
    return RequiredCapabilities(
        extension_types=required.extensions,
        proposal_types=required.proposals,
        credential_types=required.credentials,
    )


def packages_in(response: KeyMaterialResponse, user_id: str, *, now: int) -> list[bytes]:
    """The key packages in an answer; ``now`` is in seconds since the Unix epoch.

    Raises:
        KeyMaterialUnavailable: there are none.
        UntrustedAnswer: one is not that user's.
    """
    packages = [client.key_package for client in response.clients if client.key_package is not None]
    if not packages:
        raise KeyMaterialUnavailable(user_id, int(getattr(response.user_status, "value", -1)))
    for client in response.clients:
        if client.key_package is not None:
            info = openmls.inspect_key_package(client.key_package, now=now)
            owner = leaf_owner(info.credential, signature_key=info.signature_key)
            if (owner.user_id, owner.client_uri) != (user_id, client.client_uri):
                raise UntrustedAnswer(
                    f"a key package of {owner.client_uri} was given for {client.client_uri}"
                )
    return packages


def group_info_request(device: MlsDevice, keys: openmls.HpkeKeyPair, code: str | None) -> GroupInfoRequest:
    """The request for a group's state, to be encrypted to ``keys``; with a joining code if one is needed."""
    signed = GroupInfoRequestTBS(
        cipher_suite=CIPHERSUITE,
        signature_key=device.client.signature_key,
        credential=device.client.credential,
        group_info_public_key=keys.public_key,
        joining_code=None if code is None else code.encode(),
    )
    signature = device.client.sign_with_label(label="GroupInfoRequestTBS", content=signed.encode())
    return GroupInfoRequest(
        cipher_suite=signed.cipher_suite,
        signature_key=signed.signature_key,
        credential=signed.credential,
        group_info_public_key=signed.group_info_public_key,
        joining_code=signed.joining_code,
        signature=signature,
    )


def open_group_info(
    response: GroupInfoResponse, room_id: str, keys: openmls.HpkeKeyPair
) -> GroupInfoRatchetTreeTBE:
    """Check and decrypt a hub's GroupInfoResponse.

    Raises:
        JoinRefused: the hub refused.
        UntrustedAnswer: it is for another room.
        openmls.MlsError: the signature is wrong, or it is not encrypted to ``keys``.
        MimiDecodeError: what was encrypted is malformed.
    """
    if response.status is not GroupInfoCode.SUCCESS:
        raise JoinRefused(int(getattr(response.status, "value", -1)))
    if response.room_id not in (room_uri(room_id), room_id):
        raise UntrustedAnswer("the group information is of another room")
    sender, encrypted = response.hub_sender, response.encrypted_groupinfo_and_tree
    if sender is None or encrypted is None or response.cipher_suite is None or response.signature is None:
        raise UntrustedAnswer("the group information is incomplete")
    signed = GroupInfoResponseTBS(
        protocol=response.protocol,
        room_id=response.room_id,
        status=response.status,
        cipher_suite=response.cipher_suite,
        hub_sender=sender,
        encrypted_groupinfo_and_tree=encrypted,
    )
    openmls.verify_with_label(
        ciphersuite=response.cipher_suite,
        public_key=sender.signature_key,
        label="GroupInfoResponseTBS",
        content=signed.encode(),
        signature=response.signature,
    )
    plaintext = keys.decrypt_with_label(
        label=ENCRYPTION_LABEL, context=response.room_id.encode(), ciphertext=encrypted.encode()
    )
    return GroupInfoRatchetTreeTBE.decode(plaintext)
