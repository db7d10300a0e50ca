"""Rooms as logs: entries, segments, and the proofs of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from linearized.client.answers import (
    Inclusion,
    LogPage,
    SegmentIndex,
    SignedCheckpoint,
    decode_binaries,
    json_integer,
    json_list,
    json_objects,
    json_string,
    path_part,
)
from linearized.client.calls.base import MEDIA_DEADLINE, Calls
from linearized.client.errors import MalformedAnswer
from linearized.client.paths import MLS
from linearized.client.transport import JsonObject
from linearized.room.segments import MAX_SEGMENT_BYTES, SEGMENT


class LogCalls(Calls):
    """The part of ``ProviderApi`` for these."""

    async def log(self, room_id: str, *, after: int, limit: int = 50) -> LogPage:
        """Entries with ``seq > after`` as signed PDUs, ascending; joined users only."""
        query = {"after": str(after), "limit": str(limit)}
        answer = await self._transport.json(
            "GET", f"{MLS}/rooms/{path_part(room_id)}/log", query=query, idempotent=True
        )
        return LogPage(
            pdus=json_objects(answer.get("pdus")),
            first_seq=json_integer(answer, "first_seq"),
            head_seq=json_integer(answer, "head_seq"),
        )

    async def live(
        self,
        room_id: str,
        *,
        after: int,
        take: Callable[[bytes], Awaitable[None]],
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """One connection's server-sent events of entries with ``seq > after``, in pieces as they come; see
        ``linearized.client.live`` for what to use instead. Returns when the server ends it.
        """
        path = f"{MLS}/rooms/{path_part(room_id)}/live"
        await self._transport.stream(path, take=take, query={"from": str(after + 1)}, http=http)

    async def segments(self, room_id: str) -> SegmentIndex:
        """Which segments of a room's log the server has for us; of rooms it orders."""
        answer = await self._transport.json(
            "GET", f"{MLS}/rooms/{path_part(room_id)}/segments", idempotent=True
        )
        runs = [run for run in json_list(answer, "segments") if isinstance(run, list)]
        if json_integer(answer, "entries") != SEGMENT or not all(_is_run(run) for run in runs):
            raise MalformedAnswer("the server's segments are not what they should be")
        return SegmentIndex(
            head_seq=json_integer(answer, "head_seq"), runs=tuple((run[0], run[1]) for run in runs)
        )

    async def segment(self, room_id: str, number: int) -> bytes:
        """One segment, packed (see ``linearized.room.segments``)."""
        answer = await self._transport.request(
            "GET",
            f"{MLS}/rooms/{path_part(room_id)}/segments/{number}",
            idempotent=True,
            deadline=MEDIA_DEADLINE,
            limit=MAX_SEGMENT_BYTES,
        )
        return answer.body

    async def keys_of(self, server: str) -> list[JsonObject]:
        """``GET /_matrix/key/v2/query/{server}``: another server's keys, as the provider knows them."""
        path = f"/_matrix/key/v2/query/{path_part(server)}"
        answer = await self._transport.json("GET", path, idempotent=True)
        return json_objects(answer.get("server_keys"))

    async def checkpoint(self, room_id: str, *, size: int | None = None) -> SignedCheckpoint:
        """The hub's signed statement about its log, or about the first ``size`` entries of it."""
        answer = await self._transport.json(
            "GET",
            f"{MLS}/rooms/{path_part(room_id)}/checkpoint",
            query={} if size is None else {"size": str(size)},
            idempotent=True,
        )
        return SignedCheckpoint(note=json_string(answer, "checkpoint"), key_id=json_string(answer, "key_id"))

    async def inclusion(self, room_id: str, event_id: str, *, size: int) -> Inclusion:
        """The hub's proof that an event is among the first ``size`` entries of its log."""
        answer = await self._transport.json(
            "GET",
            f"{MLS}/rooms/{path_part(room_id)}/proof/inclusion",
            query={"event_id": event_id, "size": str(size)},
            idempotent=True,
        )
        return Inclusion(
            seq=json_integer(answer, "seq"),
            size=json_integer(answer, "size"),
            path=decode_binaries(answer, "hashes"),
        )

    async def server_keys(self) -> JsonObject:
        """``GET /_matrix/key/v2/server``: the provider's own signing keys."""
        return await self._transport.json("GET", "/_matrix/key/v2/server", idempotent=True)


def _is_run(run: list[Any]) -> bool:
    return len(run) == 2 and all(type(end) is int and end >= 0 for end in run)  # noqa: PLR2004 - a pair
