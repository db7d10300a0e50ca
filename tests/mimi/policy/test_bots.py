"""The bot policy on the wire, and the rule of its text."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.bots import Bot, BotPolicy
from tests.mimi.support import vec


def bot(role: int, *, local: bool) -> bytes:
    return vec(b"poker") + vec() + vec() + bytes([local]) + role.to_bytes(4, "big") + b"\x01\x00"


def test_bots_are_written_as_the_draft_lays_them_out() -> None:
    policy = BotPolicy(
        allowed_bots=(
            Bot(
                name="poker",
                local_client_bot=False,
                bot_role_index=3,
                can_target_message_in_group=True,
                per_user_content=False,
            ),
        )
    )
    assert policy.encode() == vec(bot(3, local=False))
    assert BotPolicy.decode(vec(bot(3, local=False))) == policy


def test_a_bot_of_a_local_client_has_no_role() -> None:
    assert Bot.decode(bot(0, local=True)).local_client_bot
    with pytest.raises(MimiDecodeError, match="no role of its own"):
        Bot.decode(bot(3, local=True))
