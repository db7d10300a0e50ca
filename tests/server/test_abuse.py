"""Abuse reports: from our users and from other providers, to the hub that can check them."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from linearized.client import ApiError, DecryptedMessage, Session
from linearized.mimi.abuse import AbuseReport, AbusiveMessage
from linearized.mimi.messages import Frank
from linearized.protocol.identifiers import room_uri, user_uri
from linearized.server import abuse
from linearized.server.providers.client import Answer
from linearized.store.contacts import ReportRow
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import received, say, shared_room, signed_in

ALICE, BOB = "@alice:a.example", "@bob:b.example"


@dataclass
class Scene:
    """Alice, at the hub, has sent Bob, elsewhere, something; c.example has nobody in the room."""

    a: Server
    b: Server
    c: Server
    alice: Session
    bob: Session
    room_id: str
    message: DecryptedMessage

    def report(self, **changes: Any) -> AbuseReport:
        assert self.message.frank is not None
        said = AbusiveMessage(
            message_content=self.message.payload,
            frank=Frank.decode(self.message.frank),
            accepted_timestamp=self.message.timestamp,
        )
        whole = AbuseReport(
            reporting_user=user_uri(BOB), alleged_abuser_uri=user_uri(ALICE), note="rude", messages=(said,)
        )
        return dataclasses.replace(whole, **changes)

    async def send(self, report: AbuseReport | bytes, *, by: Server | None = None, room: str = "") -> Answer:
        body = report if isinstance(report, bytes) else report.encode()
        node = (by or self.b).node
        return await node.providers.post("a.example", "reportAbuse", room or room_uri(self.room_id), body)

    def message_at_the_hub(self) -> str:
        """The event ID of the message in the hub's own log."""
        entries = self.a.node.store.entries(self.room_id, after=0, limit=100)
        return next(entry.event_id for entry in entries if entry.type == "m.room.encrypted")

    def kept(self, server: Server | None = None) -> list[ReportRow]:
        return (server or self.a).node.store.reports(closed=False, limit=10)


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        running_server("c.example", tmp_path, network) as c,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        await say(alice, room_id, "something rude")
        (message,) = await received(bob, DecryptedMessage)
        assert isinstance(message, DecryptedMessage)
        yield Scene(a, b, c, alice, bob, room_id, message)


async def test_a_followers_user_reports_a_message_and_the_hub_keeps_the_proof_of_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.bob.report(s.message, reason="rude")
        (row,) = s.kept()
        assert (row.provider, row.reporter, row.abuser, row.verified) == ("b.example", "", ALICE, 1)
        assert row.note == "rude"
        (said,) = AbuseReport.decode(row.report).messages
        assert b"something rude" in said.message_content
        assert s.kept(s.b) == []


async def test_the_same_report_is_kept_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        for _ in range(2):
            assert (await s.send(s.report())).status == 201
        (row,) = s.kept()
        assert row.reporter == BOB


async def test_a_report_at_the_hub_names_who_made_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await say(s.bob, s.room_id, "rude too")
        (message,) = await received(s.alice, DecryptedMessage)
        assert isinstance(message, DecryptedMessage)
        await s.alice.report(message)
        (row,) = s.kept()
        assert (row.provider, row.reporter, row.abuser, row.verified) == ("a.example", ALICE, BOB, 1)


async def test_an_event_is_reported_without_its_content_to_ones_own_operator(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        for _ in range(2):
            await s.bob.api.report(s.room_id, s.message.event_id, reason="spam")
        (row,) = s.kept(s.b)
        assert (row.reporter, row.event_id, row.note, row.report) == (BOB, s.message.event_id, "spam", b"")
        assert s.kept() == []


async def test_a_report_without_messages_is_kept_as_unproven(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        assert (await s.send(s.report(messages=(), reporting_user=""))).status == 201
        assert [row.verified for row in s.kept()] == [0]


async def test_a_changed_time_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        (said,) = s.report().messages
        later = dataclasses.replace(said, accepted_timestamp=said.accepted_timestamp + 1)
        assert (await s.send(s.report(messages=(said, later)))).status == 400
        assert s.kept() == []


async def test_a_forged_stamp_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        (said,) = s.report().messages
        forged = dataclasses.replace(said.frank, franking_integrity_signature=bytes(64))
        assert (await s.send(s.report(messages=(dataclasses.replace(said, frank=forged),)))).status == 400
        unknown = dataclasses.replace(said.frank, franking_signature_ciphersuite=0x1234)
        assert (await s.send(s.report(messages=(dataclasses.replace(said, frank=unknown),)))).status == 400
        assert s.kept() == []


async def test_a_report_from_a_stranger_or_about_an_unknown_room_is_forbidden(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        assert (await s.send(s.report(reporting_user=""), by=s.c)).status == 403
        unknown = await s.send(s.report(), room="mimi://a.example/r/nowhere")
        assert unknown.status == 403
        assert s.kept() == []


@pytest.mark.parametrize("reporter", [ALICE, "@mallory:b.example"])
async def test_a_report_in_the_name_of_somebody_else_is_forbidden(tmp_path: Path, reporter: str) -> None:
    async with scene(tmp_path) as s:
        assert (await s.send(s.report(reporting_user=user_uri(reporter)))).status == 403
        assert s.kept() == []


async def test_an_accused_who_never_was_in_the_room_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        nobody = s.report(alleged_abuser_uri="mimi://a.example/u/nobody", messages=())
        assert (await s.send(nobody)).status == 400
        assert (await s.send(s.report(alleged_abuser_uri="nobody"))).status == 400
        assert s.kept() == []


async def test_too_many_messages_and_too_long_a_note_are_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        many = s.report().messages * (abuse.MAX_MESSAGES + 1)
        assert (await s.send(s.report(messages=many))).status == 413
        assert (await s.send(s.report(note="x" * (abuse.MAX_NOTE + 1)))).status == 413
        assert s.kept() == []


async def test_a_malformed_report_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        assert (await s.send(b"\x00")).status == 400
        assert (await s.send(s.report().encode() + b"\x00")).status == 400


async def test_a_provider_with_too_many_open_reports_hears_so_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as s:
        monkeypatch.setattr(abuse, "MAX_OPEN", 1)
        assert (await s.send(s.report())).status == 201
        limited = await s.send(s.report(note="more"))
        assert (limited.status, limited.retry_after_s) == (429, 8 * 3600)
        with pytest.raises(ApiError) as raised:
            await s.bob.report(s.message, reason="even more")
        assert (raised.value.status, raised.value.errcode) == (429, "M_LIMIT_EXCEEDED")
        await s.alice.api.report(s.room_id, s.message_at_the_hub(), reason="mine")
        number = s.kept()[0].number
        assert await s.a.node.store.close_report(number, 1)
        assert (await s.send(s.report(note="again"))).status == 201


async def test_a_client_hears_why_its_report_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        bob, event_id = s.bob.api, s.message.event_id
        creation = s.a.node.store.entries(s.room_id, after=0, limit=1)[0].event_id
        for api, room_id, event, content, status in (
            (bob, s.room_id, "$unknown", None, 404),
            (bob, "!other:a.example", event_id, None, 403),
            (bob, s.room_id, event_id, b"no content", 400),
            (s.alice.api, s.room_id, creation, s.message.payload, 400),
        ):
            with pytest.raises(ApiError) as raised:
                await api.report(room_id, event, content=content)
            assert raised.value.status == status
        assert s.kept() == s.kept(s.b) == []
