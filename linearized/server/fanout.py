"""The log as a MIMI follower sees it: the projection of entries and Welcomes to ``FanoutMessage`` bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Final, TypeAlias

import orjson

from linearized.mimi.handshake import RatchetTreeOption
from linearized.mimi.messages import FanoutMessage, Frank
from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import hub_user, user_domain
from linearized.protocol.state import HUB
from linearized.room.admission import COMMIT, ENCRYPTED, PROPOSAL
from linearized.room.proposals import messages_of
from linearized.server.parts import content_of
from linearized.server.welcomes import provider_address
from linearized.store.base import EntryRow, FollowerRow, Store, ToDeviceRow

# One notification's size: large enough that its request costs little per message, small enough to be sent
# again.
MAX_NOTIFY_BYTES: Final = 1024 * 1024
# Entries read for one notification; the byte limit usually cuts first.
NOTIFY_PAGE: Final = 200
# Welcomes read for one notification.
WELCOME_PAGE: Final = 50
# The MLSMessage of each entry type that MIMI followers get.
_MESSAGE_FIELD: Final = {COMMIT: "message", PROPOSAL: "message", ENCRYPTED: "ciphertext"}

FrankOf: TypeAlias = Callable[[EntryRow], Frank | None]
"""Gives the hub's stamp on an entry, if it is a franked message."""


ContentOf: TypeAlias = Callable[[EntryRow], JsonObject]
"""Gives an entry's content, put together if it is in parts."""


def own_content(entry: EntryRow) -> JsonObject:
    """For entries none of which has parts."""
    content: JsonObject = orjson.loads(entry.pdu)["content"]
    return content


def no_frank(entry: EntryRow) -> Frank | None:
    """For a hub that franks nothing."""
    del entry
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One request to a follower, and what is behind it once it was accepted.

    ``cursor`` is the last entry it covers (entries that do not project count as covered), ``welcomes`` the
    position of the last to-device message it took (0 for none). With ``transfer`` it has no body: what comes
    next is that the room has another hub.
    """

    body: bytes
    cursor: int
    welcomes: int
    transfer: EntryRow | None = None


def project_entry(
    entry: EntryRow,
    after: EntryRow | None = None,
    frank_of: FrankOf = no_frank,
    content_of: ContentOf = own_content,
) -> bytes | None:
    """An entry as a FanoutMessage; None for what MIMI has no message for (state events, imported history).

    Args:
        after: the entry after it. If that holds what the hub proposes because of an external commit, it goes
            with the commit, so that no member's commit comes in between; it is sent by itself all the same.
    """
    field = _MESSAGE_FIELD.get(entry.type)
    if field is None:
        return None
    content = content_of(entry)
    message = FanoutMessage(
        timestamp=entry.origin_server_ts,
        message=decode_base64(content[field]),
        frank=frank_of(entry),
        more_proposals=tuple(messages_of(content)[1:]) if entry.type == PROPOSAL else (),
        external_proposals=_stapled(entry, after) if entry.type == COMMIT and after is not None else (),
    )
    return message.encode()


def _stapled(commit: EntryRow, after: EntryRow) -> tuple[bytes, ...]:
    # "To prevent a race condition where a member commit arrives before the regenerated proposals arrive, the
    # hub can staple regenerated proposals to an external commit during the fanout process." One timestamp
    # stands for both; where theirs differ, as after a participant's commit, the proposals follow.
    made_by_hub = after.type == PROPOSAL and after.sender == hub_user(user_domain(after.sender))
    if not made_by_hub or after.origin_server_ts != commit.origin_server_ts:
        return ()
    return tuple(messages_of(orjson.loads(after.pdu)["content"]))


def project_welcome(row: ToDeviceRow) -> tuple[int, bytes]:
    """A Welcome kept for the follower: the entry it came with, and its FanoutMessage."""
    content = orjson.loads(row.content)
    message = FanoutMessage(
        timestamp=content["timestamp"],
        message=decode_base64(content["welcome"]),
        ratchet_tree_option=RatchetTreeOption.full(decode_base64(content["ratchet_tree"])),
    )
    return content["seq"], message.encode()


def next_notification(
    *,
    cursor: int,
    entries: Sequence[EntryRow],
    welcomes: Sequence[ToDeviceRow],
    last: int | None = None,
    frank_of: FrankOf = no_frank,
    content_of: ContentOf = own_content,
    max_bytes: int | None = None,
) -> Notification | None:
    """What to send next, in log order, each Welcome right after the commit it came with; None if there is
    nothing.

    Args:
        cursor: the last entry the follower has.
        entries: the entries after it, ascending.
        welcomes: the Welcomes waiting for the follower in this room, oldest first.
        last: the last of the entries to send; those behind it may say what goes with it.
        max_bytes: where it is cut, if not at ``MAX_NOTIFY_BYTES``; its first message always has a place.
    """
    # One at a time: with its tree, a Welcome into a group of thousands has hundreds of kilobytes.
    waiting = ((*project_welcome(row), row.position) for row in welcomes)
    ahead = next(waiting, None)
    parts: list[bytes] = []
    size = taken = 0
    most = MAX_NOTIFY_BYTES if max_bytes is None else max_bytes

    def add(part: bytes) -> bool:
        """Whether it has a place; the first always has."""
        nonlocal size
        if parts and size + len(part) > most:
            return False
        parts.append(part)
        size += len(part)
        return True

    def add_welcomes(up_to: int) -> bool:
        nonlocal ahead, taken
        while ahead is not None and ahead[0] <= up_to:
            if not add(ahead[1]):
                return False
            taken, ahead = ahead[2], next(waiting, None)
        return True

    reached, room = cursor, add_welcomes(cursor)
    for entry, after in zip_longest(entries, entries[1:]):
        if not room or (last is not None and entry.seq > last):
            break
        projected = project_entry(entry, after, frank_of, content_of)
        if projected is not None and not add(projected):
            break
        reached = entry.seq
        room = add_welcomes(reached)
    if reached == cursor and not parts:
        return None
    return Notification(body=b"".join(parts), cursor=reached, welcomes=taken)


def read_notification(
    store: Store,
    follower: FollowerRow,
    *,
    seq: int | None = None,
    welcomes: int | None = None,
    frank_of: FrankOf = no_frank,
    max_bytes: int | None = None,
    moves: bool = False,
) -> Notification | None:
    """What a follower is to get next, pushed or pulled; None if there is nothing.

    Args:
        moves: whether it is shown where the room moves; nothing goes beyond that before it was.
        seq: the last entry to give it, if not as many as fit.
        welcomes: the position of the last Welcome to give it, likewise.
        max_bytes: as for ``next_notification``.
    """
    entries = store.entries(follower.room_id, after=follower.cursor, limit=NOTIFY_PAGE)
    last = min((stop for stop in (follower.stop_seq, seq) if stop is not None), default=None)
    waiting = store.to_device(
        provider_address(follower.provider), follower.room_id, after=0, limit=WELCOME_PAGE
    )
    if welcomes is not None:
        waiting = [row for row in waiting if row.position <= welcomes]
    ahead = [entry.type == HUB[0] for entry in entries] if moves else []
    transfer = entries[ahead.index(True)] if True in ahead else None
    if transfer is not None and last is not None and transfer.seq > last:
        transfer = None
    if transfer is not None and transfer.seq == follower.cursor + 1 and not waiting:
        return Notification(body=b"", cursor=transfer.seq, welcomes=0, transfer=transfer)
    if transfer is not None:
        last = transfer.seq - 1
    return next_notification(
        cursor=follower.cursor,
        entries=entries,
        welcomes=waiting,
        last=last,
        frank_of=frank_of,
        content_of=partial(content_of, store),
        max_bytes=max_bytes,
    )
