"""The endpoint of pull followers (see ``docs/pull.md``): what ``notify`` would have brought them, when they
ask for it.

``POST`` makes the calling provider a pull follower, ``DELETE`` has it notified again, ``GET`` waits for news
and answers with them.
"""

from __future__ import annotations

from typing import Final

from linearized.exceptions import IdentifierError
from linearized.protocol.identifiers import room_id_from_uri
from linearized.server.http import HttpError, Request, Response
from linearized.server.node import Node
from linearized.server.providers.authentication import authenticate_provider
from linearized.server.providers.client import CONTENT_TYPE, CURSOR_HEADER, HUB_HEADER, MOVES, ROOM_HEADER
from linearized.server.pull_cursors import UnknownCursor
from linearized.server.pull_follower import Fetched, NothingLeft, PullFollower, Superseded

# The longest a follower may have us wait, seconds. Proxies give up on silent connections after a minute or
# so.
MAX_WAIT_SECONDS: Final = 50
# Digits read of ``wait``; whatever is longer means "as long as you may" as well.
MAX_WAIT_DIGITS: Final = 10
# Rooms that a follower may leave out at a time: their URIs stand in the request's, of which 8 KiB pass
# everywhere.
MAX_SKIPPED: Final = 16
NO_CONTENT: Final = 204


async def register(node: Node, request: Request) -> Response:
    """``POST``: 204 once nothing more is pushed to the caller."""
    provider = authenticate_provider(node, request)
    node.limits.provider.take(provider)
    if not await node.followers.pulls.add(provider):
        raise HttpError(403, "M_FORBIDDEN", "Only a provider with a user in a room of this hub follows it")
    return Response(status=NO_CONTENT)


async def unregister(node: Node, request: Request) -> Response:
    """``DELETE``: 204 once the caller is notified again."""
    provider = authenticate_provider(node, request)
    node.limits.provider.take(provider)
    if not await node.followers.push_again(provider):
        raise HttpError(403, "M_FORBIDDEN", "This hub's operator has settled that you fetch")
    return Response(status=NO_CONTENT)


async def fetch(node: Node, request: Request) -> Response:
    """``GET``: 200 with concatenated FanoutMessages of one room, or in JSON where it moves, or 204 when
    ``wait`` seconds are over.

    Raises:
        HttpError: 403 for no pull follower, 400 for a cursor it was not given or too many rooms to skip, 409
            when it asked again before it was answered, 410 when it is in no room any more and has had
            everything; 429 instead of these, or of 204, for who asks in vain too often.
    """
    provider = authenticate_provider(node, request)
    follower = node.followers.pulls.get(provider)
    # What brings something is as often as there is something; only who asks in vain can ask too often.
    try:
        found = await _found(follower, request)
    except HttpError:
        node.limits.provider.take(provider)
        raise
    if found is None:
        node.limits.provider.take(provider)
        return Response(status=NO_CONTENT)
    headers = ((ROOM_HEADER, found.room), (CURSOR_HEADER, found.cursor), ("cache-control", "no-store"))
    if found.hub is not None:
        return Response(body=found.body, headers=(*headers, (HUB_HEADER, found.hub)))
    return Response(body=found.body, content_type=CONTENT_TYPE, headers=headers)


async def _found(follower: PullFollower | None, request: Request) -> Fetched | None:
    if follower is None:
        raise HttpError(403, "M_FORBIDDEN", "Register as a pull follower first")
    try:
        return await follower.ask(
            request.query_one("cursor"), wait=_wait(request), skip=_skipped(request), moves=_moves(request)
        )
    except UnknownCursor as error:
        raise HttpError(400, "M_INVALID_PARAM", str(error)) from error
    except Superseded as error:
        raise HttpError(409, "M_BAD_STATE", str(error)) from error
    except NothingLeft as error:
        raise HttpError(410, "M_FORBIDDEN", str(error)) from error


def _wait(request: Request) -> int:
    text = request.query_one("wait", "0")
    if text is None or not (text.isascii() and text.isdecimal()):
        raise HttpError(400, "M_INVALID_PARAM", "wait is a number of whole seconds")
    return min(int(text[:MAX_WAIT_DIGITS]), MAX_WAIT_SECONDS)


def _moves(request: Request) -> bool:
    said = request.query_one(MOVES, "false")
    if said not in {"true", "false"}:
        raise HttpError(400, "M_INVALID_PARAM", f"{MOVES} is true or false")
    return said == "true"


def _skipped(request: Request) -> frozenset[str]:
    uris = request.query.get("skip", [])
    if len(uris) > MAX_SKIPPED:
        raise HttpError(400, "M_INVALID_PARAM", f"skip names more than {MAX_SKIPPED} rooms")
    try:
        return frozenset(map(room_id_from_uri, uris))
    except IdentifierError as error:
        raise HttpError(400, "M_INVALID_PARAM", str(error)) from error
