"""What proves that a hub showed two histories, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.exceptions import InvalidInput, ProofError, SignatureError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.signing import ServerIdentity
from linearized.room.checkpoint import Checkpoint, sign_checkpoint
from linearized.room.evidence import Equivocation, named_key, verify_equivocation
from tests.room.support import ROOM, A, B

KEYS = {"ed25519:test": A.key.verify_key}


def checkpoint(root: int, *, size: int = 7, room_id: str = ROOM, identity: ServerIdentity = A) -> Checkpoint:
    return sign_checkpoint(identity, room_id, size=size, root=bytes([root]) * 32)


def proof(first: Checkpoint, second: Checkpoint, **changes: Any) -> JsonObject:
    found = Equivocation(room_id=ROOM, hub="a.example", key_id="ed25519:test", first=first, second=second)
    return {**found.to_json(), **changes}


def test_two_signed_roots_for_one_size_are_a_proof() -> None:
    document = proof(checkpoint(1), checkpoint(2))
    found = verify_equivocation(document, KEYS)
    assert (found.room_id, found.hub, found.size) == (ROOM, "a.example", 7)
    assert {found.first.root, found.second.root} == {bytes([1]) * 32, bytes([2]) * 32}
    assert found.to_json() == document
    assert named_key(document) == ("a.example", "ed25519:test")


@pytest.mark.parametrize(
    "document",
    [
        proof(checkpoint(1), checkpoint(1)),
        proof(checkpoint(1), checkpoint(2, size=8)),
        proof(checkpoint(1), checkpoint(2, room_id="!other:a.example")),
        proof(checkpoint(1), checkpoint(2, identity=B)),
        proof(checkpoint(1), checkpoint(2), type="something else"),
        proof(checkpoint(1), checkpoint(2), hub=3),
        proof(checkpoint(1), checkpoint(2), hub="a b"),
        proof(checkpoint(1), checkpoint(2), hub="b.example"),
        proof(checkpoint(1), checkpoint(2), key_id=None),
        proof(checkpoint(1), checkpoint(2), room_id="#room:a.example"),
        proof(checkpoint(1), checkpoint(2), room_id=7),
        proof(checkpoint(1), checkpoint(2), checkpoints=[checkpoint(1).note]),
        proof(checkpoint(1), checkpoint(2), checkpoints=[checkpoint(1).note] * 3),
        proof(checkpoint(1), checkpoint(2), checkpoints=[checkpoint(1).note, 2]),
        proof(checkpoint(1), checkpoint(2), checkpoints={}),
    ],
)
def test_anything_less_proves_nothing(document: JsonObject) -> None:
    with pytest.raises(ProofError):
        verify_equivocation(document, KEYS)


def test_what_names_no_key_is_no_proof() -> None:
    for changes in ({"type": "x"}, {"hub": 3}, {"key_id": None}):
        with pytest.raises(ProofError):
            named_key(proof(checkpoint(1), checkpoint(2), **changes))


def test_a_forged_checkpoint_proves_nothing() -> None:
    forged = ServerIdentity("a.example", B.key)
    with pytest.raises(SignatureError):
        verify_equivocation(proof(checkpoint(1), checkpoint(2, identity=forged)), KEYS)
    with pytest.raises(InvalidInput):
        verify_equivocation(proof(checkpoint(1), checkpoint(2)), {"ed25519:b": B.key.verify_key})
