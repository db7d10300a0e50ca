"""What providers ask each other about people: abuse reports.

The answers have no body: "The response code only indicates if the abuse report was accepted".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from linearized.mimi.abuse import AbuseReport
from linearized.protocol.identifiers import room_id_from_uri
from linearized.server import abuse
from linearized.server.http import Response
from linearized.server.node import Node

Endpoint = Callable[[Node, str, str, bytes], Awaitable[Response]]
_ACCEPTED: Final = 201
_BINARY: Final = "application/octet-stream"


async def _report_abuse(node: Node, provider: str, target: str, body: bytes) -> Response:
    await abuse.receive(node, provider, room_id_from_uri(target), AbuseReport.decode(body))
    return Response(status=_ACCEPTED, content_type=_BINARY)


TARGETS: Final[Mapping[str, str]] = MappingProxyType({"reportAbuse": "roomId"})
"""Endpoint names of the directory and the placeholder the draft gives each."""

HANDLERS: Final[Mapping[str, Endpoint]] = MappingProxyType({"reportAbuse": _report_abuse})
