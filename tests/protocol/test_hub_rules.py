"""Following a room's transfers back to its creator."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.exceptions import AuthorizationError
from linearized.protocol.events import Event
from linearized.protocol.hub_rules import MAX_TRANSFERS, check_hub_chain
from tests.protocol.test_authorization import make

CREATE = make("$create", {"type": "m.room.create", "state_key": "", "sender": "@alice:a.example"})


def transfer(number: int, taker: str, giver: str, **changes: Any) -> Event:
    before = [f"${number - 1}"] if number > 1 else []
    spec = {
        "type": "m.room.hub",
        "state_key": "",
        "sender": f"@u:{taker}",
        "hub_server": giver,
        "auth_events": ["$create", *before],
    }
    return make(f"${number}", spec | changes)


def takeover(number: int, taker: str, giver: str, **changes: Any) -> Event:
    said = {"hub": giver, "size": 5, "root": "cm9vdA"}
    return transfer(number, taker, giver, **{"hub_server": None, "content": {"takeover": said}} | changes)


def hub(*events: Event, agreed: frozenset[str] = frozenset()) -> str:
    return check_hub_chain(
        CREATE, {event.event_id: event for event in events}, events[-1] if events else None, agreed=agreed
    )


def test_a_room_that_was_never_handed_over_is_its_creators() -> None:
    assert hub() == "a.example"


def test_each_transfer_is_signed_by_the_hub_before_it() -> None:
    chain = [transfer(1, "b.example", "a.example"), transfer(2, "c.example", "b.example")]
    assert hub(chain[0]) == "b.example"
    assert hub(*chain) == "c.example"
    assert hub(*chain, transfer(3, "a.example", "c.example")) == "a.example"


@pytest.mark.parametrize(
    "chain",
    [
        [transfer(1, "e.example", "f.example")],  # two servers of one mind make a room theirs
        [transfer(1, "b.example", "a.example"), transfer(2, "e.example", "a.example")],
        [transfer(2, "e.example", "b.example")],  # the link before it is missing
        [transfer(1, "b.example", "a.example", auth_events=[])],
        [transfer(1, "b.example", "a.example", provenance={"protocol": "mimi"})],
        [
            transfer(1, "b.example", "a.example"),
            transfer(2, "c.example", "b.example"),
            transfer(3, "e.example", "c.example", auth_events=["$create", "$1", "$2"]),
        ],
        # Whichever of two is followed, the other one would do as well.
        [
            transfer(1, "b.example", "a.example"),
            transfer(2, "c.example", "a.example", auth_events=["$create"]),
            transfer(3, "e.example", "b.example", auth_events=["$create", "$1", "$2"]),
        ],
    ],
)
def test_a_chain_with_a_weak_link_holds_nothing(chain: list[Event]) -> None:
    with pytest.raises(AuthorizationError) as refused:
        hub(*chain)
    assert refused.value.rule == "L4"


def test_a_takeover_is_a_link_for_who_agreed_to_it_alone() -> None:
    chain = [takeover(1, "b.example", "a.example"), transfer(2, "c.example", "b.example")]
    assert hub(*chain[:1], agreed=frozenset({"b.example"})) == "b.example"
    assert hub(*chain, agreed=frozenset({"b.example", "x.example"})) == "c.example"
    for agreed in (frozenset[str](), frozenset({"c.example"})):
        with pytest.raises(AuthorizationError, match="has not agreed") as refused:
            hub(*chain, agreed=agreed)
        assert refused.value.rule == "L6"


@pytest.mark.parametrize(
    "link",
    [
        takeover(1, "b.example", "a.example", hub_server="a.example"),
        takeover(1, "b.example", "c.example"),
        takeover(1, "b.example", "a.example", content={"takeover": "a.example"}),
    ],
)
def test_a_takeover_that_is_not_from_the_hub_before_is_no_link(link: Event) -> None:
    with pytest.raises(AuthorizationError, match="not from the hub before it") as refused:
        hub(link, agreed=frozenset({"b.example"}))
    assert refused.value.rule == "L6"


def test_a_chain_is_followed_so_far_and_no_further() -> None:
    names = ["a.example", "b.example"]
    chain = [
        transfer(number, names[number % 2], names[(number + 1) % 2]) for number in range(1, MAX_TRANSFERS + 1)
    ]
    with pytest.raises(AuthorizationError):
        hub(*chain)
    assert hub(*chain[:-1]) == names[(MAX_TRANSFERS - 1) % 2]
