"""Reading a TOML table strictly: each setting is taken out once and converted; what is left is an error.

Converters take a TOML value and give a checked one, or raise ``ValueError`` saying what was expected;
``Section`` adds the setting's name and makes it a ``ConfigError``.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linearized.exceptions import ConfigError

_SERVER_NAME = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,255})(:[0-9]{1,5})?")
USER_ID = re.compile(r"@[a-z0-9._=/+-]+:(?P<domain>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen or connect: a host name or IP (without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_REQUIRED: Any = object()


class Section:
    """One table of the file: takes settings out one by one, and complains about what is left."""

    def __init__(self, name: str, values: Mapping[str, Any], base: Path) -> None:
        self.name = name
        self._values = dict(values)
        self._base = base
        self._known: list[str] = []

    def label(self, key: str) -> str:
        """The full name of a setting, for an error text."""
        return f"{self.name}.{key}" if self.name else key

    def path(self, value: str) -> Path:
        """A path; a relative one starts at the settings file's directory."""
        return self._base / Path(value).expanduser()

    def take(
        self,
        key: str,
        convert: Callable[[Any], Any],
        default: Any = _REQUIRED,
        *,
        then: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Take a setting out and convert it; ``then`` is applied to the converted value, not to None.

        Raises:
            ConfigError: it is missing without a default, or ``convert`` raised ``ValueError``.
        """
        self._known.append(key)
        value = self._values.pop(key, default)
        if value is _REQUIRED:
            raise ConfigError(f"{self.label(key)} is missing")
        if value is None:
            return None
        try:
            converted = convert(value)
        except ValueError as error:
            raise ConfigError(f"{self.label(key)}: {error}") from error
        return then(converted) if then else converted

    def section(self, key: str, *, optional: bool = False) -> Section:
        """Take a table out."""
        value = self.take(key, as_table, {} if optional else _REQUIRED)
        return Section(self.label(key), value, self._base)

    def sections(self, key: str) -> list[Section]:
        """Take a list of tables out."""
        values = self.take(key, as_tables, [])
        return [Section(f"{self.label(key)}[{i}]", value, self._base) for i, value in enumerate(values)]

    def tables(self) -> Iterator[tuple[str, Section]]:
        """Take every table that is left, by name, for a table whose keys are names and no settings."""
        for key, value in self.rest().items():
            try:
                table = as_table(value)
            except ValueError as error:
                raise ConfigError(f'{self.name}."{key}": {error}') from error
            yield key, Section(f'{self.name}."{key}"', table, self._base)

    def rest(self) -> dict[str, Any]:
        """Take everything that is left, for a table whose keys are not settings."""
        values, self._values = self._values, {}
        return values

    def finish(self) -> None:
        """Complain about the first setting nobody took.

        Raises:
            ConfigError: there is one.
        """
        for key in self._values:
            near = difflib.get_close_matches(key, self._known, n=1)
            hint = f"; did you mean {self.label(near[0])}?" if near else ""
            raise ConfigError(f"{self.label(key)} is not a setting{hint}")


# --- converters: a value, or ValueError saying what was expected ---


def as_text(value: Any) -> str:
    """A non-empty string."""
    if not isinstance(value, str) or not value:
        raise ValueError("expected a non-empty string")
    return value


def as_table(value: Any) -> dict[str, Any]:
    """A table."""
    if not isinstance(value, dict):
        raise ValueError("expected a table")
    return value


def as_tables(value: Any) -> list[dict[str, Any]]:
    """A list of tables."""
    if not isinstance(value, list):
        raise ValueError("expected a list of tables")
    return [as_table(item) for item in value]


def as_count(value: Any) -> int:
    """A whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("expected a whole number of at least 1")
    return value


def as_seconds(value: Any) -> int:
    """A whole number of seconds, 0 too."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("expected a whole number of seconds")
    return value


def as_flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def as_server_name(value: Any) -> str:
    """A server name (draft, "Server Names")."""
    if not isinstance(value, str) or not _SERVER_NAME.fullmatch(value):
        raise ValueError("expected a server name such as example.org or example.org:8448")
    return value


def as_server_names(value: Any) -> tuple[str, ...]:
    """A non-empty list of server names."""
    if not isinstance(value, list) or not value:
        raise ValueError("expected a non-empty list of domains")
    return tuple(as_server_name(item) for item in value)


def as_optional_server_names(value: Any) -> tuple[str, ...]:
    """A list of server names, which may be empty."""
    return as_server_names(value) if value != [] else ()


def as_networks(value: Any) -> tuple[IPNetwork, ...]:
    """A list of IP networks such as ``10.0.0.0/8``."""
    if not isinstance(value, list):
        raise ValueError("expected a list of networks such as 10.0.0.0/8")
    return tuple(ipaddress.ip_network(as_text(item)) for item in value)


_DNS_PORT = 53


def as_nameservers(value: Any) -> tuple[Address, ...]:
    """A list of IP addresses, each with a port if it is not 53."""
    if not isinstance(value, list):
        raise ValueError("expected a list of IP addresses such as 192.0.2.1 or 192.0.2.1:5353")
    return tuple(_nameserver(as_text(item)) for item in value)


def _nameserver(text: str) -> Address:
    try:
        return Address(host=str(ipaddress.ip_address(text)), port=_DNS_PORT)
    except ValueError:
        address = as_address(text)
        ipaddress.ip_address(address.host)
        return address


def as_user_id(value: Any) -> str:
    """A Matrix user ID."""
    if not isinstance(value, str) or not USER_ID.fullmatch(value):
        raise ValueError("expected a user ID such as @_bridge:example.org")
    return value


def as_user_ids(value: Any) -> tuple[str, ...]:
    """A list of user IDs, which may be empty."""
    if not isinstance(value, list):
        raise ValueError("expected a list of user IDs such as @alice:example.org")
    return tuple(as_user_id(item) for item in value)


_MAX_PORT = 65535


def as_address(value: Any) -> Address:
    """``host:port``; an IPv6 host is in brackets and comes out without them."""
    text = as_text(value)
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > _MAX_PORT:
        raise ValueError(f"expected host:port, not {text!r}")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif not host or ":" in host:
        raise ValueError(f"expected host:port (IPv6 in brackets), not {text!r}")
    return Address(host=host, port=int(port))
