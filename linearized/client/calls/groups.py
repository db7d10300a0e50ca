"""MLS groups: key packages, handshakes, joining codes; and imported history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from linearized.client.answers import (
    ImportEvent,
    ImportResult,
    decode_binary,
    encode_binary,
    json_object,
    json_objects,
    json_string,
    json_strings,
    key_objects,
    path_part,
)
from linearized.client.calls.base import Calls
from linearized.client.errors import ApiError
from linearized.client.paths import MLS, V3
from linearized.client.transport import JsonObject

# The most events an import page may hold (the server's limit).
MAX_IMPORT_PAGE: Final = 50
FRANKING_CAPABILITY: Final = "dev.linearized.franking"
_NOT_FOUND: Final = 404


class GroupCalls(Calls):
    """The part of ``ProviderApi`` for these."""

    async def franking_agents(self) -> dict[int, bytes]:
        """The provider's franking agents (encoded FrankingAgentData) by cipher suite, from
        ``GET /capabilities``; none if it franks nothing.
        """
        capabilities = json_object(await self._get("/capabilities"), "capabilities")
        offered = capabilities.get(FRANKING_CAPABILITY)
        if not isinstance(offered, dict):
            return {}
        agents = json_object(offered, "agents")
        return {int(suite): decode_binary(agents, suite) for suite in agents if suite.isdecimal()}

    async def keys_upload(
        self, *, one_time: Mapping[str, bytes], fallback: Mapping[str, bytes] | None = None
    ) -> dict[str, int]:
        """``POST /keys/upload`` of KeyPackages by key ID (MSC4244); returns the counts by algorithm.

        Repeating it is harmless: the key ID names the package.
        """
        body: JsonObject = {"one_time_keys": key_objects(one_time)}
        if fallback:
            body["fallback_keys"] = key_objects(fallback)
        answer = await self._post("/keys/upload", body, idempotent=True)
        counts = json_object(answer, "one_time_key_counts")
        return {name: count for name, count in counts.items() if isinstance(count, int)}

    async def update(
        self, room_id: str, bundle: bytes, *, initial_group: tuple[bytes, bytes] | None = None
    ) -> tuple[bytes, str | None]:
        """Submit a ``HandshakeBundle``; returns the ``UpdateRoomResponse`` and the event ID on success.

        ``initial_group`` is (GroupInfo, ratchet tree) of epoch 0, with a room's first commit. The request
        is repeated
        after a lost answer: if it had been accepted, the repetition is answered ``wrongEpoch``.
        """
        body: JsonObject = {"bundle": encode_binary(bundle)}
        if initial_group is not None:
            group_info, tree = initial_group
            body["initial_group"] = {
                "group_info": encode_binary(group_info),
                "ratchet_tree": encode_binary(tree),
            }
        answer = await self._mls(room_id, "mls/update", body, idempotent=True)
        event_id = answer.get("event_id")
        return decode_binary(answer, "response"), event_id if isinstance(event_id, str) else None

    async def key_material(self, room_id: str, request: bytes) -> bytes:
        """Exchange a ``KeyMaterialRequest`` for a ``KeyMaterialResponse``; every call claims packages."""
        return await self._exchange(room_id, "mls/key_material", request, idempotent=False)

    async def group_info(self, room_id: str, request: bytes, *, via: Sequence[str] = ()) -> bytes:
        """Exchange a ``GroupInfoRequest`` for a ``GroupInfoResponse``.

        Args:
            via: servers in the room, to be asked where it is if the one that its ID names is gone; for who
                joins by a code.
        """
        body: JsonObject = {"request": encode_binary(request)}
        if via:
            body["via"] = list(via)
        answer = await self._mls(room_id, "mls/group_info", body, idempotent=True)
        return decode_binary(answer, "response")

    async def hub_sender(self, room_id: str) -> tuple[bytes, bytes] | None:
        """The external sender that stands for the room's hub in its group: raw public key, and the content of
        its basic credential. None if our provider is not the hub.
        """
        try:
            answer = await self._transport.json(
                "GET", f"{MLS}/rooms/{path_part(room_id)}/mls/hub_sender", idempotent=True
            )
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return None
        return decode_binary(answer, "signature_key"), decode_binary(answer, "identity")

    async def create_join_code(self, room_id: str, *, uses: int, lifetime_ms: int) -> str:
        """``POST rooms/{room}/join_codes``: a code that lets ``uses`` users in; only at the hub. A
        lost answer leaves a code that nobody knows.
        """
        body: JsonObject = {"uses": uses, "lifetime_ms": lifetime_ms}
        return json_string(await self._mls(room_id, "join_codes", body, idempotent=False), "code")

    async def join_codes(self, room_id: str) -> list[JsonObject]:
        """``GET rooms/{room}/join_codes``: ``id``, ``creator``, ``uses_left`` and ``expires_ts`` of each."""
        path = f"{MLS}/rooms/{path_part(room_id)}/join_codes"
        answer = await self._transport.json("GET", path, idempotent=True)
        return json_objects(answer.get("codes"))

    async def revoke_join_code(self, room_id: str, code_id: str) -> None:
        """``DELETE rooms/{room}/join_codes/{id}``; a repetition is a 404."""
        path = f"{MLS}/rooms/{path_part(room_id)}/join_codes/{path_part(code_id)}"
        await self._transport.json("DELETE", path, idempotent=False)

    async def import_events(self, room_id: str, events: Sequence[ImportEvent]) -> ImportResult:
        """Append a bridged room's past, in order, at most ``MAX_IMPORT_PAGE`` at once; repeating is
        harmless.
        """
        body = {"events": [event.to_json() for event in events]}
        answer = await self._mls(room_id, "import", body, idempotent=True)
        return ImportResult(
            event_ids=json_strings(json_object(answer, "event_ids")),
            failed=json_strings(answer.get("failed", {})),
        )

    async def send_to_device(
        self, event_type: str, messages: Mapping[str, Mapping[str, JsonObject]], *, txn_id: str
    ) -> None:
        """``PUT /sendToDevice/{type}/{txn}`` of contents by user ID and device ID (``*``: all of the
        user's); the same ``txn_id`` never sends twice.
        """
        path = f"{V3}/sendToDevice/{path_part(event_type)}/{path_part(txn_id)}"
        body: JsonObject = {"messages": {user: dict(devices) for user, devices in messages.items()}}
        await self._transport.json("PUT", path, body=body, idempotent=True)
