"""A device's stock of key packages at its provider: each lets one group add it while it is offline."""

from __future__ import annotations

import openmls

from linearized.client.api import ProviderApi
from linearized.client.device import KEY_PACKAGE_LIFETIME, MlsDevice
from linearized.client.transport import JsonObject
from linearized.protocol.base64 import encode_base64url

# Key packages kept on the server: more groups than this rarely add one device before it is back.
KEY_PACKAGE_TARGET = 20
# Below this many the stock is filled up again; in between, every join would cost an upload.
KEY_PACKAGE_MINIMUM = 10


class KeyPackageStock:
    """Fills the stock up, and replaces it.

    Args:
        target: how many there are to be.
    """

    def __init__(self, api: ProviderApi, device: MlsDevice, target: int) -> None:
        self._api = api
        self._device = device
        self._target = target

    def heard(self, answer: JsonObject) -> bool:
        """Take note of what a sync answer says of the stock; whether there are too few, or none of last
        resort any more.
        """
        counts = answer.get("device_one_time_keys_count")
        low = isinstance(counts, dict) and counts.get("mls", self._target) < min(
            KEY_PACKAGE_MINIMUM, self._target
        )
        fallbacks = answer.get("device_unused_fallback_key_types")
        state = self._device.state
        if state.fallback_uploaded and isinstance(fallbacks, list) and "mls" not in fallbacks:
            state.fallback_uploaded = False  # it has expired
            low = True
        return low

    async def fill(self) -> None:
        """Bring the stock up to its target, with one package of last resort if there is none yet."""
        counts = await self._api.keys_upload(one_time={})
        missing = self._target - counts.get("mls", 0)
        fallback = {} if self._device.state.fallback_uploaded else self._make(1, last_resort=True)
        one_time = self._make(max(0, missing), last_resort=False)
        if one_time or fallback:
            await self._upload(one_time, fallback)

    async def replace(self) -> None:
        """Bring a whole stock, in the place of one with other certificates, which the provider withdraws."""
        await self._upload(self._make(self._target, last_resort=False), self._make(1, last_resort=True))

    async def _upload(self, one_time: dict[str, bytes], fallback: dict[str, bytes]) -> None:
        # The private keys are on disk before anyone can use the public ones.
        self._device.save()
        await self._api.keys_upload(one_time=one_time, fallback=fallback)
        self._device.state.fallback_uploaded = True
        self._device.save()

    def _make(self, count: int, *, last_resort: bool) -> dict[str, bytes]:
        now = self._api.clock() // 1000
        packages: dict[str, bytes] = {}
        for _ in range(count):
            package = self._device.client.key_package(
                now=now,
                lifetime=KEY_PACKAGE_LIFETIME,
                last_resort=last_resort,
                leaf_app_data=self._device.leaf_app_data,
            )
            reference = openmls.inspect_key_package(package, now=now).reference
            packages[encode_base64url(reference)] = package
        return packages


def is_last_resort(package: bytes, *, now: int) -> bool:
    """Whether a key package is one that is given out when there is no other: its owner's stock is empty.

    Args:
        now: seconds since the Unix epoch.

    Raises:
        openmls.MlsError: it is none, or does not hold now.
    """
    return openmls.inspect_key_package(package, now=now).last_resort
