"""Joining links: the policy, the list, and what an update makes of it."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.common import MAX_ITEMS
from linearized.mimi.policy.join_links import (
    JoinLink,
    JoinLinkPolicy,
    JoinLinksData,
    JoinLinksUpdate,
    apply_link_update,
)
from tests.mimi.support import vec

MANY = JoinLinkPolicy(on_request=False, multiuser=True, expiration=3600)
ONE = JoinLinkPolicy(on_request=True, join_link="https://a.example/ask", multiuser=False, expiration=60)
FIRST, SECOND, THIRD = (JoinLink(join_link=name) for name in (b"first", b"second", b"third"))


def test_a_policy_on_links_is_written_as_the_draft_lays_it_out() -> None:
    encoded = b"\x01" + vec(b"https://a.example/ask") + b"\x00" + b"\x00\x00\x00\x3c"
    assert ONE.encode() == encoded
    assert JoinLinkPolicy.decode(encoded) == ONE


def test_links_are_written_as_the_draft_lays_them_out() -> None:
    data = JoinLinksData(links=(FIRST, SECOND))
    assert data.encode() == vec(vec(b"first") + vec(b"second"))
    update = JoinLinksUpdate(removed_indices=(1,), added_links=(THIRD,))
    assert update.encode() == vec(b"\x00\x00\x00\x01") + vec(vec(b"third"))
    assert JoinLinksUpdate.decode(update.encode()) == update


def test_an_update_takes_links_away_and_adds_new_ones_at_the_end() -> None:
    update = JoinLinksUpdate(removed_indices=(0,), added_links=(THIRD,))
    assert apply_link_update(JoinLinksData(links=(FIRST, SECOND)), update, MANY) == JoinLinksData(
        links=(SECOND, THIRD)
    )
    assert apply_link_update(JoinLinksData(), JoinLinksUpdate(added_links=(FIRST,)), MANY).links == (FIRST,)


@pytest.mark.parametrize(
    ("update", "policy", "reason"),
    [
        (JoinLinksUpdate(removed_indices=(0, 0)), MANY, "removed twice"),
        (JoinLinksUpdate(removed_indices=(1,)), MANY, "no joining link 1"),
        (JoinLinksUpdate(added_links=(SECOND,)), ONE, "1 joining links at most"),
        (JoinLinksUpdate(added_links=(SECOND,) * MAX_ITEMS), MANY, "256 joining links at most"),
    ],
)
def test_an_update_that_does_not_fit_is_refused(
    update: JoinLinksUpdate, policy: JoinLinkPolicy, reason: str
) -> None:
    with pytest.raises(MimiDecodeError, match=reason):
        apply_link_update(JoinLinksData(links=(FIRST,)), update, policy)
