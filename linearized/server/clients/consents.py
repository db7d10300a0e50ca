"""Consent, as a user sees it: who asked, who was granted or denied what, and asking others."""

from __future__ import annotations

from typing import Final

from linearized.mimi.consent import KeyPackages
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_room_id
from linearized.server import consents
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import boolean, invalid, optional_text
from linearized.server.clients.membership import user_of
from linearized.server.http import Request, Response, json_response
from linearized.store.contacts import ANY_ROOM, ConsentRow

MAX_LISTED: Final = 200  # the latest; a page that a person looks through


async def listing(context: Context, request: Request, caller: Caller) -> Response:
    """``GET consents``: the caller's records, latest first, and whether others need a grant."""
    del request
    rows = context.node.store.consents_of(caller.user_id, limit=MAX_LISTED)
    own = context.node.store.consent_required(caller.user_id)
    answer: JsonObject = {"consents": [_shown(row) for row in rows]}
    if own is not None:
        answer["required"] = own
    return json_response(answer)


async def set_required(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT consents/required``: whether the caller's key packages are only for those who were granted
    them.
    """
    required = boolean(await request.json(), "required")
    await context.node.store.put_consent_required(caller.user_id, required=required)
    return json_response({})


async def ask(context: Context, request: Request, caller: Caller) -> Response:
    """``POST consents/request``: ask a user for their consent."""
    target, room_id, _ = await _scope(request)
    await consents.ask(context.node, requester=caller.user_id, target=target, room_id=room_id)
    return json_response({})


async def cancel(context: Context, request: Request, caller: Caller) -> Response:
    """``POST consents/cancel``: take such a request back."""
    target, room_id, _ = await _scope(request)
    await consents.ask(context.node, requester=caller.user_id, target=target, room_id=room_id, cancel=True)
    return json_response({})


async def grant(context: Context, request: Request, caller: Caller) -> Response:
    """``POST consents/grant``: let a user add the caller; with ``key_packages``, right away."""
    requester, room_id, body = await _scope(request)
    await consents.answer(
        context.node,
        target=caller.user_id,
        requester=requester,
        room_id=room_id,
        grant=True,
        with_key_packages=boolean(body, "key_packages"),
    )
    return json_response({})


async def revoke(context: Context, request: Request, caller: Caller) -> Response:
    """``POST consents/revoke``: do not, or no longer; the other user hears of it only with ``tell``."""
    requester, room_id, body = await _scope(request)
    await consents.answer(
        context.node,
        target=caller.user_id,
        requester=requester,
        room_id=room_id,
        grant=False,
        tell=boolean(body, "tell"),
    )
    return json_response({})


async def key_packages(context: Context, request: Request, caller: Caller) -> Response:
    """``POST consents/key_packages``: what came with a grant, once."""
    target, room_id, _ = await _scope(request)
    taken = await context.node.store.take_key_packages(caller.user_id, target, room_id or ANY_ROOM)
    packages = KeyPackages.decode(taken).packages if taken else ()
    return json_response({"key_packages": [encode_base64(package) for package in packages]})


async def _scope(request: Request) -> tuple[str, str | None, JsonObject]:
    """The other user, and the room if it is about one."""
    body = await request.json()
    room_id = optional_text(body, "room_id")
    if room_id is not None and not is_room_id(room_id):
        raise invalid("room_id is not a room ID")
    return user_of(body), room_id, body


def _shown(row: ConsentRow) -> JsonObject:
    shown: JsonObject = {
        "requester": row.requester,
        "target": row.target,
        "state": row.state,
        "changed_at": row.changed_at,
    }
    if row.room_id != ANY_ROOM:
        shown["room_id"] = row.room_id
    if row.key_packages:
        shown["key_packages"] = True
    return shown
