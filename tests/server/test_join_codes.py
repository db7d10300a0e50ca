"""Joining codes: who makes them, who gets in by them, and who does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from linearized.client import ApiError, ClientError, CommitRefused, JoinRefused, Session
from linearized.protocol.state import membership
from linearized.room.submissions import Rejected
from linearized.room_check import check_room
from linearized.server import control, join_codes
from linearized.server.buckets import Buckets
from linearized.server.http import HttpError
from linearized.server.mls import OpenMls
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import bodies, encrypted_room, read, say, signed_in

DAY_MS = 24 * 3_600_000
PATIENCE = 30


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


@dataclass
class Club:
    """a.example, the hub, with Alice's room; Bob of b.example and Ann of a.example are not in it."""

    network: Network
    a: Server
    b: Server
    alice: Session
    ann: Session
    bob: Session
    room_id: str
    clock: Clock

    async def code(self, *, uses: int = 1, lifetime_ms: int = DAY_MS) -> str:
        return await self.alice.api.create_join_code(self.room_id, uses=uses, lifetime_ms=lifetime_ms)

    def check_log(self) -> None:
        """As ``linearized room verify`` does."""
        keys = self.a.node.identity.verify_keys
        check_room(
            self.a.node.store,
            self.room_id,
            keys=lambda name, key_id: keys.get(key_id) if name == "a.example" else None,
            mls=OpenMls(self.clock),
        )

    def membership(self, user_id: str) -> str:
        return membership(self.a.node.rooms.state(self.room_id), user_id)


@asynccontextmanager
async def club(tmp_path: Path, *, policy: object = None) -> AsyncIterator[Club]:
    network, clock = Network(), Clock()
    async with (
        running_server("a.example", tmp_path, network, clock=clock) as a,
        running_server("b.example", tmp_path, network, clock=clock) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(a, await a.user("ann")) as ann,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await (encrypted_room(alice) if policy is None else alice.create_room(policy=policy))
        yield Club(network, a, b, alice, ann, bob, room_id, clock)


async def hears(session: Session, body: str) -> None:
    """Wait until a message has come."""
    with trio.fail_after(PATIENCE):
        while body not in bodies(read(session)):
            await session.tidy()
            await session.step(500)


async def test_a_user_of_a_provider_that_knows_nothing_of_the_room_joins_by_a_code(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        await c.bob.groups.join(c.room_id, code=await c.code())
        assert c.membership("@bob:b.example") == "join"
        await c.alice.catch_up()
        await say(c.alice, c.room_id, "welcome")
        await hears(c.bob, "welcome")
        await say(c.bob, c.room_id, "thanks")
        await hears(c.alice, "thanks")


async def test_a_user_of_the_hub_itself_joins_by_a_code(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        await c.ann.groups.join(c.room_id, code=await c.code())
        assert c.membership("@ann:a.example") == "join"
        await c.alice.catch_up()
        await say(c.alice, c.room_id, "welcome")
        await hears(c.ann, "welcome")


async def test_in_a_room_with_a_policy_a_code_leads_to_the_role_it_names(tmp_path: Path) -> None:
    async with club(tmp_path, policy="announcement") as c:
        await c.bob.groups.join(c.room_id, code=await c.code())
        assert c.membership("@bob:b.example") == "join"
        await c.alice.catch_up()
        await c.alice.groups.update_keys(c.room_id)
        c.check_log()
        listed = c.alice.device.participants(c.room_id)
        assert listed.role_of("mimi://b.example/u/bob") == 2
        await say(c.alice, c.room_id, "news")
        await hears(c.bob, "news")


async def test_the_log_says_who_let_the_joiner_in(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        before = c.a.node.store.room(c.room_id)
        assert before is not None
        await c.bob.groups.join(c.room_id, code=await c.code())
        invite, join, commit, *_ = c.a.node.store.entries(c.room_id, after=before.head_seq, limit=10)
        assert (invite.type, invite.sender, invite.state_key) == (
            "m.room.member",
            "@alice:a.example",
            "@bob:b.example",
        )
        assert (join.type, join.sender) == ("m.room.member", "@bob:b.example")
        assert (commit.type, commit.sender) == ("m.mls.commit", "@bob:b.example")


async def test_a_code_lets_in_as_many_as_it_says(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        code = await c.code()
        await c.bob.groups.join(c.room_id, code=code)
        with pytest.raises(JoinRefused):
            await c.ann.groups.join(c.room_id, code=code)
        assert c.membership("@ann:a.example") == "leave"


async def test_a_code_that_was_lost_on_the_way_is_used_once(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        code = await c.code(uses=2)
        for _ in range(2):
            assert await c.a.node.join_codes.show(c.room_id, user_id="@bob:b.example", code=code.encode())
        (row,) = c.a.node.store.join_codes(c.room_id)
        assert row.uses_left == 1


@pytest.mark.parametrize("code", ["", "guess", "A" * 22])
async def test_a_guess_is_answered_as_if_there_were_no_room(tmp_path: Path, code: str) -> None:
    async with club(tmp_path) as c:
        await c.code()
        for session in (c.bob, c.ann):
            with pytest.raises(JoinRefused):
                await session.groups.join(c.room_id, code=code)
        assert c.b.node.store.room(c.room_id) is None
        with pytest.raises(JoinRefused):
            await c.bob.groups.join("!none:a.example", code=code)


async def test_without_a_code_nobody_from_outside_gets_anything(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        await c.code()
        for session in (c.bob, c.ann):
            with pytest.raises(ApiError) as raised:
                await session.groups.join(c.room_id)
            assert raised.value.status == 403


async def test_an_expired_and_a_revoked_code_let_nobody_in(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        short = await c.code(lifetime_ms=1000)
        c.clock.now += 1000
        with pytest.raises(JoinRefused):
            await c.bob.groups.join(c.room_id, code=short)
        await c.a.node.store.expire(c.clock.now)
        code = await c.code()
        (row,) = await c.alice.api.join_codes(c.room_id)
        await c.alice.api.revoke_join_code(c.room_id, row["id"])
        with pytest.raises(JoinRefused):
            await c.bob.groups.join(c.room_id, code=code)
        with pytest.raises(ApiError) as raised:
            await c.alice.api.revoke_join_code(c.room_id, row["id"])
        assert raised.value.status == 404


async def test_a_code_is_no_way_back_for_who_was_removed(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        await c.bob.groups.join(c.room_id, code=await c.code())
        await c.alice.catch_up()
        await c.alice.groups.update_keys(c.room_id)  # which lists who came
        await c.alice.groups.remove_users(c.room_id, ["@bob:b.example"])
        assert c.membership("@bob:b.example") == "leave"
        assert c.a.node.store.admission(c.room_id, "@bob:b.example") is not None  # but of before
        with pytest.raises(ClientError):
            await c.bob.groups.join(c.room_id)
        assert c.membership("@bob:b.example") == "leave"


async def test_who_is_banned_gets_in_by_no_code(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        await c.alice.api._transport.json(
            "POST",
            f"/_matrix/client/v3/rooms/{c.room_id}/ban",
            body={"user_id": "@bob:b.example"},
            idempotent=False,
        )
        with pytest.raises(CommitRefused):
            await c.bob.groups.join(c.room_id, code=await c.code())
        assert c.membership("@bob:b.example") == "ban"


async def test_a_code_of_somebody_who_has_left_lets_nobody_in(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        code = await c.code()
        path = f"/_matrix/client/v3/rooms/{c.room_id}/leave"
        await c.alice.api._transport.json("POST", path, body={}, idempotent=False)
        with pytest.raises(CommitRefused):
            await c.bob.groups.join(c.room_id, code=code)
        assert c.membership("@bob:b.example") == "leave"


async def test_an_admission_ends_after_some_minutes(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        code = await c.code()
        assert await c.a.node.join_codes.show(c.room_id, user_id="@bob:b.example", code=code.encode())
        admission = c.a.node.store.admission(c.room_id, "@bob:b.example")
        assert admission is not None
        assert admission.expires_ts == c.clock.now + join_codes.ADMISSION_MS


@pytest.mark.parametrize(
    ("uses", "lifetime_ms"),
    [(0, DAY_MS), (join_codes.MAX_USES + 1, DAY_MS), (1, 0), (1, join_codes.MAX_LIFETIME_MS + 1)],
)
async def test_a_code_has_bounds(tmp_path: Path, uses: int, lifetime_ms: int) -> None:
    async with club(tmp_path) as c:
        with pytest.raises(ApiError) as raised:
            await c.code(uses=uses, lifetime_ms=lifetime_ms)
        assert raised.value.status == 400
        assert c.a.node.store.join_codes(c.room_id) == []


async def test_a_room_has_so_many_codes_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_codes, "MAX_CODES", 1)
    async with club(tmp_path) as c:
        await c.code()
        with pytest.raises(ApiError, match="at most 1 joining codes"):
            await c.code()


async def test_only_members_at_the_hub_make_and_see_codes(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        for attempt in (
            c.ann.api.create_join_code(c.room_id, uses=1, lifetime_ms=DAY_MS),
            c.ann.api.join_codes(c.room_id),
            c.ann.api.revoke_join_code(c.room_id, "AAAA"),
            c.bob.api.create_join_code(c.room_id, uses=1, lifetime_ms=DAY_MS),
            c.alice.api.create_join_code("!none:a.example", uses=1, lifetime_ms=DAY_MS),
        ):
            with pytest.raises(ApiError):
                await attempt
        assert c.a.node.store.join_codes(c.room_id) == []


async def test_a_list_of_codes_tells_none_of_them(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        code = await c.code(uses=3)
        (row,) = await c.alice.api.join_codes(c.room_id)
        assert (row["creator"], row["uses_left"]) == ("@alice:a.example", 3)
        assert code not in str(row)
        for path in await trio.Path(tmp_path / "a.example").rglob("*sqlite3*"):
            assert code.encode() not in await path.read_bytes()


@pytest.mark.usefixtures("asked_once")
async def test_who_shows_codes_too_often_hears_so(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        c.a.node.join_codes.limit = Buckets(lambda: 0, per_second=1, burst=2)
        for _ in range(2):
            with pytest.raises(JoinRefused):
                await c.bob.groups.join(c.room_id, code="guess")
        with pytest.raises(ClientError):
            await c.bob.groups.join(c.room_id, code="guess")
        with pytest.raises(HttpError) as raised:
            await c.a.node.join_codes.show(c.room_id, user_id="@bob:b.example", code=b"guess")
        assert raised.value.status == 429


async def test_a_provider_that_tries_codes_in_room_after_room_hears_so(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        codes = c.a.node.join_codes
        codes.crowd_limit = Buckets(lambda: 0, per_second=1, burst=2)
        for number in range(2):
            assert not await codes.show(
                f"!{number}:a.example", user_id=f"@u{number}:b.example", code=b"guess"
            )
        with pytest.raises(HttpError) as raised:
            await codes.show("!2:a.example", user_id="@u2:b.example", code=b"guess")
        assert raised.value.status == 429
        # Others are not kept out by it, nor our own users.
        for user_id in ("@u3:c.example", "@ann:a.example", "@alice:a.example", "@u4:a.example"):
            assert not await codes.show("!2:a.example", user_id=user_id, code=b"guess")


@pytest.mark.usefixtures("asked_once")
async def test_an_address_from_which_too_many_codes_are_tried_hears_so_whatever_the_account(
    tmp_path: Path,
) -> None:
    async with club(tmp_path) as c:
        c.network.client_address = "192.0.2.7"
        for server, session in ((c.a, c.ann), (c.b, c.bob)):
            server.node.join_codes.crowd_limit = Buckets(lambda: 0, per_second=1, burst=2)
            for _ in range(2):
                with pytest.raises(JoinRefused):
                    await session.groups.join(c.room_id, code="guess")
            with pytest.raises(ClientError) as raised:
                await session.groups.join(c.room_id, code="guess")
            assert "429" in str(raised.value)
        async with signed_in(c.a, await c.a.user("another")) as other:
            with pytest.raises(ClientError):
                await other.groups.join(c.room_id, code="guess")
            c.network.client_address = "192.0.2.8"
            with pytest.raises(JoinRefused):
                await other.groups.join(c.room_id, code="guess")
        # A proxy beside us has one address for everybody.
        c.network.client_address = "127.0.0.1"
        for _ in range(3):
            with pytest.raises(JoinRefused):
                await c.ann.groups.join(c.room_id, code="guess")


async def test_the_operator_makes_lists_and_revokes_codes_by_command(tmp_path: Path) -> None:
    async with club(tmp_path) as c:
        known = control.commands(c.a.node)
        who = {"room_id": c.room_id, "user_id": "@alice:a.example"}
        made = await known["join_code"]({**who, "uses": 1, "lifetime_ms": DAY_MS})
        (row,) = (await known["join_codes"](who))["codes"]
        assert row["uses_left"] == 1
        await c.bob.groups.join(c.room_id, code=made["code"])
        assert await known["revoke_join_code"]({**who, "id": row["id"]}) == {"text": "revoked"}
        assert await known["revoke_join_code"]({**who, "id": row["id"]}) == {
            "text": "there is no such joining code"
        }
        with pytest.raises(Rejected):
            await known["join_code"]({**who, "uses": "many"})
