"""Key packages over Matrix's key endpoints (MSC4244), and device lists.

This server keeps MLS key packages and nothing of Olm: uploads of other algorithms are refused rather than
dropped.
"""

from __future__ import annotations

from typing import Final

import openmls
import orjson

from linearized.exceptions import CertificateError, IdentifierError, InvalidInput
from linearized.mls import CIPHERSUITES, MlsError
from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import client_uri, user_domain
from linearized.room.admission import ALGORITHM
from linearized.room.credentials import ClientIdentity, client_of, pseudonym_of
from linearized.server import claims, consent_rules, device_lists, device_objects, pseudonyms, remote_devices
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import (
    bad_json,
    binary,
    integer,
    invalid,
    optional_object,
    required_object,
    text,
    texts,
)
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.node import Node
from linearized.server.outbound import OutboundError
from linearized.server.stale_packages import stale_packages
from linearized.store.base import DeviceRow, KeyPackageRow, UserRow

_MS_PER_SECOND: Final = 1000
MLS: Final = "mls"  # the key algorithm of MSC4244
# A device that is added to a room a minute uses these up in an hour; each takes about a kilobyte.
MAX_PACKAGES_PER_UPLOAD: Final = 100
MAX_PACKAGES_PER_DEVICE: Final = 200
# Claims and queries of one request; each claim is one transaction.
MAX_DEVICES_PER_REQUEST: Final = 100
# How long a query may ask other servers for: "10 seconds is the recommended default", and a client that asked
# for more is not kept waiting for longer than for a sync.
DEFAULT_QUERY_MS: Final = 10_000
MAX_QUERY_MS: Final = 55_000


def key_counts(context: Context, caller: Caller) -> dict[str, int]:
    """How many key packages of the device are left to claim."""
    if caller.device_id is None:
        return {}
    return {MLS: sum(context.node.store.key_package_counts(caller.user_id, caller.device_id).values())}


def unused_fallback_types(context: Context, caller: Caller) -> list[str]:
    """``["mls"]`` while the device has a last-resort package that has not expired: using it does not use it
    up.

    Known of packages uploaded since this server started; a device told otherwise uploads another one, which
    is harmless.
    """
    until = context.fallbacks.get((caller.user_id, caller.device_id or ""), 0)
    return [MLS] if until * _MS_PER_SECOND > context.node.clock() else []


async def upload(context: Context, request: Request, caller: Caller) -> Response:
    """``POST keys/upload``: each package must be valid and bear the device's own client URI."""
    device_id = caller.require_device()
    body = await request.json()
    device_keys = _device_object(body, caller, device_id)
    node = context.node
    packages = [
        *_packages(node, body, "one_time_keys", caller, device_id, last_resort=False),
        *_packages(node, body, "fallback_keys", caller, device_id, last_resort=True),
    ]
    if len(packages) > MAX_PACKAGES_PER_UPLOAD:
        raise invalid(f"More than {MAX_PACKAGES_PER_UPLOAD} key packages")
    withdrawn = stale_packages(node.store, packages)
    new = sum(not package.last_resort for package in packages)
    if key_counts(context, caller)[MLS] + new - len(withdrawn) > MAX_PACKAGES_PER_DEVICE:
        raise HttpError(400, "M_LIMIT_EXCEEDED", f"A device may keep {MAX_PACKAGES_PER_DEVICE} key packages")
    if device_keys is not None:
        await _ensure_device(context, caller, device_id)
        await context.node.store.put_device_object(caller.user_id, device_id, orjson.dumps(device_keys))
        await device_lists.announce(context.node, caller.user_id, changed=[device_keys])
    if packages:
        await _ensure_device(context, caller, device_id)
        await context.node.store.put_key_packages(packages, withdrawn=withdrawn)
        for package in packages:
            if package.last_resort:
                context.remember_fallback(caller.user_id, device_id, package.not_after)
    return json_response({"one_time_key_counts": key_counts(context, caller)})


def _device_object(body: JsonObject, caller: Caller, device_id: str) -> JsonObject | None:
    """The device object of an upload, checked; None if there is none. Olm's has no MLS credential."""
    given = optional_object(body, "device_keys")
    if not given:
        return None
    try:
        return device_objects.checked(given, user_id=caller.user_id, device_id=device_id)
    except InvalidInput as error:
        raise invalid(f"device_keys: this server keeps MLS devices only: {error}") from error


def _client_uri(info: openmls.KeyPackageInfo, user_id: str, device_id: str) -> str | None:
    """What a device's key package is listed under; None if it is another's, or its name is in a form that
    other providers do not read.
    """
    try:
        pseudonym = pseudonym_of(info.credential)
        if client_of(info.credential, signature_key=info.signature_key) != ClientIdentity(user_id, device_id):
            return None
    except IdentifierError:  # it names nobody
        return None
    if pseudonym is not None:
        return pseudonym.client_pseudonym
    plain = client_uri(user_id, device_id)
    return plain if info.certificates or info.identity == plain.encode() else None


def _packages(
    node: Node, body: JsonObject, member: str, caller: Caller, device_id: str, *, last_resort: bool
) -> list[KeyPackageRow]:
    now = node.clock() // _MS_PER_SECOND
    found: list[KeyPackageRow] = []
    for name, value in optional_object(body, member).items():
        algorithm, _, key_id = name.partition(":")
        if algorithm != MLS or not key_id:
            raise invalid(f"{member}: {name} is not an MLS key")
        if not isinstance(value, dict):
            raise bad_json(f"{member}: {name} must be an object")
        key_package = binary(value, "key")
        try:
            info = openmls.inspect_key_package(key_package, now=now)
        except MlsError as error:
            raise invalid(f"{member}: {name}: {error}") from error
        if info.ciphersuite not in CIPHERSUITES.values():
            raise invalid(f"{member}: {name}: no room here uses ciphersuite {info.ciphersuite:#06x}")
        client = _client_uri(info, caller.user_id, device_id)
        if client is None:
            expected = client_uri(caller.user_id, device_id)
            raise invalid(f"{member}: {name}: the package's identity is not {expected}")
        try:
            node.require_held(info.credential)  # else nobody could use it
        except CertificateError as error:
            raise invalid(f"{member}: {name}: {error}") from error
        if info.last_resort is not last_resort:
            kind = "a last-resort" if info.last_resort else "no last-resort"
            raise invalid(f"{member}: {name} is {kind} package")
        found.append(
            KeyPackageRow(
                reference=info.reference,
                user_id=caller.user_id,
                device_id=device_id,
                client_uri=client,
                key_package=key_package,
                ciphersuite=info.ciphersuite,
                last_resort=info.last_resort,
                not_after=info.not_after,
            )
        )
    return found


async def _ensure_device(context: Context, caller: Caller, device_id: str) -> None:
    """A bridge's users and devices come into being with their first key package; others were made by a
    login.
    """
    store = context.node.store
    if caller.bridge is None or any(
        device.device_id == device_id for device in store.devices(caller.user_id)
    ):
        return
    await store.put_user(UserRow(user_id=caller.user_id, password_hash=None, created_ts=context.node.clock()))
    await store.put_device(
        DeviceRow(user_id=caller.user_id, device_id=device_id, display_name=None, token_hash=None)
    )


async def query(context: Context, request: Request, caller: Caller) -> Response:
    """``POST keys/query``: the devices of users of this server; and what devices of Linearized Matrix users
    the caller shares a room with say of themselves. The servers of any others are ``failures``.
    """
    body = await request.json()
    wait_ms = integer(body, "timeout") if "timeout" in body else DEFAULT_QUERY_MS
    wanted = required_object(body, "device_keys")
    if len(wanted) > MAX_DEVICES_PER_REQUEST:
        raise invalid(f"device_keys names more than {MAX_DEVICES_PER_REQUEST} users")
    devices: JsonObject = {}
    failures: JsonObject = {}
    remote: dict[str, list[str]] = {}
    for user_id in wanted:
        names = texts(wanted, user_id, limit=MAX_DEVICES_PER_REQUEST)
        domain = _domain(user_id)
        if domain not in context.node.served_domains:
            if remote_devices.meets(context.node.store, caller.user_id, user_id):
                remote[user_id] = names
            else:
                failures[domain] = {"errcode": "M_NOT_FOUND", "error": "You share no room with that user"}
            continue
        objects = context.node.store.device_objects(user_id)
        devices[user_id] = {
            device.device_id: _device_keys(device, objects.get(device.device_id))
            for device in context.node.store.devices(user_id)
            if not names or device.device_id in names
        }
    found, failed = await remote_devices.query(
        context.node, remote, seconds=min(wait_ms, MAX_QUERY_MS) / _MS_PER_SECOND
    )
    failures |= {server: {"errcode": "M_UNKNOWN", "error": error} for server, error in failed.items()}
    return json_response({"device_keys": devices | found, "failures": failures})


def _device_keys(device: DeviceRow, said: bytes | None) -> JsonObject:
    """A device as Matrix lists it: what it says of itself, or, if it never did, that it is there."""
    described: JsonObject = {
        "user_id": device.user_id,
        "device_id": device.device_id,
        "algorithms": [ALGORITHM],
        "keys": {},
        "signatures": {},
    }
    if said is not None:
        described = orjson.loads(said)
    if device.display_name is not None:
        described["unsigned"] = {"device_display_name": device.display_name}
    return described


async def claim(context: Context, request: Request, caller: Caller) -> Response:
    """``POST keys/claim``, also for devices of Linearized Matrix servers the user shares rooms with.

    Through a room, use ``mls/key_material``, which also finds others.

    The key ID of an answer is the KeyPackageRef: what the device called it at upload does not matter to
    others.
    """
    body = await request.json()
    wanted = required_object(body, "one_time_keys")
    suites = _suites(required_object(body, "mls"))
    pairs = [(user_id, device_id) for user_id in wanted for device_id in _claimed_devices(wanted, user_id)]
    if len(pairs) > MAX_DEVICES_PER_REQUEST:
        raise invalid(f"one_time_keys names more than {MAX_DEVICES_PER_REQUEST} devices")
    found: dict[str, JsonObject] = {}
    remote: dict[str, list[ClientIdentity]] = {}
    for user_id, device_id in pairs:
        domain = _domain(user_id)
        if domain not in context.node.served_domains:
            remote.setdefault(domain, []).append(ClientIdentity(user_id, device_id))
            continue
        if (
            consent_rules.refusal(context.node, requester=caller.user_id, target=user_id, room_id=None)
            is not None
        ):
            continue
        if not await pseudonyms.may_use(context.node, user_id, None):
            continue
        package = await context.node.store.claim_key_package(
            user_id=user_id, device_id=device_id, ciphersuites=suites, now_ms=context.node.clock()
        )
        if package is not None:
            key = {"key": encode_base64(package.key_package)}
            name = f"{MLS}:{encode_base64url(package.reference)}"
            found.setdefault(user_id, {})[device_id] = {name: key}
    failures = await _claim_elsewhere(context, caller, remote, suites, found)
    return json_response({"one_time_keys": found, "failures": failures})


async def _claim_elsewhere(
    context: Context,
    caller: Caller,
    remote: dict[str, list[ClientIdentity]],
    suites: list[int],
    found: dict[str, JsonObject],
) -> JsonObject:
    """Claim keys at the Linearized Matrix servers the user shares rooms with; what failed, by server."""
    failures: JsonObject = {}
    near = await device_lists.linearized_servers(context.node, caller.user_id) if remote else []
    for domain, devices in remote.items():
        if domain not in near or not suites:
            failures[domain] = {
                "errcode": "M_NOT_FOUND",
                "error": "Keys of other servers are claimed through a room",
            }
            continue
        try:
            given = await claims.claim_at(context.node, domain, devices, suites)
        except OutboundError as error:
            failures[domain] = {"errcode": error.errcode or "M_UNKNOWN", "error": str(error)}
            continue
        for device, reference, package in given:
            name = f"{MLS}:{encode_base64url(reference)}"
            found.setdefault(device.user_id, {})[device.device_id] = {name: {"key": encode_base64(package)}}
    return failures


def _claimed_devices(wanted: JsonObject, user_id: str) -> list[str]:
    by_device = optional_object(wanted, user_id)
    if any(algorithm != MLS for algorithm in by_device.values()):
        raise invalid(f"one_time_keys: only {MLS} keys can be claimed")
    return list(by_device)


def _suites(mls: JsonObject) -> list[int]:
    """The acceptable cipher suites, in the caller's order; names we do not know cannot be had here."""
    if text(mls, "protocol_version") != "m.mls_10":
        raise invalid("mls.protocol_version must be m.mls_10")
    if mls.get("required_capabilities") is not None:
        raise invalid("mls.required_capabilities: ask through mls/key_material, which checks capabilities")
    names = texts(mls, "acceptable_ciphersuites", limit=MAX_DEVICES_PER_REQUEST)
    # MSC4244 has the suites "by name, not value".
    return [CIPHERSUITES[name] for name in names if name in CIPHERSUITES]


def _domain(user_id: str) -> str:
    try:
        return user_domain(user_id)
    except IdentifierError as error:
        raise invalid(str(error)) from error
