"""Server ACLs: which servers may take part in a room (Matrix, ``m.room.server_acl``).

The draft leaves them to do ("Server ACLs? (this probably should become part of the auth rules)"); Matrix
rooms have them, and a hub that ignored them would let in what a room's moderators shut out. The hub refuses
what a denied server asks or submits and sends it nothing more; a participant takes nothing from a denied hub.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.protocol.state import StateMap
from linearized.room.submissions import LinearizedPdu, LocalEvent, ParentChanged, Reason, Rejected, Submission
from linearized.server.discovery import split

SERVER_ACL: Final = "m.room.server_acl"
# Decisions kept: an event of 64 KiB can hold some ten thousand patterns, which are not to be gone through for
# every request, and each decision keeps its event's patterns.
MAX_KEPT: Final = 256


def allows(content: JsonObject, server: str) -> bool:
    """Whether the content of an ``m.room.server_acl`` event lets a server in; a port in its name is ignored.

    A server that matches an entry of the deny list is denied; else one that matches an entry of the allow
    list is allowed; else it is denied. Entries that are no strings match nothing.
    """
    return _allows(_patterns(content.get("allow")), _patterns(content.get("deny")), split(server)[0].lower())


@lru_cache(MAX_KEPT)
def _allows(allow: tuple[str, ...], deny: tuple[str, ...], host: str) -> bool:
    # A server name is no IP literal here (the draft forbids it), so allow_ip_literals decides nothing.
    if any(matches(pattern, host) for pattern in deny):
        return False
    return any(matches(pattern, host) for pattern in allow)


def _patterns(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else []
    return tuple(item.lower() for item in items if isinstance(item, str))


def matches(pattern: str, text: str) -> bool:
    """Whether a glob (``*`` for any characters, ``?`` for one) matches all of a text.

    Never goes back further than the last star, so it costs at most the product of both lengths.
    """
    at = star = mark = 0
    place = 0
    seen_star = False
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            seen_star, star, mark = True, place, at
            place += 1
        elif place < len(pattern) and pattern[place] in {"?", text[at]}:
            place += 1
            at += 1
        elif seen_star:
            mark += 1
            place, at = star + 1, mark
        else:
            return False
    return not pattern[place:].strip("*")


def state_allows(state: StateMap, server: str) -> bool:
    """Whether a room's state lets a server in; without an ACL every one."""
    event = state.get((SERVER_ACL, ""))
    return event is None or allows(event.content, server)


def require_allowed(state: StateMap, submission: Submission, ours: str) -> None:
    """Check that the server a submission comes from may take part in the room.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    match submission:
        case LocalEvent() | ParentChanged():
            return
        case LinearizedPdu():
            server = submission.origin
        case _:
            server = submission.provider
    if server != ours and not state_allows(state, server):
        raise Rejected(Reason.FORBIDDEN, f"{server} is denied by the room's server ACL")
