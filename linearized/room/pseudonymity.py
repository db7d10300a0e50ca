"""Minimal metadata rooms: whose leaves and events they take (draft-ietf-mimi-protocol-06, "Minimal metadata
rooms").

The create event says whether a room is one, for good. "In an MMR the participant list and the credentials in
the room's underlying MLS group consist only of pseudonyms"; and so does the rest of the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.components import BASE_ROOM_POLICY
from linearized.mimi.pseudonyms import MINIMAL_METADATA, is_pseudonym
from linearized.mls import ProposalInfo, StagedCommit
from linearized.protocol.events import Event
from linearized.protocol.identifiers import hub_user, parse_user_id
from linearized.protocol.state import StateMap
from linearized.room.credentials import pseudonym_of
from linearized.room.roles import has_policy
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import added_credential, proposed_credentials, refused

# What a membership may say there. Display names and avatars would tell who it is.
MEMBER_FIELDS: Final = frozenset({"membership", "reason", "join_authorised_via_users_server"})
# It shows the address, shortened, that somebody was invited by.
_INVITED_BY_ADDRESS: Final = "m.room.third_party_invite"


def keeps_minimal_metadata(state: StateMap) -> bool:
    """Whether a room is a minimal metadata room."""
    create = state.get(("m.room.create", ""))
    return create is not None and create.content.get(MINIMAL_METADATA) is True


def is_pseudonymous_user(user_id: str) -> bool:
    """Whether a user ID is in the shape of a pseudonym."""
    try:
        return is_pseudonym(parse_user_id(user_id)[0])
    except IdentifierError:
        return False


def check_pseudonyms(event: Event, state: StateMap) -> None:
    """Keep everybody's name out of the log of a minimal metadata room.

    Args:
        state: the room's before the event.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    if event.type == "m.room.create":
        if not _is_marked(event.content):
            return
        # The credentials are half of the promise.
        if "encryption" not in event.content:
            raise Rejected(Reason.FORBIDDEN, "A minimal metadata room is encrypted")
    elif not keeps_minimal_metadata(state):
        return
    if event.imported:
        raise Rejected(Reason.FORBIDDEN, "A minimal metadata room takes no imported history: it names people")
    if event.type == _INVITED_BY_ADDRESS:
        raise Rejected(Reason.FORBIDDEN, "Nobody is invited to a minimal metadata room by an address")
    if event.sender != hub_user(parse_user_id(event.sender)[1]) and not is_pseudonymous_user(event.sender):
        raise Rejected(Reason.FORBIDDEN, "A minimal metadata room takes events of pseudonyms only")
    if event.type == "m.room.member":
        _check_member(event)


def _is_marked(content: Mapping[str, object]) -> bool:
    marker = content.get(MINIMAL_METADATA, False)
    if not isinstance(marker, bool):
        # Whoever reads it loosely would take the room for one, whoever reads it strictly would not.
        raise Rejected(Reason.FORBIDDEN, f"{MINIMAL_METADATA} is true or false")
    return marker


def _check_member(event: Event) -> None:
    if not is_pseudonymous_user(event.state_key or ""):
        raise Rejected(Reason.FORBIDDEN, "Members of a minimal metadata room have pseudonyms")
    more = ", ".join(sorted(event.content.keys() - MEMBER_FIELDS))
    if more:
        raise Rejected(Reason.FORBIDDEN, f"A membership in a minimal metadata room does not say {more}")


def check_leaves(staged: StagedCommit, state: StateMap) -> None:
    """Hold the leaves that a commit brings, changes or is made by to the kind of the room, and its policy to
    what the room promises.

    Raises:
        Rejected: ``FORBIDDEN``, or ``INVALID_PROPOSAL`` naming what is in the commit by reference.
    """
    minimal = keeps_minimal_metadata(state)
    references = proposed_credentials(staged)
    for leaf in (staged.committer, *staged.updated, *staged.added):
        _check_credential(leaf.credential, references.get(leaf.credential), minimal=minimal)
    if minimal:
        _check_policy(staged.app_data)


def check_credentials(credentials: Iterable[bytes], state: StateMap) -> None:
    """As ``check_leaves``, for whoever knows no more of leaves than their credentials.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    minimal = keeps_minimal_metadata(state)
    for credential in credentials:
        _check_credential(credential, None, minimal=minimal)


def check_offered(proposals: Iterable[ProposalInfo], state: StateMap) -> None:
    """Hold the clients that standalone proposals would add to the kind of the room.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    check_credentials((added_credential(proposal) for proposal in proposals if proposal.kind == "add"), state)


def _check_credential(credential: bytes, reference: bytes | None, *, minimal: bool) -> None:
    # "In MMRs, all leaves of the underlying group MUST contain PseudonymousCredentials."
    pseudonymous = pseudonym_of(credential) is not None
    if minimal and not pseudonymous:
        raise refused("All leaves of a minimal metadata room have pseudonymous credentials", reference)
    if pseudonymous and not minimal:
        raise refused("Only a minimal metadata room takes pseudonymous credentials", reference)


def _check_policy(app_data: Mapping[int, bytes]) -> None:
    if not has_policy(app_data):
        return
    try:
        base = BaseRoomPolicy.decode(app_data.get(BASE_ROOM_POLICY, b""))
    except MimiDecodeError as error:
        raise Rejected(
            Reason.INVALID_COMMIT, "The policy of a minimal metadata room says that pseudonyms are allowed"
        ) from error
    # "If pseudonyms_allowed is true, clients in the MLS group are free to use pseudonymous identifiers in
    # their MLS credentials. Otherwise the policy of the room is that "real" long-term identifiers are
    # required."
    if not base.pseudonyms_allowed:
        raise Rejected(Reason.FORBIDDEN, "The policy of this room does not allow pseudonyms")
