"""The bridge's settings file.

[homeserver]
url = "http://127.0.0.1:8008"         # its client API, from here
domain = "matrix.example"
as_token_file = "as.token"            # paths are relative to this file
hs_token_file = "hs.token"
[provider]
url = "https://127.0.0.1:8448"
domain = "a.example"
token_file = "bridge.token"
trusted_ca = "ca.pem"                 # optional
bot = "@_bridge:a.example"            # optional; each bridge of a provider has one of its own
[bridge]
listen = "127.0.0.1:9009"             # where the homeserver reaches us
url = "http://127.0.0.1:9009"         # the same as the homeserver has to say it; default from listen
database = "bridge.sqlite"
id = "linearized"                     # optional, as are the two below
prefix = "_lin_"
bridge_invited_rooms = true
read_receipts = false                 # send them where a room's policy leaves it open
typing = false                        # let each side's users see who types on the other
operators = ["@admin:matrix.example"]  # optional: whose commands need no power in the room
provisioning_token_file = "provisioning.token"  # optional: switches the provisioning API on
encrypted_rooms = "bridge"            # or "refuse": take no part in the encryption of Matrix rooms
storage_key_file = "bridge.key"       # optional: encrypts the keys in the database; made if missing
audit_seconds = 600                   # how often to look for what the homeserver did not push
keep_hours = 48                       # how old a backup of the homeserver's database may be
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridges.matrix.names import Names
from linearized.exceptions import ConfigError
from linearized.protocol.identifiers import is_server_name, is_user_id

# A token is a password for every user of a namespace; shorter ones can be guessed.
MIN_TOKEN_LENGTH = 32
# Tells the user at the provider who acts for the bridge itself, unless the settings name another; the
# provider's settings name it too.
BOT_LOCALPART = "_bridge"
# What ``encrypted_rooms`` may be.
BRIDGE, REFUSE = "bridge", "refuse"
# An audit of a room that stands still costs the homeserver three small requests.
AUDIT_SECONDS = 600
# Backups are made every night, and the newest may be broken.
KEEP_HOURS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeConfig:
    """The settings, checked; tokens are read from their files."""

    homeserver_url: str
    homeserver_domain: str
    as_token: str = field(repr=False)
    hs_token: str = field(repr=False)
    provider_url: str
    provider_domain: str
    provider_token: str = field(repr=False)
    trusted_ca: Path | None = None
    provider_bot: str | None = None
    listen: str
    url: str
    database: Path
    id: str = "linearized"
    prefix: str = "_lin_"
    bridge_invited_rooms: bool = True
    read_receipts: bool = False
    typing: bool = False
    operators: frozenset[str] = frozenset()
    provisioning_token: str | None = field(default=None, repr=False)
    encrypted_rooms: str = BRIDGE
    storage_key_file: Path | None = None
    audit_seconds: int = AUDIT_SECONDS
    keep_hours: int = KEEP_HOURS

    @property
    def names(self) -> Names:
        """How people are called on the homeserver."""
        return Names(domain=self.homeserver_domain, prefix=self.prefix)

    @property
    def bot(self) -> str:
        """The bridge's user at the provider."""
        return self.provider_bot or f"@{BOT_LOCALPART}:{self.provider_domain}"

    @property
    def storage_key_path(self) -> Path:
        """Where the key is under which the secrets of encrypted rooms are kept."""
        return self.storage_key_file or self.database.with_suffix(".key")


def load_bridge_config(path: Path) -> BridgeConfig:
    """Read and check a settings file.

    Raises:
        ConfigError: names the setting and what is wrong with it.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    reader = _Reader(path.parent, data)
    listen = reader.text("bridge", "listen")
    config = BridgeConfig(
        homeserver_url=reader.url("homeserver", "url"),
        homeserver_domain=reader.domain("homeserver", "domain"),
        as_token=reader.token("homeserver", "as_token_file"),
        hs_token=reader.token("homeserver", "hs_token_file"),
        provider_url=reader.url("provider", "url"),
        provider_domain=reader.domain("provider", "domain"),
        provider_token=reader.token("provider", "token_file"),
        trusted_ca=reader.path("provider", "trusted_ca"),
        provider_bot=reader.optional_user("provider", "bot"),
        listen=listen,
        url=reader.url("bridge", "url", default=f"http://{listen}"),
        database=reader.path("bridge", "database") or path.parent / "bridge.sqlite",
        id=reader.text("bridge", "id", default="linearized"),
        prefix=reader.text("bridge", "prefix", default="_lin_"),
        bridge_invited_rooms=reader.flag("bridge", "bridge_invited_rooms", default=True),
        read_receipts=reader.flag("bridge", "read_receipts", default=False),
        typing=reader.flag("bridge", "typing", default=False),
        operators=reader.users("bridge", "operators"),
        provisioning_token=reader.optional_token("bridge", "provisioning_token_file"),
        encrypted_rooms=reader.choice("bridge", "encrypted_rooms", (BRIDGE, REFUSE)),
        storage_key_file=reader.path("bridge", "storage_key_file"),
        audit_seconds=reader.number("bridge", "audit_seconds", default=AUDIT_SECONDS),
        keep_hours=reader.number("bridge", "keep_hours", default=KEEP_HOURS),
    )
    reader.finish()
    return config


class _Reader:
    """Takes settings out of a parsed file, one by one, so that what is left over is unknown."""

    def __init__(self, directory: Path, data: dict[str, Any]) -> None:
        self._directory = directory
        self._data = {name: dict(table) if isinstance(table, dict) else table for name, table in data.items()}

    def text(self, section: str, name: str, *, default: str | None = None) -> str:
        table = self._data.get(section)
        value = table.pop(name, default) if isinstance(table, dict) else default
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{section}.{name} must be set to a text")
        return value

    def choice(self, section: str, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(section, name, default=choices[0])
        if value not in choices:
            raise ConfigError(f"{section}.{name} must be one of {', '.join(choices)}")
        return value

    def flag(self, section: str, name: str, *, default: bool) -> bool:
        table = self._data.get(section)
        value = table.pop(name, default) if isinstance(table, dict) else default
        if not isinstance(value, bool):
            raise ConfigError(f"{section}.{name} must be true or false")
        return value

    def number(self, section: str, name: str, *, default: int) -> int:
        table = self._data.get(section)
        value = table.pop(name, default) if isinstance(table, dict) else default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{section}.{name} must be a whole number, at least 1")
        return value

    def users(self, section: str, name: str) -> frozenset[str]:
        table = self._data.get(section)
        value = table.pop(name, []) if isinstance(table, dict) else []
        if not isinstance(value, list) or not all(
            isinstance(user, str) and is_user_id(user) for user in value
        ):
            raise ConfigError(f"{section}.{name} must be a list of user IDs")
        return frozenset(value)

    def optional_user(self, section: str, name: str) -> str | None:
        table = self._data.get(section)
        value = table.pop(name, None) if isinstance(table, dict) else None
        if value is not None and not (isinstance(value, str) and is_user_id(value)):
            raise ConfigError(f"{section}.{name} must be a user ID")
        return value

    def url(self, section: str, name: str, *, default: str | None = None) -> str:
        value = self.text(section, name, default=default)
        if not value.startswith(("http://", "https://")):
            raise ConfigError(f"{section}.{name} must be a URL beginning with http:// or https://")
        return value.rstrip("/")

    def domain(self, section: str, name: str) -> str:
        value = self.text(section, name)
        if not is_server_name(value):
            raise ConfigError(f"{section}.{name} must be a server name")
        return value

    def path(self, section: str, name: str) -> Path | None:
        table = self._data.get(section)
        if not isinstance(table, dict) or name not in table:
            return None
        return self._directory / self.text(section, name)

    def optional_token(self, section: str, name: str) -> str | None:
        table = self._data.get(section)
        return self.token(section, name) if isinstance(table, dict) and name in table else None

    def token(self, section: str, name: str) -> str:
        path = self._directory / self.text(section, name)
        try:
            value = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{section}.{name}: cannot read {path}: {error}") from error
        if len(value) < MIN_TOKEN_LENGTH or not value.isprintable() or " " in value:
            raise ConfigError(
                f"{section}.{name}: {path} must hold a token of at least {MIN_TOKEN_LENGTH} characters"
            )
        return value

    def finish(self) -> None:
        for section, table in self._data.items():
            if section not in ("homeserver", "provider", "bridge") or not isinstance(table, dict):
                raise ConfigError(f"{section} is not a section of the bridge's settings")
            for name in table:
                raise ConfigError(f"{section}.{name} is not a setting of the bridge")
