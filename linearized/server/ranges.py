"""Answers that can be asked for in part, and only if they changed (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from linearized.server.http import Request, Response

NOT_MODIFIED: Final = 304
PARTIAL: Final = 206
NOT_SATISFIABLE: Final = 416

# One range; of several, or of another unit, the whole is sent ("A server MAY ignore the Range header field").
_RANGE: Final = re.compile(r"bytes=(?:(?P<first>[0-9]{1,15})-(?P<last>[0-9]{0,15})|-(?P<suffix>[0-9]{1,15}))")
_ETAG: Final = re.compile(r'(?:W/)?("[^"]*")')


def respond(
    request: Request, body: bytes, *, content_type: str, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """Answer with ``body``, or as much of it as the request asks for; its entity tag is its SHA-256."""
    tag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = (*headers, ("etag", tag), ("accept-ranges", "bytes"))
    unless = request.headers.get("if-none-match")
    # "A recipient MUST use the weak comparison function when comparing entity tags for If-None-Match".
    if unless is not None and (unless.strip() == "*" or tag in _ETAG.findall(unless)):
        return Response(status=NOT_MODIFIED, content_type=content_type, headers=headers)
    asked = _RANGE.fullmatch(request.headers.get("range", "").strip())
    # "A client MUST NOT generate an If-Range header field containing an entity tag that is marked as weak",
    # and a part of another version is of no use.
    condition = request.headers.get("if-range", tag).strip()
    if asked is None or request.method != "GET" or condition != tag:
        return Response(body=body, content_type=content_type, headers=headers)
    first, end = _bounds(asked, len(body))
    if first >= end:
        unsatisfied = (*headers, ("content-range", f"bytes */{len(body)}"))
        return Response(status=NOT_SATISFIABLE, content_type=content_type, headers=unsatisfied)
    return Response(
        status=PARTIAL,
        body=body[first:end],
        content_type=content_type,
        headers=(*headers, ("content-range", f"bytes {first}-{end - 1}/{len(body)}")),
    )


def _bounds(asked: re.Match[str], size: int) -> tuple[int, int]:
    """First octet and the one behind the last; an empty range cannot be satisfied."""
    if asked["suffix"] is not None:
        return max(0, size - int(asked["suffix"])), size
    first = int(asked["first"])
    last = int(asked["last"]) if asked["last"] else size - 1
    # "An int-range is invalid if the last-pos value is present and less than first-pos": then it is ignored.
    if last < first and asked["last"]:
        return 0, size
    return first, min(last + 1, size)
