"""``linearized abuse``: what an operator sees of the reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from linearized.cli import main
from linearized.config_file import load_config
from linearized.exceptions import InvalidInput
from linearized.mimi.abuse import AbuseReport, AbusiveMessage
from linearized.mimi.content import MimiContent, NullPart, text
from linearized.mimi.messages import Frank
from linearized.provider_files import database_path
from linearized.server.control import commands
from linearized.store.contacts import ReportRow
from linearized.store.sqlite import SqliteStore
from tests.server.support import Network, running_server

FRANK = Frank(server_frank=bytes(32), franking_signature_ciphersuite=1, franking_integrity_signature=b"")
CONTENTS = (
    text("some\x1b[31m rude words", salt=bytes(16)).encode(),
    MimiContent(salt=bytes(16), part=NullPart()).encode(),
    b"unreadable",
)


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    made = run("init", tmp_path / "p", "--server-name", "a.example", "--dev-ca", tmp_path / "ca")
    assert made.exit_code == 0, made.output
    return tmp_path / "p" / "linearized.toml"


REPORT = ReportRow(
    digest="a",
    room_id="!room:a.example",
    provider="b.example",
    reporter="",
    abuser="@mallory:a.example",
    reason_code=0,
    note="rude\nand long",
    report=AbuseReport(
        alleged_abuser_uri="mimi://a.example/u/mallory",
        messages=tuple(
            AbusiveMessage(message_content=content, frank=FRANK, accepted_timestamp=0) for content in CONTENTS
        ),
    ).encode(),
    event_id="",
    verified=3,
    received_at=1_000,
)


@pytest.fixture
def number(settings: Path) -> int:
    """The number of a report that is in the database."""
    numbers: list[int | None] = []

    async def work() -> None:
        store = SqliteStore.open(database_path(load_config(settings)))
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            numbers.append(await store.put_report(REPORT))
            event = replace(REPORT, digest="b", report=b"", event_id="$event", reporter="@bob:a.example")
            await store.put_report(event)
            await store.aclose()

    trio.run(work)
    assert numbers[0] is not None
    return numbers[0]


def test_open_reports_are_listed_with_what_is_known_of_them(settings: Path, number: int) -> None:
    listed = run("abuse", "list", "--config", settings)
    assert listed.exit_code == 0, listed.output
    first = next(line for line in listed.output.splitlines() if line.strip().startswith(str(number)))
    for part in ("1970-01-01 00:00:01", "@mallory:a.example", "!room:a.example", "b.example", "3", "rude"):
        assert part in first
    assert "and long" not in listed.output
    assert "@bob:a.example" in listed.output
    assert "mallory" not in run("abuse", "list", "--closed", "--config", settings).output


def test_a_report_is_shown_with_its_messages_and_nothing_a_terminal_would_obey(
    settings: Path, number: int
) -> None:
    shown = run("abuse", "show", str(number), "--config", settings)
    assert shown.exit_code == 0, shown.output
    assert "\x1b" not in shown.output
    assert "rude words" in shown.output
    assert "(NullPart)" in shown.output
    assert "(cannot be read)" in shown.output
    assert "a user that was not named at b.example" in shown.output
    event = run("abuse", "show", str(number + 1), "--config", settings)
    assert "$event" in event.output


def test_a_report_that_is_not_there_is_an_error(settings: Path, number: int) -> None:
    assert run("abuse", "show", str(number + 100), "--config", settings).exit_code == 1


def test_closing_needs_the_server(settings: Path, number: int) -> None:
    refused = run("abuse", "close", str(number), "--config", settings)
    assert refused.exit_code == 2
    assert "running" in refused.output


async def test_a_running_server_closes_a_report_once(tmp_path: Path) -> None:
    async with running_server("a.example", tmp_path, Network()) as server:
        number = await server.node.store.put_report(REPORT)
        assert number is not None
        close = commands(server.node)["close_report"]
        assert await close({"number": number}) == {"number": number}
        (closed,) = server.node.store.reports(closed=True, limit=9)
        assert closed.closed_at is not None
        for wrong in (number, number + 100, "1", None):
            with pytest.raises(InvalidInput, match="no open report"):
                await close({"number": wrong})
    shown = run("abuse", "show", str(number), "--config", tmp_path / "a.example" / "linearized.toml")
    assert "closed" in shown.output


def test_what_the_server_answers_is_said(
    settings: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def answer(_: object, command: str, **arguments: object) -> dict[str, object]:
        asked.append((command, arguments))
        return {}

    monkeypatch.setattr("linearized.commands.abuse.ask_server", answer)
    closed = run("abuse", "close", str(number), "--config", settings)
    assert closed.exit_code == 0
    assert f"report {number} is closed" in closed.output
    assert asked == [("close_report", {"number": number})]
