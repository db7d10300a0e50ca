"""What the homeserver calls: transactions, pings and queries (Application Service API v1.13), as an ASGI
application.

A transaction is answered once its events and to-device messages are on disk; what becomes of them is decided
later. Ephemeral data is not bridged and not kept.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import unquote

import orjson
import structlog

from bridges.matrix.continuity import Peer
from bridges.matrix.megolm.mailbox import MailboxFull
from bridges.matrix.provisioning import ProvisioningError
from bridges.matrix.queue import IncomingQueue
from bridges.matrix.receipts import units_of
from linearized.client import ClientError

# At most 100 events of 64 KiB and what comes with them.
MAX_BODY_BYTES = 32 * 1024 * 1024
_PREFIX = ("_matrix", "app", "v1")
_PROVISIONING = ("_linearized", "bridge", "v1")

JsonObject = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
# As ``Provisioning.answer``.
Provision = Callable[[str, list[str], bytes | None, bytes], Awaitable[tuple[int, Any]]]

log = structlog.get_logger(__name__)


class _Answer(Exception):  # noqa: N818 - ends a request, with whatever status
    def __init__(self, status: int, errcode: str | None = None, error: str = "") -> None:
        super().__init__(error)
        self.status = status
        self.body: Any = {} if errcode is None else {"errcode": errcode, "error": error}


class AppService:
    """The ASGI application.

    Args:
        hs_token: with which the homeserver proves who it is.
        queue: takes the events.
        keep: keeps what else there is in a transaction; whether there is something to do.
        note: told of each transaction before its events are taken: its ID, and the other end of the
            connection.
        arrived: called after events were taken.
        user_exists: whether a user of our namespace exists; makes it exist if it can.
        room_exists: the same for an alias.
        provision: answers what is not the homeserver's, and has a token of its own.
    """

    def __init__(
        self,
        *,
        hs_token: str,
        queue: IncomingQueue,
        keep: Callable[[JsonObject], bool],
        hear: Callable[[Sequence[object]], None],
        note: Callable[[str, Peer | None], None],
        arrived: Callable[[], None],
        user_exists: Callable[[str], Awaitable[bool]],
        room_exists: Callable[[str], Awaitable[bool]],
        provision: Provision,
    ) -> None:
        self._room_exists = room_exists
        self._answer_provisioning = provision
        self._hs_token = hs_token.encode()
        self._queue = queue
        self._keep = keep
        self._hear = hear
        self._note = note
        self._arrived = arrived
        self._user_exists = user_exists

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection: HTTP requests, and the lifespan protocol's start and stop."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            await self._request(scope, receive)
            answer = _Answer(200)
        except _Answer as stopped:
            answer = stopped
        body = orjson.dumps(answer.body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _provision(self, scope: Scope, receive: Receive, parts: list[str]) -> None:
        asked = await _body(receive)
        try:
            status, body = await self._answer_provisioning(scope["method"], parts, _token(scope), asked)
        except ProvisioningError as refused:
            raise _Answer(refused.status, refused.errcode, str(refused)) from None
        answer = _Answer(status)
        answer.body = body
        raise answer

    async def _request(self, scope: Scope, receive: Receive) -> None:
        raw = scope.get("raw_path") or scope["path"].encode()
        # Identifiers hold percent-encoded slashes, so the path is split before it is decoded.
        parts = [unquote(part) for part in raw.decode("latin-1").partition("?")[0].split("/")[1:]]
        if tuple(parts[:3]) == _PROVISIONING:
            await self._provision(scope, receive, parts[3:])
        self._authenticate(scope)
        # Older homeservers leave the prefix out ("Legacy routes").
        if tuple(parts[:3]) == _PREFIX:
            parts = parts[3:]
        match (scope["method"], *parts):
            case ("PUT", "transactions", txn_id):
                await self._transaction(txn_id, await _body(receive), scope.get("client"))
            case ("POST", "ping"):
                await _body(receive)
            case ("GET", "users", user_id):
                if not await _asked(self._user_exists, user_id):
                    raise _Answer(404, "M_NOT_FOUND", "No such user")
            case ("GET", "rooms", alias):
                if not await _asked(self._room_exists, alias):
                    raise _Answer(404, "M_NOT_FOUND", "No such room")
            case (_, "transactions" | "users" | "rooms", _) | (_, "ping"):
                raise _Answer(405, "M_UNRECOGNIZED", "Wrong method")
            case _:
                raise _Answer(404, "M_UNRECOGNIZED", "Unknown endpoint")

    def _authenticate(self, scope: Scope) -> None:
        token = _token(scope)
        if token is None:
            raise _Answer(401, "M_UNAUTHORIZED", "Missing token")
        if not hmac.compare_digest(token, self._hs_token):
            raise _Answer(403, "M_FORBIDDEN", "Wrong token")

    async def _transaction(self, txn_id: str, body: bytes, peer: Peer | None) -> None:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise _Answer(400, "M_NOT_JSON", "The transaction is not JSON") from error
        events = value.get("events") if isinstance(value, dict) else None
        if not isinstance(events, list):
            raise _Answer(400, "M_BAD_JSON", "The transaction has no list of events")
        kept = [event for event in events if isinstance(event, dict)]
        self._note(txn_id, peer)
        try:
            new = self._queue.accept(txn_id, body, kept, lambda: self._keep(value))
        except MailboxFull:  # nothing was kept
            raise _Answer(503, "M_UNKNOWN", "Too many to-device messages wait") from None
        self._hear(units_of(value))
        if new:
            self._arrived()


async def _asked(exists: Callable[[str], Awaitable[bool]], name: str) -> bool:
    try:
        return await exists(name)
    except ClientError as error:  # a side is away; the homeserver may ask again
        raise _Answer(502, "M_UNKNOWN", f"It cannot be made now: {error}") from error


def _token(scope: Scope) -> bytes | None:
    """The bearer token of a request, empty if it has another kind; None if there is none."""
    values: list[bytes] = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if not values:
        return None
    scheme, _, token = values[0].partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Answer(400, "M_UNKNOWN", "The homeserver went away")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _Answer(413, "M_TOO_LARGE", f"A transaction may have {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
