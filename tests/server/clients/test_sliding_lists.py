"""Which rooms sliding sync tells of."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.store.sqlite import SqliteStore
from tests.server.clients.sliding_support import ALL, slide
from tests.server.clients.support import Client, part, room


async def put_out(alice: Client, bob: Client, how: str) -> str:
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    (await alice.call("POST", f"{room(room_id)}/{how}", {"user_id": bob.user_id})).ok()
    await alice.send(room_id, "secret", "t")
    return room_id


@pytest.mark.parametrize("how", ["kick", "ban"])
async def test_a_room_that_one_was_put_out_of_is_listed_until_it_is_forgotten(
    alice: Client, bob: Client, how: str
) -> None:
    room_id = await put_out(alice, bob, how)
    answer = await slide(bob)
    assert answer["lists"] == {"all": {"count": 1}}
    value = answer["rooms"][room_id]
    assert (value["membership"], value["lists"]) == ({"kick": "leave", "ban": "ban"}[how], ["all"])
    assert value["timeline"][-1]["content"]["membership"] == value["membership"]
    assert (await slide(bob, answer["pos"]))["rooms"] == {}
    (await bob.call("POST", f"{room(room_id)}/forget", {})).ok()
    gone = await slide(bob)
    assert (gone["rooms"], gone["lists"]) == ({}, {"all": {"count": 0}})


async def test_rooms_that_one_left_or_never_was_in_are_not_listed(alice: Client, bob: Client) -> None:
    left = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(left)}", {})).ok()
    (await bob.call("POST", f"{room(left)}/leave", {})).ok()
    banned = await alice.create_room()
    (await alice.call("POST", f"{room(banned)}/ban", {"user_id": bob.user_id})).ok()
    refused = await alice.create_room(invite=[bob.user_id])
    (await alice.call("POST", f"{room(refused)}/kick", {"user_id": bob.user_id})).ok()
    subscriptions = {room_id: {"timeline_limit": 9} for room_id in (left, banned, refused)}
    answer = await slide(bob, lists={"all": ALL}, room_subscriptions=subscriptions)
    assert (answer["rooms"], answer["lists"]) == ({}, {"all": {"count": 0}})


async def test_a_list_without_a_range_has_every_room_and_one_range_is_as_a_list_of_one(
    alice: Client,
) -> None:
    rooms = [await alice.create_room() for _ in range(3)]
    every = await slide(alice, lists={"every": {"timeline_limit": 0}})
    assert list(every["rooms"]) == rooms[::-1]
    for wish in ({"range": [1, 1]}, {"ranges": [[1, 1]]}):
        some = await slide(alice, lists={"some": {"timeline_limit": 0, **wish}})
        assert (list(some["rooms"]), some["lists"]) == ([rooms[1]], {"some": {"count": 3}})
    none = await slide(alice, lists={"none": {"timeline_limit": 0, "ranges": []}})
    assert (none["rooms"], none["lists"]) == ({}, {"none": {"count": 3}})


async def test_an_invitation_filter_has_either_name(alice: Client, bob: Client) -> None:
    invited, own = await alice.create_room(invite=[bob.user_id]), await bob.create_room()
    for name in ("is_invite", "is_invited"):
        for value, expected in ((True, invited), (False, own)):
            answer = await slide(bob, lists={"some": {**ALL, "filters": {name: value}}})
            assert list(answer["rooms"]) == [expected]


async def test_many_lists_read_each_room_once(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await alice.create_room()
    asked: list[str] = []
    real = SqliteStore.account_datum

    def account_datum(self: SqliteStore, user_id: str, room_id: str, kind: str) -> Any:
        asked.append(kind)
        return real(self, user_id, room_id, kind)

    monkeypatch.setattr(SqliteStore, "account_datum", account_datum)
    lists = {str(n): {**ALL, "filters": {"tags": ["x"], "is_encrypted": False}} for n in range(100)}
    answer = await slide(alice, lists=lists)
    assert {each["count"] for each in answer["lists"].values()} == {0}
    assert asked.count("m.tag") == 3
