"""Pages of entries: read once for all who ask, and anew once somebody was woken."""

from __future__ import annotations

import pytest

from linearized.server.clients import pages as module
from linearized.server.clients.pages import Pages
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Client, Server

ROOM = "!r:a"


async def fill(server: Server, alice: Client, *, after: int = 0, until: int = 3) -> None:
    rows = [entry(ROOM, seq) for seq in range(after + 1, until + 1)]
    if not after:
        rows[0] = member(ROOM, 1, alice.user_id, "join")
    await append(server.store, ROOM, *rows)


async def test_a_page_is_read_and_encoded_once(server: Server, alice: Client) -> None:
    await fill(server, alice)
    pages = Pages(server.store, server.node.notifier)
    page = pages.after(ROOM, 0)
    assert page is not None
    assert pages.after(ROOM, 0) is page
    rows = server.store.entries(ROOM, after=0, limit=10)
    assert list(page.entries) == rows
    assert page.events == b"".join(b"id: %d\ndata: %b\n\n" % (row.seq, row.pdu) for row in rows)
    assert (page.room.head_seq, page.is_all, page.users) == (3, True, frozenset([alice.user_id]))
    end = pages.after(ROOM, 3)
    assert end is not None
    assert (end.entries, end.events, end.is_all) == ((), b"", True)
    assert pages.after("!none:a", 0) is None


async def test_what_is_new_is_read_once_somebody_was_woken(server: Server, alice: Client) -> None:
    await fill(server, alice)
    pages = Pages(server.store, server.node.notifier)
    before = pages.after(ROOM, 3)
    await fill(server, alice, after=3, until=4)
    assert pages.after(ROOM, 3) is before, "who is to hear of it has not been woken yet"
    server.node.notifier.users_changed([])
    page = pages.after(ROOM, 3)
    assert page is not None
    assert [row.seq for row in page.entries] == [4]


async def test_a_page_and_the_number_of_them_are_bounded(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(server, alice, until=9)
    pages = Pages(server.store, server.node.notifier)
    monkeypatch.setattr(module, "MAX_ENTRIES", 4)
    page = pages.after(ROOM, 0)
    assert page is not None
    assert ([row.seq for row in page.entries], page.is_all) == ([1, 2, 3, 4], False)
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", 1)
    page = pages.after(ROOM, 1)
    assert page is not None
    assert ([row.seq for row in page.entries], page.is_all) == ([2], False)
    monkeypatch.setattr(module, "MAX_PAGES", 2)
    assert pages.after(ROOM, 1) is not page, "two are kept, so that there is no place for another"
