"""The command line: what it makes, what it says, and its exit status."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from linearized.cli import main
from linearized.config_file import load_config
from linearized.own_keys import load_identity
from linearized.protocol.signing import SigningKey
from linearized.provider_files import database_path, load_signing_key
from linearized.server.gateway_keys import load_gateway_keys
from linearized.store.sqlite_lock import ServerLock


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def make(directory: Path, *more: str | Path) -> Result:
    return run("init", directory / "a", "--server-name", "a.example", "--dev-ca", directory / "ca", *more)


def test_help_names_every_command_and_the_exit_statuses() -> None:
    shown = run("--help").output
    for command in ("init", "serve", "user", "keys", "room", "bridge", "demo"):
        assert f"\n  {command} " in shown
    assert "Exit status: 0 done, 1 a check failed, 2 wrong command line or settings" in " ".join(
        shown.split()
    )


@pytest.mark.parametrize(
    "command",
    [
        "init",
        "serve",
        "user create",
        "keys rotate",
        "keys rotate-gateway",
        "room list",
        "room verify",
        "room join-code create",
        "room join-code list",
        "room join-code revoke",
        "bridge registration",
        "bridge init",
        "bridge check",
        "bridge run",
        "bridge import",
        "bridge room add",
        "bridge room list",
        "bridge room remove",
        "demo",
    ],
)
def test_every_command_has_help(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_init_makes_a_provider_that_loads(tmp_path: Path) -> None:
    result = make(tmp_path, "--client", "127.0.0.1:8008", "--peer", "b.example=127.0.0.1:9448")
    assert result.exit_code == 0, result.output
    config = load_config(tmp_path / "a" / "linearized.toml")
    assert config.server_name == "a.example"
    assert str(config.listen.client) == "127.0.0.1:8008"
    assert str(config.discovery_overrides["b.example"]) == "127.0.0.1:9448"
    assert isinstance(load_signing_key(config), SigningKey)


def test_init_with_a_bridge_writes_a_token_only_the_owner_reads(tmp_path: Path) -> None:
    assert make(tmp_path, "--bridge", "matrix.example").exit_code == 0
    bridge = load_config(tmp_path / "a" / "linearized.toml").bridge_for("matrix.example")
    assert bridge is not None
    assert bridge.bot == "@_bridge:a.example"
    assert bridge.domains == ("matrix.example",)
    assert stat.S_IMODE((tmp_path / "a" / "bridge.token").stat().st_mode) == 0o600


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    make(tmp_path)
    for secret in ("a/a.example.key", "a/data/signing.key", "ca/ca.key"):
        assert stat.S_IMODE((tmp_path / secret).stat().st_mode) == 0o600


def test_the_development_certificate_serves_and_authenticates_as_a_client(tmp_path: Path) -> None:
    make(tmp_path)
    certificate = x509.load_pem_x509_certificate((tmp_path / "a" / "a.example.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    usage = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert usage == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    ca = x509.load_pem_x509_certificate((tmp_path / "ca" / "ca.pem").read_bytes())
    certificate.verify_directly_issued_by(ca)


def test_two_providers_share_one_development_authority(tmp_path: Path) -> None:
    make(tmp_path)
    before = (tmp_path / "ca" / "ca.pem").read_bytes()
    result = run("init", tmp_path / "b", "--server-name", "b.example", "--dev-ca", tmp_path / "ca")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "ca" / "ca.pem").read_bytes() == before


def test_an_authority_whose_key_does_not_match_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    run("init", tmp_path / "c", "--server-name", "c.example", "--dev-ca", tmp_path / "ca2")
    (tmp_path / "ca" / "ca.key").write_bytes((tmp_path / "ca2" / "ca.key").read_bytes())
    result = run("init", tmp_path / "b", "--server-name", "b.example", "--dev-ca", tmp_path / "ca")
    assert result.exit_code == 2
    assert "does not match" in result.output


def test_each_homeserver_has_a_bridge_with_a_token_and_a_bot_of_its_own(tmp_path: Path) -> None:
    assert make(tmp_path, "--bridge", "matrix.example", "--bridge", "other.example").exit_code == 0
    one, other = load_config(tmp_path / "a" / "linearized.toml").bridges
    assert (one.id, one.bot, one.domains) == ("matrix", "@_bridge:a.example", ("matrix.example",))
    assert (other.id, other.bot, other.domains) == ("matrix-2", "@_bridge-2:a.example", ("other.example",))
    assert stat.S_IMODE((tmp_path / "a" / "bridge-2.token").stat().st_mode) == 0o600


def test_init_never_overwrites_a_provider(tmp_path: Path) -> None:
    make(tmp_path)
    key = (tmp_path / "a" / "data" / "signing.key").read_bytes()
    result = make(tmp_path)
    assert result.exit_code == 2
    assert "already holds a provider" in result.output
    assert (tmp_path / "a" / "data" / "signing.key").read_bytes() == key


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--listen", "8448"), "listen.tls: expected host:port"),
        (("--peer", "b.example"), "--peer: expected NAME=HOST:PORT"),
        (("--bridge", "a.example"), "already belongs to this server"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2_and_can_be_corrected(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    result = make(tmp_path, *arguments)
    assert result.exit_code == 2
    assert complaint in result.output
    assert len(result.output.splitlines()) == 1
    assert make(tmp_path).exit_code == 0


@pytest.mark.parametrize("command", [("serve",), ("room", "list"), ("room", "verify", "!room:a.example")])
def test_a_missing_settings_file_is_status_2(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = run(*command, "--config", tmp_path / "nowhere.toml")
    assert result.exit_code == 2
    assert "cannot read the settings file" in result.output


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    settings = tmp_path / "a" / "linearized.toml"
    settings.write_text(settings.read_text().replace("data_dir", "data_dri"))
    result = run("room", "list", "--config", settings)
    assert result.exit_code == 2
    assert "did you mean data_dir?" in result.output


def test_user_create_makes_an_account_once(tmp_path: Path) -> None:
    make(tmp_path)
    settings = tmp_path / "a" / "linearized.toml"
    arguments = ("user", "create", "--config", settings, "olivia", "--password-file", "-")
    made = run(*arguments, stdin="a long password\n")
    assert (made.exit_code, made.output) == (0, "@olivia:a.example\n")
    again = run(*arguments, stdin="a long password\n")
    assert again.exit_code == 2
    assert "@olivia:a.example exists" in again.output


@pytest.mark.parametrize(("name", "password"), [("olivia", "short"), ("oli via", "a long password")])
def test_user_create_refuses_bad_names_and_passwords(tmp_path: Path, name: str, password: str) -> None:
    make(tmp_path)
    settings = tmp_path / "a" / "linearized.toml"
    result = run("user", "create", "--config", settings, name, "--password-file", "-", stdin=f"{password}\n")
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1


def test_keys_rotate_makes_a_new_key_and_keeps_the_old_one_for_verification(tmp_path: Path) -> None:
    make(tmp_path)
    settings = tmp_path / "a" / "linearized.toml"
    before = load_signing_key(load_config(settings))
    result = run("keys", "rotate", "--config", settings)
    assert result.exit_code == 0, result.output
    config = load_config(settings)
    after = load_identity(config.server_name, config.data_dir)
    assert after.key.key_id != before.key_id
    assert after.verify_keys[before.key_id] == before.verify_key
    assert result.output == f"a.example now signs with {after.key.key_id}; {before.key_id} is retired\n"


def test_keys_are_not_rotated_under_a_running_server(tmp_path: Path) -> None:
    make(tmp_path)
    settings = tmp_path / "a" / "linearized.toml"
    config = load_config(settings)
    before = load_signing_key(config)
    lock = ServerLock(database_path(config))
    try:
        result = run("keys", "rotate", "--config", settings)
    finally:
        lock.release()
    assert result.exit_code == 2
    assert "in use by another server" in result.output
    assert load_signing_key(config).verify_key == before.verify_key


def test_gateway_keys_are_rotated_but_not_under_a_running_server(
    tmp_path: Path,
) -> None:
    make(tmp_path)
    settings = tmp_path / "a" / "linearized.toml"
    config = load_config(settings)
    config.data_dir.mkdir(exist_ok=True)
    (before,) = load_gateway_keys(config.data_dir)
    result = run("keys", "rotate-gateway", "--config", settings)
    assert result.exit_code == 0, result.output
    after = load_gateway_keys(config.data_dir)
    assert after[1] == before
    assert result.output == f"a.example now offers gateway key {after[0].key_id}\n"
    lock = ServerLock(database_path(config))
    try:
        assert run("keys", "rotate-gateway", "--config", settings).exit_code == 2
    finally:
        lock.release()
    assert load_gateway_keys(config.data_dir) == after


def test_room_verify_of_an_unknown_room_is_status_2(tmp_path: Path) -> None:
    make(tmp_path)
    settings = tmp_path / "a" / "linearized.toml"
    run("user", "create", "--config", settings, "olivia", "--password-file", "-", stdin="a long password\n")
    result = run("room", "verify", "--config", settings, "!none:a.example")
    assert result.exit_code == 2
    assert "there is no room" in result.output
