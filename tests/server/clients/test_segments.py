"""Segments over the client API: whole, in part, and to whom."""

from __future__ import annotations

from pathlib import Path

from linearized.room.segments import SEGMENT, span, unpack
from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import MLS, Client, Server, room

ROOM = "!r:a"


def path(number: object = "") -> str:
    return f"{room(ROOM, MLS)}/segments{f'/{number}' if number != '' else ''}"


async def filled(server: Server, client: Client, entries: int, *, joined: int = 1) -> None:
    rows = [
        member(ROOM, joined, client.user_id, "join") if seq == joined else entry(ROOM, seq)
        for seq in range(1, entries + 1)
    ]
    await append(server.store, ROOM, *rows)


async def test_the_index_names_the_complete_segments(server: Server, alice: Client) -> None:
    await filled(server, alice, 2 * SEGMENT + 5)
    answer = (await alice.call("GET", path())).ok()
    assert answer == {"entries": SEGMENT, "head_seq": 2 * SEGMENT + 5, "segments": [[0, 1]]}


async def test_a_short_room_has_none(server: Server, alice: Client) -> None:
    await filled(server, alice, SEGMENT - 1)
    assert (await alice.call("GET", path())).ok()["segments"] == []
    (await alice.call("GET", path(0))).refused(404, "M_NOT_FOUND")


async def test_a_segment_is_the_entries_as_stored_and_never_changes(
    server: Server, alice: Client, tmp_path: Path
) -> None:
    await filled(server, alice, 2 * SEGMENT)
    for number in (0, 1):
        answer = await alice.call("GET", path(number))
        assert answer.status == 200
        first, _ = span(number)
        stored = server.store.entries(ROOM, after=first - 1, limit=SEGMENT)
        assert unpack(answer.body) == [row.pdu for row in stored]
        assert answer.headers["content-type"] == "application/zstd"
        assert "immutable" in answer.headers["cache-control"]
        again = await alice.call("GET", path(number))
        assert (again.body, again.headers["etag"]) == (answer.body, answer.headers["etag"])
    assert len(list((tmp_path / "segments").rglob("*.zst"))) == 2


async def test_a_segment_can_be_asked_for_in_parts_and_only_once(server: Server, alice: Client) -> None:
    await filled(server, alice, SEGMENT)
    whole = await alice.call("GET", path(0))
    half = len(whole.body) // 2
    token = alice.token
    first = await server.call("GET", path(0), headers={"range": f"bytes=0-{half - 1}"}, token=token)
    rest = await server.call("GET", path(0), headers={"range": f"bytes={half}-"}, token=token)
    assert (first.status, rest.status) == (206, 206)
    assert first.body + rest.body == whole.body
    known = await server.call("GET", path(0), headers={"if-none-match": whole.headers["etag"]}, token=token)
    assert (known.status, known.body) == (304, b"")
    assert "content-length" not in known.headers


async def test_a_file_that_was_deleted_is_made_again(server: Server, alice: Client, tmp_path: Path) -> None:
    await filled(server, alice, SEGMENT)
    before = await alice.call("GET", path(0))
    for file in (tmp_path / "segments").rglob("*.zst"):
        file.unlink()
    assert (await alice.call("GET", path(0))).body == before.body


async def test_a_disk_that_is_full_costs_the_file_and_not_the_answer(
    server: Server, alice: Client, tmp_path: Path
) -> None:
    await filled(server, alice, SEGMENT)
    (tmp_path / "segments").write_bytes(b"")  # no directory can be made there
    assert len(unpack((await alice.call("GET", path(0))).body)) == SEGMENT


async def test_only_segments_seen_whole_are_served(server: Server, alice: Client) -> None:
    rows = [
        visibility(ROOM, 1, "joined"),
        *(entry(ROOM, seq) for seq in range(2, SEGMENT + 10)),
        member(ROOM, SEGMENT + 10, alice.user_id, "join"),
        *(entry(ROOM, seq) for seq in range(SEGMENT + 11, 3 * SEGMENT + 1)),
    ]
    await append(server.store, ROOM, *rows)
    assert (await alice.call("GET", path())).ok()["segments"] == [[2, 2]]
    for number in (0, 1, 3):
        (await alice.call("GET", path(number))).refused(404, "M_NOT_FOUND")
    assert len(unpack((await alice.call("GET", path(2))).body)) == SEGMENT


async def test_who_left_gets_what_was_there_until_then(server: Server, alice: Client) -> None:
    rows = [
        member(ROOM, 1, alice.user_id, "join"),
        *(entry(ROOM, seq) for seq in range(2, SEGMENT + 1)),
        member(ROOM, SEGMENT + 1, alice.user_id, "leave"),
        *(entry(ROOM, seq) for seq in range(SEGMENT + 2, 2 * SEGMENT + 1)),
    ]
    await append(server.store, ROOM, *rows)
    assert (await alice.call("GET", path())).ok() == {
        "entries": SEGMENT,
        "head_seq": SEGMENT + 1,
        "segments": [[0, 0]],
    }


async def test_a_stranger_and_a_number_that_is_none_get_nothing(
    server: Server, alice: Client, bob: Client
) -> None:
    await filled(server, alice, SEGMENT)
    (await bob.call("GET", path())).refused(403, "M_FORBIDDEN")
    (await bob.call("GET", path(0))).refused(403, "M_FORBIDDEN")
    for number in ("x", "-1", "1", "%C2%B2", "9" * 30):
        (await alice.call("GET", path(number))).refused(404, "M_NOT_FOUND")
