"""Who made a proposal: a client in the group, a provider outside of it, or the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.group_info import ExternalSender, ExternalSenders
from linearized.mimi.key_material import basic_identity
from linearized.mls import ProposalInfo, PublicGroup
from linearized.protocol.identifiers import provider_of_uri, user_domain
from linearized.protocol.state import StateMap, membership
from linearized.room.credentials import ClientIdentity
from linearized.room.leaves import identify
from linearized.room.submissions import Reason, Rejected

EXTERNAL_SENDERS: Final = 5
"""The extension's type (RFC 9420, section 17.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposer:
    """``client`` of a member, ``provider`` of an external sender; neither is the hub, which speaks for nobody
    but proposes what follows from the room's state.
    """

    client: ClientIdentity | None = None
    provider: str | None = None

    def may_remove(self, user_id: str, state: StateMap) -> bool:
        """Whether it may take a leaf of this user out of the group."""
        # Linearized Matrix: "A device can remove another device if they both belong to the same user ID", "A
        # device can be removed by anyone if the user ID to which it belongs is no longer in the join state".
        if membership(state, user_id) != "join":
            return True
        if self.client is not None:
            return self.client.user_id == user_id
        return self.provider == user_domain(user_id)


def external_senders(group: PublicGroup) -> tuple[ExternalSender, ...]:
    """The senders outside of a group whose proposals it takes; a proposal names one by its index."""
    data = group.extensions().get(EXTERNAL_SENDERS)
    return () if data is None else ExternalSenders.decode(data).senders


def proposer_of(group: PublicGroup, proposal: ProposalInfo, *, hub: str) -> Proposer:
    """Who made a verified proposal of the group's epoch.

    Raises:
        Rejected: ``INVALID_COMMIT`` if a member's credential names nobody, ``FORBIDDEN`` for a client that
            proposes itself, or an external sender that is no provider.
    """
    member = None if proposal.sender_leaf is None else group.member(proposal.sender_leaf)
    if member is not None:
        return Proposer(client=identify(member))
    if proposal.external_sender is None:
        raise Rejected(Reason.FORBIDDEN, "Who is not in the group joins it by an external commit")
    sender = external_senders(group)[proposal.external_sender]
    try:
        provider = provider_of_uri(basic_identity(sender.credential).decode("ascii"))
    except (MimiDecodeError, IdentifierError, UnicodeDecodeError) as error:
        raise Rejected(Reason.FORBIDDEN, "The external sender is no provider") from error
    return Proposer() if provider == hub else Proposer(provider=provider)
