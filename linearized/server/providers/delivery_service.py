"""The operations of draft-robert-mimi-delivery-service, on one endpoint of a room.

They are another way of asking for what MIMI's own endpoints do: each becomes the same submission, and is
decided in the same place. What is different is who vouches for the sender: a client signs its request with
the key of its leaf, and its provider, which passes it on, authenticates itself as everywhere in MIMI.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import openmls

from linearized.mimi.delivery_service import (
    ClientID,
    CommitRequest,
    DSError,
    DSErrorCode,
    DSRequest,
    DSRequestType,
    DSResponse,
    DSResponseBody,
    DSResponseType,
    ExternalCommitInfo,
    MLSGroupUpdate,
    ProposalRequest,
    WelcomeInfoRequest,
)
from linearized.mimi.handshake import (
    GroupInfoOption,
    HandshakeBundle,
    PartialGroupInfo,
    RatchetTreeOption,
    RatchetTreePresence,
    RatchetTreeRepresentation,
    welcome_struct,
)
from linearized.mimi.metadata_policy import MetadataPolicyError
from linearized.protocol.identifiers import client_from_uri, user_domain, user_uri
from linearized.room.submissions import ApplicationMessage, Handshake, Reason, Rejected
from linearized.server.consent_rules import is_required
from linearized.server.loading import was_deleted
from linearized.server.node import Node
from linearized.server.providers.ds_authentication import (
    DSRefused,
    authenticate_sender,
    inspect,
    require_signed_by,
)
from linearized.server.providers.key_material import SUITES
from linearized.server.providers.welcome_matching import assign_welcomes
from linearized.server.pseudonyms import may_use
from linearized.store.base import KeyPackageRow, Role, RoomRow
from linearized.store.past_trees import PastTreeRow

_T = TypeVar("_T")

# Messages, commits or clients in one request: each costs about as much as a request of its own, and what a
# client does at once is far less.
MAX_ITEMS: Final = 50

ERROR_CODES: Final[Mapping[Reason, DSErrorCode]] = MappingProxyType(
    {
        Reason.MALFORMED: DSErrorCode.MALFORMED,
        Reason.TOO_LARGE: DSErrorCode.TOO_LARGE,
        Reason.BAD_SIGNATURE: DSErrorCode.NOT_ALLOWED,
        Reason.FORBIDDEN: DSErrorCode.NOT_ALLOWED,
        Reason.WRONG_EPOCH: DSErrorCode.WRONG_EPOCH,
        Reason.INVALID_COMMIT: DSErrorCode.INVALID_COMMIT,
        Reason.INVALID_PROPOSAL: DSErrorCode.INVALID_PROPOSAL,
        Reason.UNKNOWN_ROOM: DSErrorCode.NOT_ALLOWED,
        Reason.WRONG_HUB: DSErrorCode.NOT_ALLOWED,
    }
)

_GROUP_INFO_MESSAGE: Final = bytes([0, 1, 0, 4])  # ProtocolVersion mls10, WireFormat mls_group_info
_OK: Final = DSResponseBody(response_type=DSResponseType.OK)


async def answer(node: Node, room_id: str, body: bytes, *, provider: str) -> bytes:
    """Answer a DSRequest about a room's group; both are TLS-encoded.

    Args:
        provider: the authenticated provider that passes the request on, or asks itself.

    Raises:
        MimiDecodeError: it is none.
    """
    request = DSRequest.decode(body)
    try:
        content = await _perform(node, room_id, request, provider)
    except DSRefused as error:
        content = _error(error.code, str(error))
    except Rejected as error:
        content = _error(ERROR_CODES[error.code], str(error), error.current_epoch)
    return DSResponse(response_body=content).encode()


async def _perform(node: Node, room_id: str, request: DSRequest, provider: str) -> DSResponseBody:
    asked = request.request_body
    row = node.rooms.row(room_id)
    if asked.key_packages is not None:
        return await _key_packages(node, room_id, row, asked.key_packages.client_identifiers, provider)
    if row is None or row.role is not Role.HUB:
        # As for MIMI's GroupInfo, who may not know of a room is told no more than who asks for one that is
        # not there.
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "there is no such group for you here")
    if asked.welcome_info is not None:
        return await _welcome_info(node, room_id, request, asked.welcome_info, provider)
    if asked.request_type is DSRequestType.GROUP_INFO:
        return _group_info(node, room_id, request, provider)
    if asked.commits is not None:
        return await _commits(node, room_id, request, asked.commits, provider)
    if asked.proposals is not None:
        return await _proposals(node, room_id, request, asked.proposals, provider)
    sender = authenticate_sender(node, room_id, request, provider)
    if asked.delete_group is not None:
        update = asked.delete_group.group_update
        require_signed_by(sender, update.commit)
        bundle = _bundle(update, None)
        await node.rooms.submit_once(room_id, _handshake(node, room_id, bundle, provider, deletes=True))
    elif asked.send_message is not None:
        for message in _bounded(asked.send_message.application_messages):
            submission = ApplicationMessage(
                message=message, sending_uri=user_uri(sender.client.user_id), provider=provider
            )
            await node.rooms.submit_once(room_id, submission)
    return _OK


# --- operations ---


async def _proposals(
    node: Node, room_id: str, request: DSRequest, asked: ProposalRequest, provider: str
) -> DSResponseBody:
    proposals = _bounded(asked.proposals)
    # "Group members and external senders can send proposals to the group": the latter have no leaf to sign
    # with. The room verifies with the key that the group lists, and holds whose it is to who passes it on.
    if any(inspect(message).sender_leaf_index is not None for message in proposals):
        sender = authenticate_sender(node, room_id, request, provider)
        for message in proposals:
            require_signed_by(sender, message)
    bundle = HandshakeBundle(message=proposals[0], more_proposals=proposals[1:])
    await node.rooms.submit_once(room_id, _handshake(node, room_id, bundle, provider))
    return _OK


async def _commits(
    node: Node, room_id: str, request: DSRequest, commits: CommitRequest, provider: str
) -> DSResponseBody:
    """Take commits one after the other; the first that is refused ends it, and those before it stand."""
    updates = _bounded(commits.group_updates)
    external = all(inspect(update.commit).is_external_commit for update in updates)
    # "Clients that are not group members can send an (external) commit to add themselves to a group": they
    # have no leaf to sign with, and the commit is signed with the key it brings.
    if not external:
        sender = authenticate_sender(node, room_id, request, provider)
        for update in updates:
            require_signed_by(sender, update.commit)
    welcomes = assign_welcomes([update.commit for update in updates], commits.welcome_messages)
    for update, welcome in zip(updates, welcomes, strict=True):
        bundle = _bundle(update, welcome)
        await node.rooms.submit_once(room_id, _handshake(node, room_id, bundle, provider))
    return _OK


async def _key_packages(
    node: Node, room_id: str, row: RoomRow | None, clients: tuple[ClientID, ...], provider: str
) -> DSResponseBody:
    """One key package of each client. A client that has none left fails the request, and packages that were
    taken for it are used up: they must never be handed out twice.

    They go where MIMI's key material goes: to the hub of the room they will be used in, and, if that is us,
    to a provider that takes part in it.
    """
    hub = row is not None and row.role is Role.HUB
    if not (
        node.rooms.is_participant(room_id, provider)
        if hub
        else node.rooms.following.is_hub(room_id, provider)
    ):
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "key packages are for rooms that you take part in")
    if not hub:
        # A key package lets the hub put our user into its room: as for MIMI's key material.
        try:
            await node.hub_policies.require(provider)
        except MetadataPolicyError as error:
            raise DSRefused(DSErrorCode.NOT_ALLOWED, str(error)) from error
    wanted: list[tuple[str, str]] = []
    for client in _bounded(clients):
        # "All client identifiers MUST refer to clients native to this DS."
        user_id, device_id = client_from_uri(client.client_id)
        if user_domain(user_id) not in node.served_domains:
            raise DSRefused(DSErrorCode.UNKNOWN_CLIENT, "a client is none of this provider")
        # The request does not say who will use the package, so there is nobody to have been granted it.
        # Whether there is such a user is not told, either.
        if is_required(node, user_id, provider):
            raise DSRefused(DSErrorCode.NOT_ALLOWED, "a client's user wants to be asked for consent")
        if device_id not in {device.device_id for device in node.store.devices(user_id)}:
            raise DSRefused(DSErrorCode.UNKNOWN_CLIENT, "a client is none of this provider")
        if not await may_use(node, user_id, room_id):
            raise DSRefused(DSErrorCode.NOT_ALLOWED, "a client's pseudonym is for another room")
        wanted.append((user_id, device_id))
    if len(set(wanted)) < len(wanted):
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "a client is named twice")
    group = node.store.group(room_id)
    suites = sorted(SUITES) if group is None else [openmls.group_info_details(group.group_info).ciphersuite]
    found: list[KeyPackageRow] = []
    for user_id, device_id in wanted:
        package = await node.store.claim_key_package(
            user_id=user_id, device_id=device_id, ciphersuites=suites, now_ms=node.clock()
        )
        if package is None:
            raise DSRefused(DSErrorCode.NO_KEY_PACKAGE, "a client has no key package left")
        found.append(package)
    return DSResponseBody(
        response_type=DSResponseType.KEY_PACKAGES, key_packages=tuple(row.key_package for row in found)
    )


def _group_info(node: Node, room_id: str, request: DSRequest, provider: str) -> DSResponseBody:
    """The group of the current epoch, for an external commit.

    "The DS MUST verify that the sender of the request is authorized to retrieve the group's GroupInfo": it is
    a member, or its provider has a joined user, who may have lost the member's keys. That provider is sent
    all of this as messages anyway.
    """
    if request.authentication_data.sender_index is not None:
        authenticate_sender(node, room_id, request, provider)
    group = node.groups.row(room_id)
    takes_part = node.rooms.is_participant(room_id, provider)
    if group is None or not takes_part or was_deleted(node.store, group.commit_event_id):
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "there is no such group for you here")
    return DSResponseBody(
        response_type=DSResponseType.EXTERNAL_COMMIT_INFO,
        external_commit_info=ExternalCommitInfo(
            group_info=_GROUP_INFO_MESSAGE + group.group_info, ratchet_tree=group.ratchet_tree
        ),
    )


async def _welcome_info(
    node: Node, room_id: str, request: DSRequest, asked: WelcomeInfoRequest, provider: str
) -> DSResponseBody:
    """The tree of the epoch that a Welcome leads to, for whom it names; or an end to keeping it."""
    kept = node.store.past_tree(room_id, asked.epoch)
    if kept is None or asked.key_package_ref not in kept.waiting:
        raise DSRefused(DSErrorCode.UNKNOWN_EPOCH, "nobody of that name waits for that epoch")
    _require_joiner(node, room_id, request, kept, provider)
    if asked.joined:
        await node.store.forget_past_tree(room_id, asked.epoch, asked.key_package_ref)
        return _OK
    return DSResponseBody(response_type=DSResponseType.WELCOME_INFO, welcome_info=kept.ratchet_tree)


def _require_joiner(node: Node, room_id: str, request: DSRequest, kept: PastTreeRow, provider: str) -> None:
    """The joiner has a leaf in the tree it asks for, if not in the present one."""
    group = openmls.PublicGroup.observe(group_info=kept.group_info, ratchet_tree=kept.ratchet_tree)
    authenticate_sender(node, room_id, request, provider, group=group)


# --- parts ---


def _bounded(items: Iterable[_T]) -> tuple[_T, ...]:
    found = tuple(items)
    if len(found) > MAX_ITEMS:
        raise DSRefused(DSErrorCode.TOO_LARGE, f"a request holds at most {MAX_ITEMS} of a kind")
    return found


def _bundle(update: MLSGroupUpdate, welcome: bytes | None) -> HandshakeBundle:
    """A group update as MIMI has it."""
    partial = PartialGroupInfo(
        ratchet_tree_presence=RatchetTreePresence.NO_RATCHET_TREE,
        group_info_extensions=update.partial_group_info.group_info_extensions,
        signature=update.partial_group_info.signature,
    )
    return HandshakeBundle(
        message=update.commit,
        welcome=welcome_struct(welcome) if welcome is not None else None,
        group_info=GroupInfoOption(partial=partial),
        ratchet_tree=RatchetTreeOption(representation=RatchetTreeRepresentation.DISTRIBUTION_SERVICE),
    )


def _handshake(
    node: Node, room_id: str, bundle: HandshakeBundle, provider: str, *, deletes: bool = False
) -> Handshake:
    return Handshake(
        bundle=bundle,
        provider=provider,
        introduced=node.rooms.introduced(room_id, bundle),
        deletes_group=deletes,
        invited_by=node.join_codes.inviter(room_id, bundle),
    )


def _error(code: DSErrorCode, text: str, epoch: int | None = None) -> DSResponseBody:
    current = epoch if code is DSErrorCode.WRONG_EPOCH else None
    return DSResponseBody(
        response_type=DSResponseType.ERROR,
        error=DSError(code=code, description=text, current_epoch=current),
    )
