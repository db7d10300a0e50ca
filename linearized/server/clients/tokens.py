"""The opaque tokens of the client API: ``s<position>_<to_device>[_<account data>]`` for sync, ``t<seq>`` for
places in one room.

A client gets them from us and gives them back unchanged; anything else is refused rather than guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from linearized.server.clients.fields import invalid
from linearized.store.base import Store

# Canonical decimals of at most 18 digits, which fit the store's 64-bit integers.
_NUMBER = "(0|[1-9][0-9]{0,17})"
_SYNC = re.compile(f"s{_NUMBER}_{_NUMBER}(?:_{_NUMBER})?", re.ASCII)
_PLACE = re.compile(f"t{_NUMBER}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncToken:
    """How far a device has read: the store's global position, the position of its last to-device message, and
    that of its user's last account data.
    """

    position: int = 0
    to_device: int = 0
    account_data: int = 0

    def __str__(self) -> str:
        return f"s{self.position}_{self.to_device}" + (f"_{self.account_data}" if self.account_data else "")


def parse_sync_token(value: str, store: Store) -> SyncToken:
    """Read a ``since`` token.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` if it is none, or from a future this store has not seen.
    """
    match = _SYNC.fullmatch(value)
    if match is None:
        raise invalid("since is not a token of this server")
    token = SyncToken(position=int(match[1]), to_device=int(match[2]), account_data=int(match[3] or 0))
    if token.position > store.position():
        raise invalid("since is ahead of this server: was it restored from a backup? Sync without it")
    return token


def place_token(seq: int) -> str:
    """The place in a room right after entry ``seq``."""
    return f"t{seq}"


def parse_place(value: str, *, store: Store, room_id: str) -> int:
    """The ``seq`` a pagination token stands right after. A sync token stands after what that sync had seen.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM``.
    """
    match = _PLACE.fullmatch(value)
    if match is not None:
        return int(match[1])
    token = parse_sync_token(value, store)
    first_new = store.changed_rooms(token.position).get(room_id)
    row = store.room(room_id)
    head = row.head_seq if row is not None else 0
    return head if first_new is None else first_new - 1
