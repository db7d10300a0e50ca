"""HTTP as a client of a Matrix server speaks it: deadlines, bounded answers, retries of what may be
repeated.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import httpx
import orjson
import trio

from linearized.client.errors import ApiError, MalformedAnswer, ServerUnreachable, WrongEpochError

JsonObject = dict[str, Any]

# A hub answers a commit after its group commit and, for a remote room, one round trip more; 30 s is far
# above both.
REQUEST_DEADLINE = 30.0
# Added to the server-side wait of a long poll, for the way there and back and a large answer.
POLL_SLACK = 30.0
# Four repetitions with the delays below bridge a restart of the server (2-5 s) without hanging for minutes.
MAX_ATTEMPTS = 5
FIRST_BACKOFF = 0.5
BACKOFF_FACTOR = 2.0
# A server that asks for more patience than this gets its refusal passed on to the caller.
MAX_RETRY_AFTER = 60.0
# 50 PDUs of 64 KiB fit in a page; an initial sync of many rooms does too.
MAX_JSON_BYTES = 64 * 1024 * 1024
# A homeserver's usual upload limit, with room for the AEAD tag.
MAX_MEDIA_BYTES = 100 * 1024 * 1024 + 16
# A stream beats every half a minute; after three that were missed nobody is there.
SILENCE = 95.0
# Of a refusal's body; an error object is a fraction of it.
MAX_REFUSAL_BYTES = 64 * 1024
# An error text is shown to people; more of it is noise.
MAX_ERROR_TEXT = 500
# Answers that say "not now": the request was not carried out.
_RETRY_STATUSES = frozenset({429, 502, 503, 504})
_HTTP_OK = range(200, 300)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: status, headers, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """Sends requests to one server with one access token.

    ``query`` is added to every request: an application service's ``user_id`` and ``device_id``.
    """

    base_url: str
    token: str | None
    http: httpx.AsyncClient
    query: Mapping[str, str]

    async def json(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        idempotent: bool,
        deadline: float = REQUEST_DEADLINE,
    ) -> JsonObject:
        """Send a JSON request and return the JSON object answered.

        ``path`` is already percent-encoded. ``idempotent`` requests are repeated with backoff.

        Raises:
            ApiError: the server refused (``WrongEpochError`` for ``M_WRONG_EPOCH``).
            ServerUnreachable: no answer; a request that is not idempotent may have taken effect.
            MalformedAnswer: the answer is not a JSON object.
        """
        content = None if body is None else orjson.dumps(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        answer = await self.request(
            method,
            path,
            content=content,
            headers=headers,
            query=query,
            idempotent=idempotent,
            deadline=deadline,
            limit=MAX_JSON_BYTES,
        )
        return parse_object(answer.body)

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        idempotent: bool,
        deadline: float = REQUEST_DEADLINE,
        limit: int,
    ) -> Answer:
        """Send a request and return the successful answer, of at most ``limit`` bytes.

        Raises:
            ApiError, ServerUnreachable, MalformedAnswer: as ``json``.
        """
        attempts = MAX_ATTEMPTS if idempotent else 1
        backoff = FIRST_BACKOFF
        for attempt in range(1, attempts + 1):
            try:
                request = self._request(method, path, content, headers or {}, query or {})
                with trio.fail_after(deadline):
                    answer = await self._once(request, limit)
            except (httpx.TransportError, trio.TooSlowError, trio.BrokenResourceError) as error:
                # The three ways a connection fails on us; anything else is a bug and must be seen.
                if attempt == attempts:
                    text = f"{method} {path}: {type(error).__name__}"
                    raise ServerUnreachable(text) from error
                delay = backoff
            else:
                if answer.status in _HTTP_OK:
                    return answer
                delay = _retry_after(answer, backoff)
                if attempt == attempts or answer.status not in _RETRY_STATUSES or delay > MAX_RETRY_AFTER:
                    raise _error(answer)
            await trio.sleep(delay)
            backoff *= BACKOFF_FACTOR
        raise AssertionError("the last attempt returns or raises")

    async def stream(
        self,
        path: str,
        *,
        take: Callable[[bytes], Awaitable[None]],
        query: Mapping[str, str],
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """``GET`` an answer that goes on for long, and give each piece of it to ``take``, until it ends.

        Args:
            http: the connection pool to use instead of the usual one.

        Raises:
            ApiError: the server refused.
            ServerUnreachable: there is no connection, it broke, or nothing came for ``SILENCE`` seconds.
        """
        request = self._request("GET", path, None, {"Accept": "text/event-stream"}, query)
        try:
            with trio.fail_after(REQUEST_DEADLINE):
                response = await (http or self.http).send(request, stream=True)
            try:
                await _pieces(response, take)
            finally:
                with trio.CancelScope(shield=True):
                    await response.aclose()
        except (httpx.TransportError, trio.TooSlowError, trio.BrokenResourceError) as error:
            raise ServerUnreachable(f"GET {path}: {type(error).__name__}") from error

    async def _once(self, request: httpx.Request, limit: int) -> Answer:
        response = await self.http.send(request, stream=True)
        try:
            chunks: list[bytes] = []
            size = 0
            # httpx types it as an iterator; it is a generator, which has to be closed when it is left early.
            async with aclosing(cast("AsyncGenerator[bytes]", response.aiter_bytes())) as received:
                async for chunk in received:
                    size += len(chunk)
                    if size > limit:
                        raise MalformedAnswer(f"{request.url.path}: the answer exceeds {limit} bytes")
                    chunks.append(chunk)
            return Answer(response.status_code, dict(response.headers), b"".join(chunks))
        finally:
            await response.aclose()

    def _request(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> httpx.Request:
        sent = dict(headers)
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        return self.http.build_request(
            method,
            f"{self.base_url}{path}",
            content=content,
            headers=sent,
            params={**self.query, **query} or None,
            timeout=None,  # one deadline around the whole exchange instead of one for each step
        )


async def _pieces(response: httpx.Response, take: Callable[[bytes], Awaitable[None]]) -> None:
    chunks = response.aiter_bytes()
    refusal = b""
    try:
        while True:
            with trio.fail_after(SILENCE):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            if response.status_code in _HTTP_OK:
                await take(chunk)
            elif len(refusal) < MAX_REFUSAL_BYTES:
                refusal += chunk
    finally:
        # httpx iterates through generators within generators; only what is raised in the innermost ends all.
        with trio.CancelScope() as leaving:
            leaving.cancel()
            async for _ in chunks:
                pass
    if response.status_code not in _HTTP_OK:
        raise _error(Answer(response.status_code, dict(response.headers), refusal))


def parse_object(body: bytes) -> JsonObject:
    """Parse an answer's JSON object.

    Raises:
        MalformedAnswer: it is not one.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedAnswer("the answer is not JSON") from error
    if not isinstance(value, dict):
        raise MalformedAnswer("the answer is not a JSON object")
    return value


def _error(answer: Answer) -> ApiError:
    try:
        body = parse_object(answer.body)
    except MalformedAnswer:  # a proxy's HTML page, say; the status still tells
        body = {}
    errcode = body.get("errcode")
    errcode = errcode if isinstance(errcode, str) else "M_UNKNOWN"
    text = str(body.get("error", ""))[:MAX_ERROR_TEXT]
    if errcode == "M_WRONG_EPOCH":
        epoch = body.get("current_epoch")
        return WrongEpochError(answer.status, errcode, text, epoch if isinstance(epoch, int) else None)
    return ApiError(answer.status, errcode, text, retry_after=_retry_after(answer, 0.0))


def _retry_after(answer: Answer, default: float) -> float:
    try:
        body = parse_object(answer.body)
    except MalformedAnswer:  # as above
        body = {}
    milliseconds = body.get("retry_after_ms")
    if isinstance(milliseconds, int):
        return max(0.0, milliseconds / 1000)
    header = answer.headers.get("retry-after", "")
    return float(header) if header.isascii() and header.isdigit() else default
