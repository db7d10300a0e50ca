"""What providers tell each other about people: consent, queries and abuse reports.

Only queries are answered with a body: elsewhere "the response code merely indicates that the request was
received".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from linearized.mimi.abuse import AbuseReport
from linearized.mimi.consent import ConsentEntry
from linearized.mimi.identifier_query import IdentifierRequest
from linearized.protocol.identifiers import room_id_from_uri
from linearized.server import abuse, consents, identifiers
from linearized.server.http import Response
from linearized.server.node import Node

Endpoint = Callable[[Node, str, str, bytes], Awaitable[Response]]
_ACCEPTED: Final = 201
_BINARY: Final = "application/octet-stream"


async def _report_abuse(node: Node, provider: str, target: str, body: bytes) -> Response:
    await abuse.receive(node, provider, room_id_from_uri(target), AbuseReport.decode(body))
    return Response(status=_ACCEPTED, content_type=_BINARY)


async def _request_consent(node: Node, provider: str, target: str, body: bytes) -> Response:
    await consents.receive(node, provider, target, ConsentEntry.decode(body), asking=True)
    return Response(status=_ACCEPTED, content_type=_BINARY)


async def _update_consent(node: Node, provider: str, target: str, body: bytes) -> Response:
    await consents.receive(node, provider, target, ConsentEntry.decode(body), asking=False)
    return Response(status=_ACCEPTED, content_type=_BINARY)


async def _identifier_query(node: Node, provider: str, target: str, body: bytes) -> Response:
    found = identifiers.answer(node, provider, target, IdentifierRequest.decode(body))
    return Response(body=found.encode(), content_type=_BINARY)


TARGETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "requestConsent": "targetUser",
        "updateConsent": "requesterUser",
        "identifierQuery": "domain",
        "reportAbuse": "roomId",
    }
)
"""Endpoint names of the directory and the placeholder the draft gives each."""

HANDLERS: Final[Mapping[str, Endpoint]] = MappingProxyType(
    {
        "requestConsent": _request_consent,
        "updateConsent": _update_consent,
        "identifierQuery": _identifier_query,
        "reportAbuse": _report_abuse,
    }
)
