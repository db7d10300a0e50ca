"""The hub among the external senders of a group whose room has moved to it.

"external_senders … MUST contain at least the Certificate of the Hub" (draft-ietf-mimi-protocol-06,
Authenticating proposals). A group lists the hub that its room was created at; after a transfer or a takeover
(``m.room.hub``) a member's commit lists the new one in the place of those before. That is the one change of
a group's extensions that a room takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.group_info import ExternalSender, ExternalSenders
from linearized.mimi.key_material import basic_credential, basic_identity
from linearized.mls import ProposalInfo, PublicGroup, StagedCommit
from linearized.protocol.events import Event
from linearized.protocol.hub_rules import taken_from
from linearized.protocol.identifiers import provider_of_uri, user_domain
from linearized.protocol.state import StateMap, create_event, hub_of, transfer_of
from linearized.room.proposers import EXTERNAL_SENDERS, external_senders
from linearized.room.submissions import Reason, Rejected

CONTEXT_CHANGE: Final = "group_context_extensions"
"""The kind of proposal."""


def check_new_senders(
    group: PublicGroup, staged: StagedCommit, state: StateMap, *, key: bytes | None = None
) -> None:
    """Hold a commit that changes the group's extensions to the one change there is.

    Args:
        group: before the commit.
        state: the room's before it.
        key: the hub's raw public key; None for who reads a log and knows the hub by its name alone.

    Raises:
        Rejected: ``INVALID_PROPOSAL``.
    """
    # RFC 9420, 12.2: a list is invalid if "it contains multiple GroupContextExtensions proposals".
    proposals = _changes(staged.proposals)
    if proposals:
        _check(group, proposals[0], state, key)


def _changes(proposals: Iterable[ProposalInfo]) -> list[ProposalInfo]:
    return [proposal for proposal in proposals if proposal.kind == CONTEXT_CHANGE]


def _check(group: PublicGroup, proposal: ProposalInfo, state: StateMap, key: bytes | None) -> None:
    transfer = transfer_of(state)
    if transfer is None:
        raise _refused("The room has no other hub than before, so its group's extensions stay")
    present, proposed = group.extensions(), dict(proposal.extensions or {})
    try:
        senders = ExternalSenders.decode(proposed.pop(EXTERNAL_SENDERS, b"")).senders
    except MimiDecodeError as error:
        raise _refused("The new external senders cannot be read") from error
    present.pop(EXTERNAL_SENDERS, None)
    if proposed != present:
        raise _refused("Only the external senders of a group change, and no other extension")
    name = basic_credential(f"mimi://{hub_of(state)}".encode())
    others = _others(external_senders(group), transfer, state)
    if not senders or senders[0].credential != name or senders[1:] != others:
        raise _refused("The external senders are to be the new hub and who was one beside the old")
    if key is not None and senders[0].signature_key != key:
        raise _refused("The new external sender has not the hub's key")
    if senders == external_senders(group):
        raise _refused("The hub is among the external senders already")


def _others(
    senders: Iterable[ExternalSender], transfer: Event, state: StateMap
) -> tuple[ExternalSender, ...]:
    """The senders that are neither the room's hub nor one before."""
    before = transfer.hub_server or taken_from(transfer)
    hubs = {hub_of(state), before, user_domain(create_event(state).sender)}
    return tuple(sender for sender in senders if _provider(sender) not in hubs)


def _provider(sender: ExternalSender) -> str:
    try:
        return provider_of_uri(basic_identity(sender.credential).decode("ascii"))
    except (MimiDecodeError, IdentifierError, UnicodeDecodeError):  # no provider of ours to judge
        return ""


def _refused(text: str) -> Rejected:
    return Rejected(Reason.INVALID_PROPOSAL, text)
