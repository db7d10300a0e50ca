"""The bridge's commands, and what all commands share."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest
import trio
from click.testing import CliRunner, Result

from bridges.matrix.checks import Check, Outcome
from bridges.matrix.config import BridgeConfig, load_bridge_config
from bridges.matrix.database import Database
from bridges.matrix.importer import ImportReport
from bridges.matrix.links import RoomLinks
from bridges.matrix.several import check_apart
from linearized.cli import main
from linearized.client import ServerUnreachable
from linearized.commands import bridge as bridge_commands
from linearized.commands.common import reporting, until_signalled
from linearized.exceptions import ConfigError


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def provider(tmp_path: Path) -> Path:
    """The settings of a provider that bridges ``matrix.example``."""
    made = run(
        "init",
        tmp_path / "hub",
        "--server-name",
        "hub.example",
        "--bridge",
        "matrix.example",
        "--dev-ca",
        tmp_path / "ca",
    )
    assert made.exit_code == 0, made.output
    return tmp_path / "hub" / "linearized.toml"


def init(provider: Path, *more: str) -> Result:
    bridge = provider.parent.parent / "bridge"
    homeserver = ("--homeserver", "http://127.0.0.1:8008")
    # Any port: init listens while it looks whether the homeserver reaches the bridge.
    listen = ("--listen", "127.0.0.1:0")
    return run("bridge", "init", bridge, "--provider", provider, *homeserver, *listen, *more)


def test_a_bridge_is_made_from_the_providers_settings(provider: Path) -> None:
    result = init(provider, "--listen", "127.0.0.1:9100", "--url", "http://bridge:9100")
    assert result.exit_code == 0, result.output
    config = load_bridge_config(provider.parent.parent / "bridge" / "bridge.toml")
    assert (config.homeserver_domain, config.provider_domain) == ("matrix.example", "hub.example")
    assert (config.homeserver_url, config.provider_url) == ("http://127.0.0.1:8008", "https://127.0.0.1:8448")
    assert (config.listen, config.url) == ("127.0.0.1:9100", "http://bridge:9100")
    assert config.provider_token == (provider.parent / "bridge.token").read_text().strip()
    assert config.trusted_ca is not None
    assert config.trusted_ca.resolve() == (provider.parent.parent / "ca" / "ca.pem").resolve()


def test_what_is_not_given_is_asked_for(tmp_path: Path) -> None:
    bridged = ("--bridge", "matrix.example", "--bridge", "other.example")
    run("init", tmp_path / "hub", "--server-name", "hub.example", "--dev-ca", tmp_path / "ca", *bridged)
    answers = f"{tmp_path / 'hub' / 'linearized.toml'}\nhttp://127.0.0.1:1\nother.example\n"
    words = ["bridge", "init", str(tmp_path / "bridge"), "--listen", "127.0.0.1:0"]
    words += ["--provider-url", "http://127.0.0.1:1"]
    result = CliRunner().invoke(main, words, input=answers)
    assert result.exit_code == 0, result.output
    config = load_bridge_config(tmp_path / "bridge" / "bridge.toml")
    assert (config.homeserver_url, config.homeserver_domain) == ("http://127.0.0.1:1", "other.example")


def test_bridges_of_two_homeservers_are_made_apart_and_run_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    async def note(configs: Sequence[BridgeConfig]) -> None:
        check_apart(configs)
        started.extend(f"{config.homeserver_domain} {config.bot}" for config in configs)
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(bridge_commands, "run_bridges", note)
    bridged = ("--bridge", "matrix.example", "--bridge", "other.example")
    run("init", tmp_path / "hub", "--server-name", "hub.example", "--dev-ca", tmp_path / "ca", *bridged)
    options: list[str | Path] = []
    for domain in bridged[1::2]:
        directory = tmp_path / domain
        made = run(
            *("bridge", "init", directory, "--provider", tmp_path / "hub" / "linearized.toml"),
            *("--homeserver", "http://127.0.0.1:1", "--provider-url", "http://127.0.0.1:1"),
            *("--domain", domain, "--listen", "127.0.0.1:0"),
        )
        options += ["--config", directory / "bridge.toml"]
        assert made.exit_code == 0, made.output
    assert run("bridge", "run", *options).exit_code == 0
    assert started == ["matrix.example @_bridge:hub.example", "other.example @_bridge-2:hub.example"]


def test_init_writes_the_registration_too_and_says_what_to_do_next(provider: Path) -> None:
    # Nothing answers on this port of the loopback interface.
    result = init(provider, "--homeserver", "http://127.0.0.1:1", "--provider-url", "http://127.0.0.1:1")
    assert result.exit_code == 0, result.output
    registration = provider.parent.parent / "bridge" / "registration.yaml"
    assert json.loads(registration.read_text())["url"] == "http://127.0.0.1:0"
    assert stat.S_IMODE(registration.stat().st_mode) == 0o600
    assert f'app_service_config_files: ["{registration.resolve()}"]' in result.output
    assert "failed  homeserver answers" in result.output
    assert "-> start what should answer at http://127.0.0.1:1" in result.output
    assert "when that is done: linearized bridge check" in result.output


def test_a_check_that_fails_is_status_1(provider: Path) -> None:
    init(provider, "--homeserver", "http://127.0.0.1:1", "--provider-url", "http://127.0.0.1:1")
    settings = provider.parent.parent / "bridge" / "bridge.toml"
    result = run("bridge", "check", "--config", settings)
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.output.splitlines() if not line.startswith(" ")] == [
        "failed  homeserver answers",
        "failed  provider answers",
    ]


def test_a_bridge_whose_checks_hold_is_told_how_to_run(
    provider: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_well(config: object) -> list[Check]:
        return [Check(name="homeserver answers", outcome=Outcome.OK, found="yes")]

    monkeypatch.setattr(bridge_commands, "run_checks", all_well)
    result = init(provider)
    assert "next: linearized bridge run" in result.output
    assert "then invite @_lin_bot:matrix.example" in result.output
    assert f"--config {provider.parent.parent / 'bridge' / 'bridge.toml'} --config OTHER" in result.output
    settings = provider.parent.parent / "bridge" / "bridge.toml"
    assert run("bridge", "check", "--config", settings).exit_code == 0


@pytest.mark.parametrize("option", ["--homeserver", "--provider-url", "--url"])
def test_a_wrong_url_is_refused_before_anything_is_written(provider: Path, option: str) -> None:
    result = init(provider, option, "matrix.example")
    assert result.exit_code == 2
    assert f"{option}: matrix.example must begin with http" in result.output
    assert not (provider.parent.parent / "bridge").exists()


def test_the_registration_holds_the_tokens_for_its_owner_only(provider: Path, tmp_path: Path) -> None:
    init(provider)
    output = tmp_path / "registration.yaml"
    settings = tmp_path / "bridge" / "bridge.toml"
    assert run("bridge", "registration", "--config", settings, output).exit_code == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert load_bridge_config(settings).as_token in output.read_text()
    for token in ("as.token", "hs.token"):
        assert stat.S_IMODE((tmp_path / "bridge" / token).stat().st_mode) == 0o600


def test_a_bridge_is_never_overwritten(provider: Path) -> None:
    init(provider)
    again = init(provider)
    assert again.exit_code == 2
    assert "already holds a bridge" in again.output


def test_a_domain_the_provider_does_not_bridge_is_refused(provider: Path) -> None:
    result = init(provider, "--domain", "other.example")
    assert result.exit_code == 2
    assert "no [[bridges]] entry of the provider's settings lists other.example" in result.output


def test_a_provider_without_a_bridge_is_refused(tmp_path: Path) -> None:
    run("init", tmp_path / "hub", "--server-name", "hub.example", "--dev-ca", tmp_path / "ca")
    result = init(tmp_path / "hub" / "linearized.toml")
    assert result.exit_code == 2
    assert "the provider's settings name 0 bridged domains" in result.output


@pytest.mark.parametrize(
    "command", [("registration", "out.yaml"), ("check",), ("run",), ("import", "!room:matrix.example")]
)
def test_missing_bridge_settings_are_status_2(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = run("bridge", command[0], "--config", tmp_path / "none.toml", *command[1:])
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1


def test_the_bridged_rooms_are_listed_beside_a_running_bridge(
    provider: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(provider)
    settings = provider.parent.parent / "bridge" / "bridge.toml"
    database = Database(load_bridge_config(settings).database)
    RoomLinks(database).begin("!old:matrix.example")
    listed = run("bridge", "room", "list", "--config", settings)
    database.close()
    assert listed.exit_code == 0, listed.output
    assert re.search(r"!old:matrix\.example .* - .* walking .* 0 .* 0 .* 0 .* 0 .* 0", listed.output)


def test_without_a_database_there_are_no_rooms_to_list(provider: Path) -> None:
    init(provider)
    settings = provider.parent.parent / "bridge" / "bridge.toml"
    load_bridge_config(settings).database.unlink(missing_ok=True)
    result = run("bridge", "room", "list", "--config", settings)
    assert result.exit_code == 2
    assert "bridge.sqlite" in result.output


def test_rooms_are_added_and_removed_by_name(provider: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    async def add(config: object, name: str, progress: Callable[[str, int, int], None]) -> ImportReport:
        progress("reading", 1, 2)
        asked.append(("add", name))
        failed = 1 if "broken" in name else 0
        return ImportReport(room_id="!new:hub.example", imported=5, left_out=1, failed=failed, members=2)

    async def remove(config: object, name: str) -> str:
        asked.append(("remove", name))
        return "!old:matrix.example"

    monkeypatch.setattr(bridge_commands, "run_import", add)
    monkeypatch.setattr(bridge_commands, "run_unbridge", remove)
    init(provider)
    settings = provider.parent.parent / "bridge" / "bridge.toml"
    added = run("bridge", "room", "add", "--config", settings, "#old:matrix.example")
    assert (added.exit_code, added.stdout) == (0, "!new:hub.example\n")
    assert run("bridge", "import", "--config", settings, "#broken:matrix.example").exit_code == 1
    removed = run("bridge", "room", "remove", "--config", settings, "#old:matrix.example")
    assert removed.output == "!old:matrix.example is no longer bridged\n"
    assert asked == [
        ("add", "#old:matrix.example"),
        ("add", "#broken:matrix.example"),
        ("remove", "#old:matrix.example"),
    ]


def outcome(error: BaseException) -> Result:
    @click.command()
    @reporting
    def failing() -> None:
        raise error

    return CliRunner().invoke(failing)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("wrong"),
        ServerUnreachable("wrong"),
        ExceptionGroup("tasks", [ExceptionGroup("more", [ConfigError("wrong")])]),
    ],
)
def test_an_expected_error_is_one_line_and_status_2(error: Exception) -> None:
    result = outcome(error)
    assert (result.exit_code, result.output) == (2, "linearized: wrong\n")


def test_an_interruption_is_status_130() -> None:
    assert outcome(KeyboardInterrupt()).exit_code == 130


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), ExceptionGroup("tasks", [ConfigError("one"), ValueError("a bug")])]
)
def test_a_bug_is_not_dressed_up(error: Exception) -> None:
    assert outcome(error).exception is error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_work_in_order(number: signal.Signals) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
        finally:
            ended.append("in order")

    trio.run(until_signalled, work)
    assert ended == ["in order"]


def test_work_that_ends_by_itself_ends_the_command() -> None:
    async def work() -> None:
        await trio.lowlevel.checkpoint()

    trio.run(until_signalled, work)
