"""Standalone proposals: the checks a bundle of them must pass before others may be told to commit it.

"Verify that Removes, AppSync are allowed by policy; cache" (MIMI protocol, Bob Leaves the Room). What a hub
has taken, clients commit unseen, so nothing is taken that no commit could hold: each proposal has to go
together with all that are pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Final

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.commit_parts import leaf_signature_key
from linearized.mimi.handshake import HandshakeBundle
from linearized.mimi.participants import PARTICIPANT_LIST
from linearized.mls import MlsError, ProposalInfo, PublicGroup, WrongEpoch
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_id_from_uri
from linearized.protocol.state import StateMap, membership
from linearized.room.algorithms import signs_with_ed25519
from linearized.room.commits import mls_rejection
from linearized.room.content import binary
from linearized.room.credentials import client_of
from linearized.room.departures import MAX_PENDING, delisted_by, references, updates_of
from linearized.room.devices import Published
from linearized.room.leaves import identify
from linearized.room.proposers import Proposer, proposer_of
from linearized.room.roster import Roster
from linearized.room.submissions import OtherKeyPublished, Reason, Rejected
from linearized.room.tie import added_credential, keeps_identity, participants_of, resulting_app_data

# Pending proposals by one user in an epoch: a leaving user with some fifty devices needs one for each. Four
# users cannot fill an epoch (``MAX_PENDING``) by mistake.
MAX_PENDING_OF_USER: Final = 64

# By member; an external sender proposes to remove its users' clients and no more.
MEMBER_PROPOSALS: Final = frozenset({"add", "update", "remove", "self_remove", "app_data_update"})
EXTERNAL_PROPOSALS: Final = frozenset({"remove"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Verified proposals of one sender, not stored yet: MLSMessages, what is in them, who made them, and the
    user in whose name the entry stands.
    """

    messages: tuple[bytes, ...]
    proposals: tuple[ProposalInfo, ...]
    proposer: Proposer
    user_id: str


def verify_offer(group: PublicGroup, bundle: HandshakeBundle, *, hub: str, now: int) -> Offer:
    """Verify the proposals of a bundle against the group, which is not changed.

    Args:
        hub: the room's.
        now: when the hub accepts them, milliseconds since the Unix epoch.

    Raises:
        Rejected: ``WRONG_EPOCH`` with the current epoch; ``INVALID_PROPOSAL``, ``INVALID_COMMIT`` or
            ``MALFORMED`` for what MLS refuses; ``FORBIDDEN`` for a sender that may propose nothing, or more
            than it may have pending.
    """
    messages = (bundle.message, *bundle.more_proposals)
    if len(messages) > MAX_PENDING_OF_USER:
        raise Rejected(Reason.FORBIDDEN, f"More than {MAX_PENDING_OF_USER} proposals at once")
    try:
        proposals = tuple(group.stage_proposal(message, now=now // 1000) for message in messages)
    except WrongEpoch as error:
        raise Rejected(Reason.WRONG_EPOCH, str(error), current_epoch=group.epoch) from error
    except MlsError as error:
        raise mls_rejection(error) from error
    proposers = [proposer_of(group, proposal, hub=hub) for proposal in proposals]
    if len(set(proposers)) > 1:
        raise Rejected(Reason.FORBIDDEN, "The proposals of a bundle have one sender")
    user_id = _user_of(group, proposals[0], proposers[0])
    return Offer(messages=messages, proposals=proposals, proposer=proposers[0], user_id=user_id)


def _user_of(group: PublicGroup, proposal: ProposalInfo, proposer: Proposer) -> str:
    if proposer.client is not None:
        return proposer.client.user_id
    # A provider has no place in a log; whose client it takes out has one.
    member = None if proposal.removed_leaf is None else group.member(proposal.removed_leaf)
    if proposer.provider is None or member is None:
        raise Rejected(Reason.FORBIDDEN, "An external sender proposes to remove clients of its own users")
    return identify(member).user_id


def check_offer(
    group: PublicGroup,
    offer: Offer,
    *,
    roster: Roster,
    introduced: Set[bytes],
    state: StateMap,
    hub: str,
) -> None:
    """Check what an offer proposes, on top of what is pending.

    Whether its sender may change the participant list as it says is not checked here.

    Args:
        roster: the group's.
        introduced: see ``Handshake``.

    Raises:
        Rejected: ``FORBIDDEN``, or ``INVALID_PROPOSAL`` with the references of the offer's proposals that are
            at fault.
    """
    pending = group.proposals()
    _check_bounds(group, pending, offer, hub=hub)
    allowed = EXTERNAL_PROPOSALS if offer.proposer.client is None else MEMBER_PROPOSALS
    taken = {proposal.reference for proposal in pending}
    leaves = {proposal.removed_leaf for proposal in pending}
    updated = {proposal.sender_leaf for proposal in pending if proposal.kind == "update"}
    for proposal in offer.proposals:
        if proposal.kind not in allowed:
            raise _invalid(proposal, text=f"Proposals of type {proposal.kind} are not allowed")
        if proposal.reference in taken:
            raise _invalid(proposal, text="The proposal is pending already")
        taken.add(proposal.reference)
        # RFC 9420, 12.2: a list is invalid if "it contains multiple Update and/or Remove proposals that apply
        # to the same leaf"; of two that remove one leaf the first does.
        if proposal.removed_leaf is not None:
            if proposal.removed_leaf in leaves:
                raise _invalid(proposal, text="The leaf's removal is pending already")
            leaves.add(proposal.removed_leaf)
        elif proposal.kind == "update":
            if proposal.sender_leaf in leaves | updated:
                raise _invalid(proposal, text="Another change of the leaf is pending already")
            updated.add(proposal.sender_leaf)
            _check_identity_kept(group, proposal)
    try:
        values = resulting_app_data(group.app_data(), _app_data((*pending, *offer.proposals)))
        if PARTICIPANT_LIST in values:
            participants_of({**group.app_data(), **values})
    except Rejected as error:
        raise _invalid(*_app_data(offer.proposals), text=str(error)) from error
    _check_removals(group, offer, state)
    _check_additions(roster, pending, offer, introduced=introduced, state=state)


def _check_bounds(group: PublicGroup, pending: tuple[ProposalInfo, ...], offer: Offer, *, hub: str) -> None:
    if len(pending) + len(offer.proposals) > MAX_PENDING:
        raise Rejected(Reason.FORBIDDEN, f"More than {MAX_PENDING} proposals would be pending")
    own = sum(
        proposer.client is not None and proposer.client.user_id == offer.user_id
        for proposer in (proposer_of(group, proposal, hub=hub) for proposal in pending)
    )
    if own + len(offer.proposals) > MAX_PENDING_OF_USER:
        raise Rejected(
            Reason.FORBIDDEN, f"More than {MAX_PENDING_OF_USER} proposals of {offer.user_id} would be pending"
        )


def _check_identity_kept(group: PublicGroup, proposal: ProposalInfo) -> None:
    before = None if proposal.sender_leaf is None else group.member(proposal.sender_leaf)
    if before is None or proposal.updated is None or not keeps_identity(before, proposal.updated):
        raise _invalid(proposal, text="An update changes whose leaf it is")


def _check_removals(group: PublicGroup, offer: Offer, state: StateMap) -> None:
    leaving = delisted_by(group, offer.proposals)
    for proposal in offer.proposals:
        member = None if proposal.removed_leaf is None else group.member(proposal.removed_leaf)
        if member is None:
            continue
        user_id = identify(member).user_id
        if user_id not in leaving and not offer.proposer.may_remove(user_id, state):
            raise Rejected(Reason.FORBIDDEN, f"{user_id} is still joined to the room")


def _check_additions(
    roster: Roster,
    pending: tuple[ProposalInfo, ...],
    offer: Offer,
    *,
    introduced: Set[bytes],
    state: StateMap,
) -> None:
    added = [proposal for proposal in offer.proposals if proposal.kind == "add"]
    coming = {client_of(added_credential(proposal)) for proposal in pending if proposal.kind == "add"}
    arriving = {
        user_id_from_uri(pair.user)
        for _, update in updates_of((*pending, *offer.proposals))
        for pair in update.added
    }
    for proposal in added:
        try:
            credential = added_credential(proposal)
            client = client_of(credential)
        except (MimiDecodeError, IdentifierError) as error:
            raise _invalid(proposal, text=str(error)) from error
        if client in roster or client in coming:
            raise _invalid(
                proposal, text=f"{client.user_id} already has a leaf for that device, or will have"
            )
        coming.add(client)
        if membership(state, client.user_id) != "join" and client.user_id not in arriving:
            raise Rejected(Reason.FORBIDDEN, f"{client.user_id} is not joined to the room")
        if client.user_id != offer.user_id and credential not in introduced:
            raise Rejected(
                Reason.FORBIDDEN, f"The key package for {client.user_id} was not handed out by their provider"
            )


def check_proposed_devices(group: PublicGroup, offer: Offer, published: Published) -> None:
    """Hold the leaves that proposals bring to what their devices have published; see ``check_devices``.

    Raises:
        OtherKeyPublished: a leaf is not what its device says.
    """
    if not signs_with_ed25519(group.ciphersuite):
        return
    for proposal in offer.proposals:
        if proposal.updated is not None:
            client, key = identify(proposal.updated), proposal.updated.signature_key
        elif proposal.key_package is not None:
            client, key = client_of(added_credential(proposal)), leaf_signature_key(proposal.key_package)
        else:
            continue
        if published(client) not in (None, key):
            raise OtherKeyPublished(client)


def content_of(messages: Sequence[bytes]) -> JsonObject:
    """The content of the ``m.mls.proposal`` event for proposals accepted together."""
    first, *more = (encode_base64(message) for message in messages)
    return {"message": first, "more_proposals": more} if more else {"message": first}


def messages_of(content: JsonObject) -> list[bytes]:
    """The proposals in the content of an ``m.mls.proposal`` event: MLSMessages.

    Raises:
        Rejected: ``MALFORMED`` if one is not base64.
    """
    more = content.get("more_proposals", [])
    if not isinstance(more, list):
        raise Rejected(Reason.MALFORMED, "content.more_proposals is not a list")
    return [binary(content, "message"), *(binary({"message": message}, "message") for message in more)]


def _app_data(proposals: Iterable[ProposalInfo]) -> list[ProposalInfo]:
    return [proposal for proposal in proposals if proposal.kind == "app_data_update"]


def _invalid(*proposals: ProposalInfo, text: str) -> Rejected:
    return Rejected(Reason.INVALID_PROPOSAL, text, invalid_proposals=references(proposals))
