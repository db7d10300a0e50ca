"""The franking keys on disk."""

from __future__ import annotations

import stat
from pathlib import Path

import orjson
import pytest

from linearized.exceptions import ConfigError
from linearized.mimi.franking import FrankingAgentData
from linearized.mimi.key_material import basic_identity
from linearized.mls import CIPHERSUITES
from linearized.server.franking_keys import KEY_FILE, load_franking_keys


def test_keys_are_made_once_and_stay(tmp_path: Path) -> None:
    first = load_franking_keys(tmp_path)
    again = load_franking_keys(tmp_path)
    assert first.hub_key == again.hub_key
    assert first.agents("a.example") == again.agents("a.example")
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_there_is_an_agent_for_every_cipher_suite_of_rooms(tmp_path: Path) -> None:
    agents = load_franking_keys(tmp_path).agents("a.example")
    assert agents.keys() == set(CIPHERSUITES.values())
    for agent in agents.values():
        assert basic_identity(FrankingAgentData.decode(agent).credential) == b"mimi://a.example"


def test_no_key_shows_when_the_keys_are_printed(tmp_path: Path) -> None:
    assert repr(load_franking_keys(tmp_path)) == "FrankingKeys()"


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_franking_keys(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod"):
        load_franking_keys(tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"hub_key": "AA"}', b'{"hub_key": 1}', b'{"hub_key": "*"}'],
)
def test_a_malformed_file_is_refused_and_left_alone(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        load_franking_keys(tmp_path)
    assert path.read_bytes() == text


def test_a_key_that_is_missing_for_one_suite_is_an_error(tmp_path: Path) -> None:
    load_franking_keys(tmp_path)
    path = tmp_path / KEY_FILE
    values = orjson.loads(path.read_bytes())
    del values["7"]
    path.write_bytes(orjson.dumps(values))
    with pytest.raises(ConfigError):
        load_franking_keys(tmp_path)


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot create"):
        load_franking_keys(tmp_path / "nowhere")
