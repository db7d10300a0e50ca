from __future__ import annotations

from bridges.matrix.continuity import MAX_PEERS, Continuity, Peer

ROOM, OTHER = "!r:hs", "!other:hs"


class Noted:
    """Tells whether transactions broke anything, one by one."""

    def __init__(self) -> None:
        self.continuity = Continuity()

    def is_broken(self, txn_id: str, peer: Peer | None) -> bool:
        before = self.continuity.breaks
        self.continuity.note(txn_id, peer)
        return self.continuity.breaks != before


def test_the_first_transaction_follows_nothing() -> None:
    noted = Noted()
    assert noted.is_broken("5", ("::1", 1))
    assert not noted.is_broken("6", ("::1", 1))


def test_the_same_transaction_again_breaks_nothing() -> None:
    noted = Noted()
    noted.is_broken("5", None)
    assert not noted.is_broken("5", None)
    assert not noted.is_broken("6", None)


def test_a_gap_and_a_new_beginning_are_noticed_without_a_connection() -> None:
    noted = Noted()
    noted.is_broken("5", None)
    assert noted.is_broken("7", None)
    assert noted.is_broken("1", None)


def test_of_ids_that_are_no_numbers_nothing_is_known() -> None:
    noted = Noted()
    noted.is_broken("a", None)
    assert not noted.is_broken("b", None)
    assert not noted.is_broken("7", None)


def test_only_so_many_connections_are_remembered() -> None:
    noted = Noted()
    for port in range(MAX_PEERS + 1):
        noted.is_broken("1", ("::1", port))
    assert not noted.is_broken("1", ("::1", 1))
    assert noted.is_broken("1", ("::1", 0))


def test_at_the_start_and_after_a_break_every_room_has_to_be_read_whatever_came_first() -> None:
    continuity = Continuity()
    assert not continuity.is_whole(ROOM)
    continuity.was_read(ROOM, continuity.breaks)
    continuity.was_read(OTHER, continuity.breaks)
    assert continuity.is_whole(ROOM)
    continuity.note("1", None)
    continuity.note("2", None)
    assert not continuity.is_whole(ROOM)
    continuity.was_read(ROOM, continuity.breaks)
    assert continuity.is_whole(ROOM)
    assert not continuity.is_whole(OTHER)


def test_what_was_read_when_something_was_forgotten_meanwhile_has_to_be_read_again() -> None:
    continuity = Continuity()
    began = continuity.breaks
    continuity.note("5", None)
    continuity.was_read(ROOM, began)
    assert not continuity.is_whole(ROOM)
