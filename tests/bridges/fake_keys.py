"""The part of a homeserver that keeps devices, their keys and what they send each other;
shapes as Synapse's.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

JsonObject = dict[str, Any]
Place = tuple[str, str]
ALGORITHM = "signed_curve25519"


class KeyServer:
    """``pushed`` is what an application service has still to be told; the flags say what the homeserver can
    do.
    """

    def __init__(self) -> None:
        self.devices: dict[Place, JsonObject] = {}
        self.one_time: dict[Place, dict[str, JsonObject]] = defaultdict(dict)
        self.fallback: dict[Place, dict[str, JsonObject]] = defaultdict(dict)
        self.identities: dict[str, JsonObject] = {}
        self.inboxes: dict[Place, list[JsonObject]] = defaultdict(list)
        # How many messages of an inbox were read and are no longer there.
        self.gone: dict[Place, int] = defaultdict(int)
        self.pushed: list[JsonObject] = []
        self.changed: set[str] = set()
        self.used_fallbacks: set[Place] = set()
        self.transactions: set[str] = set()
        self.failures: JsonObject = {}
        self.pushes_to_device = True
        self.pushes_counts = True

    def answer(self, user: str, device: str, method: str, parts: list[str], body: JsonObject) -> JsonObject:
        """What a request below ``/_matrix/client/v3`` is answered."""
        match (method, *parts):
            case ("POST", "keys", "upload"):
                return self._upload((user, device), body)
            case ("POST", "keys", "device_signing", "upload"):
                self.identities[user] = body
                return {}
            case ("POST", "keys", "query"):
                return self._query(body)
            case ("POST", "keys", "claim"):
                return self._claim(body)
            case ("PUT", "sendToDevice", kind, txn_id):
                if txn_id not in self.transactions:
                    self.transactions.add(txn_id)
                    self._send(user, kind, body["messages"])
                return {}
            case ("GET", "sync"):
                return self._sync((user, device), body)
        raise AssertionError((method, parts))

    def transaction(self) -> JsonObject:
        """What the next transaction brings beside events."""
        body: JsonObject = {"de.sorunome.msc2409.to_device": self.pushed[:100]}
        self.pushed = self.pushed[100:]
        if self.pushes_counts:
            counts: JsonObject = defaultdict(dict)
            unused: JsonObject = defaultdict(dict)
            for user, device in self.devices:
                counts[user][device] = {ALGORITHM: len(self.one_time[user, device])}
                kinds = [] if (user, device) in self.used_fallbacks else [ALGORITHM]
                unused[user][device] = kinds
            body["org.matrix.msc3202.device_one_time_keys_count"] = counts
            body["org.matrix.msc3202.device_unused_fallback_key_types"] = unused
            body["org.matrix.msc3202.device_lists"] = {"changed": sorted(self.changed), "left": []}
            self.changed.clear()
        return body

    def _upload(self, place: Place, body: JsonObject) -> JsonObject:
        if "device_keys" in body:
            self.devices[place] = body["device_keys"]
            self.changed.add(place[0])
        self.one_time[place].update(body.get("one_time_keys", {}))
        if body.get("fallback_keys"):
            self.fallback[place] = body["fallback_keys"]
            self.used_fallbacks.discard(place)
        return {"one_time_key_counts": {ALGORITHM: len(self.one_time[place])}}

    def _sync(self, place: Place, body: JsonObject) -> JsonObject:
        """Messages are there until somebody reads on; who asks with an empty body never reads twice."""
        inbox = self.inboxes[place]
        if not body:
            self.inboxes[place] = []
            return {"to_device": {"events": inbox}}
        read = int(body.get("since", "s0")[1:]) - self.gone[place]
        if read > 0:
            self.inboxes[place] = inbox = inbox[read:]
            self.gone[place] += read
        end = f"s{self.gone[place] + len(inbox)}"
        return {"next_batch": end, "to_device": {"events": list(inbox)}}

    def _query(self, body: JsonObject) -> JsonObject:
        users = body["device_keys"]
        found: JsonObject = {"device_keys": {}, "failures": self.failures}
        for user in users:
            own = {device: keys for (of, device), keys in self.devices.items() if of == user}
            found["device_keys"][user] = own
        for name in ("master", "self_signing"):
            found[f"{name}_keys"] = {
                user: self.identities[user][f"{name}_key"] for user in users if user in self.identities
            }
        return found

    def _claim(self, body: JsonObject) -> JsonObject:
        found: JsonObject = defaultdict(dict)
        for user, devices in body["one_time_keys"].items():
            for device in devices:
                place = (user, device)
                if self.one_time[place]:
                    name = next(iter(self.one_time[place]))
                    found[user][device] = {name: self.one_time[place].pop(name)}
                elif self.fallback[place]:
                    self.used_fallbacks.add(place)
                    found[user][device] = dict(self.fallback[place])
        return {"one_time_keys": found, "failures": {}}

    def _send(self, sender: str, kind: str, messages: JsonObject) -> None:
        for user, devices in messages.items():
            for device, content in devices.items():
                message = {"type": kind, "sender": sender, "content": content}
                self.inboxes[user, device].append(message)
                if "_lin_" in user and self.pushes_to_device:
                    self.pushed.append({**message, "to_user_id": user, "to_device_id": device})
