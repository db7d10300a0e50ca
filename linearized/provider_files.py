"""A provider's directory: settings file, signing key, data, and for development its certificate."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from linearized.config import Config
from linearized.config_file import load_config
from linearized.dev_certificates import CA_CERTIFICATE, issue, open_ca, write_private
from linearized.exceptions import ConfigError
from linearized.protocol.signing import SigningKey

SETTINGS = "linearized.toml"
DATA = "data"
SIGNING_KEY = "signing.key"
DATABASE = "linearized.sqlite3"
BRIDGE_TOKEN = "bridge.token"  # noqa: S105 - a file name
_SEED_BYTES = 32
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPlan:
    """What to make. Addresses are ``host:port``; ``peers`` maps server names to addresses to use for them."""

    server_name: str
    listen: str = "127.0.0.1:8448"
    client: str | None = None
    dev_ca: Path | None = None
    bridged_domains: tuple[str, ...] = ()
    peers: Mapping[str, str] = field(default_factory=dict)


def create_provider(directory: Path, plan: ProviderPlan, *, now: datetime | None = None) -> Config:
    """Write everything a provider needs into ``directory`` and give its settings, read back and checked.

    Raises:
        ConfigError: there is a provider already, or what was asked for does not make valid settings.
    """
    settings = directory / SETTINGS
    if settings.exists():
        raise ConfigError(f"{settings} exists: this directory already holds a provider")
    made = _Made()
    try:
        _write(directory, plan, made, now or datetime.now(UTC))
        return load_config(settings)
    except BaseException:
        made.remove()  # so that the corrected command can be given again
        raise


class _Made:
    """The files written so far."""

    def __init__(self) -> None:
        self._paths: list[Path] = []

    def add(self, path: Path, data: bytes, *, private: bool = False) -> None:
        if private:
            write_private(path, data)
        else:
            path.write_bytes(data)
        self._paths.append(path)

    def remove(self) -> None:
        for path in self._paths:
            path.unlink(missing_ok=True)


def _write(directory: Path, plan: ProviderPlan, made: _Made, now: datetime) -> None:
    data = directory / DATA
    data.mkdir(parents=True, exist_ok=True)
    signing_key = SigningKey.generate(secrets.token_hex(3), secrets.token_bytes(_SEED_BYTES))
    made.add(data / SIGNING_KEY, signing_key.to_line().encode() + b"\n", private=True)
    for number in range(len(plan.bridged_domains)):
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        made.add(directory / _numbered(BRIDGE_TOKEN, number), token.encode() + b"\n", private=True)
    trusted = None
    if plan.dev_ca is not None:
        certificate, key = issue(open_ca(plan.dev_ca, now=now), plan.server_name, now=now)
        made.add(directory / f"{_stem(plan)}.pem", certificate)
        made.add(directory / f"{_stem(plan)}.key", key, private=True)
        trusted = (plan.dev_ca / CA_CERTIFICATE).resolve()
    made.add(directory / SETTINGS, settings_text(plan, trusted_ca=trusted).encode())


def database_path(config: Config) -> Path:
    """Where a provider's database is."""
    return config.data_dir / DATABASE


def load_signing_key(config: Config) -> SigningKey:
    """The provider's signing key.

    Raises:
        ConfigError: it is missing or unreadable.
    """
    path = config.data_dir / SIGNING_KEY
    try:
        return SigningKey.parse(path.read_text(encoding="ascii").splitlines()[0])
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise ConfigError(f"cannot read the signing key {path}: {error}") from error


def _stem(plan: ProviderPlan) -> str:
    return plan.server_name.replace(":", "_").strip("[]")


def settings_text(plan: ProviderPlan, *, trusted_ca: Path | None) -> str:
    """The settings file for a plan, in TOML, with a word on each setting an operator is likely to touch."""
    lines = [
        "# Settings of a linearized provider. Relative paths start at this file. See docs/operator.md",
        f"server_name = {_quoted(plan.server_name)}",
        f"data_dir = {_quoted(DATA)}  # database, media and keys: back this up",
        "",
        "[listen]",
        f"tls = {_quoted(plan.listen)}  # servers, providers and clients",
    ]
    if plan.client is not None:
        lines.append(f"client = {_quoted(plan.client)}  # client API, no TLS: loopback or behind a proxy")
    lines += [
        "",
        "[tls]",
        f"certificate = {_quoted(_stem(plan) + '.pem')}  # the chain",
        f"key = {_quoted(_stem(plan) + '.key')}",
    ]
    if trusted_ca is not None:
        lines.append(f"trusted_ca = {_quoted(str(trusted_ca))}  # peers may be certified by it too")
    if plan.peers:
        lines += ["", "[discovery.overrides]"]
        lines += [f"{_quoted(name)} = {_quoted(address)}" for name, address in plan.peers.items()]
    # Each homeserver has a bridge of its own, with an MLS client of its own bot: an entry each.
    for number, domain in enumerate(plan.bridged_domains):
        bot = _numbered("_bridge", number)
        lines += [
            "",
            "[[bridges]]",
            f"id = {_quoted(_numbered('matrix', number))}",
            f"token_file = {_quoted(_numbered(BRIDGE_TOKEN, number))}",
            f"bot = {_quoted(f'@{bot}:{plan.server_name}')}",
            f"domains = [{_quoted(domain)}]  # whose users it acts for",
        ]
    return "\n".join(lines) + "\n"


def _numbered(name: str, number: int) -> str:
    """The name of the first of several, or of one of the others: ``bridge-2.token``."""
    stem, dot, extension = name.partition(".")
    return name if number == 0 else f"{stem}-{number + 1}{dot}{extension}"


def _quoted(text: str) -> str:
    # A TOML basic string; JSON's escapes are a subset of TOML's.
    return json.dumps(text, ensure_ascii=False)
