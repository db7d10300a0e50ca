"""The operator's socket: who may use it, and what a server says to what comes in."""

from __future__ import annotations

import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
import trio
import trio.testing
from click.testing import CliRunner

from linearized import control as asking
from linearized.cli import main
from linearized.config import Config
from linearized.config_file import load_config
from linearized.control import ask_server, control_path
from linearized.exceptions import ConfigError
from linearized.protocol.canonical import JsonObject
from linearized.provider_files import ProviderPlan, create_provider
from linearized.room.submissions import Reason, Rejected
from linearized.server import control
from linearized.server.deciding import Overloaded
from linearized.store.joining import JoinCodeRow


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A provider whose socket's path is short enough for every system."""
    create_provider(tmp_path / "p", ProviderPlan(server_name="a.example", dev_ca=tmp_path / "ca"))
    return load_config(tmp_path / "p" / "linearized.toml")


class Mover:
    """Stands for a server's ``Moves``: says what it was asked, or fails."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.error: Exception | None = None

    async def take(self, room_id: str, *, hub_is_gone: bool, accept_loss: bool) -> str:
        self.asked.append((room_id, f"{hub_is_gone} {accept_loss}"))
        return "$takeover"

    async def accept(self, room_id: str, taker: str, *, hub_is_gone: bool, accept_loss: bool) -> str:
        self.asked.append((room_id, f"{taker} {hub_is_gone} {accept_loss}"))
        return "agreed"

    async def withdraw(self, room_id: str) -> str:
        self.asked.append((room_id, "withdraw"))
        return "b.example"

    async def transfer(self, room_id: str, hub: str) -> str:
        self.asked.append((room_id, hub))
        if self.error is not None:
            raise self.error
        return "$transfer"


@asynccontextmanager
async def serving(config: Config, moves: Mover) -> AsyncIterator[Path]:
    path = control_path(config)
    async with trio.open_nursery() as nursery:
        known = control.commands(cast("Any", SimpleNamespace(moves=moves, takeovers=moves)))
        await nursery.start(control.serve_control, path, known)
        yield path
        nursery.cancel_scope.cancel()


async def ask(config: Config, command: str, **arguments: str) -> JsonObject:
    return await trio.to_thread.run_sync(partial(ask_server, config, command, **arguments))


async def test_a_command_is_run_and_its_result_comes_back(config: Config) -> None:
    moves = Mover()
    async with serving(config, moves) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        answer = await ask(config, "transfer", room_id="!r:a.example", hub="b.example")
        assert answer == {"event_id": "$transfer"}
        assert moves.asked == [("!r:a.example", "b.example")]
        run = partial(CliRunner().invoke, main)
        arguments = ["room", "transfer", "--config", str(config.data_dir.parent / "linearized.toml")]
        result = await trio.to_thread.run_sync(run, [*arguments, "!r:a.example", "b.example"])
        assert (result.exit_code, "$transfer" in result.output) == (0, True), result.output
    assert not path.exists()


class Codes:
    """Joining codes as the commands use them."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def create(self, room_id: str, *, creator: str, uses: int, lifetime_ms: int) -> tuple[str, int]:
        self.asked.append((room_id, creator, uses, lifetime_ms))
        return "secret", 0

    def listing(self, room_id: str, *, user_id: str) -> list[JoinCodeRow]:
        return [JoinCodeRow(room_id=room_id, digest=b"", creator=user_id, uses_left=3, expires_ts=0)]

    async def revoke(self, room_id: str, *, user_id: str, code_id: str) -> bool:
        self.asked.append((room_id, user_id, code_id))
        return True


async def test_joining_codes_are_made_listed_and_revoked_by_command(config: Config) -> None:
    codes, room_id, user_id = Codes(), "!r:a.example", "@alice:a.example"
    settings = ["--config", str(config.data_dir.parent / "linearized.toml")]

    async def run(name: str, *rest: str) -> str:
        arguments = ["room", "join-code", name, *settings, room_id, user_id, *rest]
        result = await trio.to_thread.run_sync(partial(CliRunner().invoke, main, arguments))
        assert result.exit_code == 0, result.output
        return result.output

    async with trio.open_nursery() as nursery:
        known = control.commands(cast("Any", SimpleNamespace(join_codes=codes)))
        await nursery.start(control.serve_control, control_path(config), known)
        assert await run("create", "--uses", "5", "--days", "2") == "secret\n"
        assert await run("list") == " 3 1970-01-01 00:00:00\n"
        assert await run("revoke", "AAAA") == "revoked\n"
        nursery.cancel_scope.cancel()
    assert codes.asked == [(room_id, user_id, 5, 2 * 24 * 3_600_000), (room_id, user_id, "AAAA")]


async def test_a_takeover_is_done_agreed_to_and_withdrawn_by_command(config: Config) -> None:
    moves = Mover()
    settings = ["--config", str(config.data_dir.parent / "linearized.toml")]

    async def run(*arguments: str) -> str:
        name, *rest = arguments
        command = partial(CliRunner().invoke, main, ["room", "takeover", name, *settings, *rest])
        result = await trio.to_thread.run_sync(command)
        assert result.exit_code == 0, result.output
        return result.output

    async with serving(config, moves):
        assert "from $takeover on" in await run("take", "!r:a.example")
        await run("take", "!r:a.example", "--hub-is-gone")
        await run("take", "!r:a.example", "--accept-loss")
        assert await run("accept", "!r:a.example", "b.example") == "agreed\n"
        await run("accept", "!r:a.example", "b.example", "--hub-is-gone", "--accept-loss")
        assert "b.example may not" in await run("withdraw", "!r:a.example")
    asked = [
        "False False",
        "True False",
        "False True",
        "b.example False False",
        "b.example True True",
        "withdraw",
    ]
    assert moves.asked == [("!r:a.example", what) for what in asked]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Rejected(Reason.FORBIDDEN, "no such power"), "no such power"),
        (Overloaded("busy"), "busy"),
        (trio.TooSlowError(), "too long"),
        (RuntimeError("a bug's own words"), "went wrong"),
    ],
)
async def test_a_refusal_comes_back_in_words_and_a_bug_without(
    config: Config, error: Exception, said: str
) -> None:
    moves = Mover()
    moves.error = error
    async with serving(config, moves):
        with pytest.raises(ConfigError, match=said):
            await ask(config, "transfer", room_id="!r:a.example", hub="b.example")
        with pytest.raises(ConfigError, match="does not know"):
            await ask(config, "dance")


@pytest.mark.parametrize("request_", [b"no\n", b"[]\n", b"", b"x" * 5000])
async def test_what_is_no_request_gets_an_answer_all_the_same(config: Config, request_: bytes) -> None:
    async with serving(config, Mover()) as path:
        answer = b""
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(request_)
            await stream.send_eof()
            while chunk := await stream.receive_some(1000):
                answer += chunk
        assert "no request" in orjson.loads(answer)["error"]


async def test_who_asks_nothing_or_goes_away_costs_nothing(
    config: Config, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(config, Mover()) as path:
        silent = await trio.open_unix_socket(str(path))
        assert await silent.receive_some(1) == b""  # after REQUEST_SECONDS
        gone = await trio.open_unix_socket(str(path))
        await gone.send_all(b'{"command":"x"}\n')
        await gone.aclose()
        await trio.testing.wait_all_tasks_blocked()
        await silent.aclose()


async def test_a_server_that_is_not_there_is_said_not_to_run(config: Config) -> None:
    with pytest.raises(ConfigError, match="is it running"):
        await ask(config, "transfer")
    # What a server that was killed left behind is in nobody's way.
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(control_path(config)))
    dead.close()
    with pytest.raises(ConfigError, match="is it running"):
        await ask(config, "transfer")
    async with serving(config, Mover()):
        await ask(config, "transfer", room_id="!r:a.example", hub="b.example")


async def test_a_path_that_no_socket_can_have_leaves_the_server_running(config: Config) -> None:
    deep = replace(config, data_dir=config.data_dir / ("x" * 120))
    async with serving(deep, Mover()) as path:
        assert not path.exists()
    missing = replace(config, data_dir=config.data_dir / "no")
    async with serving(missing, Mover()) as path:
        assert not path.exists()


async def test_an_answer_that_breaks_off_is_no_answer(config: Config) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(control_path(config)))
    listener.listen()

    def hang_up() -> None:
        connection, _ = listener.accept()
        connection.recv(asking.MAX_ANSWER_BYTES)
        connection.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, hang_up)
        with pytest.raises(ConfigError, match="broke off"):
            await ask(config, "transfer")
    listener.close()
