"""``GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}``: of our own files each size is made once
and kept; of other providers' files it is made anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import trio

from linearized.server import assets
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid, query_integer
from linearized.server.clients.media import SAFE_HEADERS, hold_for
from linearized.server.http import HttpError, Request, Response
from linearized.server.ranges import respond
from linearized.server.thumbnails import (
    METHODS,
    SCALE,
    NoThumbnail,
    Size,
    TooManyPixels,
    content_type,
    size_for,
    thumbnail,
)
from linearized.server.whole_files import write_whole

MAX_SIDE: Final = 10_000  # asked for more, a client gets the largest as well
# How long a request waits until it is its turn to decode; clients ask again when it is shown again.
WAIT_SECONDS: Final = 30.0


async def get(context: Context, request: Request, caller: Caller) -> Response:
    """The smallest size we make that is as large as ``width`` and ``height``."""
    server, media_id = request.params["server_name"], request.params["media_id"]
    method = request.query_one("method", SCALE) or SCALE
    if method not in METHODS:
        raise invalid("method must be crop or scale")
    for name in ("width", "height"):
        if request.query_one(name) is None:
            raise HttpError(400, "M_MISSING_PARAM", f"{name} is missing")
    width, height = (
        query_integer(request, name, default=1, minimum=1, maximum=MAX_SIDE) for name in ("width", "height")
    )
    size = size_for(width, height, method)
    hold = await hold_for(context, request, caller)
    try:
        if server == context.node.identity.name:
            made = await _own(context, media_id, size)
        else:
            data = await assets.for_user(context.node, caller.user_id, provider=server, media_id=media_id)
            made = await _make(context, data, size)
    except assets.NoSuchAsset as error:
        raise HttpError(404, "M_NOT_FOUND", "No such media") from error
    except TooManyPixels as error:
        raise HttpError(413, "M_TOO_LARGE", str(error)) from error
    except NoThumbnail as error:
        raise HttpError(400, "M_UNKNOWN", str(error)) from error
    finally:
        hold.release()  # what was made of it is small
    headers = (*SAFE_HEADERS, ("content-disposition", "inline"))
    return respond(request, made, content_type=content_type(made), headers=headers)


async def _own(context: Context, media_id: str, size: Size) -> bytes:
    if context.node.store.media(media_id) is None:
        raise assets.NoSuchAsset(media_id)
    path = context.node.config.data_dir / "thumbnails" / f"{media_id}-{size}"
    async with context.in_flight.alone(f"thumbnail {path.name}"):
        kept = await _read(path)
        if kept is not None:
            return kept
        _, data = await assets.read(context.node, media_id)
        made = await _make(context, data, size)
        await trio.to_thread.run_sync(write_whole, path, made)
        return made


async def _read(path: Path) -> bytes | None:
    try:
        return await trio.Path(path).read_bytes()
    except FileNotFoundError:
        return None


async def _make(context: Context, data: bytes, size: Size) -> bytes:
    """In a thread, one at a time: a picture takes up to 128 MB while it is decoded.

    Raises:
        trio.TooSlowError: too many others wait for theirs.
    """
    with trio.fail_after(WAIT_SECONDS) as waiting:
        async with context.decoders:
            waiting.deadline = float("inf")  # its size bounds what is left to do
            return await trio.to_thread.run_sync(thumbnail, data, size)
