"""One HTTP exchange as a client: reading an answer within bounds, and what it means when it is not a 200."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

import httpx
import orjson
import trio

from linearized import __version__
from linearized.config import Address
from linearized.exceptions import CanonicalJsonError, LinearizedError
from linearized.protocol.canonical import JsonObject, parse_json_object
from linearized.protocol.identifiers import is_server_name
from linearized.server.endpoints import final_path
from linearized.server.http import HttpError

_OK = 200
_NOT_FOUND = 404
_PLAIN_TARGET = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._~-]*)+")
NAMED_HUB = "dev.linearized.hub"
"""In the error object of an ``M_WRONG_SERVER``: the room's hub."""


HUB_EVENTS: Final = "dev.linearized.hub_events"
"""Beside it, for who has no copy of the room, and beside an invite: the create event and the transfers by
which the room came there, the latest first (``hub_chain``).
"""


def wrong_server(hub: str, events: Sequence[JsonObject] = ()) -> HttpError:
    """The answer about a room that ``hub`` orders, with the ``events`` that show it, if any."""
    extra: JsonObject = {NAMED_HUB: hub} | ({HUB_EVENTS: list(events)} if events else {})
    return HttpError(400, "M_WRONG_SERVER", f"The hub of this room is {hub}", **extra)


WRONG_EPOCH: Final = "M_WRONG_EPOCH"
"""The ``errcode`` beside the ``error`` of a message in ``failed_pdus`` that is for another epoch than
``current_epoch``, which stands there too.
"""


class OutboundError(LinearizedError):
    """A server could not be reached, or refused a request.

    Attributes:
        status: its HTTP status; None if there was no answer.
        errcode: its Matrix error code, if it gave one.
        retry_after_s: how long it asked us to wait.
        hub: with ``M_WRONG_SERVER``, the server it says is the room's hub.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        errcode: str | None = None,
        retry_after_s: float | None = None,
        hub: str | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.errcode = errcode
        self.retry_after_s = retry_after_s
        self.hub = hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A complete answer."""

    status: int
    headers: httpx.Headers
    body: bytes


class AnswerTooLarge(Exception):  # noqa: N818 - says what the answer is
    """An answer has more bytes than we read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A complete request, and whom it is for: where to connect, and whose name the certificate must prove."""

    method: str
    address: Address
    tls_name: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Channel(Protocol):
    """Connections to one destination, over which requests are answered."""

    async def exchange(self, request: Outgoing, limit: int) -> Reply:
        """Send a request and read its answer.

        Raises:
            AnswerTooLarge: it has more than ``limit`` bytes.
            httpx.TransportError: there was none.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


def own_headers() -> dict[str, str]:
    """What every request of ours says. Nothing is decompressed: what a few kilobytes unpack to is for their
    sender to decide, and the limit of an answer is not.
    """
    return {"Accept-Encoding": "identity", "User-Agent": f"linearized/{__version__}"}


async def read_within(parts: AsyncIterable[bytes], limit: int) -> bytes:
    """The whole of an answer's body.

    Raises:
        AnswerTooLarge: it has more than ``limit`` bytes.
    """
    chunks: list[bytes] = []
    size = 0
    with trio.CancelScope() as reading:
        async for chunk in parts:
            size += len(chunk)
            if size <= limit:
                chunks.append(chunk)
            else:
                reading.cancel()  # ends the chain of generators from within, so that each is closed
    if size > limit:
        raise AnswerTooLarge
    return b"".join(chunks)


def json_object(server_name: str, reply: Reply) -> JsonObject:
    """The JSON object of a 200.

    Raises:
        OutboundError: it is something else.
    """
    if reply.status == _OK:
        try:
            return parse_json_object(reply.body)
        except CanonicalJsonError as error:
            raise OutboundError(f"{server_name} answered with no JSON object: {error}", status=_OK) from error
    errcode = text = hub = None
    try:
        document = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        document = None  # a proxy's error page, say
    if isinstance(document, dict):
        errcode, text = document.get("errcode"), document.get("error")
        hub = document.get(NAMED_HUB)
    raise OutboundError(
        f"{server_name} answered {reply.status}" + (f": {text}" if isinstance(text, str) else ""),
        status=reply.status,
        errcode=errcode if isinstance(errcode, str) else None,
        retry_after_s=retry_after(reply.headers, document if isinstance(document, dict) else {}),
        hub=hub if isinstance(hub, str) and is_server_name(hub) else None,
    )


def retry_after(headers: httpx.Headers, document: JsonObject | None = None) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3) or a Matrix ``retry_after_ms``."""
    ms = (document or {}).get("retry_after_ms")
    if isinstance(ms, int) and not isinstance(ms, bool) and ms >= 0:
        return ms / 1000
    value = headers.get("retry-after", "")
    if value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value).timestamp()
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        return None
    return max(0.0, math.ceil(until - now))


def why(error: Exception) -> str:
    """Why there was no answer, in words that hold nothing of it."""
    return "its answer is too large" if isinstance(error, AnswerTooLarge) else type(error).__name__


def request_target(server_name: str, path: str) -> str:
    """A request target, with whatever needs it percent-encoded.

    Raises:
        OutboundError: it cannot be one.
    """
    if _PLAIN_TARGET.fullmatch(path):
        return path
    try:
        return httpx.URL(f"https://{server_name}{path}").raw_path.decode("ascii")
    except httpx.InvalidURL as error:
        raise OutboundError(f"{server_name} cannot be asked for that path") from error


def path_after(reply: Reply, path: str) -> str | None:
    """The path to try next, if it was the path that a server did not know: it has given up the draft's
    unstable ones.
    """
    final = final_path(path)
    return final if reply.status == _NOT_FOUND and errcode_of(reply) == "M_UNRECOGNIZED" else None


def errcode_of(reply: Reply) -> object:
    """The error code of an answer; None if it has none."""
    try:
        document = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    return document.get("errcode") if isinstance(document, dict) else None
