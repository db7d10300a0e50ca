"""Settings: what is read, what is refused, and with which words."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from linearized.config import Address, LimitsConfig, MetadataConfig, StoreConfig
from linearized.config_file import load_config, parse_config
from linearized.config_template import default_config
from linearized.exceptions import ConfigError
from linearized.mimi.metadata_policy import RequiredPolicy

TOKEN = "t" * 43
MINIMAL = """
server_name = "a.example"
[listen]
tls = "127.0.0.1:8448"
[tls]
certificate = "a.pem"
key = "a.key"
"""


def bridge(**changes: str) -> str:
    settings = {
        "id": '"matrix"',
        "token_file": '"bridge.token"',
        "bot": '"@_bridge:a.example"',
        "domains": '["matrix.example"]',
    } | changes
    return "[[bridges]]\n" + "\n".join(f"{name} = {value}" for name, value in settings.items()) + "\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "bridge.token").write_text(TOKEN + "\n")
    (tmp_path / "other.token").write_text("o" * 43)
    return tmp_path


def test_a_minimal_file_gets_every_default(base: Path) -> None:
    config = parse_config(MINIMAL, base=base)
    assert config.server_name == "a.example"
    assert config.data_dir == base / "data"
    assert config.listen.tls == Address(host="127.0.0.1", port=8448)
    assert config.listen.client is None
    assert config.tls.certificate == base / "a.pem"
    assert config.tls.trusted_ca is None
    assert config.store == StoreConfig(synchronous="FULL")
    assert config.limits == LimitsConfig()
    assert config.bridges == ()


def test_metadata_is_said_and_required_by_what_is_set(base: Path) -> None:
    assert parse_config(MINIMAL, base=base).metadata == MetadataConfig()
    text = """
[metadata]
log_seconds = 0
[metadata.required]
addresses_seconds = 0
history_seconds = 86400
hidden_senders = true
"""
    assert parse_config(MINIMAL + text, base=base).metadata == MetadataConfig(
        log_seconds=0,
        required=RequiredPolicy(addresses_seconds=0, history_seconds=86400, hidden_senders=True),
    )


@pytest.mark.parametrize(
    "setting",
    [
        "log_seconds = -1",
        "log_seconds = true",
        "required.hidden_senders = 1",
        "required.no_logging_clients = true",
    ],
)
def test_what_cannot_be_said_or_required_of_metadata_is_named(base: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=r"metadata\."):
        parse_config(f"{MINIMAL}\n[metadata]\n{setting}\n", base=base)


def test_every_setting_is_read(base: Path) -> None:
    text = f"""
server_name = "a.example:8449"
data_dir = "/var/lib/linearized"
[listen]
tls = "[::1]:8448"
client = "localhost:8008"
[tls]
certificate = "a.pem"
key = "a.key"
trusted_ca = "ca.pem"
[discovery]
allowed_networks = ["10.0.0.0/8", "fd00::/8"]
nameservers = ["192.0.2.53", "[::1]:5353"]
[discovery.overrides]
"b.example" = "127.0.0.1:9448"
[keys]
notaries = ["notary.example"]
[providers."b.example"]
delivery = "pull"
[providers."c.example"]
fan_out = "pull"
asset_hosts = ["files.c.example", "cdn.example:8443"]
[providers."d.example"]
delivery = "fanout-request"
[sign_on]
homeservers = ["matrix.example"]
[store]
synchronous = "NORMAL"
[limits]
max_backfill = 7
{bridge(bot='"@_bridge:a.example:8449"')}
"""
    config = parse_config(text, base=base)
    assert config.providers["c.example"].asset_hosts == ("files.c.example", "cdn.example:8443")
    assert config.data_dir == Path("/var/lib/linearized")
    assert str(config.listen.tls) == "[::1]:8448"
    assert config.listen.client == Address(host="localhost", port=8008)
    assert config.tls.trusted_ca == base / "ca.pem"
    assert config.discovery_overrides == {"b.example": Address(host="127.0.0.1", port=9448)}
    assert config.discovery.allowed_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert [str(server) for server in config.discovery.nameservers] == ["192.0.2.53:53", "[::1]:5353"]
    assert config.keys.notaries == ("notary.example",)
    assert config.pulled_hubs == ("b.example",)
    assert config.requesting_hubs == ("d.example",)
    assert config.pull_followers == ("c.example",)
    assert config.sign_on.homeservers == ("matrix.example",)
    assert config.store.synchronous == "NORMAL"
    assert config.limits.max_backfill == 7
    assert config.bridges[0].token == TOKEN
    assert config.bridge_for("matrix.example") is config.bridges[0]
    assert config.bridge_for("elsewhere.example") is None


def test_the_bridge_token_is_not_shown(base: Path) -> None:
    assert TOKEN not in repr(parse_config(MINIMAL + bridge(), base=base))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "server_name is missing"),
        ("server_name = 3", "server_name: expected a server name"),
        ("x =", "the settings file is not TOML"),
        (MINIMAL.replace("127.0.0.1:8448", "127.0.0.1"), "listen.tls: expected host:port"),
        (MINIMAL.replace("127.0.0.1:8448", "::1:8448"), "listen.tls: expected host:port"),
        (MINIMAL.replace("127.0.0.1:8448", "localhost:99999"), "listen.tls: expected host:port"),
        (MINIMAL.replace("127.0.0.1:8448", "[nowhere]:80"), "listen.tls: "),
        (MINIMAL.replace("certificate =", "certifcate ="), "tls.certificate is missing"),
        (MINIMAL + 'certifcate = "x"', "tls.certifcate is not a setting; did you mean tls.certificate?"),
        ("zzz = 1\n" + MINIMAL, "zzz is not a setting"),
        (MINIMAL + "[limits]\nmax_backfill = 0", "limits.max_backfill: expected a whole number"),
        (MINIMAL + "[limits]\nmax_backfill = true", "limits.max_backfill: expected a whole number"),
        (MINIMAL + '[store]\nsynchronous = "OFF"', "store.synchronous: expected one of FULL, NORMAL"),
        ("store = 1\n" + MINIMAL, "store: expected a table"),
        (
            MINIMAL + '[discovery.overrides]\n"b.example" = "b"',
            'discovery.overrides."b.example": expected host',
        ),
        (MINIMAL + "[discovery]\nallowed_networks = 1", "discovery.allowed_networks: expected a list"),
        (MINIMAL + '[discovery]\nallowed_networks = ["10.0.0.1/8"]', "discovery.allowed_networks: "),
        (MINIMAL + "[discovery]\nnameservers = {}", "discovery.nameservers: expected a list"),
        (MINIMAL + '[discovery]\nnameservers = ["dns.example:53"]', "discovery.nameservers: "),
        (MINIMAL + '[discovery]\nnameservers = ["dns.example"]', "discovery.nameservers: "),
        (MINIMAL + '[keys]\nnotaries = ["a/b"]', "keys.notaries: expected a server name"),
        (MINIMAL + '[providers."a/b"]', 'providers."a/b": expected a server name'),
        (MINIMAL + '[providers]\n"b.example" = 1', 'providers."b.example": expected a table'),
        (
            MINIMAL + '[providers."b.example"]\ndelivery = "post"',
            'providers."b.example".delivery: expected one of push, pull, fanout-request',
        ),
        (
            MINIMAL + '[providers."b.example"]\nfan_out = "fanout-request"',
            'providers."b.example".fan_out: expected one of push, pull',
        ),
        (
            MINIMAL + '[providers."b.example"]\nasset_hosts = ["https://b.example/"]',
            'providers."b.example".asset_hosts: expected a server name',
        ),
        (
            MINIMAL + '[providers."b.example"]\nfanout = "pull"',
            'providers."b.example".fanout is not a setting; did you mean providers."b.example".fan_out?',
        ),
        ('operators = "@alice:a.example"\n' + MINIMAL, "operators: expected a list of user IDs"),
        ('operators = ["alice"]\n' + MINIMAL, "operators: expected a user ID"),
        ('operators = ["@alice:b.example"]\n' + MINIMAL, "is no account of a.example"),
        ("bridges = 1\n" + MINIMAL, "bridges: expected a list of tables"),
        (MINIMAL + bridge(domains="[]"), "bridges[0].domains: expected a non-empty list"),
        (MINIMAL + bridge(bot='"bridge"'), "bridges[0].bot: expected a user ID"),
        (MINIMAL + bridge(bot='"@bridge:b.example"'), "must be a user of a.example"),
        (MINIMAL + bridge(domains='["a.example"]'), "a.example already belongs to this server"),
        (MINIMAL + bridge(token_file='"none"'), "bridges[0].token_file: cannot read"),
        (MINIMAL + bridge() + bridge(domains='["c.example"]', id='"c"'), "two bridges have the same bot"),
        (
            MINIMAL + bridge() + bridge(id='"c"', token_file='"other.token"'),
            "matrix.example already belongs to the bridge 'matrix'",
        ),
    ],
)
def test_a_wrong_setting_is_named(base: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, base=base)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("token", ["short", "two words" * 8, "", "\u00e9" * 40])
def test_a_token_file_holds_one_long_token(base: Path, token: str) -> None:
    (base / "bridge.token").write_text(token, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bridges\[0\].token_file"):
        parse_config(MINIMAL + bridge(), base=base)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_config(tmp_path / "absent.toml")


def test_the_default_file_is_accepted_and_says_every_default(tmp_path: Path) -> None:
    path = tmp_path / "linearized.toml"
    path.write_text(default_config("a.example"))
    assert load_config(path) == parse_config(
        MINIMAL.replace("a.pem", "server.pem").replace("a.key", "server.key"), base=tmp_path
    )


def test_the_commented_defaults_of_the_default_file_are_the_defaults(tmp_path: Path) -> None:
    text = default_config("a.example")
    spoken = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# max_")]
    assert spoken
    limits = parse_config(MINIMAL + "[limits]\n" + "\n".join(spoken), base=tmp_path).limits
    assert limits == LimitsConfig()


def test_operators_are_accounts_of_this_server(base: Path) -> None:
    assert parse_config(MINIMAL, base=base).operators == ()
    text = 'operators = ["@alice:a.example"]\n' + MINIMAL
    assert parse_config(text, base=base).operators == ("@alice:a.example",)


def test_the_default_file_takes_what_an_operator_gives(base: Path) -> None:
    text = default_config(
        "a.example",
        tls="127.0.0.1:1",
        client="127.0.0.1:2",
        trusted_ca='odd "name".pem',
        overrides={"b.example": "127.0.0.1:3"},
        bridges=[
            {
                "id": "matrix",
                "token_file": "bridge.token",
                "bot": "@_bridge:a.example",
                "domains": ["matrix.example"],
            }
        ],
    )
    config = parse_config(text, base=base)
    assert config.listen.client == Address(host="127.0.0.1", port=2)
    assert config.tls.trusted_ca == base / 'odd "name".pem'
    assert config.discovery_overrides["b.example"].port == 3
    assert config.bridges[0].domains == ("matrix.example",)
