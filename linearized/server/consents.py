"""Consent between users of different providers (draft-ietf-mimi-protocol-06, "Convey explicit consent").

Both ends keep the same record: the target's provider, whose key packages it guards, and the requester's, for
its user to see. A revocation is told to the other provider only if the user wants it: it "is typically not
communicated to the revoked/rejected user".
"""

from __future__ import annotations

from typing import Final

import openmls
import orjson

from linearized.exceptions import IdentifierError
from linearized.mimi.consent import (
    ConsentEntry,
    ConsentOperation,
    ConsentState,
    KeyPackages,
    consent_after,
)
from linearized.mimi.metadata_policy import MetadataPolicyError
from linearized.mls import CIPHERSUITES
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import (
    room_domain,
    room_id_from_uri,
    room_uri,
    user_domain,
    user_id_from_uri,
    user_uri,
)
from linearized.room.credentials import client_of
from linearized.server.http import HttpError
from linearized.server.node import Node
from linearized.server.providers.client import ProviderError
from linearized.store.base import NewToDevice
from linearized.store.contacts import ANY_ROOM, ConsentRow

EVENT: Final = "dev.linearized.consent"
"""The to-device message by which a user's clients hear of a change."""

# Requests that wait for one user's answer. Nobody looks through more; past it the asking provider hears 429.
MAX_WAITING: Final = 100
# Records kept for one user, as requester and as target together: a grant need not be asked for, so other
# providers decide how many there are.
MAX_RECORDS: Final = 1000
MAX_PACKAGES: Final = 100  # of one grant: a device each
# How long a provider that has filled one of these should wait: the user has to do something first.
RETRY_MS: Final = 3_600_000
ROUTE_LIFETIME_MS: Final = 24 * 3_600_000  # as for claimed key packages
ACCEPTED: Final = frozenset({200, 201, 202})
ASKING: Final = frozenset({ConsentOperation.REQUEST, ConsentOperation.CANCEL})


async def receive(node: Node, provider: str, target: str, entry: ConsentEntry, *, asking: bool) -> None:
    """Take what another provider sends to ``requestConsent`` (``asking``) or to ``updateConsent``.

    Nobody hears whether a user exists: "A provider that does not wish to reveal if a user is not found can
    respond with a 201 Accepted".

    Args:
        target: from the path: the URI of our user, or our provider's.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` for an operation of the other endpoint, another user than in the
            path, or key packages that are not valid or not the target's; 403 ``M_FORBIDDEN`` for a user who
            is not the sender's; 404 ``M_NOT_FOUND`` for one who is not ours; 429 ``M_LIMIT_EXCEEDED``.
    """
    if (entry.operation in ASKING) is not asking:
        raise HttpError(400, "M_INVALID_PARAM", "That operation belongs to the other endpoint")
    # "For a requestContent, the targetUri needs to be in one of the domains of the receiving provider, and
    # the requesterUri needs to be in one of the domains of the sending provider"; for updateConsent the other
    # way round.
    ours_uri, theirs_uri = (
        (entry.target_uri, entry.requester_uri) if asking else (entry.requester_uri, entry.target_uri)
    )
    ours, theirs = user_id_from_uri(ours_uri), user_id_from_uri(theirs_uri)
    if target not in {ours_uri, f"mimi://{user_domain(ours)}", user_domain(ours)}:
        raise HttpError(400, "M_INVALID_PARAM", "The path is for another user than the request")
    if user_domain(theirs) != provider:
        raise HttpError(403, "M_FORBIDDEN", f"{provider} does not speak for that user")
    if user_domain(ours) not in node.served_domains:
        raise HttpError(404, "M_NOT_FOUND", "That user is not of this provider")
    routes = _checked_packages(node, entry, theirs)
    node.consent_limit.take(f"{provider} {ours}", f"user {ours}")
    if node.store.user(ours) is None:
        return
    await _apply(node, entry, ours=ours, theirs=theirs)
    if routes:
        await node.store.put_key_package_routes(
            dict.fromkeys(routes, provider), expires_ms=node.clock() + ROUTE_LIFETIME_MS
        )


async def ask(node: Node, *, requester: str, target: str, room_id: str | None, cancel: bool = False) -> None:
    """Ask, for one of our users, for the consent of another user, or take the request back.

    Raises:
        HttpError: as ``receive``, from a user of our own.
        ProviderError: the target's provider did not take it; nothing changed.
    """
    operation = ConsentOperation.CANCEL if cancel else ConsentOperation.REQUEST
    await _tell(node, _entry(operation, requester, target, room_id))
    await _record(node, operation, requester=requester, target=target, room_id=room_id)


async def answer(
    node: Node,
    *,
    target: str,
    requester: str,
    room_id: str | None,
    grant: bool,
    with_key_packages: bool = False,
    tell: bool = True,
) -> None:
    """Grant consent for one of our users, or revoke or deny it, asked or not.

    Args:
        with_key_packages: send one of each device with a grant, so that the requester can add them at once;
            none if the requester's provider, or the room's hub, keeps more than we ask of hubs.
        tell: tell the requester's provider.

    Raises:
        ProviderError: the requester's provider was not told. What our user decided stands all the same.
    """
    operation = ConsentOperation.GRANT if grant else ConsentOperation.REVOKE
    near = user_domain(requester) in node.served_domains
    if not near:  # nearby, telling the other user is what records it
        await _record(node, operation, requester=requester, target=target, room_id=room_id)
    if tell:
        given = grant and with_key_packages and await _may_add(node, requester, room_id)
        packages = await _claim_own(node, target) if given else ()
        await _tell(node, _entry(operation, requester, target, room_id, packages))
    if near:
        await _record(node, operation, requester=requester, target=target, room_id=room_id)


def _entry(
    operation: ConsentOperation,
    requester: str,
    target: str,
    room_id: str | None,
    packages: tuple[bytes, ...] = (),
) -> ConsentEntry:
    return ConsentEntry(
        operation=operation,
        requester_uri=user_uri(requester),
        target_uri=user_uri(target),
        room_id=room_uri(room_id) if room_id is not None else None,
        client_key_packages=packages,
    )


async def _tell(node: Node, entry: ConsentEntry) -> None:
    """Send an entry to the provider of the other user; between two of our own there is nothing to send."""
    asking = entry.operation in ASKING
    other = entry.target_uri if asking else entry.requester_uri
    provider = user_domain(user_id_from_uri(other))
    if provider in node.served_domains:
        ours, theirs = (
            (entry.target_uri, entry.requester_uri) if asking else (entry.requester_uri, entry.target_uri)
        )
        ours, theirs = user_id_from_uri(ours), user_id_from_uri(theirs)
        if node.store.user(ours) is not None:
            await _apply(node, entry, ours=ours, theirs=theirs)
        return
    endpoint = "requestConsent" if asking else "updateConsent"
    response = await node.providers.post(provider, endpoint, other, entry.encode())
    if response.status not in ACCEPTED:
        raise ProviderError(
            f"{provider} answered {response.status} at {endpoint}",
            status=response.status,
            retry_after_s=response.retry_after_s,
        )


async def _apply(node: Node, entry: ConsentEntry, *, ours: str, theirs: str) -> None:
    """Record what the other side said, and let our user's clients hear of it if it is news."""
    asking = entry.operation in ASKING
    requester, target = (theirs, ours) if asking else (ours, theirs)
    if entry.operation is ConsentOperation.REQUEST and node.store.waiting_consents(ours) >= MAX_WAITING:
        raise HttpError(
            429, "M_LIMIT_EXCEEDED", "Too many requests wait for an answer", retry_after_ms=RETRY_MS
        )
    room_id = room_id_from_uri(entry.room_id) if entry.room_id is not None else None
    changed = await _record(
        node,
        entry.operation,
        requester=requester,
        target=target,
        room_id=room_id,
        packages=entry.client_key_packages,
        bounded_by=ours,
    )
    if changed:
        await _notify(node, ours, requester=requester, target=target, room_id=room_id)


async def _record(
    node: Node,
    operation: ConsentOperation,
    *,
    requester: str,
    target: str,
    room_id: str | None,
    packages: tuple[bytes, ...] = (),
    bounded_by: str | None = None,
) -> bool:
    """Keep the state after an operation; whether it is another than before."""
    known = node.store.consent(requester, target, room_id or ANY_ROOM)
    before = ConsentState(known.state) if known is not None else None
    after = consent_after(before, operation)
    if after is None:
        await node.store.delete_consent(requester, target, room_id or ANY_ROOM)
        return before is not None
    if after is before and not packages:
        return False
    if known is None and bounded_by is not None:
        records = node.store.consents_of(bounded_by, limit=MAX_RECORDS)
        if len(records) >= MAX_RECORDS:
            raise HttpError(
                429, "M_LIMIT_EXCEEDED", "That user has too many contacts", retry_after_ms=RETRY_MS
            )
    await node.store.put_consent(
        ConsentRow(
            requester=requester,
            target=target,
            room_id=room_id or ANY_ROOM,
            state=after.value,
            changed_at=node.clock(),
            key_packages=KeyPackages(packages=packages).encode() if packages else b"",
        )
    )
    return True


async def _notify(node: Node, user_id: str, *, requester: str, target: str, room_id: str | None) -> None:
    row = node.store.consent(requester, target, room_id or ANY_ROOM)
    content: JsonObject = {
        "requester": requester,
        "target": target,
        "state": row.state if row is not None else "cancelled",
    }
    if room_id is not None:
        content["room_id"] = room_id
    other = target if user_id == requester else requester
    await node.store.put_to_device(
        [
            NewToDevice(
                user_id=user_id,
                device_id=device.device_id,
                type=EVENT,
                sender=other,
                content=orjson.dumps(content),
            )
            for device in node.store.devices(user_id)
        ]
    )
    node.notifier.users_changed([user_id])


async def _may_add(node: Node, requester: str, room_id: str | None) -> bool:
    """Whether our users join rooms of whoever could add them with their key packages."""
    try:
        for hub in {user_domain(requester), *(() if room_id is None else (room_domain(room_id),))}:
            await node.hub_policies.require(hub)
    except MetadataPolicyError:  # the grant stands; they will be asked for, and refused where they are used
        return False
    return True


async def _claim_own(node: Node, user_id: str) -> tuple[bytes, ...]:
    """One key package of each of a user's devices that has any."""
    packages = []
    for device in node.store.devices(user_id)[:MAX_PACKAGES]:
        claimed = await node.store.claim_key_package(
            user_id=user_id,
            device_id=device.device_id,
            ciphersuites=list(CIPHERSUITES.values()),
            now_ms=node.clock(),
        )
        if claimed is not None:
            packages.append(claimed.key_package)
    return tuple(packages)


def _checked_packages(node: Node, entry: ConsentEntry, target: str) -> list[bytes]:
    """The KeyPackageRefs of a grant's packages, each valid and the target's."""
    if len(entry.client_key_packages) > MAX_PACKAGES:
        raise HttpError(400, "M_INVALID_PARAM", f"A grant brings at most {MAX_PACKAGES} key packages")
    references = []
    for package in entry.client_key_packages:
        try:
            info = openmls.inspect_key_package(package, now=node.clock() // 1000)
            owner = client_of(info.credential, signature_key=info.signature_key).user_id
        except (openmls.MlsError, IdentifierError) as error:
            raise HttpError(400, "M_INVALID_PARAM", "A key package is not valid") from error
        if owner != target:
            raise HttpError(400, "M_INVALID_PARAM", "A key package is another user's")
        references.append(info.reference)
    return references
