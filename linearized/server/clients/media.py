"""Media: uploads kept under the data directory, downloads that no browser will run.

The name of a file is the server's own random token; nothing a client says becomes part of a path.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

import trio

from linearized.server import assets
from linearized.server.assets import media_path
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid
from linearized.server.clients.held_files import Hold
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.ranges import respond
from linearized.server.whole_files import WholeFile
from linearized.store.base import MediaRow

MEDIA_ID_BYTES: Final = 24  # 192 bits: knowing the ID is what lets one read a file
MAX_FILENAME: Final = 255  # what file systems take
MAX_CONTENT_TYPE: Final = 127 * 2 + 1  # "type/subtype", each at most 127 characters (RFC 6838)
# What an upload gathers before it writes: a thread for each piece of a few kilobytes would cost more.
WRITE_BYTES: Final = 256 * 1024
_DEFAULT_TYPE: Final = "application/octet-stream"
_CONTENT_TYPE: Final = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(; ?[A-Za-z0-9_-]+=[A-Za-z0-9_.+-]+)*"
)
# "Content-Disposition … inline" is only for what cannot run script (Client-Server API, Serving inline
# content).
INLINE_TYPES: Final = frozenset(
    {
        "audio/aac", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm",
        "image/apng", "image/avif", "image/gif", "image/jpeg", "image/png", "image/webp",
        "text/plain",
        "video/mp4", "video/ogg", "video/quicktime", "video/webm",
    }
)  # fmt: skip
# "Content-Security-Policy: sandbox; default-src 'none'; …" (Client-Server API, Content Repository, Security).
SAFE_HEADERS: Final = (
    (
        "content-security-policy",
        "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf;"
        " style-src 'unsafe-inline'; object-src 'self'",
    ),
    ("cross-origin-resource-policy", "cross-origin"),
    ("x-content-type-options", "nosniff"),
    ("cache-control", "private, max-age=31536000, immutable"),
)


async def upload(context: Context, request: Request, caller: Caller) -> Response:
    """``POST /_matrix/media/v3/upload``: the file is complete and on disk before its record says it
    exists.
    """
    filename = request.query_one("filename")
    if filename is not None and not 0 < len(filename) <= MAX_FILENAME:
        raise invalid(f"filename must have 1 to {MAX_FILENAME} characters")
    content_type = request.headers.get("content-type", _DEFAULT_TYPE)
    if len(content_type) > MAX_CONTENT_TYPE or not _CONTENT_TYPE.fullmatch(content_type):
        content_type = _DEFAULT_TYPE
    media_id = context.node.ids(MEDIA_ID_BYTES)
    size = await _receive(context, request, media_path(context.node, media_id))
    await context.node.store.put_media(
        MediaRow(
            media_id=media_id,
            uploader=caller.user_id,
            content_type=content_type,
            filename=filename,
            size=size,
            created_ts=context.node.clock(),
        )
    )
    return json_response({"content_uri": f"mxc://{context.node.identity.name}/{media_id}"})


async def _receive(context: Context, request: Request, path: Path) -> int:
    """Write a body to disk as it comes; how many bytes it had. Little of it is in memory at any time."""
    file, waiting = WholeFile(path), bytearray()

    async def take(chunk: bytes) -> None:
        waiting.extend(chunk)
        if len(waiting) >= WRITE_BYTES:
            data = bytes(waiting)
            waiting.clear()
            await trio.to_thread.run_sync(file.write, data)

    try:
        await request.pass_on(take, context.node.config.limits.max_media_bytes)
        await trio.to_thread.run_sync(file.write, bytes(waiting))
        await trio.to_thread.run_sync(file.finish)
    except BaseException:
        file.discard()
        raise
    return file.size


async def download(context: Context, request: Request, caller: Caller) -> Response:
    """``GET /_matrix/client/v1/media/download/{serverName}/{mediaId}[/{fileName}]``: our files, and those
    of the providers the user shares a room with.
    """
    hold = await hold_for(context, request, caller)
    try:
        answer = await _answer(context, request, caller, hold)
    except BaseException:
        hold.release()
        raise
    return replace(answer, done=hold.release)


async def hold_for(context: Context, request: Request, caller: Caller) -> Hold:
    """Room for the file that a path names: of another provider's its size is not known.

    Raises:
        trio.TooSlowError: there was none in time.
    """
    limit = context.node.config.limits.max_media_bytes
    own = request.params["server_name"] == context.node.identity.name
    row = context.node.store.media(request.params["media_id"]) if own else None
    size = row.size if row is not None else 0 if own else limit
    return await context.held_files.hold(caller.owner or caller.user_id, size)


async def _answer(context: Context, request: Request, caller: Caller, hold: Hold) -> Response:
    server, media_id = request.params["server_name"], request.params["media_id"]
    try:
        if server != context.node.identity.name:
            data = await assets.for_user(context.node, caller.user_id, provider=server, media_id=media_id)
            hold.resize(len(data))
            # What another provider says of a file's type is not ours to vouch for.
            headers = (*SAFE_HEADERS, ("content-disposition", "attachment"))
            return respond(request, data, content_type=_DEFAULT_TYPE, headers=headers)
        row, data = await assets.read(context.node, media_id)
    except assets.NoSuchAsset as error:
        raise HttpError(404, "M_NOT_FOUND", "No such media") from error
    kind = "inline" if row.content_type.partition(";")[0].lower() in INLINE_TYPES else "attachment"
    filename = request.params.get("file_name", row.filename)
    if filename is not None:
        # Percent-encoded UTF-8 (RFC 6266, RFC 8187): no quoting rules to get wrong, no header to break out
        # of.
        kind += f"; filename*=utf-8''{quote(filename, safe='')}"
    headers = (*SAFE_HEADERS, ("content-disposition", kind))
    return respond(request, data, content_type=row.content_type, headers=headers)


async def config(context: Context, request: Request, caller: Caller) -> Response:
    """``GET /_matrix/client/v1/media/config``: the largest upload, in bytes."""
    del request, caller
    return json_response({"m.upload.size": context.node.config.limits.max_media_bytes})
