"""``PUT sendToDevice/{eventType}/{txnId}``: messages from device to device, also of other servers."""

from __future__ import annotations

from typing import Final

import orjson

from linearized.exceptions import IdentifierError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain
from linearized.server.batches import has_place, queued_units
from linearized.server.claims import direct_to_device
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import bad_json, invalid, required_object
from linearized.server.clients.sending import check_transaction_id
from linearized.server.device_lists import linearized_servers
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.welcomes import provider_address
from linearized.store.base import NewToDevice, Reply

MAX_MESSAGES: Final = 500  # one transaction's rows; a user with more devices sends in several requests
MAX_CONTENT_BYTES: Final = 65_536  # as for an event
_ALL_DEVICES: Final = "*"
# Welcomes and what else the servers send about a group: a device must not be able to forge one.
_RESERVED_PREFIX: Final = "m.mls."


async def send_to_device(context: Context, request: Request, caller: Caller) -> Response:
    """Deliver to each named device, or to all of a user's with ``*``; once per device and transaction ID."""
    event_type, transaction_id = request.params["event_type"], check_transaction_id(request.params["txn_id"])
    if event_type.startswith(_RESERVED_PREFIX):
        raise HttpError(403, "M_FORBIDDEN", f"Only servers send {event_type}")
    body = await request.json()
    scope, key = f"client-to-device\x1f{caller.scope}", f"{event_type}\x1f{transaction_id}"
    async with context.in_flight.alone(f"{scope}\x1f{key}"):
        if context.node.store.reply(scope, key) is None:
            by_user = required_object(body, "messages")
            servers = await _servers(context, caller, by_user)
            messages = _messages(context, caller, event_type, by_user)
            for server in servers:
                count = sum(message.user_id == provider_address(server) for message in messages)
                if not has_place(context.node.store, server, count):
                    raise HttpError(429, "M_LIMIT_EXCEEDED", f"Too many messages wait for {server}")
            await context.node.store.put_to_device(messages, Reply(scope=scope, key=key, value="{}"))
            context.node.notifier.users_changed({message.user_id for message in messages})
            for server in servers:
                context.node.followers.units_waiting(server)
    return json_response({})


def _messages(context: Context, caller: Caller, event_type: str, by_user: JsonObject) -> list[NewToDevice]:
    found: list[NewToDevice] = []
    if len(by_user) > MAX_MESSAGES:  # each is looked up, whether or not there is such a user
        raise invalid(f"More than {MAX_MESSAGES} users")
    for user_id, by_device in by_user.items():
        if not isinstance(by_device, dict):
            raise bad_json("messages must map users to devices to contents")
        ours = user_domain(user_id) in context.node.served_domains
        known = (
            [device.device_id for device in context.node.store.devices(user_id)]
            if ours
            else list(context.node.store.device_objects(user_id))
        )
        for device_id, content in by_device.items():
            if not isinstance(content, dict):
                raise bad_json("a message's content must be an object")
            if str(content.get("algorithm")).startswith(_RESERVED_PREFIX):
                raise HttpError(403, "M_FORBIDDEN", "Only servers send MLS messages to devices")
            encoded = orjson.dumps(content)
            if len(encoded) > MAX_CONTENT_BYTES:
                raise HttpError(413, "M_TOO_LARGE", f"A message may take {MAX_CONTENT_BYTES} bytes")
            chosen = known if device_id == _ALL_DEVICES else [device_id]
            if ours:
                found.extend(
                    NewToDevice(
                        user_id=user_id,
                        device_id=name,
                        type=event_type,
                        sender=caller.user_id,
                        content=encoded,
                    )
                    for name in chosen
                    if name in known
                )
            else:
                # Whether there is such a device only that server knows.
                units = [
                    direct_to_device(caller.user_id, user_id, name, event_type, content) for name in chosen
                ]
                found.extend(queued_units(user_domain(user_id), units))
            if len(found) > MAX_MESSAGES:
                raise invalid(f"More than {MAX_MESSAGES} messages")
    return found


async def _servers(context: Context, caller: Caller, by_user: JsonObject) -> list[str]:
    """The other servers that messages go to: only those the user shares a room with, so that nobody can make
    us contact servers of their choice.
    """
    wanted = {_domain(user_id) for user_id in by_user} - context.node.served_domains
    if not wanted:
        return []
    known = await linearized_servers(context.node, caller.user_id)
    strange = wanted - set(known)
    if strange:
        raise HttpError(403, "M_FORBIDDEN", f"You share no Linearized Matrix room with {min(strange)}")
    return sorted(wanted)


def _domain(user_id: str) -> str:
    try:
        return user_domain(user_id)
    except IdentifierError as error:
        raise invalid(str(error)) from error
