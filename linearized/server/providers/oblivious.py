"""The oblivious gateway (RFC 9458): a relay of another provider brings a request that it cannot read.

"The hub MUST only accept OHTTP requests to Targets which are configured as asset storage locations for one of
its peer providers" (MIMI protocol, Download using Oblivious HTTP): the rule of ``assets.for_provider``, which
``proxyDownload`` has as well. All of it is GET, so a request that a relay sends again tells it nothing: it is
answered with the same file, sealed to the client that asked first.

The gateway and its key configurations are at the path of RFC 9540. Relays get the configurations with our
signature, under a name of ours in the directory.
"""

from __future__ import annotations

import secrets
from typing import Final

import orjson

from linearized.exceptions import MimiDecodeError
from linearized.mimi.binary_http import BinaryRequest, BinaryResponse
from linearized.mimi.ohttp import (
    KEYS_TYPE,
    REQUEST_TYPE,
    RESPONSE_TYPE,
    SIGNATURE_LABEL,
    UNKNOWN_KEY_PROBLEM,
    KeyConfigsTBS,
    ObliviousError,
    SignedKeyConfigs,
    UnknownKey,
    encode_key_configs,
    open_request,
    padded_response,
)
from linearized.server import assets
from linearized.server.buckets import address_names
from linearized.server.gateway_keys import ADVERTISED_SECONDS
from linearized.server.http import HttpError, Request, Response
from linearized.server.node import Node
from linearized.server.providers.authentication import authenticate_provider
from linearized.server.providers.client import CONTENT_TYPE, ProviderError

GATEWAY_PATH: Final = "/.well-known/ohttp-gateway"
MAX_REQUEST_BYTES: Final = 8 * 1024  # a URL of 2 KiB and a few fields, sealed and padded
_KEYS_CACHED: Final = (("cache-control", f"public, max-age={ADVERTISED_SECONDS}"),)
_NOT_STORED: Final = (("cache-control", "no-store"),)


async def key_configs(node: Node, request: Request) -> Response:
    """``GET``: ``application/ohttp-keys``, for anybody, as often as their address may."""
    node.limits.address.take(*address_names(request))
    return Response(body=_configs(node), content_type=KEYS_TYPE, headers=_KEYS_CACHED)


async def signed_key_configs(node: Node, request: Request) -> Response:
    """``GET``: the same as a SignedKeyConfigs, for relays."""
    node.limits.provider.take(authenticate_provider(node, request))
    unsigned = KeyConfigsTBS(provider=node.identity.name, key_configs=_configs(node))
    signed = SignedKeyConfigs(
        provider=unsigned.provider,
        key_configs=unsigned.key_configs,
        signature=node.mls_signer.sign_with_label(label=SIGNATURE_LABEL, content=unsigned.encode()),
    )
    return Response(body=signed.encode(), content_type=CONTENT_TYPE)


async def gateway(node: Node, request: Request) -> Response:
    """``POST``: an Encapsulated Request for an Encapsulated Response, whatever is inside.

    Raises:
        HttpError: 415 for another content type; 413, 429 and those of ``authenticate_provider``.
    """
    provider = authenticate_provider(node, request)
    node.limits.provider.take(provider)
    if request.headers.get("content-type") != REQUEST_TYPE:
        raise HttpError(415, "M_BAD_JSON", f"The content type must be {REQUEST_TYPE}")
    sealed = await request.body(MAX_REQUEST_BYTES)
    try:
        plain, exchange = open_request(node.gateway_keys, sealed)
    except UnknownKey as error:
        return _problem(UNKNOWN_KEY_PROBLEM, str(error))
    except ObliviousError as error:
        return _problem("about:blank", str(error))
    # Errors after "successfully removing encapsulation … MUST be sent in an Encapsulated Response" (section
    # 5.2): only the client hears how it went.
    answer = padded_response((await _serve(node, provider, plain)).encode())
    response = exchange.seal_response(answer, nonce=secrets.token_bytes(exchange.nonce_bytes))
    return Response(body=response, content_type=RESPONSE_TYPE, headers=_NOT_STORED)


async def _serve(node: Node, provider: str, plain: bytes) -> BinaryResponse:
    try:
        request = BinaryRequest.decode(plain)
    except MimiDecodeError:
        return BinaryResponse(status=400)
    if request.method != "GET":
        return BinaryResponse(status=405, headers=((b"allow", b"GET"),))
    try:
        data = await assets.for_provider(node, provider, request.url)
    except assets.NoSuchAsset:
        return BinaryResponse(status=404)
    except ProviderError:
        return BinaryResponse(status=502)
    return BinaryResponse(
        status=200, headers=((b"content-type", CONTENT_TYPE.encode("ascii")),), content=data
    )


def _configs(node: Node) -> bytes:
    # The key before the present one opens what is on its way, and is offered to nobody.
    return encode_key_configs([node.gateway_keys[0].config()])


def _problem(kind: str, title: str) -> Response:
    body = orjson.dumps({"type": kind, "title": title})
    return Response(status=400, body=body, content_type="application/problem+json")
