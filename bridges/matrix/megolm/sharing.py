"""Saying something in an encrypted room: who may read it gets the key first, then it is encrypted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
import trio

from bridges.matrix.megolm.accounts import MEGOLM, OwnDevice
from bridges.matrix.megolm.devices import Device, DeviceLists
from bridges.matrix.megolm.errors import EncryptionError
from bridges.matrix.megolm.olm import Olm, claimed_key
from bridges.matrix.megolm.outbound import GroupEncryption, Outbound
from bridges.matrix.megolm.publishing import Publishing
from bridges.matrix.megolm.rooms import RoomSettings
from bridges.matrix.megolm.signing import JsonObject

# Devices given a key by one request: each is a kilobyte, and homeservers write them one by one.
SHARE_CHUNK = 50
WITHHELD = "m.room_key.withheld"
_UNIQUE_BYTES = 16

log = structlog.get_logger(__name__)


class Sharing:
    """Encrypts for rooms. ``members`` gives the users of a room for whose devices it is."""

    def __init__(
        self,
        *,
        publishing: Publishing,
        lists: DeviceLists,
        olm: Olm,
        encryption: GroupEncryption,
        members: Callable[[str], Awaitable[Iterable[str]]],
        is_ours: Callable[[str], bool],
        ids: Callable[[int], str],
    ) -> None:
        self._publishing = publishing
        self._lists = lists
        self._olm = olm
        self._encryption = encryption
        self._members = members
        self._is_ours = is_ours
        self._ids = ids
        # A session's key is given in one place at a time, and nothing is said with it meanwhile.
        self._locks: dict[tuple[str, str], trio.Lock] = {}

    def forget(self, room_id: str) -> None:
        """Nothing is said in the room any more."""
        for place in [place for place in self._locks if place[0] == room_id]:
            del self._locks[place]

    async def seal(
        self, room_id: str, user_id: str, settings: RoomSettings, event_type: str, content: Mapping[str, Any]
    ) -> JsonObject:
        """The content of an ``m.room.encrypted`` event that says this as a user of ours.

        Raises:
            ClientError: the homeserver is away; nothing was said, and calling it again is right.
        """
        async with self._locks.setdefault((room_id, user_id), trio.Lock()):
            own = await self._publishing.device(user_id)
            # Our own users need no key: what they do, the bridge did.
            people = [user for user in await self._members(room_id) if not self._is_ours(user)]
            await self._publishing.refresh(people, own)
            recipients = [device for user in people for device in self._lists.of(user)]
            outbound = self._encryption.session(room_id, own, settings, recipients)
            missing = self._encryption.without_key(outbound, recipients)
            for start in range(0, len(missing), SHARE_CHUNK):
                await self._share(outbound, missing[start : start + SHARE_CHUNK])
            return self._encryption.encrypt(outbound, event_type, content)

    async def _share(self, outbound: Outbound, devices: Sequence[Device]) -> None:
        own = outbound.own
        unreachable = await self.begin_sessions(own, devices)
        reachable = [device for device in devices if device not in unreachable]
        await self.send(own, reachable, "m.room_key", outbound.room_key)
        if unreachable:
            await self._withhold(outbound, unreachable)
        self._encryption.settle(outbound, reachable, given=True)
        self._encryption.settle(outbound, unreachable, given=False)

    async def begin_sessions(
        self, own: OwnDevice, devices: Sequence[Device], *, anew: bool = False
    ) -> list[Device]:
        """Have an Olm session with each device (``anew``: a fresh one); gives those with which there can be
        none.

        Raises:
            ClientError: the homeserver is away.
        """
        without = [device for device in devices if anew or not self._olm.has_session(own.user_id, device)]
        if not without:
            return []
        answer = await self._publishing.api(own).claim(without)
        unreachable = []
        for device in without:
            key = claimed_key(answer, device)
            try:
                if key is None:
                    raise EncryptionError("it has no key left")
                self._olm.begin(own, device, key)
            except EncryptionError as error:
                log.warning(
                    "no session", user_id=device.user_id, device_id=device.device_id, reason=str(error)
                )
                unreachable.append(device)
        return unreachable

    async def send(
        self, own: OwnDevice, devices: Iterable[Device], event_type: str, content: Mapping[str, Any]
    ) -> None:
        """Send something encrypted to devices with which there are sessions.

        Raises:
            ClientError: the homeserver is away.
        """
        messages: dict[str, dict[str, JsonObject]] = {}
        for device in devices:
            sealed = self._olm.encrypt(own, device, event_type, content)
            messages.setdefault(device.user_id, {})[device.device_id] = sealed
        if messages:
            txn_id = self._ids(_UNIQUE_BYTES)
            await self._publishing.api(own).send_to_device("m.room.encrypted", messages, txn_id=txn_id)

    async def _withhold(self, outbound: Outbound, devices: Iterable[Device]) -> None:
        """Say that a key will not come, and why: "m.no_olm"."""
        key = outbound.room_key
        notice = {
            "algorithm": MEGOLM,
            "room_id": key["room_id"],
            "session_id": key["session_id"],
            "sender_key": outbound.own.curve25519,
            "code": "m.no_olm",
            "reason": "Unable to establish a secure channel.",
        }
        messages: dict[str, dict[str, JsonObject]] = {}
        for device in devices:
            messages.setdefault(device.user_id, {})[device.device_id] = notice
        txn_id = self._ids(_UNIQUE_BYTES)
        await self._publishing.api(outbound.own).send_to_device(WITHHELD, messages, txn_id=txn_id)
