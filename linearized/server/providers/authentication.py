"""Which provider is calling: its certificate says so, its From header has to agree."""

from __future__ import annotations

from typing import Final

from linearized.server.http import HttpError, Request
from linearized.server.node import Node

_LOCAL_PART: Final = "mimi@"


def authenticate_provider(node: Node, request: Request) -> str:
    """The calling provider's domain.

    "The source provider is indicated using a From header … the local-part of the address MUST contain the
    fixed string mimi"; "The TLS connection underlying the HTTPS connection MUST be mutually authenticated.
    The certificates presented in the TLS handshake MUST authenticate the source and target provider domains"
    (Transport layer).

    Raises:
        HttpError: 401 without a fitting certificate, 400 without a fitting From header, 421 for another
            target.
    """
    if not request.peer_domains:
        raise HttpError(401, "M_FORBIDDEN", "Providers authenticate with a client certificate")
    sender = request.headers.get("from", "")
    if not sender.startswith(_LOCAL_PART):
        raise HttpError(400, "M_BAD_JSON", "The From header must be mimi@ and the provider's domain")
    provider = sender.removeprefix(_LOCAL_PART)
    if provider not in request.peer_domains:
        raise HttpError(401, "M_FORBIDDEN", "The certificate is not for the provider in the From header")
    # "If the provider is using a non-standard port, then the port component of the Host header is ignored."
    host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
    if host not in {name.partition(":")[0] for name in node.served_domains}:
        raise HttpError(421, "M_WRONG_SERVER", "The Host header names another provider")
    node.followers.contacted(provider)
    node.pulling.contacted(provider)
    return provider
