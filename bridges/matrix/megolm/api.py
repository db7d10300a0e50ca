"""The homeserver's endpoints for keys, as one device of ours (Matrix v1.16, "End-to-End Encryption").

Acting as a device takes ``?device_id=`` beside ``?user_id=`` (MSC3202, "masquerading"). Raises as
``linearized.client``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from bridges.matrix.homeserver import make_device
from bridges.matrix.megolm.accounts import SIGNED_KEY, OwnDevice
from bridges.matrix.megolm.devices import Device
from bridges.matrix.megolm.signing import JsonObject
from linearized.client.transport import Transport

_V3 = "/_matrix/client/v3"
# How long the homeserver may ask others for their keys; the rest of the request's deadline is ours.
FEDERATION_TIMEOUT_MS = 10_000
# A filter that leaves everything out but to-device messages, which are always there.
_ONLY_TO_DEVICE = '{"room":{"rooms":[]},"presence":{"types":[]},"account_data":{"types":[]}}'


class KeysApi:
    """Requests about keys, as a device of ours."""

    def __init__(self, base_url: str, *, token: str, http: httpx.AsyncClient, own: OwnDevice) -> None:
        as_user = {"user_id": own.user_id}
        self._own = own
        self._user = Transport(base_url=base_url, token=token, http=http, query=as_user)
        self._device = Transport(
            base_url=base_url, token=token, http=http, query={**as_user, "device_id": own.device_id}
        )

    async def make_device(self) -> None:
        """Make the device exist."""
        await make_device(self._user, self._own.user_id, self._own.device_id)

    async def upload(self, body: Mapping[str, Any]) -> int:
        """Upload keys; how many one-time keys the homeserver has now."""
        answer = await self._json("POST", "keys/upload", body)
        counts = answer.get("one_time_key_counts")
        count = counts.get(SIGNED_KEY) if isinstance(counts, dict) else None
        return count if isinstance(count, int) else 0

    async def upload_identity(self, body: Mapping[str, Any]) -> None:
        """Upload a cross-signing identity; the same again changes nothing."""
        await self._json("POST", "keys/device_signing/upload", body)

    async def query(self, users: Iterable[str]) -> JsonObject:
        """The answer of ``/keys/query`` for every device of these users."""
        wanted: dict[str, list[str]] = {user: [] for user in users}
        body = {"device_keys": wanted, "timeout": FEDERATION_TIMEOUT_MS}
        return await self._json("POST", "keys/query", body)

    async def claim(self, devices: Iterable[Device]) -> JsonObject:
        """The answer of ``/keys/claim`` for one key of each device."""
        wanted: dict[str, dict[str, str]] = {}
        for device in devices:
            wanted.setdefault(device.user_id, {})[device.device_id] = SIGNED_KEY
        body = {"one_time_keys": wanted, "timeout": FEDERATION_TIMEOUT_MS}
        return await self._json("POST", "keys/claim", body)

    async def send_to_device(
        self, event_type: str, messages: Mapping[str, Mapping[str, Any]], *, txn_id: str
    ) -> None:
        """Send ``messages[user][device]``, each a content; the same ``txn_id`` sends once."""
        path = f"{_V3}/sendToDevice/{_part(event_type)}/{_part(txn_id)}"
        await self._device.json("PUT", path, body={"messages": messages}, idempotent=True)

    async def inbox(self, since: str | None) -> tuple[list[JsonObject], str]:
        """To-device messages that wait for this device, and where to read on; reading from there deletes
        these.

        For what the homeserver did not push: what it had queued while it saw us down, it drops.
        """
        query = {"timeout": "0", "filter": _ONLY_TO_DEVICE, "set_presence": "offline"}
        if since is not None:
            query["since"] = since
        answer = await self._device.json("GET", f"{_V3}/sync", query=query, idempotent=True)
        waiting = answer.get("to_device")
        events = waiting.get("events") if isinstance(waiting, dict) else None
        found = [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []
        return found, str(answer.get("next_batch", ""))

    async def _json(self, method: str, path: str, body: Mapping[str, Any]) -> JsonObject:
        # Each may be repeated: uploading sets, querying asks, and a key claimed twice is one key less.
        return await self._device.json(method, f"{_V3}/{path}", body=body, idempotent=True)


def _part(value: str) -> str:
    return quote(value, safe="")
