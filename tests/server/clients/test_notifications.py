"""What is unread and what is meant for the user: by the rules, the receipts and what they said; and what it
costs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from linearized.protocol.push_rules import PushRules
from linearized.server.clients import notifications as module
from linearized.server.clients.notifications import MAX_UNREAD, Notifications
from linearized.store.base import EntryRow, Reply, Role, RoomAppend
from linearized.store.moving import Adoption
from tests.server.clients.rows import append, entry, member
from tests.server.clients.sliding_support import slide
from tests.server.clients.support import Client, Server, part, room

ALICE, BOB, CAROL = "@alice:a.example", "@bob:a.example", "@carol:a.example"
ROOM = "!r:a.example"
HIGHLIGHT = {"actions": ["notify", {"set_tweak": "highlight"}]}
THREADS = orjson.dumps({"room": {"timeline": {"unread_thread_notifications": True}}}).decode()


def said(
    seq: int, body: str = "x", *, sender: str = ALICE, kind: str = "m.room.message", **more: Any
) -> EntryRow:
    return entry(ROOM, seq, kind, sender=sender, content={"msgtype": "m.text", "body": body, **more})


def related(to: int, how: str = "m.thread") -> Any:
    return {"m.relates_to": {"rel_type": how, "event_id": f"${to}.{ROOM}"}}


def redaction(seq: int, of: str, sender: str = ALICE) -> EntryRow:
    return entry(ROOM, seq, "m.room.redaction", sender=sender, content={"redacts": of})


async def fill(server: Server, *entries: EntryRow) -> None:
    """A room with Alice, Bob and Carol in it; the entries go on from 4."""
    people = [member(ROOM, seq, user, "join") for seq, user in enumerate((ALICE, CAROL, BOB), 1)]
    await append(server.store, ROOM, *people, *entries)


async def more(server: Server, *entries: EntryRow) -> None:
    await server.store.append(RoomAppend(room_id=ROOM, entries=entries))


def counted(server: Server, user_id: str = BOB) -> tuple[int, int]:
    found = server.store.room(ROOM)
    assert found is not None
    total = Notifications(server.store).of(user_id).total(found)
    return total.notifications, total.highlights


def head(server: Server) -> int:
    found = server.store.room(ROOM)
    assert found is not None
    return found.head_seq


async def told(client: Client, room_id: str = ROOM) -> tuple[int, int]:
    """Notifications and highlights, which both kinds of sync agree about."""
    section = (await client.sync())["rooms"]["join"][room_id]["unread_notifications"]
    slid = (await slide(client))["rooms"][room_id]
    counts = section["notification_count"], section["highlight_count"]
    assert counts == (slid["notification_count"], slid["highlight_count"])
    return counts


async def read(client: Client, seq: int, **body: Any) -> None:
    path = f"{room(ROOM)}/receipt/m.read/{part(f'${seq}.{ROOM}')}"
    (await client.call("POST", path, body)).ok()


async def rule(client: Client, kind: str, rule_id: str, body: Any) -> None:
    (await client.call("PUT", f"/pushrules/global/{kind}/{part(rule_id)}", body)).ok()


async def test_what_the_rules_say_is_counted(server: Server, bob: Client) -> None:
    mention: Any = {"m.mentions": {"user_ids": [BOB]}}
    await fill(
        server,
        said(4),
        said(5, "for you", **mention),
        said(6, "a notice", **{"msgtype": "m.notice"} | mention),
        said(7, "* x", **related(4, "m.replace")),
        said(8, kind="m.reaction"),
        said(9, kind="m.room.encrypted"),
        member(ROOM, 10, "@dave:a.example", "join"),
        entry(ROOM, 11, "m.room.tombstone", state_key=""),
    )
    assert await told(bob) == (4, 2)


async def test_a_real_room_has_a_count(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[BOB])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    assert await told(bob, room_id) == (0, 0)
    await alice.send(room_id, "hello, bob", "1")
    assert await told(bob, room_id) == (1, 1)
    assert await told(alice, room_id) == (0, 0)


async def test_what_was_said_before_one_came_is_not_unread_and_a_new_name_reads_nothing(
    server: Server, bob: Client
) -> None:
    await fill(server, said(4))
    renamed = {"membership": "join", "displayname": "Bobby"}
    await more(server, entry(ROOM, 5, "m.room.member", sender=BOB, state_key=BOB, content=renamed), said(6))
    assert await told(bob) == (2, 0)
    await more(server, member(ROOM, 7, BOB, "leave"), said(8), member(ROOM, 9, BOB, "join"), said(10))
    assert await told(bob) == (1, 0)


async def test_handshakes_are_nothing_that_is_said(server: Server, bob: Client) -> None:
    await fill(server, *(said(4 + index, kind=kind) for index, kind in enumerate(module._HANDSHAKES)))
    await rule(bob, "override", "everything", {"actions": ["notify"], "conditions": []})
    assert await told(bob) == (0, 0)
    await more(server, said(7, kind="org.example.other"))
    assert await told(bob) == (1, 0)


async def test_rules_of_ones_own_count_as_soon_as_they_are_made(server: Server, bob: Client) -> None:
    await fill(server, said(4, "lunch?"), said(5, "tea", sender=CAROL))
    assert await told(bob) == (2, 0)
    await rule(bob, "content", "food", HIGHLIGHT | {"pattern": "lun*"})
    assert await told(bob) == (2, 1)
    await rule(bob, "sender", CAROL, {"actions": []})
    assert await told(bob) == (1, 1)
    path = "/pushrules/global/override/.m.rule.master/enabled"
    (await bob.call("PUT", path, {"enabled": True})).ok()
    assert await told(bob) == (0, 0)
    (await bob.call("PUT", path, {"enabled": False})).ok()
    await rule(bob, "room", ROOM, {"actions": []})
    assert await told(bob) == (1, 1)


async def test_the_users_name_and_how_many_are_there_are_as_the_room_has_them(
    server: Server, bob: Client
) -> None:
    await fill(server, said(4, "ask Bobby"), said(5, "ask the rest"))
    assert counted(server) == (2, 0)
    profile = {"membership": "join", "displayname": "Bobby"}
    await more(server, entry(ROOM, 6, "m.room.member", sender=CAROL, state_key=BOB, content=profile))
    assert counted(server) == (2, 1)
    for how, expected in (("3", 2), ("2", 0), (">=4", 0), ("<9", 2)):
        condition = {"kind": "room_member_count", "is": how}
        body = HIGHLIGHT | {
            "conditions": [condition, {"kind": "event_match", "key": "type", "pattern": "*ge"}]
        }
        await rule(bob, "override", "few", body)
        assert counted(server) == (2, expected or 1), how


async def test_members_are_counted_again_only_for_twice_as_many(
    server: Server, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(server, said(4))
    await more(server, *(member(ROOM, 5 + index, f"@u{index}:a.example", "join") for index in range(40)))
    sizes = [{"kind": "room_member_count", "is": str(number)} for number in range(1, 44)]
    for index, size in enumerate(sizes):
        await rule(bob, "override", f"o{index}", HIGHLIGHT | {"conditions": [size]})
    counts: list[int | None] = []
    real = server.store.joined_count

    def joined_count(room_id: str, *, at_most: int | None = None) -> int:
        counts.append(at_most)
        return real(room_id, at_most=at_most)

    monkeypatch.setattr(server.store, "joined_count", joined_count)
    # A rule for 43 members matches each of the other entries, too.
    assert counted(server) == (41, 41)
    assert len(counts) <= 7


async def test_everybody_is_told_by_those_who_may(server: Server, bob: Client) -> None:
    everybody: Any = {"m.mentions": {"room": True}}
    levels = {"users": {ALICE: 10}, "notifications": {"room": 10}}
    await fill(
        server,
        entry(ROOM, 4, "m.room.power_levels", state_key="", content=levels),
        said(5, **everybody),
        said(6, sender=CAROL, **everybody),
    )
    assert await told(bob) == (2, 1)
    for notifications in ({}, {"room": "10"}, 10):
        content = {"users": {ALICE: 50, CAROL: 49}, "notifications": notifications}
        seq = head(server) + 1
        await more(
            server,
            entry(ROOM, seq, "m.room.power_levels", state_key="", content=content),
            said(seq + 1, **everybody),
            said(seq + 2, sender=CAROL, **everybody),
        )
    assert await told(bob) == (8, 4)


async def test_without_power_levels_the_creator_alone_tells_everybody(server: Server, bob: Client) -> None:
    everybody: Any = {"m.mentions": {"room": True}}
    create = entry(ROOM, 4, "m.room.create", sender=CAROL, state_key="")
    await fill(server, create, said(5, **everybody), said(6, sender=CAROL, **everybody))
    assert await told(bob) == (2, 1)


async def test_what_is_read_or_answered_is_not_unread(server: Server, bob: Client) -> None:
    await fill(server, *(said(seq) for seq in range(4, 9)))
    await read(bob, 5)
    assert await told(bob) == (3, 0)
    await read(bob, 4, thread_id="main")
    assert await told(bob) == (3, 0)
    await read(bob, 6, thread_id="main")
    assert await told(bob) == (2, 0)
    await more(server, said(9, sender=BOB), said(10))
    assert await told(bob) == (1, 0)


async def test_each_thread_is_read_and_counted_by_itself(server: Server, bob: Client) -> None:
    mention: Any = {"m.mentions": {"user_ids": [BOB]}}
    await fill(
        server,
        said(4),
        said(5, **related(4)),
        said(6, **related(4), **mention),
        said(7),
        said(8, **related(7)),
        said(9, **related(6, "org.example.about")),
    )

    async def threads() -> tuple[Any, Any]:
        section = (await bob.sync(filter=THREADS))["rooms"]["join"][ROOM]
        found = section["unread_thread_notifications"].items()
        return section["unread_notifications"]["notification_count"], {
            thread: (counts["notification_count"], counts["highlight_count"]) for thread, counts in found
        }

    first, second = f"$4.{ROOM}", f"$7.{ROOM}"
    assert await threads() == (2, {first: (3, 1), second: (1, 0)})
    assert await told(bob) == (6, 1)
    await read(bob, 6, thread_id=first)
    assert await threads() == (2, {first: (1, 0), second: (1, 0)})
    await more(server, said(10, sender=BOB, **related(7)))
    assert await threads() == (2, {first: (1, 0)})
    await read(bob, 7, thread_id="main")
    assert await threads() == (0, {first: (1, 0)})
    await read(bob, 9)
    assert await threads() == (0, {})
    await more(server, said(11, **related(9, "org.example.about")))
    assert await threads() == (0, {first: (1, 0)})
    await more(server, said(12, sender=BOB))
    assert await threads() == (0, {})


async def test_relations_are_followed_three_times_and_no_further_than_the_room(
    server: Server, bob: Client
) -> None:
    other = "!s:a.example"
    await append(server.store, other, entry(other, 1, content=related(4)))
    far: Any = {"m.relates_to": {"rel_type": "m.about", "event_id": f"$1.{other}"}}
    chain = [said(seq, **related(seq - 1, "m.about")) for seq in range(6, 9)]
    await fill(server, said(4), said(5, **related(4)), *chain, said(9, **far), said(10, **related(99, "m.x")))
    found = server.store.room(ROOM)
    assert found is not None
    unread = Notifications(server.store).of(BOB).by_thread(found)
    assert {thread: counts.notifications for thread, counts in unread.items()} == {
        f"$4.{ROOM}": 3,
        "main": 4,
    }


async def test_what_is_taken_back_is_not_unread(server: Server, bob: Client) -> None:
    await fill(server, *(said(seq) for seq in range(4, 9)), redaction(9, f"$4.{ROOM}"))
    assert await told(bob) == (4, 0)
    await more(
        server,
        redaction(10, f"$5.{ROOM}"),
        redaction(11, f"$6.{ROOM}", "@eve:b.example"),  # who may not
        redaction(12, "$none"),
    )
    assert await told(bob) == (3, 0)
    other = "!s:a.example"
    await append(server.store, other, *(entry(other, seq) for seq in range(1, 9)))
    await more(server, redaction(13, f"$7.{other}"))
    assert await told(bob) == (3, 0)


async def test_ignored_people_do_not_count_but_for_their_state(server: Server, bob: Client) -> None:
    await fill(server, said(4), said(5, sender=CAROL), entry(ROOM, 6, "m.room.tombstone", state_key=""))
    assert await told(bob) == (3, 1)
    path = f"/user/{part(BOB)}/account_data/m.ignored_user_list"
    (await bob.call("PUT", path, {"ignored_users": {ALICE: {}}})).ok()
    assert await told(bob) == (2, 1)


async def test_only_the_latest_entries_count(server: Server, bob: Client) -> None:
    await fill(server, *(said(seq) for seq in range(4, MAX_UNREAD + 10)))
    assert await told(bob) == (MAX_UNREAD, 0)
    last = MAX_UNREAD + 10
    await more(server, *(said(last + index, kind="m.reaction") for index in range(50)))
    assert await told(bob) == (MAX_UNREAD - 50, 0)


async def test_a_room_of_which_no_entry_says_that_one_joined_is_counted_from_its_end(server: Server) -> None:
    await append(server.store, ROOM, said(1), said(2), role=Role.FOLLOWER, memberships={BOB: "join"})
    assert counted(server) == (2, 0)


class Counted:
    """How many entries were read, and held against rules."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = self.tried = 0
        real_read, real_outcome = server.store.entries_before, PushRules.outcome

        def entries_before(room_id: str, *, before: int, limit: int) -> list[EntryRow]:
            found = real_read(room_id, before=before, limit=limit)
            self.read += len(found)
            return found

        def outcome(*arguments: Any) -> Any:
            self.tried += 1
            return real_outcome(*arguments)

        monkeypatch.setattr(server.store, "entries_before", entries_before)
        monkeypatch.setattr(PushRules, "outcome", outcome)

    def since(self) -> tuple[int, int]:
        """Since the last time this was asked."""
        found, self.read, self.tried = (self.read, self.tried), 0, 0
        return found


async def test_each_entry_is_looked_at_once(
    server: Server, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(server, *(said(seq) for seq in range(4, 1_000)))
    counted, unread = Counted(server, monkeypatch), Notifications(server.store)

    def total() -> int:
        found = server.store.room(ROOM)
        assert found is not None
        return unread.of(BOB).total(found).notifications

    assert (total(), counted.since()) == (MAX_UNREAD, (MAX_UNREAD, MAX_UNREAD))
    assert (total(), counted.since()) == (MAX_UNREAD, (0, 0))
    await more(server, said(1_000))
    assert (total(), counted.since()) == (MAX_UNREAD, (1, 1))
    await read(bob, 999)
    assert (total(), counted.since()) == (1, (0, 0))
    await rule(bob, "content", "x", HIGHLIGHT | {"pattern": "x"})
    assert (total(), counted.since()) == (1, (1, 1))


async def test_a_room_that_was_taken_over_is_counted_anew(server: Server) -> None:
    """Its entries have other numbers then."""
    await append(server.store, ROOM, said(1), said(2), role=Role.PARTICIPANT, memberships={BOB: "join"})
    unread, counts = Notifications(server.store), []
    log = [*(said(seq, kind="m.reaction") for seq in (1, 3, 4)), said(2)]
    await server.store.stage_entries(ROOM, [replace(each, seq=seq) for seq, each in enumerate(log, 1)])
    for _ in range(2):
        found = server.store.room(ROOM)
        assert found is not None
        counts.append(unread.of(BOB).total(found).notifications)
        if found.role is Role.PARTICIPANT:
            await server.store.adopt(Adoption(room=replace(found, role=Role.HUB)))
    assert counts == [2, 1]


async def test_what_is_behind_ones_own_words_is_not_looked_at(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(server, *(said(seq) for seq in range(4, 900)), said(900, sender=BOB), said(901))
    work = Counted(server, monkeypatch)
    assert counted(server) == (1, 0)
    assert work.since() == (module.PAGE, 1)


async def test_what_is_kept_has_a_limit_and_is_worked_out_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(server, *(said(seq) for seq in range(4, 24)))
    other = "!s:a.example"
    await append(server.store, other, *(entry(other, seq) for seq in range(1, 21)))
    unread, work = Notifications(server.store), Counted(server, monkeypatch)

    def total(room_id: str, user_id: str = BOB) -> int:
        found = server.store.room(room_id)
        assert found is not None
        return unread.of(user_id).total(found).notifications

    monkeypatch.setattr(module, "MAX_KEPT", 26 + 25)
    for _ in range(3):
        assert [total(room_id) for room_id in (ROOM, other)] == [20, 20]
    assert work.since()[1] == 40
    monkeypatch.setattr(module, "MAX_KEPT", 26 + 25 - 1)
    for _ in range(3):
        assert [total(room_id) for room_id in (ROOM, other)] == [20, 20]
    assert work.since()[1] == 100
    monkeypatch.setattr(module, "MAX_RULESETS", 1)
    ruleset = unread.rules_of(BOB)
    assert unread.rules_of(BOB) is ruleset
    assert unread.rules_of(CAROL) is not ruleset
    assert unread.rules_of(BOB) is not ruleset


async def test_soft_failed_entries_do_not_count(server: Server) -> None:
    await append(server.store, ROOM, said(1), said(2), role=Role.PARTICIPANT, memberships={BOB: "join"})
    reply = Reply(scope=f"soft-failed {ROOM}", key=f"$2.{ROOM}", value="why", lasting=True)
    assert counted(server) == (2, 0)
    await server.store.put_reply(reply)
    assert counted(server) == (1, 0)
