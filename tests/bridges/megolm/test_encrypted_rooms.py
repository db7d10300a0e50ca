"""Encrypted rooms as people on both sides see them: the fake homeserver, a client that encrypts, the
bridge.
"""

from __future__ import annotations

from pathlib import Path

from tests.bridges.megolm.talk import talking


async def test_messages_cross_an_encrypted_room_both_ways_and_after_a_restart(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        await talk.alice_says("from the phone")
        assert await talk.bob_hears() == ["from the phone"]
        await talk.bob_says("from elsewhere")
        assert await talk.alice_hears() == ["from elsewhere"]
        sessions = set(talk.alice.keys)
        await talk.restart()
        await talk.alice_says("after the restart")
        assert await talk.bob_hears() == ["after the restart"]
        await talk.bob_says("here, too")
        assert await talk.alice_hears() == ["from elsewhere", "here, too"]
        # The same session goes on: nobody had to be given another key.
        assert set(talk.alice.keys) == sessions


async def test_nothing_is_sent_in_the_clear_not_even_answers_of_the_bot(tmp_path: Path) -> None:
    async with talking(tmp_path) as talk:
        await talk.alice_says("!mimi help")
        await talk.bob_says("from elsewhere")
        sent = [e for e in talk.room.timeline if "_lin_" in e["sender"] and "state_key" not in e]
        assert {event["type"] for event in sent} == {"m.room.encrypted"}
        help_text, said = await talk.alice_hears()
        assert (help_text.splitlines()[1], said) == ("!mimi help: this text", "from elsewhere")
