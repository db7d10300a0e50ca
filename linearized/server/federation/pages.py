"""Pages of stored entries that are bounded in bytes, too."""

from __future__ import annotations

from typing import Final

from linearized.store.base import EntryRow

# Bytes of PDUs in one page: five hundred ordinary ones fit; a few of the largest commits do.
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024


def fitting(entries: list[EntryRow]) -> list[EntryRow]:
    """As many of the entries as fit into a page, and at least one of them."""
    size = 0
    for number, entry in enumerate(entries):
        size += len(entry.pdu)
        if size > MAX_PAGE_BYTES and number:
            return entries[:number]
    return entries
