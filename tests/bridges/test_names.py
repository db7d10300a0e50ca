from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.matrix.names import MAX_NAME, Names, presentable
from linearized.exceptions import IdentifierError
from linearized.protocol.identifiers import is_new_user_id, user_uri

NAMES = Names(domain="matrix.example")


def test_a_ghost_is_named_after_provider_and_user() -> None:
    assert NAMES.ghost("mimi://b.example/u/bob") == "@_lin_b.example_bob:matrix.example"
    assert NAMES.display_name("mimi://b.example/u/bob") == "bob (b.example)"


@given(
    st.text(alphabet="abz09._=/+-ABZ", min_size=1, max_size=40),
    st.sampled_from(["b.example", "b.example:8448", "xn--bcher-kva.example"]),
)
def test_every_user_has_a_ghost_of_its_own(localpart: str, provider: str) -> None:
    uri = user_uri(f"@{localpart}:{provider}")
    ghost = NAMES.ghost(uri)
    assert is_new_user_id(ghost)
    assert NAMES.uri(ghost) == uri


def test_who_is_whose() -> None:
    assert NAMES.is_bridged("@alice:matrix.example")
    assert not NAMES.is_bridged("@alice:b.example")
    assert not NAMES.is_bridged(NAMES.bot)
    assert not NAMES.is_bridged("no user")
    assert NAMES.is_ours(NAMES.bot)
    assert not NAMES.is_ours("@_lin_b.example_bob:b.example")
    assert NAMES.matrix_user("mimi://matrix.example/u/alice") == "@alice:matrix.example"


@pytest.mark.parametrize(
    "user",
    [
        "@_lin_bot:matrix.example",
        "@_lin_b.example_:matrix.example",
        "@_lin__x:matrix.example",
        "@_lin_b.example_=ff:matrix.example",
        "@bob:matrix.example",
    ],
)
def test_what_is_no_ghost_is_refused(user: str) -> None:
    with pytest.raises(IdentifierError):
        NAMES.uri(user)


def test_links_to_people_cross_both_ways_and_other_links_stay() -> None:
    alice, bob = (
        "https://matrix.to/#/@alice:matrix.example",
        "https://matrix.to/#/@_lin_b.example_bob:matrix.example",
    )
    assert NAMES.link_to_mimi(alice) == "mimi://matrix.example/u/alice"
    assert NAMES.link_to_mimi(bob) == "mimi://b.example/u/bob"
    assert NAMES.link_to_matrix("mimi://matrix.example/u/alice") == alice
    assert NAMES.link_to_matrix("mimi://b.example/u/bob") == bob
    for other in (
        "https://x.example/",
        "https://matrix.to/#/#room:x.example",
        "https://matrix.to/#/@_lin_bot:matrix.example",
    ):
        assert NAMES.link_to_mimi(other) == other
        assert NAMES.link_to_matrix(other) == other


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\n", "\u00a0", "\u2066"])
def test_a_name_hides_nothing_and_always_shows_its_provider(hidden: str) -> None:
    uri = user_uri(f"@al{hidden}ice:b.example")
    assert NAMES.display_name(uri) == "al\ufffdice (b.example)"


def test_nobody_elsewhere_is_called_as_a_user_of_the_homeserver() -> None:
    # A participant at another provider whose name is that of a Matrix user, its domain and all.
    forged = user_uri("@alice=3amatrix.example:b.example")
    assert NAMES.display_name(forged).endswith(" (b.example)")
    ghost = NAMES.matrix_user(forged)
    assert NAMES.is_ours(ghost)
    assert not NAMES.is_bridged(ghost)
    assert NAMES.uri(ghost) == forged


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        ("Bobby", "Bobby (@bob:b.example)"),
        # The name of a user of the homeserver, in Latin and with a Cyrillic letter.
        ("alice", "alice (@bob:b.example)"),
        ("\u0430lice", "\u0430lice (@bob:b.example)"),
        # What would look like an address, in any width.
        ("Alice (@alice:matrix.example)", "Alice alice:matrix.example (@bob:b.example)"),
        ("Alice \uff08\uff20alice:matrix.example\uff09", "Alice alice:matrix.example (@bob:b.example)"),
        # Turned around, broken, invisible, and nothing at all.
        ("\u202eecila\u202c", "ecila (@bob:b.example)"),
        ("\u2066al\u200bi\u00adce\u2069\n\tx", "alice x (@bob:b.example)"),
        ("\u200b\u3164\u2800", "bob (b.example)"),
        ("", "bob (b.example)"),
        ("x" * 5000, "x" * MAX_NAME + " (@bob:b.example)"),
    ],
)
def test_a_chosen_name_never_hides_whose_it_is(chosen: str, shown: str) -> None:
    assert NAMES.display_name("mimi://b.example/u/bob", chosen) == shown


@given(st.text(max_size=200))
def test_whatever_name_is_chosen_it_ends_with_the_address_and_has_no_other_parentheses(chosen: str) -> None:
    shown = NAMES.display_name("mimi://b.example/u/bob", chosen)
    assert shown.endswith((" (@bob:b.example)", " (b.example)"))
    assert shown.count("(") == shown.count(")") == 1
    assert presentable(presentable(chosen)) == presentable(chosen)
