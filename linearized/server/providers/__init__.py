"""The MIMI face: what other providers call, as hub and as follower (draft-ietf-mimi-protocol-06)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import openmls

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.handshake import HandshakeBundle
from linearized.mimi.messages import SubmitMessageRequest, decode_fanout_stream
from linearized.protocol.identifiers import provider_of_uri, room_id_from_uri
from linearized.room.submissions import ApplicationMessage, Handshake, Reason, Rejected
from linearized.server import assets, hub_chain
from linearized.server.buckets import address_names
from linearized.server.exchange import wrong_server
from linearized.server.http import HttpError, Request, Response, Route, json_response
from linearized.server.invited import has_copy
from linearized.server.node import Node
from linearized.server.providers import (
    contacts,
    delivery_service,
    fanout_requests,
    follow,
    group_info,
    key_material,
    oblivious,
)
from linearized.server.providers.authentication import authenticate_provider
from linearized.server.providers.client import (
    CONTENT_TYPE,
    DELIVERY_SERVICE,
    DIRECTORY_PATH,
    FANOUT_REQUEST,
    FANOUT_TOKENS,
    FOLLOW,
    GATEWAY,
    GATEWAY_KEYS,
    HUB_MOVED,
    METADATA_POLICY,
    PROXY_DOWNLOAD,
)
from linearized.server.providers.responses import (
    submit_accepted,
    submit_rejected,
    update_accepted,
    update_rejected,
)
from linearized.store.base import Role

PREFIX: Final = "/_mimi/v1"
# Endpoint names of the directory and the placeholder the draft gives each.
ENDPOINTS: Final = {
    "keyMaterial": "targetUser",
    "update": "roomId",
    "notify": "roomId",
    "submitMessage": "roomId",
    "groupInfo": "roomId",
    PROXY_DOWNLOAD: "downloadUrl",
    **contacts.TARGETS,
}
# No draft has pull followers, and draft-robert-mimi-delivery-service has no transport: the directory lists
# their endpoints under names of ours.
FOLLOW_PATH: Final = "follow"
DELIVERY_SERVICE_PATH: Final = "deliveryService"
FANOUT_REQUEST_PATH: Final = "fanoutRequest"
FANOUT_TOKENS_PATH: Final = "fanoutTokens"
METADATA_POLICY_PATH: Final = "metadataPolicy"
GATEWAY_KEYS_PATH: Final = "ohttpKeys"
HUB_MOVED_PATH: Final = "hubMoved"

# What goes into a room's log, or comes from one: its pace is the room's, not the provider's.
TO_ROOMS: Final = frozenset({"update", "notify", "submitMessage", DELIVERY_SERVICE_PATH, FANOUT_REQUEST_PATH})

Endpoint = Callable[[Node, str, str, bytes], Awaitable[Response]]


def routes(node: Node) -> list[Route]:
    """The directory and every endpoint it lists."""

    async def directory(request: Request) -> Response:
        base = f"https://{node.identity.name}{PREFIX}"
        endpoints = {name: f"{base}/{name}/{{{target}}}" for name, target in ENDPOINTS.items()}
        endpoints[FOLLOW] = f"{base}/{FOLLOW_PATH}"
        endpoints[GATEWAY] = f"https://{node.identity.name}{oblivious.GATEWAY_PATH}"
        endpoints[GATEWAY_KEYS] = f"{base}/{GATEWAY_KEYS_PATH}"
        endpoints[HUB_MOVED] = f"{base}/{HUB_MOVED_PATH}/{{roomId}}"
        endpoints[METADATA_POLICY] = f"{base}/{METADATA_POLICY_PATH}"
        endpoints[DELIVERY_SERVICE] = f"{base}/{DELIVERY_SERVICE_PATH}/{{roomId}}"
        endpoints[FANOUT_REQUEST] = f"{base}/{FANOUT_REQUEST_PATH}/{{roomId}}"
        endpoints[FANOUT_TOKENS] = f"{base}/{FANOUT_TOKENS_PATH}/{{roomId}}"
        return json_response(endpoints)

    async def metadata_policy(request: Request) -> Response:
        # For anybody: whoever thinks of joining may ask, and what is told is not theirs alone.
        node.limits.address.take(*address_names(request))
        return _binary(node.hub_policies.own().encode())

    handlers: dict[str, Endpoint] = {
        "keyMaterial": _key_material,
        "update": _update,
        "notify": _notify,
        "submitMessage": _submit_message,
        "groupInfo": _group_info,
        **contacts.HANDLERS,
        DELIVERY_SERVICE_PATH: _delivery_service,
        FANOUT_REQUEST_PATH: _fanout_request,
        FANOUT_TOKENS_PATH: _fanout_tokens,
        HUB_MOVED_PATH: _hub_moved,
    }
    return [
        Route("GET", DIRECTORY_PATH, directory),
        *(
            Route("POST", f"{PREFIX}/{name}/{{target}}", _authenticated(node, handler, room=name in TO_ROOMS))
            for name, handler in handlers.items()
        ),
        Route("GET", f"{PREFIX}/{PROXY_DOWNLOAD}/{{target}}", _authenticated(node, _proxy_download)),
        Route("GET", f"{PREFIX}/{HUB_MOVED_PATH}/{{target}}", _authenticated(node, _where)),
        Route("GET", oblivious.GATEWAY_PATH, partial(oblivious.key_configs, node)),
        Route("POST", oblivious.GATEWAY_PATH, partial(oblivious.gateway, node)),
        Route("GET", f"{PREFIX}/{GATEWAY_KEYS_PATH}", partial(oblivious.signed_key_configs, node)),
        Route("GET", f"{PREFIX}/{METADATA_POLICY_PATH}", metadata_policy),
        *(
            Route(method, f"{PREFIX}/{FOLLOW_PATH}", partial(handler, node))
            for method, handler in (
                ("GET", follow.fetch),
                ("POST", follow.register),
                ("DELETE", follow.unregister),
            )
        ),
    ]


def _authenticated(
    node: Node, endpoint: Endpoint, *, room: bool = False
) -> Callable[[Request], Awaitable[Response]]:
    """Run ``endpoint`` for a provider that proves who it is and does not ask too often.

    Args:
        room: what is sent to a room is counted for that room; everything else for the provider.
    """

    async def handle(request: Request) -> Response:
        provider = authenticate_provider(node, request)
        if room:
            node.limits.group.take(f"{provider} {request.params['target']}")
        else:
            node.limits.provider.take(provider)
        try:
            return await endpoint(node, provider, request.params["target"], await request.body())
        except (MimiDecodeError, IdentifierError, key_material.BadRequest) as error:
            raise HttpError(400, "M_BAD_JSON", str(error)) from error

    return handle


def _binary(body: bytes) -> Response:
    return Response(body=body, content_type=CONTENT_TYPE)


async def _key_material(node: Node, provider: str, target: str, body: bytes) -> Response:
    incompatible = key_material.other_protocol(body, target)
    if incompatible is not None:
        return _binary(incompatible.encode())
    request = key_material.verify_request(node, body, target=target)
    # "KeyPackages requested using this primitive MUST be sent via the hub provider of whatever room they will
    # be used in": we are asked by that hub, or as it, by a provider whose own user it is.
    by_hub = not request.room_id or node.rooms.following.is_hub(room_id_from_uri(request.room_id), provider)
    if by_hub and provider_of_uri(target) in node.served_domains:
        if request.room_id:
            # A key package lets the hub put our user into its room: this is when we join.
            await node.hub_policies.require(provider)
        return _binary((await key_material.claim(node, request)).encode())
    _require_here(node, provider, room_id_from_uri(request.room_id))
    row = node.rooms.row(room_id_from_uri(request.room_id))
    if (
        row is None
        or row.role is not Role.HUB
        or provider_of_uri(request.requesting_user) != provider
        or not node.rooms.is_participant(row.room_id, provider)
    ):
        raise HttpError(403, "M_FORBIDDEN", "Key material is fetched through the hub of a room you are in")
    return _binary(await key_material.fetch_through_hub(node, request))


async def _update(node: Node, provider: str, target: str, body: bytes) -> Response:
    bundle = HandshakeBundle.decode(body)
    room_id = room_id_from_uri(target)
    submission = Handshake(
        bundle=bundle,
        provider=provider,
        introduced=node.rooms.introduced(room_id, bundle),
        invited_by=node.join_codes.inviter(room_id, bundle),
    )
    try:
        entry = await node.rooms.submit_once(room_id, submission)
    except Rejected as error:
        _tell_where(node, provider, room_id, error)
        return _binary(update_rejected(error).encode())
    return _binary(update_accepted(entry.origin_server_ts).encode())


async def _submit_message(node: Node, provider: str, target: str, body: bytes) -> Response:
    request = SubmitMessageRequest.decode(body)
    room_id = room_id_from_uri(target)
    submission = ApplicationMessage(
        message=request.message, sending_uri=request.sending_uri, provider=provider
    )
    try:
        entry = await node.rooms.submit_once(room_id, submission)
    except Rejected as error:
        _tell_where(node, provider, room_id, error)
        # Only a message that could be read is found to be for the wrong epoch.
        late = error.code is Reason.WRONG_EPOCH
        epoch = openmls.inspect_message(request.message).epoch if late else None
        return _binary(submit_rejected(error, message_epoch=epoch).encode())
    return _binary(
        submit_accepted(entry.origin_server_ts, node.franking.of_entry(entry, request.message)).encode()
    )


async def _group_info(node: Node, provider: str, target: str, body: bytes) -> Response:
    _require_here(node, provider, room_id_from_uri(target))
    return _binary(await group_info.answer(node, room_id_from_uri(target), body, domains={provider}))


async def _delivery_service(node: Node, provider: str, target: str, body: bytes) -> Response:
    _require_here(node, provider, room_id_from_uri(target))
    return _binary(await delivery_service.answer(node, room_id_from_uri(target), body, provider=provider))


async def _fanout_request(node: Node, provider: str, target: str, body: bytes) -> Response:
    return _binary(await fanout_requests.receive(node, provider, target, body))


async def _fanout_tokens(node: Node, provider: str, target: str, body: bytes) -> Response:
    await fanout_requests.register(node, provider, room_id_from_uri(target), body)
    return Response(status=204)


async def _notify(node: Node, provider: str, target: str, body: bytes) -> Response:
    # A room lives at the provider its URI names, or that has shown us that it moved there; only that one may
    # tell us about it.
    room_id = room_id_from_uri(target)
    if not node.rooms.following.is_hub(room_id, provider):
        raise HttpError(403, "M_FORBIDDEN", "Only the hub of a room fans out its messages")
    await node.rooms.following.receive(room_id, provider, decode_fanout_stream(body))
    return Response(status=201, content_type=CONTENT_TYPE)


async def _hub_moved(node: Node, provider: str, target: str, body: bytes) -> Response:
    room_id = room_id_from_uri(target)
    await node.rooms.following.moved(room_id, provider, await hub_chain.shown(node, room_id, body))
    return Response(status=204)


async def _where(node: Node, _provider: str, target: str, _body: bytes) -> Response:
    return Response(body=hub_chain.where(node, room_id_from_uri(target)))


def _tell_where(node: Node, provider: str, room_id: str, error: Rejected) -> None:
    """As ``_require_here``, for who was refused: only then is there a hub to look for."""
    if error.code is Reason.WRONG_HUB:
        _require_here(node, provider, room_id)


def _require_here(node: Node, provider: str, room_id: str) -> None:
    """Tell a provider in a room that it has moved, and where.

    Raises:
        HttpError: 400 ``M_WRONG_SERVER`` with the hub.
    """
    row = node.rooms.row(room_id)
    if row is None or row.role is not Role.PARTICIPANT or not has_copy(row):
        return
    if node.rooms.is_participant(room_id, provider):
        raise wrong_server(row.hub)


async def _proxy_download(node: Node, provider: str, target: str, body: bytes) -> Response:
    try:
        data = await assets.for_provider(node, provider, target)
    except assets.NoSuchAsset as error:
        raise HttpError(404, "M_NOT_FOUND", "No such file at a provider of ours") from error
    return Response(body=data, content_type=CONTENT_TYPE, headers=(("x-content-type-options", "nosniff"),))
