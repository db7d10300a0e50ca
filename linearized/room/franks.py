"""What franking asks of a room's group and of its messages (draft-ietf-mimi-protocol-06, "Message Franking").

A group is franked if it was created with the ``franking_agent`` of the hub that orders its room, or from the
commit on that adds it. A hub that the room has moved to has not the old one's key: it franks from the commit
on that names its own agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from linearized.exceptions import MimiDecodeError
from linearized.mimi.app_data import SAFE_AAD_COMPONENT
from linearized.mimi.franking import agent_uri, is_franked, tag_in
from linearized.mimi.participants import FRANKING_AGENT
from linearized.mls import MessageInfo, ProposalInfo, PublicGroup, StagedCommit
from linearized.room.submissions import Reason, Rejected


def check_agent(group: PublicGroup, agents: Mapping[int, bytes]) -> None:
    """Hold the ``franking_agent`` of a new group, if it has one, to this hub's.

    Args:
        agents: this hub's encoded FrankingAgentData by cipher suite.

    Raises:
        Rejected: ``INVALID_COMMIT``.
    """
    app_data = group.app_data()
    if FRANKING_AGENT not in app_data:
        return
    # "It verifies the domain name in the franking_agent.credential corresponds to the domain of the Hub":
    # with anything but this hub's key in there, no receiver could verify what this hub signs.
    if not is_franked(app_data, agents.get(group.ciphersuite)):
        raise Rejected(Reason.INVALID_COMMIT, "The group's franking agent is not this hub's")
    if SAFE_AAD_COMPONENT not in app_data:
        raise Rejected(Reason.INVALID_COMMIT, "A group with a franking agent needs the safe_aad component")


def read_agent(update: bytes) -> bytes:
    """A new value of the ``franking_agent``, which is replaced as a whole.

    Raises:
        Rejected: ``INVALID_PROPOSAL`` if it cannot be read.
    """
    try:
        agent_uri(update)
    except MimiDecodeError as error:
        raise Rejected(Reason.INVALID_PROPOSAL, f"The franking agent cannot be read: {error}") from error
    return update


def changes_agent(proposals: Iterable[ProposalInfo]) -> bool:
    """Whether any of the proposals is for another ``franking_agent``."""
    return any(proposal.component_id == FRANKING_AGENT for proposal in proposals)


def check_new_agent(group: PublicGroup, staged: StagedCommit, agents: Mapping[int, bytes]) -> None:
    """Hold a commit to this hub's ``franking_agent``, if it names another one than before.

    Args:
        agents: this hub's encoded FrankingAgentData by cipher suite.

    Raises:
        Rejected: ``INVALID_COMMIT``.
    """
    # "The use of AppDataUpdate on the franking_agent is RECOMMENDED only when adding a new franking_agent",
    # "To avoid confusion about which signature key to use". A hub has one agent for all time, so there is
    # nothing to confuse: this is how a room that has moved gets the agent of its new hub.
    if changes_agent(staged.proposals) and not is_franked(staged.app_data, agents.get(group.ciphersuite)):
        raise Rejected(Reason.INVALID_COMMIT, "The new franking agent is not this hub's")


def check_agent_of_log(staged: StagedCommit, *, hub: str) -> None:
    """As ``check_new_agent``, for who reads a log and knows the hub by its name alone.

    Raises:
        Rejected: ``INVALID_COMMIT``.
    """
    if changes_agent(staged.proposals) and agent_uri(staged.app_data[FRANKING_AGENT]) != f"mimi://{hub}":
        raise Rejected(Reason.INVALID_COMMIT, "The new franking agent is not the hub's")


def needs_tags(group: PublicGroup, agents: Mapping[int, bytes]) -> bool:
    """Whether this hub franks the group's messages, so that each has to bring its franking tag."""
    return is_franked(group.app_data(), agents.get(group.ciphersuite))


def check_tag(info: MessageInfo) -> None:
    """Refuse a message that cannot be franked: nobody who receives it could ever report it.

    Raises:
        Rejected: ``MALFORMED`` if its authenticated data cannot be read, ``FORBIDDEN`` without a tag.
    """
    try:
        tag = tag_in(info.authenticated_data or b"")
    except MimiDecodeError as error:
        raise Rejected(Reason.MALFORMED, f"The authenticated data is malformed: {error}") from error
    if tag is None:
        raise Rejected(Reason.FORBIDDEN, "A message to this room carries a franking tag")
