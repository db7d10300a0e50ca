"""Key packages of other Linearized Matrix servers' devices, claimed there, and the Welcomes that follow.

Draft, One Time Key Claiming and Updating Group State. Which device a KeyPackageRef stands for only its own
server knows, unless we claimed it for that device; then the Welcome goes to it by a to-device message, as the
draft has it, and needs no MIMI.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import openmls
import orjson

from linearized.exceptions import IdentifierError, InvalidInput
from linearized.mimi.mls_framing import welcome_ciphersuite
from linearized.protocol.base64 import decode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain
from linearized.room.algorithms import key_package_algorithm
from linearized.room.credentials import ClientIdentity, client_of
from linearized.server.endpoints import UNSTABLE
from linearized.server.exchange import OutboundError
from linearized.server.node import Node
from linearized.server.providers.key_material import ROUTE_LIFETIME_MS
from linearized.server.telemetry import get_log
from linearized.server.welcomes import local_welcome
from linearized.store.base import Reply, Store, ToDeviceRow

# Where it is remembered which device a claimed package is for: key the KeyPackageRef, value a JSON list of
# user and device.
CLAIMED: Final = "claimed key package"

log = get_log(part="claims")


Claimed = tuple[ClientIdentity, bytes, bytes]
"""A device, and the KeyPackageRef and the bytes of a key package of it."""


async def claim_at(
    node: Node, server: str, devices: Sequence[ClientIdentity], suites: Sequence[int]
) -> list[Claimed]:
    """Claim a key package for each device at their server; those it gave.

    A package that is not of the device it was given for is left out.

    Args:
        suites: cipher suites, each of which rooms can have, the preferred one first. A device is asked for
            one of the next when it has none of this: a claim names one algorithm for each device.

    Raises:
        OutboundError: the server refused or did not answer.
    """
    found: list[Claimed] = []
    left = list(devices)
    for suite in suites:
        try:
            given = await _claim(node, server, left, suite) if left else []
        except OutboundError:
            if not found:
                raise
            break  # what was given is used up, and must not be lost
        found += given
        served = {device for device, *_ in given}
        left = [device for device in left if device not in served]
    return found


async def _claim(node: Node, server: str, devices: Sequence[ClientIdentity], suite: int) -> list[Claimed]:
    algorithm = key_package_algorithm(suite)
    wanted: dict[str, dict[str, str]] = {}
    for device in devices:
        wanted.setdefault(device.user_id, {})[device.device_id] = algorithm
    answer = await node.federation.request(
        server, "POST", f"{UNSTABLE}/user/keys/claim", json={"one_time_keys": wanted}
    )
    found: list[Claimed] = []
    for device in devices:
        package = _given(answer, device, algorithm)
        reference = _reference(package, device, suite, node.clock() // 1000) if package is not None else None
        if package is None or reference is None:
            continue
        await node.store.put_key_package_routes({reference: server}, node.clock() + ROUTE_LIFETIME_MS)
        await node.store.put_reply(
            Reply(
                scope=CLAIMED,
                key=encode_base64url(reference),
                value=orjson.dumps([device.user_id, device.device_id]).decode(),
            )
        )
        found.append((device, reference, package))
    return found


def _given(answer: JsonObject, device: ClientIdentity, algorithm: str) -> bytes | None:
    value: object = answer
    for step in ("one_time_keys", device.user_id, device.device_id, algorithm):
        value = value.get(step) if isinstance(value, dict) else None
    try:
        return decode_base64(value) if isinstance(value, str) else None
    except InvalidInput:
        return None


def _reference(package: bytes, device: ClientIdentity, suite: int, now: int) -> bytes | None:
    """The KeyPackageRef of a valid package of a device and a cipher suite."""
    try:
        info = openmls.inspect_key_package(package, now=now)
        owner = client_of(info.credential, signature_key=info.signature_key)
    except (openmls.MlsError, IdentifierError) as error:
        log.info("claimed_package_refused", exception=type(error).__name__)
        return None
    return info.reference if owner == device and info.ciphersuite == suite else None


def welcome_units(store: Store, room_id: str, row: ToDeviceRow, own_name: str) -> list[JsonObject] | None:
    """A Welcome that waits for a server, as to-device messages for the devices it is for.

    None if it cannot go that way: not all of its packages were claimed for a device, or it was not made by a
    user of ours (a server takes to-device messages of the sender's server only).
    """
    if user_domain(row.sender) != own_name:
        return None
    content: Mapping[str, str] = orjson.loads(row.content)
    provider = row.user_id.partition(":")[2]
    welcome = decode_base64(content["welcome"])
    references = openmls.welcome_references(welcome)
    keys = [
        encode_base64url(ref)
        for ref in references
        if store.key_package_route(ref, room_id=room_id) == provider
    ]
    devices = store.replies(CLAIMED, keys)
    entries = store.entries(room_id, after=int(content["seq"]) - 1, limit=1)
    if not entries or not keys or any(key not in devices for key in keys):
        return None
    units: list[JsonObject] = []
    for user_id, device_id in (orjson.loads(devices[key]) for key in keys):
        message = local_welcome(
            user_id,
            device_id,
            room_id=room_id,
            sender=row.sender,
            welcome=welcome,
            tree=decode_base64(content["ratchet_tree"]),
            commit_id=entries[0].event_id,
            ciphersuite=welcome_ciphersuite(welcome),
        )
        said = orjson.loads(message.content)
        units.append(direct_to_device(row.sender, user_id, device_id, message.type, said))
    return units


def direct_to_device(
    sender: str, target: str, device_id: str, message_type: str, message: JsonObject
) -> JsonObject:
    """An ``m.direct_to_device`` unit, "one per recipient device and payload" (draft, To-Device Messaging)."""
    return {
        "type": "m.direct_to_device",
        "sender": sender,
        "content": {
            "target": target,
            "target_device": device_id,
            "message_type": message_type,
            "message": message,
        },
    }
