"""Message archives: what a user's device keeps here, sealed, for devices to come (decision 34).

We cannot read a record, and are not believed about it: a client checks it against the log. What we do is to
keep it in order, for its user alone, and drop its content in time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from linearized.protocol.base64 import decode_base64, encode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import bad_json, binary, integer, invalid, objects, query_integer, text
from linearized.server.clients.views import View
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.archive import ArchiveRecordRow, Kept

# Of one account: years of a busy person's messages. Each costs about 300 bytes beside its content.
MAX_RECORDS: Final = 200_000
MAX_BYTES: Final = 256 * 1024 * 1024  # of one account: 200,000 ordinary messages are a quarter of it
MAX_PAGE: Final = 100  # records in a request or an answer: with the largest content, about ten megabytes
# A message is an event, which has at most 65,536 bytes with its ciphertext in base64; the sealed record of it
# has the same content and a little about its sender, whose pseudonymous credential may take 4 KiB.
MAX_SEALED_BYTES: Final = 56 * 1024
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024  # of content in one request or answer; a page of ordinary messages
NAME_BYTES: Final = 16  # of an archive's random name
TAG_BYTES: Final = 16
PROOF_BYTES: Final = 32  # HMAC-SHA-256
REMOVED_AT_ONCE: Final = 1000  # rows in one transaction, which holds up others
_MAX_NUMBER: Final = 2**53 - 1
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{22}")


def _require_account(caller: Caller) -> None:
    """An archive belongs to the devices of one account, or of one of its pseudonyms. What a bridge's users
    read is on their homeserver.
    """
    if caller.bridge is not None:
        raise HttpError(403, "M_FORBIDDEN", "Only an account of this server has archives")


def _name(request: Request) -> bytes:
    name = request.params["archive"]
    if not _NAME.fullmatch(name):
        raise invalid(f"An archive's name is {NAME_BYTES} bytes in unpadded URL-safe base64")
    return decode_base64(name)


async def listing(context: Context, request: Request, caller: Caller) -> Response:
    """``GET archives``: the caller's, with their sizes."""
    del request
    _require_account(caller)
    return json_response(
        {
            "archives": [
                {
                    "archive": encode_base64url(row.archive),
                    "room_id": row.room_id,
                    "records": row.records,
                    "bytes": row.bytes,
                }
                for row in context.node.store.archives(caller.user_id)
            ]
        }
    )


async def put(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/archives/{archive}``: add records, numbered on from those there are; those there
    already stay, so a repetition is harmless.

    Raises:
        HttpError: 403 ``M_FORBIDDEN`` for a room that the caller is not joined to; 404 ``M_NOT_FOUND`` for a
            record of an event that is not in it; 400 ``M_LIMIT_EXCEEDED`` if the account would have too much;
            409 ``M_CONFLICT`` if numbers are missing before these.
    """
    _require_account(caller)
    room_id, archive = request.params["room_id"], _name(request)
    view = context.views.require(room_id, caller.user_id, joined=True)
    records = [_record(one) for one in objects(await request.json(), "records", limit=MAX_PAGE)]
    if any(later.number != record.number + 1 for record, later in pairwise(records)):
        raise invalid("records must be numbered without gaps")
    if sum(len(record.sealed or b"") for record in records) > MAX_PAGE_BYTES:
        raise HttpError(413, "M_TOO_LARGE", f"A request may bring {MAX_PAGE_BYTES} bytes of records")
    for record in records:
        _require_entry(context, view, record)
    kept = await context.node.store.put_archive(
        caller.user_id, room_id, archive, records, most_records=MAX_RECORDS, most_bytes=MAX_BYTES
    )
    if kept is Kept.FULL:
        raise HttpError(400, "M_LIMIT_EXCEEDED", "There is no room for more records")
    if kept is Kept.GAP:
        raise HttpError(409, "M_CONFLICT", "There are records missing before these")
    return json_response({})


def _require_entry(context: Context, view: View, record: ArchiveRecordRow) -> None:
    entry = context.node.store.entry_by_id(record.event_id)
    if (
        entry is None
        or entry.room_id != view.room.room_id
        or entry.seq != record.seq
        or not view.shows(entry)
    ):
        raise HttpError(404, "M_NOT_FOUND", f"{record.event_id} is not entry {record.seq} of this room")


def _record(body: JsonObject) -> ArchiveRecordRow:
    sealed = binary(body, "sealed")
    if len(sealed) > MAX_SEALED_BYTES:
        raise HttpError(413, "M_TOO_LARGE", f"A record may take {MAX_SEALED_BYTES} bytes")
    return ArchiveRecordRow(
        number=integer(body, "number", minimum=1),
        seq=integer(body, "seq", minimum=1),
        event_id=text(body, "event_id"),
        tag=_exactly(body, "tag", TAG_BYTES),
        expires_ts=None if body.get("expires_ts") is None else integer(body, "expires_ts"),
        stub=_exactly(body, "stub", PROOF_BYTES),
        sealed=sealed,
    )


def _exactly(body: JsonObject, key: str, size: int) -> bytes:
    value = binary(body, key)
    if len(value) != size:
        raise bad_json(f"{key} must have {size} bytes")
    return value


async def get(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/archives/{archive}``: records with ``number > after``, in order."""
    _require_account(caller)
    context.views.require(request.params["room_id"], caller.user_id, joined=True)
    rows = context.node.store.archive_records(
        caller.user_id,
        _name(request),
        after=query_integer(request, "after", default=0, maximum=_MAX_NUMBER),
        limit=max(1, query_integer(request, "limit", default=MAX_PAGE, maximum=MAX_PAGE)),
        now_ms=context.node.clock(),
    )
    return json_response({"records": [_shown(row) for row in _fitting(rows)]})


def _fitting(rows: Sequence[ArchiveRecordRow]) -> list[ArchiveRecordRow]:
    size, found = 0, []
    for row in rows:
        size += len(row.sealed or b"")
        if size > MAX_PAGE_BYTES:
            break
        found.append(row)
    return found


def _shown(row: ArchiveRecordRow) -> JsonObject:
    shown: JsonObject = {
        "number": row.number,
        "seq": row.seq,
        "event_id": row.event_id,
        "tag": encode_base64(row.tag),
        "stub": encode_base64(row.stub),
    }
    if row.expires_ts is not None:
        shown["expires_ts"] = row.expires_ts
    if row.sealed is not None:
        shown["sealed"] = encode_base64(row.sealed)
    if row.release is not None:
        shown["release"] = encode_base64(row.release)
    return shown


async def release(context: Context, request: Request, caller: Caller) -> Response:
    """``POST archives/{archive}/release``: drop the content of records, by tag; what is gone is gone
    already.
    """
    _require_account(caller)
    archive = _name(request)
    releases = [
        (_exactly(one, "tag", TAG_BYTES), _exactly(one, "release", PROOF_BYTES))
        for one in objects(await request.json(), "releases", limit=MAX_PAGE)
    ]
    count = await context.node.store.release_archive(caller.user_id, archive, releases)
    return json_response({"released": count})


async def remove(context: Context, request: Request, caller: Caller) -> Response:
    """``DELETE archives/{archive}``, ``DELETE archives``: forget one archive, or all of the caller's."""
    _require_account(caller)
    await forget(context, caller.user_id, _name(request) if "archive" in request.params else None)
    return json_response({})


async def forget(context: Context, user_id: str, archive: bytes | None = None) -> None:
    """Have one archive of a user gone, or all of them."""
    while await context.node.store.remove_archive(user_id, archive, limit=REMOVED_AT_ONCE):
        continue
