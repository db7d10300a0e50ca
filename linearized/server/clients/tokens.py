"""The opaque tokens of the client API: ``t<seq>`` for places in one room, and for sync
``s<position>_<to_device>[_<account data>[_<receipts>[_<typing>]]]``.

A client gets them from us and gives them back unchanged; anything else is refused rather than guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from linearized.server.clients.fields import invalid
from linearized.store.base import Store

# Canonical decimals of at most 18 digits, which fit the store's 64-bit integers.
_NUMBER = "(0|[1-9][0-9]{0,17})"
_SYNC = re.compile(f"s{_NUMBER}_{_NUMBER}(?:_{_NUMBER}(?:_{_NUMBER}(?:_{_NUMBER})?)?)?", re.ASCII)
_FEWEST = 2  # numbers that a token always has
_PLACE = re.compile(f"t{_NUMBER}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncToken:
    """How far a device has read: the store's global position, the positions of its last to-device message, of
    its user's last account data and of the last receipt, and the number of the last change of who types.
    """

    position: int = 0
    to_device: int = 0
    account_data: int = 0
    receipts: int = 0
    typing: int = 0

    def __str__(self) -> str:
        numbers = [self.position, self.to_device, self.account_data, self.receipts, self.typing]
        while len(numbers) > _FEWEST and not numbers[-1]:
            numbers.pop()
        return "s" + "_".join(map(str, numbers))


def parse_sync_token(value: str, store: Store) -> SyncToken:
    """Read a ``since`` token.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` if it is none, or from a future this store has not seen.
    """
    match = _SYNC.fullmatch(value)
    if match is None:
        raise invalid("since is not a token of this server")
    position, to_device, account_data, receipts, typing = (int(number or 0) for number in match.groups())
    token = SyncToken(
        position=position,
        to_device=to_device,
        account_data=account_data,
        receipts=receipts,
        typing=typing,
    )
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
