"""One HTTP exchange as a client: reading an answer within bounds, and what it means when it is not a 200."""

from __future__ import annotations

import math
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import orjson
import trio

from linearized import __version__
from linearized.exceptions import CanonicalJsonError, LinearizedError
from linearized.protocol.canonical import JsonObject, parse_json_object
from linearized.protocol.identifiers import is_server_name

_OK = 200
NAMED_HUB = "dev.linearized.hub"
"""In the error object of an ``M_WRONG_SERVER``: the room's hub."""

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


async def exchange(client: httpx.AsyncClient, request: httpx.Request, limit: int) -> Reply:
    """Send a request and read its answer.

    Raises:
        AnswerTooLarge: it has more than ``limit`` bytes.
        httpx.HTTPError: there was none.
    """
    # Nothing is decompressed: what a few kilobytes unpack to is for their sender to decide, and ``limit`` is
    # not.
    request.headers["Accept-Encoding"] = "identity"
    request.headers["User-Agent"] = f"linearized/{__version__}"
    response = await client.send(request, stream=True)
    chunks: list[bytes] = []
    size = 0
    try:
        with trio.CancelScope() as reading:
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size <= limit:
                    chunks.append(chunk)
                else:
                    reading.cancel()  # ends httpx's chain of generators from within, so that each is closed
    finally:
        await response.aclose()
    if size > limit:
        raise AnswerTooLarge
    return Reply(status=response.status_code, headers=response.headers, body=b"".join(chunks))


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
