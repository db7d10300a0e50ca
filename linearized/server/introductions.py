"""Which added leaves the providers of the users they name stand behind.

A leaf's credential is a claim. The key package it comes from is either one that a device of ours uploaded, or
one that another provider handed out through us; both are on record from the claim. Anything else was made by
the committer.
"""

from __future__ import annotations

from collections.abc import Callable

import openmls

from linearized.exceptions import IdentifierError
from linearized.mimi.commit_parts import commit_parts, proposed_key_package
from linearized.mimi.handshake import HandshakeBundle
from linearized.protocol.identifiers import user_domain
from linearized.room.credentials import client_of
from linearized.store.base import Store


def introduced(store: Store, room_id: str, bundle: HandshakeBundle, *, now_ms: int) -> frozenset[bytes]:
    """The TLS-encoded Credentials of those key packages in a bundle that are on record as
    theirs.

    Args:
        bundle: as ``HandshakeBundle.decode`` accepted it.
    """
    known: set[bytes] = set()
    for key_package in _key_packages(bundle):
        try:
            info = openmls.inspect_key_package(key_package, now=now_ms // 1000)
            client = client_of(info.credential, signature_key=info.signature_key)
        except (openmls.MlsError, IdentifierError):
            continue  # the room says what is wrong with it
        ours = store.key_package(info.reference)
        if ours is not None:
            if ours.user_id == client.user_id:
                known.add(info.credential)
        elif store.key_package_route(info.reference, room_id=room_id) == user_domain(client.user_id):
            known.add(info.credential)
    return frozenset(known)


def _key_packages(bundle: HandshakeBundle) -> tuple[bytes, ...]:
    if bundle.is_commit:
        return commit_parts(bundle.message).key_packages
    proposed = map(proposed_key_package, (bundle.message, *bundle.more_proposals))
    return tuple(key_package for key_package in proposed if key_package is not None)


def joiner_is(commit: bytes, speaks_for: Callable[[str], bool]) -> bool:
    """Whether a commit is no external one, or joins a leaf of a user the submitter may speak for.

    A member's commit is signed with a key the group knows; an external commit only with the key it brings.
    """
    joiner = commit_parts(commit).joiner
    if joiner is None:
        return True
    try:
        return speaks_for(client_of(joiner).user_id)
    except IdentifierError:
        return False
