"""HTTP/1.1 on one kept connection: little more than h11, so that the driver costs as little as can be."""

from __future__ import annotations

import json
from typing import Any

import h11
import trio

RECEIVE_BYTES = 65_536


class Connection:
    """Requests one after another, with a token."""

    def __init__(self, stream: trio.SocketStream, host: str, token: str | None) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._headers = [("host", host), *([("authorization", f"Bearer {token}")] if token else [])]
        self.received = 0

    @classmethod
    async def open(cls, port: int, token: str | None = None) -> Connection:
        """Connect to a server on this machine."""
        return cls(await trio.open_tcp_stream("127.0.0.1", port), f"127.0.0.1:{port}", token)

    async def request(self, method: str, target: str, body: object = None) -> bytes:
        """The body of a 200; anything else is an error of the benchmark."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = [*self._headers, ("content-length", str(len(data)))]
        if data:
            headers.append(("content-type", "application/json"))
        parts = (
            h11.Request(method=method, target=target, headers=headers),
            *([h11.Data(data=data)] if data else []),
            h11.EndOfMessage(),
        )
        await self._stream.send_all(b"".join(self._http.send(part) or b"" for part in parts))
        status, chunks = 0, []
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                received = await self._stream.receive_some(RECEIVE_BYTES)
                self.received += len(received)
                self._http.receive_data(received)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
        self._http.start_next_cycle()
        answer = b"".join(chunks)
        assert status == 200, (method, target, status, answer[:500])  # noqa: PLR2004 - what HTTP calls it
        return answer

    async def json(self, method: str, target: str, body: object = None) -> Any:
        """The decoded body of a 200."""
        return json.loads(await self.request(method, target, body))

    async def aclose(self) -> None:
        await self._stream.aclose()
