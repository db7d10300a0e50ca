"""Sending events and setting state."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.aliases import CANONICAL, check_canonical
from linearized.server.clients.auth import Caller
from linearized.server.clients.bridging import local_event
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid, optional_text, text
from linearized.server.clients.history import event_for
from linearized.server.clients.views import View
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.powers import may_redact_others
from linearized.store.base import Reply
from linearized.store.relations import REDACTION

# What ``Rooms.send`` turns into the event's ID when it stores the answer together with the entry.
_EVENT_ID: Final = "{event_id}"
MAX_TRANSACTION_ID: Final = 255  # "opaque identifiers … MUST NOT exceed 255 characters" (Client-Server API)


def check_transaction_id(value: str) -> str:
    """A transaction ID within bounds.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM``.
    """
    if len(value) > MAX_TRANSACTION_ID:
        raise invalid(f"A transaction ID has at most {MAX_TRANSACTION_ID} characters")
    return value


async def send(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT rooms/{roomId}/send/{eventType}/{txnId}``: once per device and transaction ID, however often it
    is asked.

    The answer is stored in the transaction that stores the entry, so a repetition after a crash gets it, too.
    """
    event_type, content = request.params["event_type"], await request.json()
    return await _send(context, request, caller, event_type=event_type, content=content)


async def _send(
    context: Context, request: Request, caller: Caller, *, event_type: str, content: JsonObject
) -> Response:
    room_id = request.params["room_id"]
    transaction_id = check_transaction_id(request.params["txn_id"])
    scope, key = f"client-send\x1f{caller.scope}", f"{room_id}\x1f{event_type}\x1f{transaction_id}"
    async with context.in_flight.alone(f"{scope}\x1f{key}"):
        event_id = context.node.store.reply(scope, key)
        if event_id is None:
            view = context.views.require(room_id, caller.user_id, joined=True)
            if event_type == REDACTION and caller.bridge is None:  # a bridge's homeserver has looked
                _check_redaction(context, view, caller, text(content, "redacts"))
            event = local_event(
                context, request, caller, room_id=room_id, event_type=event_type, content=content
            )
            answered = context.echoes.begin(
                caller.scope,
                room_id=room_id,
                event_type=event_type,
                content=content,
                transaction_id=transaction_id,
            )
            try:
                event_id = await context.node.rooms.send(
                    room_id, event, reply=Reply(scope=scope, key=key, value=_EVENT_ID)
                )
            except BaseException:
                answered()
                raise
            context.echoes.sent(caller.scope, event_id, transaction_id)
            return replace(json_response({"event_id": event_id}), done=answered)
    return json_response({"event_id": event_id})


async def set_state(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT rooms/{roomId}/state/{eventType}[/{stateKey}]``."""
    room_id = request.params["room_id"]
    content = await request.json()
    event_type, state_key = request.params["event_type"], request.params.get("state_key", "")
    # A bridge says of its users what they did, which may be the first thing they do to a room: a knock.
    # Whether they may, the rules say, as they do when one asks to join or knocks.
    is_own = caller.bridge is not None and (event_type, state_key) == ("m.room.member", caller.user_id)
    if not is_own:
        _require_membership(context, room_id, caller)
    if event_type == CANONICAL and caller.bridge is None:
        check_canonical(context, room_id, content)
    event = local_event(
        context,
        request,
        caller,
        room_id=room_id,
        event_type=event_type,
        content=content,
        state_key=state_key,
    )
    return json_response({"event_id": await context.node.rooms.send(room_id, event)})


async def redact(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT rooms/{roomId}/redact/{eventId}/{txnId}``: an ``m.room.redaction`` as of room version 11. In an
    encrypted room deletions are inside the messages, and the room refuses it.
    """
    body = await request.json()
    reason = optional_text(body, "reason")
    content: JsonObject = {"redacts": request.params["event_id"]}
    if reason is not None:
        content["reason"] = reason
    return await _send(context, request, caller, event_type=REDACTION, content=content)


def _check_redaction(context: Context, view: View, caller: Caller, event_id: str) -> None:
    """Who may redact an event: its sender, and "if the user's power level is … greater than or equal to the
    redact power level of the room, the user may redact events sent by other users" (Client-Server API).

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` if the caller can read no such event, 403 ``M_FORBIDDEN``.
    """
    target = event_for(context, view, event_id)
    if target.sender == caller.user_id:
        return
    if not may_redact_others(context.node.store, view.room.room_id, caller.user_id, seq=view.head):
        raise HttpError(403, "M_FORBIDDEN", "You may not redact what others have sent to this room")


def _require_membership(context: Context, room_id: str, caller: Caller) -> None:
    """Somebody without any membership learns nothing of the room, not even that the rules forbid it."""
    if context.views.membership_row(room_id, caller.user_id) is None:
        raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
