"""The homeserver in memory, served over HTTP on loopback, so that a bridge can be a process of its own."""

from __future__ import annotations

from typing import cast

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve
from hypercorn.typing import Framework

from bridges.matrix.appservice import Receive, Scope, Send
from tests.bridges.fake_homeserver import FakeHomeserver


class ServedHomeserver:
    """An ASGI application that passes every request on to a ``FakeHomeserver``."""

    def __init__(self, homeserver: FakeHomeserver) -> None:
        self._homeserver = homeserver.http()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", True
        while more:
            piece = await receive()
            body, more = body + piece.get("body", b""), piece.get("more_body", False)
        target = b"?".join(part for part in (scope["raw_path"], scope["query_string"]) if part)
        answer = await self._homeserver.request(
            scope["method"],
            f"http://homeserver{target.decode('latin-1')}",
            headers=scope["headers"],
            content=body,
        )
        kind = answer.headers.get("content-type", "application/octet-stream").encode()
        headers = [(b"content-type", kind), (b"content-length", str(len(answer.content)).encode())]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})


async def serve_homeserver(
    homeserver: FakeHomeserver, port: int, *, task_status: trio.TaskStatus[list[str]]
) -> None:
    """Serve on a port of loopback until cancelled; ``task_status`` is told when it listens."""
    config = HypercornConfig()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = None
    config.loglevel = "WARNING"
    # Hypercorn's types are those of its own dictionaries, narrower than what ASGI promises.
    app = cast("Framework", ServedHomeserver(homeserver))
    await serve(app, config, task_status=task_status)
