"""What franking asks of a room's group and of its messages (draft-ietf-mimi-protocol-06, "Message Franking").

A group is franked if it was created with the ``franking_agent`` of the hub that orders its room. After a
transfer to another hub it no longer is: the new hub has not the old one's key.
"""

from __future__ import annotations

from collections.abc import Mapping

from linearized.exceptions import MimiDecodeError
from linearized.mimi.app_data import SAFE_AAD_COMPONENT
from linearized.mimi.franking import is_franked, tag_in
from linearized.mimi.participants import FRANKING_AGENT
from linearized.mls import MessageInfo, PublicGroup
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
