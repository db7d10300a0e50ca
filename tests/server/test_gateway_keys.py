"""The oblivious gateway's keys on disk."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from linearized.exceptions import ConfigError
from linearized.protocol.base64 import encode_base64
from linearized.server.gateway_keys import (
    KEY_FILE,
    OVERLAP_MS,
    load_gateway_keys,
    rotate_gateway_keys,
    turn_gateway_keys,
)

SECRET = encode_base64(bytes(32))
NOW = 1_790_000_000_000
PERIOD = 30 * 24 * 3_600_000


def test_a_key_is_made_once_and_stays(tmp_path: Path) -> None:
    keys = load_gateway_keys(tmp_path)
    assert len(keys) == 1
    assert load_gateway_keys(tmp_path) == keys
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_a_rotation_keeps_the_key_before_and_the_next_drops_it(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text(f"255 {SECRET}\n")
    (tmp_path / KEY_FILE).chmod(0o600)
    (first,) = load_gateway_keys(tmp_path)
    second = rotate_gateway_keys(tmp_path, now_ms=NOW)
    assert second.key_id == 0
    assert second.secret != first.secret
    assert load_gateway_keys(tmp_path) == (second, first)
    third = rotate_gateway_keys(tmp_path, now_ms=NOW)
    assert load_gateway_keys(tmp_path) == (third, second)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_gateway_keys(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod"):
        load_gateway_keys(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1\n",
        f"x {SECRET}\n",
        f"1 {SECRET} soon\n",
        f"1 {SECRET} 1 2\n",
        f"256 {SECRET}\n",
        "1 AAAA\n",
        "1 *\n",
        "1 ä\n",
        f"1 {SECRET}\n1 {SECRET}\n",
        f"1 {SECRET}\n2 {SECRET}\n3 {SECRET}\n",
    ],
)
def test_a_malformed_file_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / KEY_FILE
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        load_gateway_keys(tmp_path)
    assert path.read_text(encoding="utf-8") == text


def test_a_directory_that_cannot_be_written_is_the_settings_error(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).mkdir(mode=0o700)
    with pytest.raises(ConfigError):
        load_gateway_keys(tmp_path)
    with pytest.raises(ConfigError):
        load_gateway_keys(tmp_path / "missing")


def turned(directory: Path, now_ms: int) -> int | None:
    """How many keys there are after what is due; None if nothing was."""
    keys = turn_gateway_keys(directory, now_ms=now_ms, period_ms=PERIOD)
    assert keys is None or keys == load_gateway_keys(directory)
    return None if keys is None else len(keys)


def test_a_key_is_replaced_when_its_period_is_over_and_opens_until_its_advertised_end(tmp_path: Path) -> None:
    (first,) = load_gateway_keys(tmp_path)
    assert turned(tmp_path, NOW) == 1  # its time begins
    assert turned(tmp_path, NOW + PERIOD - 1) is None
    then = NOW + PERIOD
    assert turned(tmp_path, then) == 2
    second, before = load_gateway_keys(tmp_path)
    assert before == first
    assert turned(tmp_path, then + OVERLAP_MS - 1) is None
    assert turned(tmp_path, then + OVERLAP_MS) == 1
    assert load_gateway_keys(tmp_path) == (second,)
    assert turned(tmp_path, then + PERIOD - 1) is None
    assert turned(tmp_path, then + PERIOD) == 2


def test_keys_without_a_time_have_all_of_it_from_the_first_look_on(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text(f"7 {SECRET}\n6 {encode_base64(bytes(31) + b'1')}\n")
    (tmp_path / KEY_FILE).chmod(0o600)
    assert turned(tmp_path, NOW) == 2
    assert turned(tmp_path, NOW + OVERLAP_MS - 1) is None
    assert turned(tmp_path, NOW + OVERLAP_MS) == 1
    assert turned(tmp_path, NOW + PERIOD) == 2


def test_a_rotation_by_command_begins_the_period_anew(tmp_path: Path) -> None:
    turned(tmp_path, NOW)
    rotate_gateway_keys(tmp_path, now_ms=NOW + PERIOD - 1)
    assert turned(tmp_path, NOW + PERIOD) is None
    assert turned(tmp_path, NOW + PERIOD + OVERLAP_MS) == 1
    assert turned(tmp_path, NOW + 2 * PERIOD - 1) == 2
