"""HTTP as a client of a Matrix server speaks it: deadlines, bounded answers, retries of what may be
repeated.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import orjson
import trio

from linearized.client.errors import ApiError, MalformedAnswer, ServerUnreachable, WrongEpochError

JsonObject = dict[str, Any]
T = TypeVar("T")

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
# The ways a connection fails on us; anything else is a bug and must be seen.
UNREACHABLE = (httpx.TransportError, trio.TooSlowError, trio.BrokenResourceError)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: status, headers, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Download:
    """A file as it comes; its ``size`` in bytes, if the server says it."""

    size: int | None
    chunks: AsyncIterator[bytes]


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
        content: bytes | AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        idempotent: bool,
        deadline: float = REQUEST_DEADLINE,
        limit: int,
    ) -> Answer:
        """Send a request and return the successful answer, of at most ``limit`` bytes. A ``content`` that
        comes piece by piece can be sent once, and so not be repeated; ``headers`` say its length.

        Raises:
            ApiError, ServerUnreachable, MalformedAnswer: as ``json``.
        """

        async def once() -> Answer:
            try:
                request = self._request(method, path, content, headers or {}, query or {})
                with trio.fail_after(deadline):
                    answer = await self._once(request, limit)
            except UNREACHABLE as error:
                raise ServerUnreachable(f"{method} {path}: {type(error).__name__}") from error
            if answer.status not in _HTTP_OK:
                raise _error(answer)
            return answer

        return await (repeated(once) if idempotent else once())

    @asynccontextmanager
    async def download(self, path: str, *, limit: int) -> AsyncGenerator[Download, None]:
        """``GET`` a file piece by piece, of at most ``limit`` bytes. Not repeated; the caller has a deadline.

        Raises:
            ApiError, ServerUnreachable, MalformedAnswer: as ``json``; the last two while it is read, too.
        """
        # What the file's length says has to be what comes.
        request = self._request("GET", path, None, {"Accept-Encoding": "identity"}, {})
        try:
            with trio.fail_after(REQUEST_DEADLINE):
                response = await self.http.send(request, stream=True)
        except UNREACHABLE as error:
            raise ServerUnreachable(f"GET {path}: {type(error).__name__}") from error
        try:
            async with aclosing(_bounded(response, limit)) as chunks:
                if response.status_code not in _HTTP_OK:
                    body = b"".join([chunk async for chunk in chunks])
                    raise _error(Answer(response.status_code, dict(response.headers), body))
                yield Download(size=_length(response), chunks=chunks)
        finally:
            with trio.CancelScope(shield=True):
                await response.aclose()

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
        except UNREACHABLE as error:
            raise ServerUnreachable(f"GET {path}: {type(error).__name__}") from error

    async def _once(self, request: httpx.Request, limit: int) -> Answer:
        response = await self.http.send(request, stream=True)
        try:
            async with aclosing(_bounded(response, limit)) as chunks:
                body = b"".join([chunk async for chunk in chunks])
            return Answer(response.status_code, dict(response.headers), body)
        finally:
            await response.aclose()

    def _request(
        self,
        method: str,
        path: str,
        content: bytes | AsyncIterable[bytes] | None,
        headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> httpx.Request:
        sent = dict(headers)
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        request = self.http.build_request(
            method,
            f"{self.base_url}{path}",
            content=content,
            headers=sent,
            params={**self.query, **query} or None,
            timeout=None,  # one deadline around the whole exchange instead of one for each step
        )
        return in_one_piece(request)


class _Whole(httpx.AsyncByteStream):
    """A body in one piece. A connection that breaks while it is sent leaves nothing to be closed, as it would
    of a generator.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(iter((self._data,)))


class _Once(AsyncIterator[bytes]):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def in_one_piece(request: httpx.Request) -> httpx.Request:
    """The request, with a body that may be left unfinished; one that comes piece by piece stays as it is."""
    if isinstance(request.stream, httpx.ByteStream):
        request.stream = _Whole(request.content)
    return request


async def repeated(work: Callable[[], Awaitable[T]]) -> T:
    """Do what may be repeated, with backoff, until the server is there and takes it.

    Raises:
        ApiError, ServerUnreachable: as ``work``, if it is for good or for longer than it pays to wait.
    """
    backoff = FIRST_BACKOFF
    for _ in range(MAX_ATTEMPTS - 1):
        delay = backoff
        try:
            return await work()
        except ServerUnreachable:
            pass  # the server may be back in a moment
        except ApiError as error:
            delay = error.retry_after or backoff
            if error.status not in _RETRY_STATUSES or delay > MAX_RETRY_AFTER:
                raise
        await trio.sleep(delay)
        backoff *= BACKOFF_FACTOR
    return await work()


async def _bounded(response: httpx.Response, limit: int) -> AsyncGenerator[bytes, None]:
    """An answer's body as it comes."""
    path, size = response.request.url.path, 0
    chunks = response.aiter_bytes()
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise MalformedAnswer(f"{path}: the answer exceeds {limit} bytes")
            yield chunk
    except UNREACHABLE as error:
        raise ServerUnreachable(f"{path}: {type(error).__name__}") from error
    finally:
        await _leave(chunks)


def _length(response: httpx.Response) -> int | None:
    """The length of an answer's body, if it is said."""
    if "content-encoding" in response.headers:
        return None  # it says how long the encoding is
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


async def _leave(chunks: AsyncIterator[bytes]) -> None:
    """End the iteration over a body, wherever it is: httpx iterates through generators within generators, and
    only what is raised in the innermost ends all.
    """
    with trio.CancelScope() as leaving:
        leaving.cancel()
        async for _ in chunks:
            pass


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
        await _leave(chunks)
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
