"""What another server says about a log: checkpoints and proofs, read within bounds and checked for form.

A checkpoint is taken only with the hub's signature, whoever passes it on. Whether a proof holds is for the
caller to find out.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlencode

from linearized.exceptions import InvalidInput, ProofError
from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room.checkpoint import MAX_SIZE, Checkpoint, verify_checkpoint
from linearized.room.merkle import MAX_PATH
from linearized.server.exchange import OutboundError
from linearized.server.node import Node

ROOM: Final = "/_linearized/v1/rooms/{room_id}"


class RemoteLog:
    """The log of one room, which ``hub`` orders."""

    def __init__(self, node: Node, room_id: str, hub: str) -> None:
        self._node = node
        self._room_id = room_id
        self._base = ROOM.format(room_id=quote(room_id, safe=""))
        self.hub = hub

    async def checkpoint(self, server: str, *, size: int | None = None) -> tuple[Checkpoint, str]:
        """The hub's checkpoint as ``server`` has it, and the ID of the key that signed it.

        Args:
            size: asks the hub for its checkpoint of that many entries.

        Raises:
            ProofError, SignatureError: what it gave is no checkpoint of the hub's, or of another size.
            OutboundError: it gave none.
        """
        query = "" if size is None else f"?size={size}"
        answer = await self._node.federation.request(server, "GET", f"{self._base}/checkpoint{query}")
        note, key_id = answer.get("checkpoint"), answer.get("key_id")
        if not isinstance(note, str) or not isinstance(key_id, str):
            raise ProofError("the answer holds no checkpoint and key ID")
        keys = await self._node.keys.keys_for(self.hub, [key_id])
        checkpoint = verify_checkpoint(note, hub=self.hub, room_id=self._room_id, keys=keys)
        if size is not None and checkpoint.size != size:
            raise ProofError("the checkpoint is of another size than the one asked for")
        return checkpoint, key_id

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """The hub's proof that its log of ``old`` entries is the beginning of that of ``new``.

        Raises:
            ProofError: it says that there is none.
            OutboundError: it gave no answer.
        """
        return _hashes(await self._proof("consistency", {"from": str(old), "to": str(new)}))

    async def inclusion(self, event_id: str, size: int) -> tuple[int, list[bytes]]:
        """The hub's ``seq`` of an event and the proof that it is there in the log of ``size`` entries.

        Raises:
            ProofError: it says that there is none.
            OutboundError: it gave no answer.
        """
        answer = await self._proof("inclusion", {"event_id": event_id, "size": str(size)})
        seq = answer.get("seq")
        if not isinstance(seq, int) or isinstance(seq, bool) or not 1 <= seq <= MAX_SIZE:
            raise ProofError("the answer names no entry")
        return seq, _hashes(answer)

    async def _proof(self, kind: str, query: dict[str, str]) -> JsonObject:
        try:
            return await self._node.federation.request(
                self.hub, "GET", f"{self._base}/proof/{kind}?{urlencode(query)}"
            )
        except OutboundError as error:
            # It signed that size: "past the end" is no answer to that. Anything else may be an outage.
            if error.status == HTTPStatus.BAD_REQUEST:
                raise ProofError(f"{self.hub} refuses to prove what it signed") from error
            raise


def _hashes(answer: JsonObject) -> list[bytes]:
    found = answer.get("hashes")
    if not isinstance(found, list) or len(found) > MAX_PATH:
        raise ProofError("the answer holds no proof")
    try:
        return [decode_base64(item) for item in found]
    except (InvalidInput, AttributeError) as error:
        raise ProofError("a hash of the proof is not base64") from error
