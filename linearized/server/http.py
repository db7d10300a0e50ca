"""A small HTTP layer over ASGI: requests, responses and a router that matches the raw path.

Why not a framework: X-Matrix signs the raw request target, identifiers in paths may hold percent-encoded
slashes, and the drafts want 404 for trailing slashes and 405 for wrong methods, each with a Matrix error
body. Frameworks decode the path before they route. See docs/decisions/0001-own-http-layer.md.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson
import trio

from linearized.exceptions import CanonicalJsonError
from linearized.protocol.canonical import JsonObject, parse_checked
from linearized.protocol.values import value_object

# The largest body any Matrix or MIMI face takes: 50 PDUs of 64 KiB and JSON around them fit; media has its
# own limit.
MAX_BODY_BYTES = 4 * 1024 * 1024

# What we read and throw away of a body nobody wanted, so that the sender sees our answer instead of a reset;
# a sender with more than that, or slower than that, loses its connection.
DRAIN_BYTES = 8 * 1024 * 1024
DRAIN_SECONDS = 5

BODY_SECONDS = 120  # how long a whole body may take to arrive: 50 MB at half a megabyte a second, rounded up
MAX_QUERY_FIELDS = 100  # more query parameters than any endpoint has

_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = Mapping[str, Any]


class HttpError(Exception):
    """Ends a request with a Matrix error body.

    Attributes:
        status: HTTP status code.
        errcode: a Matrix error code such as ``M_FORBIDDEN``.
        extra: further members of the error object.
    """

    def __init__(self, status: int, errcode: str, error: str, **extra: object) -> None:
        super().__init__(error)
        self.status = status
        self.errcode = errcode
        self.error = error
        self.extra = extra


@value_object
class Response:
    """A complete response. ``done`` is called once: when it was written, or cannot be.

    Raises:
        ValueError: a header's value cannot be sent as it stands.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    done: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        # A value with a line end would start a header of its own; one beyond Latin-1 has no wire form.
        for name, value in (("content-type", self.content_type), *self.headers):
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"the value of the header {name} has characters a header cannot hold")


def json_response(value: object, status: int = 200) -> Response:
    """Encode ``value`` as JSON."""
    return Response(status=status, body=orjson.dumps(value))


@dataclass(slots=True)
class Request:
    """One request. ``raw_target`` is the path and query exactly as sent; ``params`` are decoded path
    segments.

    ``peer_domains`` are the DNS names of the client certificate (empty without one); ``client_address`` is
    the IP.
    """

    method: str
    raw_target: str
    headers: Mapping[str, str]  # names lower-case; repeated headers joined by ", "
    params: Mapping[str, str]
    query: Mapping[str, list[str]]
    client_address: str
    peer_domains: tuple[str, ...]
    authorization: tuple[str, ...]  # every Authorization header, in order
    _receive: Receive
    _body: bytes | None = field(default=None)
    _ended: bool = field(default=False)  # nothing more will come: the body's end, or the client's

    async def body(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """Read the whole body; a second call gives the same bytes.

        Raises:
            HttpError: 413 ``M_TOO_LARGE`` past ``limit`` bytes; 408 ``M_UNKNOWN`` past ``BODY_SECONDS``; 400
                ``M_UNKNOWN`` if the client goes away first.
        """
        if self._body is None:
            chunks: list[bytes] = []

            async def keep(chunk: bytes) -> None:
                chunks.append(chunk)

            await self.pass_on(keep, limit)
            self._body = b"".join(chunks)
        if len(self._body) > limit:
            raise _too_large(limit)
        return self._body

    async def pass_on(self, take: Callable[[bytes], Awaitable[None]], limit: int) -> None:
        """Give a body that nobody has read to ``take``, piece by piece as it comes.

        Raises:
            HttpError: as ``body``; pieces may have been given before.
        """
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        if self._body is not None:  # it came with the head
            if len(self._body) > limit:
                raise _too_large(limit)
            await take(self._body)
        size = 0
        with trio.move_on_after(BODY_SECONDS) as scope:
            while not self._ended:
                chunk = await self._next_chunk()
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                await take(chunk)
        if scope.cancelled_caught:
            raise HttpError(408, "M_UNKNOWN", f"The request body took longer than {BODY_SECONDS} seconds")

    async def _next_chunk(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._ended = True
            raise HttpError(400, "M_UNKNOWN", "The client went away before its request was complete")
        self._ended = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    async def drain(self) -> bool:
        """Throw away what is left of the body; False if the connection cannot be used again."""
        if self._ended:  # as nearly always
            return True
        size = 0
        with trio.move_on_after(DRAIN_SECONDS):
            while not self._ended and size <= DRAIN_BYTES:
                try:
                    size += len(await self._next_chunk())
                except HttpError:  # the client is gone, so there is nothing left to throw away
                    return True
        return self._ended

    async def json(self) -> JsonObject:
        """Read the body as a JSON object; an empty body counts as an empty object.

        Raises:
            HttpError: as ``checked_json``.
        """
        return (await self.checked_json())[0]

    async def checked_json(self) -> tuple[JsonObject, bool]:
        """The same, with what ``check_json`` said of the object.

        Raises:
            HttpError: 400 ``M_NOT_JSON`` if it is not JSON, 400 ``M_BAD_JSON`` if it is JSON but not an
                object of
                interoperable values (draft, "Malformed Requests").
        """
        body = await self.body()
        try:
            return parse_checked(body or b"{}")
        except CanonicalJsonError as error:
            raise HttpError(400, "M_BAD_JSON" if _is_json(body) else "M_NOT_JSON", str(error)) from error

    async def any_json(self) -> JsonObject:
        """Read the body as a JSON object of whatever values, for what is only kept and given back.

        Raises:
            HttpError: 400 ``M_NOT_JSON`` if it is not JSON, 400 ``M_BAD_JSON`` if it is no object, or nested
                so deeply that it could not be written again.
        """
        try:
            found = orjson.loads(await self.body() or b"{}")
        except orjson.JSONDecodeError as error:
            raise HttpError(400, "M_NOT_JSON", str(error)) from error
        if not isinstance(found, dict):
            raise HttpError(400, "M_BAD_JSON", "The body must be an object")
        try:
            orjson.dumps(found)
        except orjson.JSONEncodeError as error:
            raise HttpError(400, "M_BAD_JSON", str(error)) from error
        return found

    def query_one(self, name: str, default: str | None = None) -> str | None:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default


def _too_large(limit: int) -> HttpError:
    return HttpError(413, "M_TOO_LARGE", f"The request body exceeds {limit} bytes")


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """``pattern`` has literal segments or ``{name}``, e.g. ``/_matrix/client/v3/rooms/{room_id}/state``."""

    method: str
    pattern: str
    handler: Handler


class _Node:
    __slots__ = ("children", "routes", "wildcard")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.wildcard: _Node | None = None
        self.routes: dict[str, tuple[Route, tuple[str, ...]]] = {}  # by method; parameter names


class Router:
    """Matches raw path segments; every lookup costs the length of the path, whatever the number of routes."""

    def __init__(self, routes: list[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        names: list[str] = []
        for segment in route.pattern.split("/")[1:]:
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.wildcard = node.wildcard or _Node()
                node = node.wildcard
            else:
                node = node.children.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"two handlers for {route.method} {route.pattern}")
        node.routes[route.method] = (route, tuple(names))

    def resolve(self, method: str, raw_path: str) -> tuple[Handler, dict[str, str]]:
        """Find the handler for a raw (still percent-encoded) path, and its decoded parameters.

        Raises:
            HttpError: as ``match``.
        """
        route, params = self.match(method, raw_path)
        return route.handler, params

    def match(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]]:
        """Find the route for a raw path, and its decoded parameters.

        Raises:
            HttpError: 404 or 405 ``M_UNRECOGNIZED`` (draft, "Unsupported Endpoints"); 400 ``M_INVALID_PARAM``
                if a
                parameter is not percent-encoded UTF-8.
        """
        values: list[str] = []
        node = self._find(self._root, raw_path.split("/")[1:], 0, values)
        if node is None:
            raise HttpError(404, "M_UNRECOGNIZED", "Unknown endpoint")
        found = node.routes.get(method)
        if found is None:
            raise HttpError(405, "M_UNRECOGNIZED", "This endpoint does not take that method")
        route, names = found
        try:
            return route, {
                name: unquote(value, errors="strict") for name, value in zip(names, values, strict=True)
            }
        except UnicodeDecodeError as error:
            raise HttpError(
                400, "M_INVALID_PARAM", "A path parameter is not percent-encoded UTF-8"
            ) from error

    def methods(self, raw_path: str) -> tuple[str, ...]:
        """The methods a path takes, sorted; none for an unknown path."""
        node = self._find(self._root, raw_path.split("/")[1:], 0, [])
        return tuple(sorted(node.routes)) if node else ()

    def _find(self, node: _Node, segments: list[str], index: int, values: list[str]) -> _Node | None:
        if index == len(segments):
            return node if node.routes else None
        literal = node.children.get(segments[index])
        if literal is not None:
            found = self._find(literal, segments, index + 1, values)
            if found is not None:
                return found
        if node.wildcard is not None and segments[index]:
            values.append(segments[index])
            found = self._find(node.wildcard, segments, index + 1, values)
            if found is not None:
                return found
            values.pop()
        return None


def build_request(scope: Scope, receive: Receive, params: Mapping[str, str]) -> Request:
    """Turn an ASGI scope into a Request, and take its body if that is here.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` if the query holds more than ``MAX_QUERY_FIELDS`` parameters.
    """
    headers: dict[str, str] = {}
    authorization: list[str] = []
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "authorization":
            authorization.append(value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    raw_path = scope.get("raw_path") or scope["path"].encode()
    query_string = scope.get("query_string", b"").decode("latin-1")
    target = raw_path.decode("latin-1")
    try:
        query = (
            parse_qs(query_string, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
            if query_string
            else {}
        )
    except ValueError as error:
        raise HttpError(400, "M_INVALID_PARAM", "Too many query parameters") from error
    body_now = scope.get("body_now")
    body = None if body_now is None else body_now()
    return Request(
        method=scope["method"],
        raw_target=f"{target}?{query_string}" if query_string else target,
        headers=headers,
        params=params,
        query=query,
        client_address=(scope.get("client") or ("unknown", 0))[0],
        peer_domains=tuple(scope.get("peer_domains", ())),
        authorization=tuple(authorization),
        _receive=receive,
        _body=body,
        _ended=body is not None,
    )
