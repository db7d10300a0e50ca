"""Policy on chat bots (draft-ietf-mimi-room-policy, "Chat bot policy component")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from linearized.mimi.policy.common import MAX_ITEMS, Description, Name
from linearized.mimi.policy.roles import NO_ROLE
from linearized.mimi.tls import Bool, Struct, Uint32, Uri, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot(Struct):
    """A bot that the room allows; ``bot_role_index`` 0 for one that is not an active participant."""

    name: Name
    description: Description = ""
    homepage: Uri = ""
    local_client_bot: Bool
    bot_role_index: Uint32
    can_target_message_in_group: Bool
    per_user_content: Bool

    def __post_init__(self) -> None:
        # "A bot with local_client_bot set to true has a bot_role_index of 0."
        if self.local_client_bot and self.bot_role_index != NO_ROLE:
            raise ValueError("a bot of a local client has no role of its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class BotPolicy(Struct):
    """Data and update of the component."""

    allowed_bots: Annotated[tuple[Bot, ...], Vector(Bot, max_items=MAX_ITEMS)] = ()
