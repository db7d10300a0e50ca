"""Keys from one device to another: asked for, given, and refused, without a server."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import cbor2
import pytest

from linearized.client import ArchiveRequested, ArchiveShared, MemoryStorage, MlsDevice, UntrustedAnswer
from linearized.client.archive import arrivals, sharing
from linearized.client.archive.arrivals import take
from linearized.client.archive.state import KnownArchive, OwnArchive
from linearized.protocol.base64 import decode_base64, encode_base64
from tests.client.support import ALICE, BOB, ROOM, wall_clock

SECRET = bytes(range(sharing.SECRET_BYTES))
OTHER_ROOM = "!other:a.example"
ARCHIVE = KnownArchive(name=bytes(16), key=bytes(32), records=7)


def package(device: MlsDevice) -> bytes:
    return device.client.key_package(now=wall_clock() // 1000, lifetime=3600)


def device(name: str, user_id: str = BOB) -> MlsDevice:
    return MlsDevice.open(MemoryStorage(), user_id=user_id, device_id=name)


def join(old: MlsDevice, new: MlsDevice, room_id: str = ROOM) -> None:
    """Put both into one group."""
    old.create_group(room_id)
    bundle = old.group(room_id).commit(add=[package(new)])
    old.group(room_id).merge_pending_commit()
    assert bundle.welcome is not None
    new.join_welcome(room_id, welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree, commit_event_id=None)


@pytest.fixture
def pair() -> tuple[MlsDevice, MlsDevice]:
    """Bob's old device and his new one, in one group."""
    old, new = device("OLD"), device("NEW")
    join(old, new)
    return old, new


def ask(new: MlsDevice) -> tuple[ArchiveRequested, sharing.Request]:
    new.state.archive.request, content = sharing.new_request(new, secret=SECRET)
    asked = sharing.read_request(content)
    return asked, sharing.Request.decode(asked.request)


def keys_event(content: Any, sender: str = BOB) -> dict[str, Any]:
    return {"type": sharing.KEYS, "sender": sender, "content": content}


def given(
    old: MlsDevice, request: sharing.Request, *archives: tuple[str, KnownArchive], secret: bytes = SECRET
) -> list[dict[str, Any]]:
    return [keys_event(content) for content in sharing.answers(old, request, secret, archives)]


def test_the_code_is_made_of_groups_that_can_be_read_out() -> None:
    code = sharing.code_of(secrets.token_bytes(sharing.SECRET_BYTES))
    assert [len(group) for group in code.split("-")] == [4] * 6


def test_the_new_device_takes_what_it_asked_for_once(pair: tuple[MlsDevice, MlsDevice]) -> None:
    old, new = pair
    asked, request = ask(new)
    assert sharing.check_request(old, asked, sharing.code_of(SECRET)) == (request, SECRET)
    events = given(old, request, (ROOM, ARCHIVE))
    (item,) = take(new, events)
    assert item == ArchiveShared(room_id=ROOM, client_uri="mimi://a.example/d/bob/OLD")
    assert new.state.archive.keys(ROOM) == [ARCHIVE]
    assert new.state.archive.request is None
    assert take(new, events) == [], "answered already"


def test_many_keys_come_in_several_messages(
    pair: tuple[MlsDevice, MlsDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = pair
    _, request = ask(new)
    monkeypatch.setattr(sharing, "KEYS_AT_ONCE", 1)
    monkeypatch.setattr(arrivals, "MAX_KNOWN", 2)
    archives = [replace(ARCHIVE, name=bytes([number]) * 16) for number in range(3)]
    events = given(old, request, *[(ROOM, archive) for archive in archives])
    assert [len(take(new, [event])) for event in events] == [1, 1, 1]
    assert new.state.archive.keys(ROOM) == archives[1:]


def test_a_newer_count_replaces_an_older_one_and_never_the_other_way(
    pair: tuple[MlsDevice, MlsDevice],
) -> None:
    old, new = pair
    for records, expected in ((7, 7), (9, 9), (8, 9)):
        _, request = ask(new)
        take(new, given(old, request, (ROOM, replace(ARCHIVE, records=records))))
        assert [archive.records for archive in new.state.archive.keys(ROOM)] == [expected]
    new.state.archive.own[ROOM] = OwnArchive(name=b"o" * 16, key=bytes(32), sent=3)
    _, request = ask(new)
    take(new, given(old, request, (ROOM, KnownArchive(name=b"o" * 16, key=bytes(32), records=1))))
    assert [archive.records for archive in new.state.archive.keys(ROOM)] == [9, 3]


def test_keys_of_rooms_that_the_giver_is_not_in_are_passed_over(pair: tuple[MlsDevice, MlsDevice]) -> None:
    old, new = pair
    join(device("THIRD"), new, OTHER_ROOM)
    _, request = ask(new)
    (item,) = take(
        new, given(old, request, (ROOM, ARCHIVE), (OTHER_ROOM, ARCHIVE), ("!none:a.example", ARCHIVE))
    )
    assert item.room_id == ROOM
    assert new.state.archive.rooms() == [ROOM]


def test_nobody_else_can_answer(pair: tuple[MlsDevice, MlsDevice]) -> None:
    old, new = pair
    _, request = ask(new)
    stranger, alice = device("STRANGER"), device("DEV", ALICE)
    wrong_code = given(old, request, (ROOM, ARCHIVE), secret=bytes(sharing.SECRET_BYTES))
    _, other = ask(device("OTHER"))
    not_ours = given(old, other, (ROOM, ARCHIVE))
    for event in [
        *wrong_code,
        *not_ours,
        *given(stranger, request, (ROOM, ARCHIVE)),
        *given(alice, request, (ROOM, ARCHIVE)),
        keys_event(given(old, request, (ROOM, ARCHIVE))[0]["content"], sender=ALICE),
        keys_event(
            {**given(old, request, (ROOM, ARCHIVE))[0]["content"], "signature": encode_base64(bytes(64))}
        ),
        keys_event({}),
        keys_event(None),
        keys_event({"keys": "???"}),
    ]:
        assert take(new, [event]) == []
    assert new.state.archive.known == {}
    assert new.state.archive.request is not None
    assert len(take(new, given(old, request, (ROOM, ARCHIVE)))) == 1


@pytest.mark.parametrize(
    "archive",
    [
        7,
        [ROOM],
        [ROOM, bytes(15), bytes(32), 1],
        [ROOM, bytes(16), bytes(31), 1],
        [ROOM, bytes(16), bytes(32), -1],
        [ROOM, bytes(16), "key", 1],
        [7, bytes(16), bytes(32), 1],
    ],
)
def test_what_is_no_key_is_refused(
    pair: tuple[MlsDevice, MlsDevice], archive: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = pair
    _, request = ask(new)
    true = cbor2.dumps

    def dumps(value: Any) -> bytes:
        changed = [value[0], [archive], False] if isinstance(value[1], list) else value
        return true(changed)

    monkeypatch.setattr(cbor2, "dumps", dumps)
    (content,) = sharing.answers(old, request, SECRET, [(ROOM, ARCHIVE)])
    assert new.state.archive.request is not None
    with pytest.raises(UntrustedAnswer, match="no archive's key"):
        sharing.open_answer(new, new.state.archive.request, content)


def requests(*contents: Any) -> list[dict[str, Any]]:
    return [{"type": sharing.REQUEST, "sender": BOB, "content": content} for content in contents]


def test_only_so_many_requests_wait_and_none_of_what_is_none(pair: tuple[MlsDevice, MlsDevice]) -> None:
    old, new = pair
    _, content = sharing.new_request(new, secret=SECRET)
    good = requests(*[content] * (arrivals.MAX_REQUESTS + 1))
    assert len(take(old, good)) == arrivals.MAX_REQUESTS
    assert len(take(old, good, arrivals.MAX_REQUESTS - 1)) == 1
    foreign = encode_base64(cbor2.dumps(["something else", "", b"", b""]))
    short = encode_base64(cbor2.dumps(["linearized archive request 1"]))
    broken = encode_base64(decode_base64(content["request"])[:-1])
    for request in (foreign, short, broken, "", 7):
        assert take(old, requests({**content, "request": request})) == []
    assert (
        take(old, [{**good[0], "sender": ALICE}, {**good[0], "type": "m.dummy"}, *requests(None, {})]) == []
    )


def test_a_devices_own_request_comes_back_to_it_and_is_not_shown(pair: tuple[MlsDevice, MlsDevice]) -> None:
    _, new = pair
    new.state.archive.request, content = sharing.new_request(new, secret=SECRET)
    assert take(new, requests(content)) == []
