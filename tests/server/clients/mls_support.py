"""MLS devices of the tests: real key packages, real commits, real ciphertexts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import openmls

from linearized.mimi.group_info import GroupInfoRequest, GroupInfoRequestTBS
from linearized.mimi.handshake import (
    GroupInfoOption,
    HandshakeBundle,
    RatchetTreeOption,
    UpdateRoomResponse,
    welcome_struct,
)
from linearized.mimi.key_material import KeyMaterialRequest, KeyMaterialRequestTBS, KeyMaterialResponse
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListData,
    ParticipantListUpdate,
    UserRolePair,
    apply_update,
)
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.identifiers import client_uri, group_id, user_uri
from linearized.room.admission import ALGORITHM
from tests.server.clients.support import MLS, Answer, Client, Server, room

LIFETIME = 28 * 24 * 3600


def use_real_time(server: Server) -> int:
    """Set the server's clock to now, in seconds: the MLS library checks lifetimes by the system's clock,
    too.
    """
    now = int(time.time())
    server.clock.now = now * 1000
    return now


@dataclass
class MlsDevice:
    """A Matrix device with an MLS client."""

    client: Client
    mls: openmls.Client = field(init=False)
    group: openmls.Group | None = None

    def __post_init__(self) -> None:
        identity = client_uri(self.client.user_id, self.client.device_id or "")
        self.mls = openmls.Client.create(identity=identity.encode())

    def key_package(self, *, last_resort: bool = False, lifetime: int = LIFETIME) -> bytes:
        """A fresh key package."""
        return self.mls.key_package(now=int(time.time()), lifetime=lifetime, last_resort=last_resort)

    async def upload(self, one_time: int = 1, fallback: int = 0) -> Any:
        """Upload that many key packages of each kind; the counts after it."""
        body = {
            "one_time_keys": {
                f"mls:{n}": {"key": encode_base64(self.key_package())} for n in range(one_time)
            },
            "fallback_keys": {
                f"mls:f{n}": {"key": encode_base64(self.key_package(last_resort=True))}
                for n in range(fallback)
            },
        }
        return (await self.client.call("POST", "/keys/upload", body)).ok()["one_time_key_counts"]

    def joined(self) -> openmls.Group:
        """The device's group."""
        assert self.group is not None
        return self.group

    async def update(self, room_id: str, bundle: openmls.CommitBundle, **extra: Any) -> Answer:
        """Submit a commit."""
        encoded = HandshakeBundle(
            message=bundle.commit,
            welcome=welcome_struct(bundle.welcome) if bundle.welcome is not None else None,
            group_info=GroupInfoOption(full=bundle.group_info),
            ratchet_tree=RatchetTreeOption.full(bundle.ratchet_tree),
        ).encode()
        body = {"bundle": encode_base64(encoded), **extra}
        return await self.client.call("POST", f"{room(room_id, MLS)}/mls/update", body)

    async def create_group(self, room_id: str) -> Answer:
        """Make the room's group with this device alone in it."""
        listed = ParticipantListData(
            participants=(UserRolePair(user=user_uri(self.client.user_id), role_index=2),)
        )
        self.group = self.mls.create_group(
            group_id=group_id(room_id), app_data={PARTICIPANT_LIST: listed.encode()}
        )
        group_info, tree = self.group.group_info()
        initial = {"group_info": encode_base64(group_info), "ratchet_tree": encode_base64(tree)}
        answer = await self.update(room_id, self.group.commit(), initial_group=initial)
        answer.ok()
        self.group.merge_pending_commit()
        return answer

    def adding(self, user_id: str, *packages: bytes) -> openmls.CommitBundle:
        """A commit that adds a user's devices."""
        group = self.joined()
        listed = ParticipantListData.decode(group.app_data()[PARTICIPANT_LIST])
        change = ParticipantListUpdate(added=(UserRolePair(user=user_uri(user_id), role_index=1),))
        return group.commit(
            add=packages,
            app_data_updates={PARTICIPANT_LIST: change.encode()},
            new_app_data={PARTICIPANT_LIST: apply_update(listed, change).encode()},
        )

    def key_material_request(self, target: str, requesting: str | None = None) -> bytes:
        """A signed KeyMaterialRequest."""
        signed = KeyMaterialRequestTBS(
            requesting_user=user_uri(requesting or self.client.user_id),
            target_user=user_uri(target),
            acceptable_ciphersuites=(1,),
            requester_signature_key=self.mls.signature_key,
            requester_credential=self.mls.credential,
        )
        signature = self.mls.sign_with_label(label="KeyMaterialRequestTBS", content=signed.encode())
        return KeyMaterialRequest(
            requesting_user=signed.requesting_user,
            target_user=signed.target_user,
            acceptable_ciphersuites=(1,),
            requester_signature_key=signed.requester_signature_key,
            requester_credential=signed.requester_credential,
            signature=signature,
        ).encode()

    async def key_material(self, room_id: str, target: str) -> list[bytes]:
        """Claim key packages of a user's devices through the room."""
        answer = (
            await exchange(self.client, room_id, "key_material", self.key_material_request(target))
        ).ok()
        response = KeyMaterialResponse.decode(decode_base64(answer["response"]))
        return [found.key_package for found in response.clients if found.key_package is not None]

    def group_info_request(self, keys: openmls.HpkeKeyPair, *, code: bytes | None = None) -> bytes:
        """A signed GroupInfoRequest, which may show a joining code."""
        signed = GroupInfoRequestTBS(
            cipher_suite=1,
            signature_key=self.mls.signature_key,
            credential=self.mls.credential,
            group_info_public_key=keys.public_key,
            joining_code=code,
        )
        signature = self.mls.sign_with_label(label="GroupInfoRequestTBS", content=signed.encode())
        return GroupInfoRequest(
            cipher_suite=1,
            signature_key=signed.signature_key,
            credential=signed.credential,
            group_info_public_key=signed.group_info_public_key,
            joining_code=code,
            signature=signature,
        ).encode()

    async def say(self, room_id: str, text: str, txn: str) -> Answer:
        """Send an encrypted message."""
        content = {
            "algorithm": ALGORITHM,
            "ciphertext": encode_base64(self.joined().encrypt(text.encode())),
            "commit_event_id": "$unknown",
        }
        return await self.client.call("PUT", f"{room(room_id)}/send/m.room.encrypted/{txn}", content)


async def exchange(client: Client, room_id: str, what: str, request: bytes) -> Answer:
    """One MIMI structure for another."""
    body = {"request": encode_base64(request)}
    return await client.call("POST", f"{room(room_id, MLS)}/mls/{what}", body)


def response_of(answer: Answer) -> UpdateRoomResponse:
    """The UpdateRoomResponse in an answer."""
    return UpdateRoomResponse.decode(decode_base64(answer.ok()["response"]))
