"""Serves the files of ``linearized/server/web``, a page that reads rooms and checks them itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final

import trio

from linearized.server.http import Request, Response, Route
from linearized.server.ranges import respond

PREFIX: Final = "/web"
_PAGE: Final = "index.html"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# Nothing but these files runs or is shown; pictures of rooms come as blobs, after a request with the token.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS: Final = (
    ("cache-control", "no-cache"),  # asked for each time, by entity tag: an upgrade is one version at once
    ("content-security-policy", _POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
)


def web_routes() -> list[Route]:
    """The page at ``/`` and what it loads below ``/web``."""
    found = [
        (entry.name, entry.read_bytes())
        for entry in files("linearized.server.web").iterdir()
        if entry.name.rpartition(".")[2] in _TYPES
    ]
    return [
        Route("GET", "/" if name == _PAGE else f"{PREFIX}/{name}", _handler(name, data))
        for name, data in sorted(found)
    ]


def _handler(name: str, data: bytes) -> Callable[[Request], Awaitable[Response]]:
    content_type = _TYPES[name.rpartition(".")[2]]

    async def serve(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return respond(request, data, content_type=content_type, headers=HEADERS)

    return serve
