from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from bridges.matrix import BridgeConfig, load_bridge_config, registration, write_registration
from linearized.exceptions import ConfigError

GOOD = """
[homeserver]
url = "http://127.0.0.1:8008/"
domain = "matrix.example"
as_token_file = "as.token"
hs_token_file = "hs.token"
[provider]
url = "https://127.0.0.1:8448"
domain = "a.example"
token_file = "bridge.token"
trusted_ca = "ca.pem"
[bridge]
listen = "127.0.0.1:9009"
database = "data/bridge.sqlite"
"""


def settings(directory: Path, text: str = GOOD) -> Path:
    for name in ("as", "hs", "bridge"):
        (directory / f"{name}.token").write_text(name * 20 + "\n")
    path = directory / "bridge.toml"
    path.write_text(text)
    return path


def load(directory: Path) -> BridgeConfig:
    return load_bridge_config(settings(directory))


def test_settings_are_read_with_paths_relative_to_the_file(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.homeserver_url == "http://127.0.0.1:8008"
    assert config.as_token == "as" * 20
    assert config.trusted_ca == tmp_path / "ca.pem"
    assert config.database == tmp_path / "data" / "bridge.sqlite"
    assert config.url == "http://127.0.0.1:9009"
    assert config.bot == "@_bridge:a.example"
    assert config.names.bot == "@_lin_bot:matrix.example"
    assert config.bridge_invited_rooms is True
    assert config.read_receipts is False
    assert config.typing is False


def test_a_bridge_of_several_has_a_bot_of_its_own(tmp_path: Path) -> None:
    path = settings(tmp_path, GOOD.replace("[bridge]", 'bot = "@_bridge-2:a.example"\n[bridge]'))
    assert load_bridge_config(path).bot == "@_bridge-2:a.example"


def test_operators_are_user_ids(tmp_path: Path) -> None:
    path = settings(tmp_path, GOOD + 'operators = ["@admin:matrix.example"]\n')
    assert load_bridge_config(path).operators == {"@admin:matrix.example"}
    assert load(tmp_path).operators == frozenset()


def test_rooms_are_audited_every_ten_minutes_or_as_often_as_the_operator_wants(tmp_path: Path) -> None:
    assert load(tmp_path).audit_seconds == 600
    assert load(tmp_path).keep_hours == 48
    assert load_bridge_config(settings(tmp_path, GOOD + "audit_seconds = 1\n")).audit_seconds == 1


def test_encrypted_rooms_are_bridged_unless_the_operator_refuses(tmp_path: Path) -> None:
    assert load(tmp_path).encrypted_rooms == "bridge"
    path = settings(tmp_path, GOOD + 'encrypted_rooms = "refuse"\n')
    assert load_bridge_config(path).encrypted_rooms == "refuse"


def test_the_storage_key_is_beside_the_database_or_where_the_operator_wants_it(tmp_path: Path) -> None:
    assert load(tmp_path).storage_key_path == tmp_path / "data" / "bridge.key"
    path = settings(tmp_path, GOOD + 'storage_key_file = "elsewhere/key"\n')
    assert load_bridge_config(path).storage_key_path == tmp_path / "elsewhere" / "key"


def test_no_token_is_shown(tmp_path: Path) -> None:
    assert "asas" not in repr(load(tmp_path))
    assert "hshs" not in repr(load(tmp_path))
    assert "bridgebridge" not in repr(load(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('domain = "matrix.example"', "", "homeserver.domain"),
        ('domain = "matrix.example"', 'domain = "not a name"', "homeserver.domain"),
        ('"https://127.0.0.1:8448"', '"127.0.0.1:8448"', "provider.url"),
        ('"as.token"', '"missing.token"', "homeserver.as_token_file"),
        ('listen = "127.0.0.1:9009"', "listen = 9009", "bridge.listen"),
        ("[bridge]", "[bridge]\nbridge_invited_rooms = 1", "bridge.bridge_invited_rooms"),
        ("[bridge]", '[bridge]\noperators = "@a:b"', "bridge.operators"),
        ("[bridge]", '[bridge]\noperators = ["alice"]', "bridge.operators"),
        ("[bridge]", '[bridge]\nencrypted_rooms = "maybe"', "bridge.encrypted_rooms"),
        ("[bridge]", "[bridge]\naudit_seconds = 0", "bridge.audit_seconds"),
        ("[bridge]", "[bridge]\naudit_seconds = true", "bridge.audit_seconds"),
        ("[bridge]", "[bridge]\nkeep_hours = 0", "bridge.keep_hours"),
        ("[bridge]", "[bridge]\ntypo = 1", "bridge.typo"),
        ("[bridge]", 'bot = "bot"\n[bridge]', "provider.bot"),
        ("[bridge]", "[other]\nx = 1\n[bridge]", "other"),
        ("[bridge]", "[bridge", "bridge.toml"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = settings(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=re.escape(named)):
        load_bridge_config(path)


def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    path = settings(tmp_path)
    (tmp_path / "hs.token").write_text("short")
    with pytest.raises(ConfigError, match="hs_token_file"):
        load_bridge_config(path)


def test_the_registration_claims_our_names_and_nobody_elses(tmp_path: Path) -> None:
    config = load(tmp_path)
    write_registration(config, tmp_path / "registration.yaml")
    text = (tmp_path / "registration.yaml").read_text()
    value = json.loads(text)
    assert value == registration(config)
    assert stat.S_IMODE((tmp_path / "registration.yaml").stat().st_mode) == 0o600
    (users,) = value["namespaces"]["users"]
    assert users["exclusive"] is True
    assert re.fullmatch(users["regex"], config.names.ghost("mimi://b.example/u/bob"))
    assert re.fullmatch(users["regex"], config.names.bot)
    for other in ("@alice:matrix.example", "@_lin_x_y:other.example", "@_lin_x_y:matrixxexample"):
        assert not re.fullmatch(users["regex"], other)
    assert value["sender_localpart"] == "_lin_bot"
    assert value["rate_limited"] is False
