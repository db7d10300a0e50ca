"""A provider in memory, behind ``httpx.MockTransport``: one hub, real MLS checks, and faults on demand.

It does what the client API promises and no more, so that tests of the client can stop it at any point.
``faults`` is asked before and after each request takes effect.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx
import openmls

from linearized.client.app_data import new_app_data
from linearized.mimi.group_info import (
    ENCRYPTION_LABEL,
    ExternalSender,
    GroupInfoCode,
    GroupInfoRatchetTreeTBE,
    GroupInfoRequest,
    GroupInfoResponse,
    GroupInfoResponseTBS,
    HPKECiphertext,
)
from linearized.mimi.handshake import (
    HandshakeBundle,
    RatchetTreeOption,
    UpdateResponseCode,
    UpdateRoomResponse,
    welcome_message,
)
from linearized.mimi.key_material import (
    ClientKeyMaterial,
    KeyMaterialClientCode,
    KeyMaterialRequest,
    KeyMaterialResponse,
    KeyMaterialUserCode,
    basic_credential,
)
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.identifiers import (
    client_from_uri,
    client_uri,
    room_uri,
    user_id_from_uri,
    user_uri,
)
from linearized.room.proposals import content_of

# The binding holds key packages to a real time: the one the tests start at.
NOW_MS = int(time.time()) * 1000
TIMELINE_LIMIT = 10

Fault = Callable[[str, httpx.Request], None]


@dataclass
class Room:
    room_id: str
    log: list[dict[str, Any]] = field(default_factory=list)
    members: set[str] = field(default_factory=set)
    group: openmls.PublicGroup | None = None
    group_info: bytes = b""
    transactions: dict[str, str] = field(default_factory=dict)


class FakeProvider:
    """Rooms, devices and key packages of one provider. A token is ``user_id|device_id``."""

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}
        self.asked: list[KeyMaterialRequest] = []  # for key material
        self.to_device: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.one_time: dict[str, dict[str, bytes]] = {}
        self.fallback: dict[str, dict[str, bytes]] = {}
        self.position = 0
        self.late: set[str] = set()  # users whom news reaches only while they wait for it
        self.fault: Fault | None = None
        self.requests: list[str] = []
        self.hub = openmls.SignatureKeyPair.generate()

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._handle))

    def room(self, room_id: str, *members: str) -> Room:
        room = self.rooms[room_id] = Room(room_id)
        for member in members:
            self.append(room, member, "m.room.member", {"membership": "join"}, state_key=member)
        return room

    def append(
        self, room: Room, sender: str, kind: str, content: dict[str, Any], state_key: str | None = None
    ) -> str:
        self.position += 1
        event: dict[str, Any] = {
            "type": kind,
            "sender": sender,
            "content": content,
            "event_id": f"$e{self.position}",
            "origin_server_ts": NOW_MS + self.position,
            "unsigned": {"dev.linearized.seq": len(room.log) + 1},
            "position": self.position,
        }
        if state_key is not None:
            event["state_key"] = state_key
            if kind == "m.room.member":
                (room.members.add if content["membership"] == "join" else room.members.discard)(state_key)
        room.log.append(event)
        return str(event["event_id"])

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        path = unquote(request.url.raw_path.decode().partition("?")[0])
        self.requests.append(f"{request.method} {path}")
        if self.fault is not None:
            self.fault("before", request)
        answer = self._answer(request, path)
        if self.fault is not None:
            self.fault("after", request)
        return answer

    def _answer(self, request: httpx.Request, path: str) -> httpx.Response:
        user_id, _, device_id = request.headers["authorization"].removeprefix("Bearer ").partition("|")
        body = json.loads(request.content) if request.content else {}
        parts = path.split("/")
        if "rooms" not in parts:
            return httpx.Response(200, json=self._account(request, path, user_id, device_id))
        room = self.rooms.get(parts[parts.index("rooms") + 1])
        if room is None:
            return httpx.Response(404, json={"errcode": "M_NOT_FOUND", "error": "no such room"})
        if user_id not in room.members:
            return httpx.Response(403, json={"errcode": "M_FORBIDDEN", "error": "not joined"})
        if "/send/" in path:
            return self._send(room, user_id, parts[-2], parts[-1], body)
        if path.endswith("/messages"):
            return httpx.Response(200, json=self._messages(room, request.url.params))
        handlers = {
            "update": self._update,
            "key_material": self._key_material,
            "group_info": self._info,
            "hub_sender": self._no_hub,
        }
        return handlers[parts[-1]](room, user_id, body)

    def _account(self, request: httpx.Request, path: str, user_id: str, device_id: str) -> dict[str, Any]:
        if path.endswith("/sync"):
            return self._sync(user_id, device_id, request.url.params)
        if path.endswith("/keys/upload"):
            return self._keys(user_id, device_id, json.loads(request.content))
        assert path.endswith("/capabilities")
        return {"capabilities": {}}

    # --- following ---

    def _sync(self, user_id: str, device_id: str, params: httpx.QueryParams) -> dict[str, Any]:
        since = int(params.get("since", "0"))
        if user_id in self.late and params.get("timeout", "0") == "0":
            return {"next_batch": str(since)}
        address = client_uri(user_id, device_id)
        queue = [item for item in self.to_device.get(address, []) if item[0] > since]
        self.to_device[address] = queue
        join = {}
        for room in self.rooms.values():
            new = [event for event in room.log if event["position"] > since]
            if new and (user_id in room.members):
                shown = new[-TIMELINE_LIMIT:]
                first = shown[0]["unsigned"]["dev.linearized.seq"]
                join[room.room_id] = {
                    "timeline": {
                        "events": shown,
                        "limited": len(shown) < len(new),
                        "prev_batch": str(first),
                    }
                }
        return {
            "next_batch": str(self.position),
            "rooms": {"join": join},
            "to_device": {"events": [event for _, event in queue]},
            "device_one_time_keys_count": {"mls": len(self.one_time.get(address, {}))},
        }

    def _messages(self, room: Room, params: httpx.QueryParams) -> dict[str, Any]:
        before = int(params["from"])
        older = [e for e in room.log if e["unsigned"]["dev.linearized.seq"] < before]
        page = older[-int(params["limit"]) :][::-1]
        answer: dict[str, Any] = {"chunk": page}
        if page and page[-1]["unsigned"]["dev.linearized.seq"] > 1:
            answer["end"] = str(page[-1]["unsigned"]["dev.linearized.seq"])
        return answer

    # --- writing ---

    def _send(self, room: Room, user_id: str, kind: str, txn_id: str, body: dict[str, Any]) -> httpx.Response:
        if txn_id in room.transactions:
            return httpx.Response(200, json={"event_id": room.transactions[txn_id]})
        assert room.group is not None
        info = openmls.inspect_message(decode_base64(body["ciphertext"]))
        if info.epoch != room.group.epoch:
            refusal = {"errcode": "M_WRONG_EPOCH", "error": "wrong", "current_epoch": room.group.epoch}
            return httpx.Response(409, json=refusal)
        room.transactions[txn_id] = self.append(room, user_id, kind, body)
        return httpx.Response(200, json={"event_id": room.transactions[txn_id]})

    def _update(self, room: Room, user_id: str, body: dict[str, Any]) -> httpx.Response:
        bundle = HandshakeBundle.decode(decode_base64(body["bundle"]))
        if not bundle.is_commit:
            return self._propose(room, user_id, bundle)
        assert bundle.group_info is not None
        partial = bundle.group_info.partial
        assert partial is not None
        if room.group is None:
            initial = body["initial_group"]
            room.group = openmls.PublicGroup.observe(
                group_info=decode_base64(initial["group_info"]),
                ratchet_tree=decode_base64(initial["ratchet_tree"]),
            )
        group = room.group
        if openmls.inspect_message(bundle.message).epoch != group.epoch:
            code = UpdateResponseCode.WRONG_EPOCH
            return _response(UpdateRoomResponse(code=code, current_epoch=group.epoch), None)
        try:
            values = new_app_data(group.app_data(), group.app_data_updates(bundle.message))
            staged = group.stage_commit(bundle.message, new_app_data=values)
        except openmls.MlsError as error:
            code = UpdateResponseCode.NOT_ALLOWED
            return _response(UpdateRoomResponse(code=code, description=str(error)), None)
        room.group_info = group.rebuild_group_info(
            staged=staged, extensions=partial.group_info_extensions, signature=partial.signature
        )
        added = [client_from_uri(member.identity.decode()) for member in staged.added]
        for target, _ in added:
            if target not in room.members:
                self.append(room, target, "m.room.member", {"membership": "join"}, state_key=target)
        group.merge(staged)
        event_id = self.append(room, user_id, "m.mls.commit", {"message": encode_base64(bundle.message)})
        if bundle.welcome is not None:
            self._welcome(room, bundle, added, event_id)
        success = UpdateRoomResponse(code=UpdateResponseCode.SUCCESS, accepted_timestamp=NOW_MS)
        return _response(success, event_id)

    def _no_hub(self, room: Room, user_id: str, body: dict[str, Any]) -> httpx.Response:
        del room, user_id, body
        return httpx.Response(404, json={"errcode": "M_NOT_FOUND", "error": "not the hub"})

    def _propose(self, room: Room, user_id: str, bundle: HandshakeBundle) -> httpx.Response:
        group, messages = room.group, (bundle.message, *bundle.more_proposals)
        assert group is not None
        if openmls.inspect_message(bundle.message).epoch != group.epoch:
            code = UpdateResponseCode.WRONG_EPOCH
            return _response(UpdateRoomResponse(code=code, current_epoch=group.epoch), None)
        for message in messages:
            group.add_proposal(message)
        event_id = self.append(room, user_id, "m.mls.proposal", content_of(messages))
        return _response(
            UpdateRoomResponse(code=UpdateResponseCode.SUCCESS, accepted_timestamp=NOW_MS), event_id
        )

    def _welcome(
        self, room: Room, bundle: HandshakeBundle, added: Sequence[tuple[str, str]], event_id: str
    ) -> None:
        assert bundle.welcome is not None
        assert room.group is not None
        for user_id, device_id in added:
            self.position += 1
            content = {
                "algorithm": "m.mls.v1.welcome.dhkemx25519-aes128gcm-sha256-ed25519",
                "ciphertext": encode_base64(welcome_message(bundle.welcome)),
                "commit_event_id": event_id,
                "room_id": room.room_id,
                "ratchet_tree": encode_base64(room.group.export_ratchet_tree()),
            }
            event = {"type": "m.room.encrypted", "sender": user_id, "content": content}
            self.to_device.setdefault(client_uri(user_id, device_id), []).append((self.position, event))

    # --- claims ---

    def _keys(self, user_id: str, device_id: str, body: dict[str, Any]) -> dict[str, Any]:
        address = client_uri(user_id, device_id)
        stock = self.one_time.setdefault(address, {})
        for name, value in body.get("one_time_keys", {}).items():
            stock.setdefault(name, decode_base64(value["key"]))
        for name, value in body.get("fallback_keys", {}).items():
            self.fallback.setdefault(address, {})[name] = decode_base64(value["key"])
        return {"one_time_key_counts": {"mls": len(stock)}}

    def _key_material(self, room: Room, user_id: str, body: dict[str, Any]) -> httpx.Response:
        request = KeyMaterialRequest.decode(decode_base64(body["request"]))
        self.asked.append(request)
        target = user_id_from_uri(request.target_user)
        clients = []
        for address, stock in self.one_time.items():
            if client_from_uri(address)[0] == target and (stock or self.fallback.get(address)):
                package = (
                    stock.pop(next(iter(stock))) if stock else next(iter(self.fallback[address].values()))
                )
                clients.append(
                    ClientKeyMaterial(
                        status=KeyMaterialClientCode.SUCCESS, client_uri=address, key_package=package
                    )
                )
        code = KeyMaterialUserCode.SUCCESS if clients else KeyMaterialUserCode.USER_UNKNOWN
        answer = KeyMaterialResponse(user_status=code, user_uri=user_uri(target), clients=tuple(clients))
        return httpx.Response(200, json={"response": encode_base64(answer.encode())})

    def _info(self, room: Room, user_id: str, body: dict[str, Any]) -> httpx.Response:
        request = GroupInfoRequest.decode(decode_base64(body["request"]))
        assert room.group is not None
        uri = room_uri(room.room_id)
        tbe = GroupInfoRatchetTreeTBE(
            group_info=room.group_info,
            ratchet_tree=RatchetTreeOption.full(room.group.export_ratchet_tree()),
        )
        sealed = openmls.encrypt_with_label(
            ciphersuite=1,
            public_key=request.group_info_public_key,
            label=ENCRYPTION_LABEL,
            context=uri.encode(),
            plaintext=tbe.encode(),
        )
        tbs = GroupInfoResponseTBS(
            room_id=uri,
            status=GroupInfoCode.SUCCESS,
            cipher_suite=1,
            hub_sender=ExternalSender(
                signature_key=self.hub.public_key, credential=basic_credential(b"mimi://a.example")
            ),
            encrypted_groupinfo_and_tree=HPKECiphertext.decode(sealed),
        )
        answer = GroupInfoResponse(
            room_id=tbs.room_id,
            status=tbs.status,
            cipher_suite=tbs.cipher_suite,
            hub_sender=tbs.hub_sender,
            encrypted_groupinfo_and_tree=tbs.encrypted_groupinfo_and_tree,
            signature=self.hub.sign_with_label(label="GroupInfoResponseTBS", content=tbs.encode()),
        )
        return httpx.Response(200, json={"response": encode_base64(answer.encode())})


def _response(response: UpdateRoomResponse, event_id: str | None) -> httpx.Response:
    answer = {"response": encode_base64(response.encode())}
    if event_id is not None:
        answer["event_id"] = event_id
    return httpx.Response(200, json=answer)
