"""Commits that are larger than an event: their content in parts, in the entries before them (decision 0021).

"An event/PDU MUST NOT exceed 65536 bytes" (Linearized Matrix), and no MIMI draft bounds a commit: one over a
thousand leaves that never committed has more than that. What is large in its content is then cut into pieces,
each the content of a ``dev.linearized.mls.commit_part``; the ``m.mls.commit`` right behind them has what is
left, how many there are, and the hash of what they come to. So whatever carries the log carries them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from linearized.exceptions import CanonicalJsonError
from linearized.protocol.authorization import COMMIT, COMMIT_PART
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject, canonical_json, parse_json_object
from linearized.room.submissions import Reason, Rejected

PIECE: Final = "piece"
PARTS: Final = "dev.linearized.parts"
INITIAL_GROUP: Final = "dev.linearized.initial_group_state"
"""Where the first commit keeps the group it starts from, so that anybody can follow the group from the log
alone."""

# The rest is for the server to read without putting the parts together.
LARGE: Final = frozenset({"message", "public_group_state", INITIAL_GROUP})

MAX_PIECE: Final = 60_000
"""Characters (ASCII) of JSON in one event. The other 5,536 bytes are for what an event has beside its
content: names of up to 255 bytes, a few event IDs, hashes and a signature, and backslashes before a handful
of quotes."""

MAX_PARTS: Final = 100
"""Six megabytes: more than a request's 4 MiB (``server.http``) become in base64, and a hundred times what a
follower has to hold for any other event."""


def divide(content: JsonObject) -> tuple[list[JsonObject], JsonObject]:
    """The contents of the parts that go before a commit, none if it fits into an event, and its own.

    Raises:
        Rejected: ``TOO_LARGE``.
    """
    large = {name: value for name, value in content.items() if name in LARGE}
    text = canonical_json(large).decode("ascii")
    if len(text) <= MAX_PIECE:
        return [], content
    pieces = [text[start : start + MAX_PIECE] for start in range(0, len(text), MAX_PIECE)]
    if len(pieces) > MAX_PARTS:
        raise Rejected(Reason.TOO_LARGE, f"The commit needs {len(pieces)} parts, more than {MAX_PARTS}")
    rest = {name: value for name, value in content.items() if name not in LARGE}
    return [{PIECE: piece} for piece in pieces], {
        **rest,
        PARTS: {"count": len(pieces), "sha256": _digest(text)},
    }


def number_of_parts(content: JsonObject) -> int:
    """How many parts the content of an ``m.mls.commit`` says are in the entries before it.

    Raises:
        Rejected: ``MALFORMED``.
    """
    said = content.get(PARTS)
    if said is None:
        return 0
    count = said.get("count") if isinstance(said, dict) else None
    if type(count) is not int or not 0 < count <= MAX_PARTS:
        raise Rejected(Reason.MALFORMED, f"A commit says how many parts it has, at most {MAX_PARTS}")
    return count


def whole_content(content: JsonObject, parts: Sequence[JsonObject]) -> JsonObject:
    """The content of an ``m.mls.commit`` with what its parts hold.

    Args:
        parts: the contents of the parts before it, in order; all of those that stand there.

    Raises:
        Rejected: ``MALFORMED`` if they are not what the commit says.
    """
    if number_of_parts(content) != len(parts):
        raise Rejected(Reason.MALFORMED, "The commit has another number of parts than it says")
    if not parts:
        return content
    pieces = [part.get(PIECE) for part in parts]
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    if _digest(text) != content[PARTS].get("sha256"):
        raise Rejected(Reason.MALFORMED, "The commit's parts are others than it says")
    try:
        large = parse_json_object(text.encode())
    except CanonicalJsonError as error:
        raise Rejected(Reason.MALFORMED, f"The commit's parts are no JSON object: {error}") from error
    own = {name: value for name, value in content.items() if name != PARTS}
    if not large.keys() <= LARGE or own.keys() & large.keys():
        raise Rejected(Reason.MALFORMED, "The commit's parts hold what they may not")
    return {**own, **large}


class PartWalk:
    """Goes along a log and puts commits together.

    Args:
        parts: the contents of those that stand at the end of the log so far.
    """

    def __init__(self, parts: Iterable[JsonObject] = ()) -> None:
        self._parts = list(parts)

    def take(self, event_type: str, content: JsonObject) -> JsonObject:
        """The content of the next entry's event: a commit's whole one, any other as it is.

        Raises:
            Rejected: ``MALFORMED`` for a commit whose parts are not what it says, for too many parts, or for
                parts without a commit behind them. The walk can go on.
        """
        if event_type == COMMIT_PART:
            self._parts.append(content)
            if len(self._parts) > MAX_PARTS:
                self._parts.clear()
                raise Rejected(Reason.MALFORMED, f"More than {MAX_PARTS} parts of a commit")
            return content
        parts, self._parts = self._parts, []
        if event_type == COMMIT:
            return whole_content(content, parts)
        if parts:
            raise Rejected(Reason.MALFORMED, "Parts of a commit stand before what is none")
        return content


def _digest(text: str) -> str:
    return encode_base64(hashlib.sha256(text.encode()).digest())
