"""The ASGI application: finds the route, runs its handler, and turns whatever goes wrong into a Matrix error
object.

One ``App`` per listener. It knows nothing of rooms or users; the routes it is built from do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import trio

from linearized.server.errors import as_http_error, error_response
from linearized.server.http import (
    HttpError,
    Receive,
    Request,
    Response,
    Route,
    Router,
    Scope,
    Send,
    build_request,
    json_response,
)
from linearized.server.streaming import Ending, StreamResponse, write_stream
from linearized.server.telemetry import Log, describe, get_log

# "Servers MUST expect that clients will approach them with OPTIONS requests" (Matrix client-server API, "Web
# Browser Clients"), which also gives these three headers.
CORS_PREFIXES = ("/_matrix/client/", "/_matrix/media/", "/.well-known/matrix/client")
CORS_HEADERS = (
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
    ("access-control-allow-headers", "X-Requested-With, Content-Type, Authorization"),
)

_UNKNOWN_ROUTE = "-"  # what the log calls a path that is no endpoint: an unknown path may hold anything


class App:
    """An ASGI 3 application over a list of routes."""

    def __init__(self, routes: Sequence[Route], *, log: Log | None = None) -> None:
        self._router = Router(list(routes))
        self._log = log or get_log(part="http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. ``scope`` may hold ``peer_domains``, ``abort``, ``endings`` (see
        ``listener``), ``send_now`` and ``body_now`` (see ``http1_server``).
        """
        if scope["type"] != "http":
            await _refuse(scope, send)
            return
        started = trio.current_time()
        method, path = scope["method"], (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        route, request, response = await self._answer(scope, receive, method, path)
        source = response.source if isinstance(response, StreamResponse) else None
        try:
            drained = request is None or await request.drain()
            if path.startswith(CORS_PREFIXES):
                response = replace(response, headers=(*response.headers, *CORS_HEADERS))
            if isinstance(response, StreamResponse) and method != "HEAD" and drained:
                size = await _stream(scope, receive, send, response)
            else:
                await _send(send, response, head=method == "HEAD")
                size = len(response.body)
            if not drained and "abort" in scope:
                scope["abort"]()
        finally:
            if source is not None:
                source.close()
            if response.done is not None:
                response.done()
        self._log.info(
            "request",
            method=method,
            route=route,
            status=response.status,
            ms=round((trio.current_time() - started) * 1000, 1),
            bytes=size,
        )

    async def _answer(
        self, scope: Scope, receive: Receive, method: str, path: str
    ) -> tuple[str, Request | None, Response]:
        if method == "OPTIONS" and path.startswith(CORS_PREFIXES):
            return _UNKNOWN_ROUTE, None, json_response({})
        pattern, request = _UNKNOWN_ROUTE, None
        try:
            # Before the route, so that the body of a request for no endpoint is thrown away as any other's: a
            # connection on which it comes after our answer is lost to every request that shares it.
            request = build_request(scope, receive, {})
            route, request.params = self._router.match("GET" if method == "HEAD" else method, path)
            pattern = route.pattern
            return pattern, request, await route.handler(request)
        # Everything a handler raises: what is not the caller's doing is logged by type and place, and hidden.
        except Exception as error:  # noqa: BLE001
            known = as_http_error(error)
            if known is None:
                self._log.error("request_failed", method=method, route=pattern, **describe(error))
                known = HttpError(500, "M_UNKNOWN", "Something went wrong")
            return pattern, request, self._error(known, path)

    def _error(self, error: HttpError, path: str) -> Response:
        response = error_response(error)
        if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(self._router.methods(path))
            return replace(response, headers=(("allow", allowed),))
        return response


def build_app(routes: Sequence[Route], *, log: Log | None = None) -> App:
    """An ASGI application over ``routes``.

    Raises:
        ValueError: two routes take the same method and path.
    """
    return App(routes, log=log)


async def _refuse(scope: Scope, send: Send) -> None:
    """Turn away what is not an HTTP request: we open no websockets."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    return name.encode("ascii"), value.encode("latin-1")


def _length(response: Response) -> tuple[bytes, bytes]:
    return _header("content-length", str(len(response.body)))


async def _stream(scope: Scope, receive: Receive, send: Send, response: StreamResponse) -> int:
    """Send an answer without a known end; how many bytes its body had."""
    endings: set[Ending] = scope.get("endings", set())
    ending = Ending()
    endings.add(ending)
    try:
        await send({"type": "http.response.start", "status": response.status, "headers": _headers(response)})
        return await write_stream(
            response,
            receive,
            send,
            ending=ending,
            drop=scope.get("abort", _nothing),
            send_now=scope.get("send_now"),
        )
    finally:
        endings.discard(ending)


def _nothing() -> None:
    """Without a listener there is no connection to drop."""


def _headers(response: Response) -> list[tuple[bytes, bytes]]:
    return [_header("content-type", response.content_type), *(_header(*pair) for pair in response.headers)]


async def _send(send: Send, response: Response, *, head: bool) -> None:
    headers = _headers(response)
    # "A server MUST NOT send Content-Length in such a response" to a condition, unless it is the whole's; of
    # a stream nobody knows it.
    if response.status != HTTPStatus.NOT_MODIFIED and not isinstance(response, StreamResponse):
        headers.append(_length(response))
    start: dict[str, Any] = {"type": "http.response.start", "status": response.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"" if head else response.body, "more_body": False})
