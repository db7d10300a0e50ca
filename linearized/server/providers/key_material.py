"""Key material: claimed for our own users, fetched through us for the rooms we order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import openmls

from linearized.exceptions import CertificateError, IdentifierError, MimiDecodeError
from linearized.mimi.key_material import (
    ClientKeyMaterial,
    KeyMaterialClientCode,
    KeyMaterialRequest,
    KeyMaterialResponse,
    KeyMaterialUserCode,
    Requirements,
    capabilities_of,
    is_of_another_protocol,
)
from linearized.mls import CIPHERSUITES
from linearized.protocol.identifiers import (
    client_uri,
    provider_of_uri,
    room_id_from_uri,
    user_domain,
    user_id_from_uri,
)
from linearized.room.credentials import client_of
from linearized.server import consent_rules, hub_chain, pseudonyms
from linearized.server.node import Node
from linearized.server.providers.client import ProviderError

# How long a claimed package's route is kept for the Welcome that should follow: a commit is made minutes
# after the claim; a day covers a client that was put to sleep in between.
ROUTE_LIFETIME_MS: Final = 24 * 3_600_000
# All that can be in the store.
SUITES: Final = frozenset(CIPHERSUITES.values())


class BadRequest(Exception):  # noqa: N818 - answered with 400
    """A request is malformed or not signed by whom it says."""


async def claim(node: Node, request: KeyMaterialRequest) -> KeyMaterialResponse:
    """Claim one key package for each device of one of our users.

    "Keying material provided from one response MUST NOT be provided in any other response" and "The target
    provider MUST NOT provide expired keying material" (Fetch Key Material): the store sees to both.
    """
    try:
        user_id = user_id_from_uri(request.target_user)
    except IdentifierError:
        return _failure(request, KeyMaterialUserCode.USER_UNKNOWN)
    requester = user_id_from_uri(request.requesting_user)
    if node.store.user(user_id) is None:
        # "The target provider can use this response as a catch all and in place of other status codes such as
        # userUnknown": who has to be granted something first is not told who exists.
        hidden = consent_rules.is_required(node, user_id, user_domain(requester))
        code = KeyMaterialUserCode.NO_CONSENT if hidden else KeyMaterialUserCode.USER_UNKNOWN
        return _failure(request, code)
    room_id = room_id_from_uri(request.room_id) if request.room_id else None
    # Whoever asks for a pseudonym was given it: there is no other way to know it.
    if node.store.pseudonym(user_id) is not None:
        if not await pseudonyms.may_use(node, user_id, room_id):
            return _failure(request, KeyMaterialUserCode.NO_CONSENT_FOR_THIS_ROOM)
        refusal = None
    else:
        refusal = consent_rules.refusal(node, requester=requester, target=user_id, room_id=room_id)
    if refusal is not None:
        return _failure(request, refusal)
    # A request can name a million; each would be looked for in the store's one writer.
    suites = [suite for suite in dict.fromkeys(request.acceptable_ciphersuites) if suite in SUITES]
    requirements = Requirements(request.required_capabilities)
    clients = [
        await _claim_of_device(node, user_id, device.device_id, suites, requirements)
        for device in node.store.devices(user_id)
    ]
    served = sum(client.status is KeyMaterialClientCode.SUCCESS for client in clients)
    if served == 0:
        status = KeyMaterialUserCode.NO_COMPATIBLE_MATERIAL
    elif served < len(clients):
        status = KeyMaterialUserCode.PARTIAL_SUCCESS
    else:
        status = KeyMaterialUserCode.SUCCESS
    return KeyMaterialResponse(user_status=status, user_uri=request.target_user, clients=tuple(clients))


async def _claim_of_device(
    node: Node, user_id: str, device_id: str, suites: Sequence[int], requirements: Requirements
) -> ClientKeyMaterial:
    """One package of a device of ours that fits, or why there is none."""
    now_ms = node.clock()

    def fits(key_package: bytes) -> bool:
        return requirements.met_by(capabilities_of(key_package))

    package = await node.store.claim_key_package(
        user_id=user_id,
        device_id=device_id,
        ciphersuites=suites,
        now_ms=now_ms,
        fits=fits,
    )
    if package is not None:
        return ClientKeyMaterial(
            status=KeyMaterialClientCode.SUCCESS,
            client_uri=package.client_uri,
            key_package=package.key_package,
        )
    other = node.store.claimable_key_package(user_id, device_id, now_ms=now_ms)
    if other is None:
        # "keyMaterialExhausted indicates that there was no keying material available for the specified
        # client."
        return ClientKeyMaterial(
            status=KeyMaterialClientCode.KEY_MATERIAL_EXHAUSTED, client_uri=client_uri(user_id, device_id)
        )
    # "If the client's code is nothingCompatible, the client's capabilities are optionally included": whoever
    # may have its key packages may know them.
    return ClientKeyMaterial(
        status=KeyMaterialClientCode.NOTHING_COMPATIBLE,
        client_uri=other.client_uri,
        capabilities=capabilities_of(other.key_package),
    )


async def fetch_through_hub(node: Node, request: KeyMaterialRequest) -> bytes:
    """As the hub of the room, get key material for a user of any provider and remember where its packages
    came from.

    Raises:
        ProviderError: the target provider did not answer, or not with key material of that user.
    """
    provider = provider_of_uri(request.target_user)
    room_id = room_id_from_uri(request.room_id) if request.room_id else None
    if provider in node.served_domains:
        claimed = await claim(node, request)
        await remember_routes(node, claimed, request.target_user, room_id=room_id)
        return claimed.encode()
    if room_id is not None:
        await hub_chain.introduce(node, provider, room_id)
    body = await node.providers.exchange(provider, "keyMaterial", request.target_user, request.encode())
    try:
        response = KeyMaterialResponse.decode(body)
    except MimiDecodeError as error:
        raise ProviderError(f"{provider} answered no key material: {error}") from error
    await remember_routes(node, response, request.target_user, room_id=room_id)
    return body


async def remember_routes(
    node: Node, response: KeyMaterialResponse, target_user: str, *, room_id: str | None
) -> None:
    """Note at which provider each package of a response lives, so that a Welcome finds its way.

    Args:
        room_id: the room they were asked for. If it moves to another hub, that is told.

    Raises:
        ProviderError: a package is not valid or not of ``target_user``: a provider that could name any
            package as its own would be sent the Welcomes of other providers' users.
    """
    provider = provider_of_uri(target_user)
    routes: dict[bytes, str] = {}
    for client in response.clients:
        if client.key_package is None:
            continue
        try:
            info = openmls.inspect_key_package(client.key_package, now=node.clock() // 1000)
        except openmls.MlsError as error:
            raise ProviderError(f"{provider} sent a key package that is not valid: {error.code}") from error
        if not _is_client_of(info, target_user):
            raise ProviderError(f"{provider} sent a key package of another user")
        routes[info.reference] = provider
    expires = node.clock() + ROUTE_LIFETIME_MS
    if routes and provider not in node.served_domains:
        await node.store.put_key_package_routes(routes, expires, room_id=room_id)
    elif routes and room_id is not None:
        await node.store.put_room_routes(room_id, routes, expires)


def _is_client_of(info: openmls.KeyPackageInfo, target_user: str) -> bool:
    try:
        owner = client_of(info.credential, signature_key=info.signature_key)
        return owner.user_id == user_id_from_uri(target_user)
    except IdentifierError:  # an identity that names nobody
        return False


def other_protocol(body: bytes, target: str) -> KeyMaterialResponse | None:
    """The answer to a request of a protocol that no client here has: "incompatibleProtocol indicates that
    either one of providers supports the protocol requested, or none of the clients of the target user".
    None for one that can be read.

    Args:
        target: from the path.

    Raises:
        MimiDecodeError: it names no protocol, or nobody it is for.
    """
    if not is_of_another_protocol(body):
        return None
    return KeyMaterialResponse(user_status=KeyMaterialUserCode.INCOMPATIBLE_PROTOCOL, user_uri=target)


def verify_request(node: Node, body: bytes, *, target: str) -> KeyMaterialRequest:
    """Decode a request and check its signature and its requester.

    Raises:
        BadRequest: it is malformed, for another target than its path, or its signature or credential do not
            fit.
    """
    try:
        request = KeyMaterialRequest.decode(body)
    except MimiDecodeError as error:
        raise BadRequest(str(error)) from error
    if request.target_user != target:
        raise BadRequest("the request is for another user than its path")
    try:
        openmls.verify_with_label(
            ciphersuite=request.acceptable_ciphersuites[0],
            public_key=request.requester_signature_key,
            label="KeyMaterialRequestTBS",
            content=request.tbs(),
            signature=request.signature,
        )
        key = request.requester_signature_key
        requester = client_of(request.requester_credential, signature_key=key)
        node.require_held(request.requester_credential)
        if requester.user_id != user_id_from_uri(request.requesting_user):
            raise BadRequest("the requester's credential names another user")
    except (openmls.MlsError, IdentifierError, CertificateError) as error:
        raise BadRequest("the request's signature or credential is not valid") from error
    return request


def _failure(request: KeyMaterialRequest, status: KeyMaterialUserCode) -> KeyMaterialResponse:
    # "For any other user code, the provider MUST NOT populate the clients list."
    return KeyMaterialResponse(user_status=status, user_uri=request.target_user, clients=())
