"""What the demonstration measures with: its table, the plaintext search, the picture, the settings."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from rich.console import Console

from linearized.demo.checks import Checks, milliseconds
from linearized.demo.existing_room import harbour, write_history_registration
from linearized.demo.failures import StepFailed
from linearized.demo.homeserver import HomeserverFiles, write_settings
from linearized.demo.secrecy import found_in, kept_bytes
from linearized.demo.step_history import bugs_in


def test_all_held_only_if_something_was_checked_and_nothing_failed() -> None:
    checks = Checks()
    seen = [checks.all_held]
    checks.note("rate", 5)
    checks.equal("count", 3, 3)
    seen.append(checks.all_held)
    checks.equal("count", 3, 4)
    seen.append(checks.all_held)
    assert seen == [False, True, False]
    assert checks.lines[-1].measured == "3, expected 4"


def test_a_requirement_that_fails_is_in_the_table_and_stops() -> None:
    checks = Checks(step="4")
    with pytest.raises(StepFailed, match="joined: no"):
        checks.require("joined", False, "no", "the log")
    assert [(line.step, line.held) for line in checks.lines] == [("4", False)]


def test_the_table_marks_what_failed() -> None:
    checks = Checks(step="1 start")
    checks.that("this", True, "a")
    checks.that("that", False, "b")
    output = io.StringIO()
    Console(file=output, width=100).print(checks.table())
    lines = output.getvalue().splitlines()
    assert any("✓" in line and "this" in line for line in lines)
    assert any("✗" in line and "that" in line for line in lines)


def test_milliseconds_gives_median_and_worst() -> None:
    assert milliseconds([0.010, 0.500, 0.020]) == "median 20 ms, worst 500 ms of 3"


def test_plaintext_is_found_wherever_a_provider_keeps_bytes(tmp_path: Path) -> None:
    (tmp_path / "data" / "media").mkdir(parents=True)
    (tmp_path / "data" / "db").write_bytes(b"\x00secret one\x00")
    (tmp_path / "data" / "db-wal").write_bytes(b"secret two")
    (tmp_path / "data" / "media" / "x").write_bytes(b"secret three")
    (tmp_path / "log").write_bytes(b"secret four")
    data = kept_bytes(tmp_path / "data", tmp_path / "log")
    secrets = ["secret one", "secret two", "secret three", "secret four"]
    assert found_in(data, [*secrets, "secret five"]) == secrets


def test_plaintext_is_found_behind_jsons_escapes() -> None:
    assert found_in(json.dumps("über alles").encode(), ["über alles"]) == ["über alles"]


def test_bugs_are_found_in_logs_and_refusals_are_not_bugs() -> None:
    log = "\n".join(
        (
            '{"event":"request","status":403}',
            '{"event":"request_failed","exception":"KeyError"}',
            "Traceback (most recent call last):",
        )
    )
    assert len(bugs_in(log)) == 2


def test_the_picture_is_a_png_of_its_size() -> None:
    data = harbour()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (64, 48)
    start = data.index(b"IDAT") + 4
    length = int.from_bytes(data[start - 8 : start - 4], "big")
    assert len(zlib.decompress(data[start : start + length])) == 48 * (1 + 64 * 3)


def test_the_history_service_may_act_for_the_five_and_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "history.yaml"
    write_history_registration(path, token="as", homeserver_token="hs")
    registration = json.loads(path.read_text())
    (namespace,) = registration["namespaces"]["users"]
    assert namespace == {"regex": "@(alice|bob|carol|dave|erin):matrix.example", "exclusive": False}
    assert registration["url"] is None


def test_the_homeserver_listens_on_loopback_only_and_reports_nothing(tmp_path: Path) -> None:
    files = HomeserverFiles(
        directory=tmp_path / "hs",
        port=8123,
        python=Path("python"),
        registrations=(tmp_path / "one.yaml",),
        shared_secret="s",
    )
    write_settings(files)
    settings = json.loads(files.settings.read_text())
    assert [listener["bind_addresses"] for listener in settings["listeners"]] == [["127.0.0.1"]]
    assert settings["report_stats"] is False
    assert settings["trusted_key_servers"] == []
    assert settings["app_service_config_files"] == [str(tmp_path / "one.yaml")]
