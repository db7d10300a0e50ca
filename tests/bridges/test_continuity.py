from __future__ import annotations

from bridges.matrix.continuity import MAX_PEERS, Continuity


def test_the_first_transaction_follows_nothing() -> None:
    continuity = Continuity()
    assert continuity.is_broken("5", ("::1", 1))
    assert not continuity.is_broken("6", ("::1", 1))


def test_the_same_transaction_again_breaks_nothing() -> None:
    continuity = Continuity()
    continuity.is_broken("5", None)
    assert not continuity.is_broken("5", None)
    assert not continuity.is_broken("6", None)


def test_a_gap_and_a_new_beginning_are_noticed_without_a_connection() -> None:
    continuity = Continuity()
    continuity.is_broken("5", None)
    assert continuity.is_broken("7", None)
    assert continuity.is_broken("1", None)


def test_of_ids_that_are_no_numbers_nothing_is_known() -> None:
    continuity = Continuity()
    continuity.is_broken("a", None)
    assert not continuity.is_broken("b", None)
    assert not continuity.is_broken("7", None)


def test_only_so_many_connections_are_remembered() -> None:
    continuity = Continuity()
    for port in range(MAX_PEERS + 1):
        continuity.is_broken("1", ("::1", port))
    assert not continuity.is_broken("1", ("::1", 1))
    assert continuity.is_broken("1", ("::1", 0))
