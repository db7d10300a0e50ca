"""The provider's endpoints for archives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from linearized.client.answers import (
    decode_binary,
    encode_binary,
    json_integer,
    json_objects,
    json_string,
    path_part,
)
from linearized.client.archive.state import WaitingRecord, WaitingRelease
from linearized.client.calls.base import Calls
from linearized.client.paths import MLS
from linearized.client.transport import JsonObject
from linearized.protocol.base64 import encode_base64url


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record as the provider tells it; nothing of it is to be believed before it was opened."""

    number: int
    seq: int
    event_id: str
    tag: bytes
    expires_ts: int | None
    stub: bytes
    sealed: bytes | None
    release: bytes | None


class ArchiveCalls(Calls):
    """The part of ``ProviderApi`` for these; raises as it does."""

    async def archives(self) -> list[JsonObject]:
        """``GET archives``: ``archive``, ``room_id``, ``records`` and ``bytes`` of each of the account's."""
        answer = await self._transport.json("GET", f"{MLS}/archives", idempotent=True)
        return json_objects(answer.get("archives"))

    async def keep_records(self, room_id: str, archive: bytes, records: Sequence[WaitingRecord]) -> None:
        """``POST rooms/{room}/archives/{archive}``: add neighbouring records; repeating is harmless."""
        body: JsonObject = {"records": [_body(record) for record in records]}
        await self._transport.json("POST", _path(room_id, archive), body=body, idempotent=True)

    async def kept_records(self, room_id: str, archive: bytes, *, after: int) -> list[StoredRecord]:
        """``GET rooms/{room}/archives/{archive}``: the next records behind number ``after``."""
        answer = await self._transport.json(
            "GET", _path(room_id, archive), query={"after": str(after)}, idempotent=True
        )
        return [_record(value) for value in json_objects(answer.get("records"))]

    async def release_records(self, archive: bytes, releases: Sequence[WaitingRelease]) -> None:
        """``POST archives/{archive}/release``: drop the content of records."""
        listed = [
            {"tag": encode_binary(release.tag), "release": encode_binary(release.release)}
            for release in releases
        ]
        path = f"{MLS}/archives/{encode_base64url(archive)}/release"
        await self._transport.json("POST", path, body={"releases": listed}, idempotent=True)

    async def remove_archive(self, archive: bytes | None = None) -> None:
        """``DELETE archives/{archive}``, or of all of the account's."""
        path = f"{MLS}/archives" if archive is None else f"{MLS}/archives/{encode_base64url(archive)}"
        await self._transport.json("DELETE", path, idempotent=True)


def _path(room_id: str, archive: bytes) -> str:
    return f"{MLS}/rooms/{path_part(room_id)}/archives/{encode_base64url(archive)}"


def _body(record: WaitingRecord) -> JsonObject:
    body: JsonObject = {
        "number": record.number,
        "seq": record.seq,
        "event_id": record.event_id,
        "tag": encode_binary(record.tag),
        "stub": encode_binary(record.stub),
        "sealed": encode_binary(record.sealed),
    }
    if record.expires_ts is not None:
        body["expires_ts"] = record.expires_ts
    return body


def _record(value: JsonObject) -> StoredRecord:
    return StoredRecord(
        number=json_integer(value, "number"),
        seq=json_integer(value, "seq"),
        event_id=json_string(value, "event_id"),
        tag=decode_binary(value, "tag"),
        expires_ts=json_integer(value, "expires_ts") if "expires_ts" in value else None,
        stub=decode_binary(value, "stub"),
        sealed=decode_binary(value, "sealed") if "sealed" in value else None,
        release=decode_binary(value, "release") if "release" in value else None,
    )
