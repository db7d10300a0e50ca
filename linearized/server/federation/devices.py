"""Devices in Linearized Matrix: what they say of themselves, messages to them, their key packages.

Draft, MLS transport.
"""

from __future__ import annotations

from typing import Any

import orjson

from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_user_id, user_domain
from linearized.room.algorithms import ciphersuite_of_key_package
from linearized.server import device_lists
from linearized.server.consent_rules import is_required
from linearized.server.federation.calls import Call
from linearized.server.http import HttpError, Response, json_response
from linearized.server.node import Node
from linearized.server.pseudonyms import may_use
from linearized.server.telemetry import get_log
from linearized.store.base import NewToDevice

MAX_CLAIMS = 200  # key packages in one request: the devices of a few dozen users
# What one server may have waiting for one device: months of Welcomes for a phone that is off, and no more
# than a disk has for many. Each server has its own share, so that none can take the others' place.
MAX_WAITING = 1000
MAX_WAITING_BYTES = 16 * 1024 * 1024
MAX_TYPE = 255  # characters of a message's type, as of an event's

log = get_log(part="devices")


async def device(call: Call) -> Response:
    """``GET /user/{userId}/device/{deviceId}``: what a device of ours says of itself, as it signed it.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` if the user is not ours, or has no such device, or it says nothing.
    """
    user_id, device_id = call.param("user_id"), call.param("device_id")
    found = call.node.store.device_objects(user_id).get(device_id)
    # "If the user ID does not belong the receiving server, a 404 Not Found …. The same applies if the user ID
    # does not exist, or the user does not have the device ID requested."
    if found is None or not _has_device(call.node, user_id, device_id):
        raise HttpError(404, "M_NOT_FOUND", "There is no such device")
    return Response(body=found)


async def receive(node: Node, edu: JsonObject, origin: str) -> None:
    """Take an ephemeral unit; of a type that is not the draft's it is dropped."""
    if edu.get("type") == device_lists.UPDATE:
        await device_lists.receive(node, edu, origin)
    else:
        await deliver(node, edu, origin)


async def deliver(node: Node, edu: JsonObject, origin: str) -> None:
    """Put a to-device message where its device will find it; anything else is dropped."""
    content = edu.get("content")
    sender = edu.get("sender")
    if edu.get("type") != "m.direct_to_device" or not isinstance(content, dict) or not is_user_id(sender):
        return
    target, device, kind = content.get("target"), content.get("target_device"), content.get("message_type")
    message = content.get("message")
    # "This EDU MUST be sent to the server denoted by the target user ID. If the target user doesn't exist or
    # doesn't have a device with the ID described, the receiving server drops/ignores the EDU."
    if user_domain(str(sender)) != origin or not isinstance(message, dict) or not isinstance(kind, str):
        log.info("edu_dropped", origin=origin)
        return
    if len(kind) > MAX_TYPE or not _has_device(node, target, device):
        return
    encoded = orjson.dumps(message)
    count, size = node.store.to_device_from(str(target), str(device), origin)
    if count >= MAX_WAITING or size + len(encoded) > MAX_WAITING_BYTES:
        # Units are answered for all alike ("failed_pdus" has no place for them), and a transaction that
        # failed for one of them would come again for ever.
        log.warning("to_device_full", origin=origin, user_id=target, device_id=device)
        return
    await node.store.put_to_device(
        [
            NewToDevice(
                user_id=str(target),
                device_id=str(device),
                type=kind,
                sender=str(sender),
                content=encoded,
            )
        ]
    )
    node.notifier.users_changed([str(target)])


def _has_device(node: Node, user_id: object, device_id: object) -> bool:
    return (
        isinstance(user_id, str)
        and is_user_id(user_id)
        and user_domain(user_id) in node.served_domains
        and any(device.device_id == device_id for device in node.store.devices(user_id))
    )


async def claim_keys(call: Call) -> Response:
    """``POST /user/keys/claim``: one key package for each device asked for, none twice.

    "Any user IDs which don't belong to the receiving server, or which don't exist, are ignored. The same
    applies for device IDs for which the user doesn't have."
    """
    found: dict[str, dict[str, Any]] = {}
    for user_id, device_id, algorithm, suite in _claims(call.body):
        # This request does not say who will use the package, so there is nobody to have been granted it.
        if not _has_device(call.node, user_id, device_id) or is_required(call.node, user_id, call.origin):
            continue
        # Nor does it say for which room.
        if not await may_use(call.node, user_id, None):
            continue
        package = await call.node.store.claim_key_package(
            user_id=user_id, device_id=device_id, ciphersuites=[suite], now_ms=call.node.clock()
        )
        if package is not None:
            claimed = {algorithm: encode_base64(package.key_package)}
            found.setdefault(user_id, {})[device_id] = claimed
    return json_response({"one_time_keys": found})


def _claims(body: JsonObject) -> list[tuple[str, str, str, int]]:
    """User, device, algorithm and its cipher suite; what asks for another algorithm is ignored."""
    users = body.get("one_time_keys")
    if not isinstance(users, dict) or not all(isinstance(devices, dict) for devices in users.values()):
        raise HttpError(400, "M_BAD_JSON", "one_time_keys maps user IDs to device IDs to algorithms")
    claims = [
        (user_id, device_id, algorithm, suite)
        for user_id, devices in users.items()
        for device_id, algorithm in devices.items()
        if isinstance(algorithm, str) and (suite := ciphersuite_of_key_package(algorithm)) is not None
    ]
    if len(claims) > MAX_CLAIMS:
        raise HttpError(400, "M_BAD_JSON", f"More than {MAX_CLAIMS} keys are claimed at once")
    return claims
