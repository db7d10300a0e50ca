"""Proof that a hub showed two histories of one room, in a form anybody with its public key can check.

Two checkpoints of the same log and the same size with different roots cannot both be true, and both carry
the hub's signature. Nothing else is needed, and nothing less is taken: a hub that refuses to prove its log
consistent is suspect, but that it refused is only our word.

The portable form is a JSON object (``schemas/linearized/equivocation.json``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linearized.exceptions import ProofError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_room_id, is_server_name
from linearized.room.checkpoint import Checkpoint, verify_checkpoint

TYPE: Final = "dev.linearized.equivocation"
_CHECKPOINTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivocation:
    """Two statements of one hub about one room that contradict each other.

    ``key_id`` names the hub's key for whoever looks for it; what counts is the signatures.
    """

    room_id: str
    hub: str
    key_id: str
    first: Checkpoint
    second: Checkpoint

    @property
    def size(self) -> int:
        """The length of log that both are about."""
        return self.first.size

    def to_json(self) -> JsonObject:
        """The portable form."""
        return {
            "type": TYPE,
            "room_id": self.room_id,
            "hub": self.hub,
            "key_id": self.key_id,
            "checkpoints": [self.first.note, self.second.note],
        }


def named_key(document: JsonObject) -> tuple[str, str]:
    """The hub and the key ID that a portable proof names, unchecked.

    Raises:
        ProofError: it is no such proof.
    """
    hub, key_id = document.get("hub"), document.get("key_id")
    if document.get("type") != TYPE or not isinstance(hub, str) or not isinstance(key_id, str):
        raise ProofError(f"this is no {TYPE}")
    return hub, key_id


def verify_equivocation(document: JsonObject, keys: Mapping[str, bytes]) -> Equivocation:
    """Check a portable proof.

    Args:
        keys: the hub's raw Ed25519 keys, by whatever name; the one thing that has to come from elsewhere.

    Raises:
        ProofError: it is malformed or proves nothing.
        SignatureError: one of the checkpoints is not the hub's.
    """
    hub, key_id = named_key(document)
    room_id, notes = document.get("room_id"), document.get("checkpoints")
    if not isinstance(room_id, str) or not is_room_id(room_id) or not is_server_name(hub):
        raise ProofError("the proof names no room and hub")
    if not isinstance(notes, list) or len(notes) != _CHECKPOINTS:
        raise ProofError("the proof holds two checkpoints")
    if not all(isinstance(note, str) for note in notes):
        raise ProofError("a checkpoint is text")
    first, second = (verify_checkpoint(note, hub=hub, room_id=room_id, keys=keys) for note in notes)
    if first.size != second.size:
        raise ProofError("the checkpoints are of different sizes, so both can be true")
    if first.root == second.root:
        raise ProofError("the checkpoints say the same")
    return Equivocation(room_id=room_id, hub=hub, key_id=key_id, first=first, second=second)
