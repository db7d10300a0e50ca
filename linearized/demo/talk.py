"""Saying and hearing things in the bridged room, on either side."""

from __future__ import annotations

import secrets

from linearized.client import DecryptedMessage
from linearized.demo.homeserver import MatrixUser
from linearized.demo.participant import Participant
from linearized.demo.world import World
from linearized.mimi.content import SALT_BYTES, MimiContent, SinglePart, message_id
from linearized.protocol.identifiers import room_uri

# Makes every text unlike all others, so that finding it anywhere means something.
_MARK_BYTES = 8


def unique(world: World, words: str) -> str:
    """A text nobody said before; remembered as one of those that must not be found in a hub's database."""
    marked = f"{words} {secrets.token_hex(_MARK_BYTES)}"
    world.secrets.append(marked)
    return marked


def salt() -> bytes:
    """A fresh salt for a MIMI message."""
    return secrets.token_bytes(SALT_BYTES)


def body_of(message: DecryptedMessage) -> str:
    """A message's text; empty if it is not a single text."""
    part = message.content.part
    return part.content.decode("utf-8", "replace") if isinstance(part, SinglePart) else ""


def id_of(message: DecryptedMessage) -> bytes:
    """A received message's MIMI message ID."""
    room = room_uri(message.room_id)
    return message_id(message.content, sender_uri=message.sender_uri, room_uri=room)


async def type_in_matrix(world: World, user: MatrixUser, words: str) -> str:
    """Send a text to the Matrix room as one of its users; gives the event ID."""
    return await user.send(world.room.room_id, "m.room.message", {"msgtype": "m.text", "body": words})


async def say(world: World, dora: Participant, content: MimiContent, *, txn_id: str | None = None) -> bytes:
    """Send a message as B's user; gives its MIMI message ID."""
    return (await dora.session.send(world.room_id, content, txn_id=txn_id)).message_id


async def hear(dora: Participant, words: str) -> tuple[DecryptedMessage, float]:
    """The decrypted message with this text, and when it came.

    Raises:
        StepFailed: it did not come.
    """
    return await dora.wait_for(
        DecryptedMessage, f"the message {words!r}", lambda item: body_of(item) == words
    )
