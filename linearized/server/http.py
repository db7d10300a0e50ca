"""A small HTTP layer over ASGI: requests, responses and a router that matches the raw path.

Why not a framework: X-Matrix signs the raw request target, identifiers in paths may hold percent-encoded slashes, and
the drafts want 404 for trailing slashes and 405 for wrong methods, each with a Matrix error body. Frameworks decode the
path before they route. See docs/decisions/0001-own-http-layer.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from linearized.exceptions import CanonicalJsonError
from linearized.protocol.canonical import JsonObject, parse_json_object

# The largest body any Matrix or MIMI face takes: 50 PDUs of 64 KiB and JSON around them fit; media has its own limit.
MAX_BODY_BYTES = 4 * 1024 * 1024

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A complete response."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_response(value: object, status: int = 200) -> Response:
    """Encode ``value`` as JSON."""
    return Response(status=status, body=orjson.dumps(value))


@dataclass(slots=True)
class Request:
    """One request. ``raw_target`` is the path and query exactly as sent; ``params`` are decoded path segments.

    ``peer_domains`` are the DNS names of the client certificate (empty without one); ``client_address`` is the IP.
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

    async def body(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """Read the whole body.

        Raises:
            HttpError: 413 ``M_TOO_LARGE`` past ``limit`` bytes.
        """
        if self._body is None:
            chunks: list[bytes] = []
            size = 0
            more = True
            while more:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise HttpError(400, "M_UNKNOWN", "The client went away before its request was complete")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise HttpError(413, "M_TOO_LARGE", f"The request body exceeds {limit} bytes")
                chunks.append(chunk)
                more = message.get("more_body", False)
            self._body = b"".join(chunks)
        return self._body

    async def json(self) -> JsonObject:
        """Read the body as a JSON object.

        Raises:
            HttpError: 400 ``M_NOT_JSON`` if it is not JSON or not an object of interoperable values.
        """
        try:
            return parse_json_object(await self.body() or b"{}")
        except CanonicalJsonError as error:
            raise HttpError(400, "M_NOT_JSON", str(error)) from error

    def query_one(self, name: str, default: str | None = None) -> str | None:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """``method`` and ``pattern``: literal segments or ``{name}``, e.g. ``/_matrix/client/v3/rooms/{room_id}/state``."""

    method: str
    pattern: str
    handler: Handler


class _Node:
    __slots__ = ("children", "handlers", "names", "wildcard")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.wildcard: _Node | None = None
        self.handlers: dict[str, Handler] = {}
        self.names: tuple[str, ...] = ()


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
        if route.method in node.handlers:
            raise ValueError(f"two handlers for {route.method} {route.pattern}")
        node.handlers[route.method] = route.handler
        node.names = tuple(names)

    def resolve(self, method: str, raw_path: str) -> tuple[Handler, dict[str, str]]:
        """Find the handler for a raw (still percent-encoded) path.

        Raises:
            HttpError: 404 or 405 ``M_UNRECOGNIZED`` (draft, "Unsupported Endpoints").
        """
        values: list[str] = []
        node: _Node | None = self._find(self._root, raw_path.split("/")[1:], 0, values)
        if node is None:
            raise HttpError(404, "M_UNRECOGNIZED", "Unknown endpoint")
        handler = node.handlers.get(method)
        if handler is None:
            raise HttpError(405, "M_UNRECOGNIZED", "This endpoint does not take that method")
        return handler, dict(zip(node.names, (unquote(value) for value in values), strict=True))

    def _find(self, node: _Node, segments: list[str], index: int, values: list[str]) -> _Node | None:
        if index == len(segments):
            return node if node.handlers else None
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
    """Turn an ASGI scope into a Request."""
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
    return Request(
        method=scope["method"],
        raw_target=f"{target}?{query_string}" if query_string else target,
        headers=headers,
        params=params,
        query=parse_qs(query_string, keep_blank_values=True),
        client_address=(scope.get("client") or ("unknown", 0))[0],
        peer_domains=tuple(scope.get("peer_domains", ())),
        authorization=tuple(authorization),
        _receive=receive,
    )
