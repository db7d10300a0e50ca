"""The settings file that a new server begins with: every setting, its default and what it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Final

from linearized.config import LimitsConfig

_DEFAULT_FILE: Final = """\
# Settings of linearized. Relative paths start at this file's directory. What is commented out is the default.

# The domain this server speaks for; it can never change.
server_name = {server_name}
# Database, media and signing key.
data_dir = "data"
# Accounts of this server that see how far every room's followers are, and who is in its group.
# operators = ["@operator:a.example"]

[listen]
# All faces, TLS 1.3.
tls = {tls}
# The client API alone, without TLS: only on loopback or behind a proxy.
{client}

[tls]
# PEM files; the certificate (leaf first, then the chain) is valid for server_name.
certificate = {certificate}
key = {key}
# Authorities to trust besides the system's, and the only ones client certificates are accepted from.
{trusted_ca}

[discovery]
# Networks to connect to though they are not public, and resolvers to ask instead of the system's.
# allowed_networks = ["10.0.0.0/8"]
# nameservers = ["192.0.2.53"]

[discovery.overrides]
# Where to find a server, instead of asking its /.well-known/matrix/server or using port 8448.
{overrides}
{bridges}
[keys]
# Servers to ask for the keys of those that do not answer themselves.
# notaries = ["notary.example"]
# Days until the oblivious gateway has a new key; 0 for never.
# gateway_days = 30

[consent]
# Providers whose users need a grant before they can add a user of ours; ["*"] for all other providers.
# required_from = []

[sign_on]
# Homeservers whose users log in here with a token of theirs, without a password.
# homeservers = ["matrix.example"]

# How MIMI messages travel between a provider and us: with delivery = "pull" we fetch the rooms it is the hub
# of, with "fanout-request" it sends them as fan-out requests; with fan_out = "pull" it fetches the rooms we
# are the hub of. Files on its asset_hosts are fetched for other providers in our rooms.
# [providers."b.example"]
# delivery = "push"
# fan_out = "push"
# asset_hosts = ["files.b.example"]

[certificate_authorities]
# PEM files with the authorities that certify the clients of a provider's users, ours too. Where there is
# none, clients with certificates are refused.
# "b.example" = "b-clients.pem"

[metadata]
# How long you keep this server's log, in seconds. Other providers and clients are told.
# log_seconds = 604800

[metadata.required]
# What the hub of a room must keep to for our users to take part in it: the longest times in seconds.
# addresses_seconds = 0
# log_seconds = 2592000

[store]
# "FULL" keeps every acknowledged entry through a power cut, "NORMAL" only through a crash of this process.
# synchronous = "FULL"

[limits]
{limits}
"""

_LIMIT_NOTES: Final = {
    "max_connections": "Connections open at a time; more are closed at once.",
    "grace_seconds": "How long requests in flight may take after a request to stop.",
    "request_seconds": "How long a peer may take to answer one of our requests.",
    "max_media_bytes": "The largest file a client may upload.",
    "max_backfill": "Events in one answer to a peer that asks for history.",
    "max_notary_servers": "Servers one request may ask us the keys of.",
    "address_rate": "Requests a second without a token from one address; ten times as many at once.",
    "account_rate": "Requests a second of one account, likewise.",
    "provider_rate": "Requests a second of another server, likewise.",
    "group_rate": "Messages a second of another server to one room, likewise.",
}


def default_config(
    server_name: str,
    *,
    tls: str = "127.0.0.1:8448",
    client: str | None = None,
    certificate: str = "server.pem",
    key: str = "server.key",
    trusted_ca: str | None = None,
    overrides: Mapping[str, str] | None = None,
    bridges: Sequence[Mapping[str, object]] = (),
) -> str:
    """The text of a commented settings file; ``load_config`` accepts it once the files it names exist.

    ``bridges`` hold the settings of one ``[[bridges]]`` table each.
    """
    return _DEFAULT_FILE.format(
        server_name=_toml(server_name),
        tls=_toml(tls),
        client=_setting("client", client, "127.0.0.1:8008"),
        certificate=_toml(certificate),
        key=_toml(key),
        trusted_ca=_setting("trusted_ca", trusted_ca, "ca.pem"),
        overrides="\n".join(f"{_toml(name)} = {_toml(to)}" for name, to in (overrides or {}).items())
        or '# "b.example" = "127.0.0.1:9448"',
        bridges="".join(_bridge_table(bridge) for bridge in bridges),
        limits="\n".join(
            f"# {_LIMIT_NOTES[item.name]}\n# {item.name} = {item.default}" for item in fields(LimitsConfig)
        ),
    )


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON strings and lists of them are TOML as they stand


def _setting(name: str, value: str | None, example: str) -> str:
    return f"{name} = {_toml(value)}" if value else f"# {name} = {_toml(example)}"


def _bridge_table(bridge: Mapping[str, object]) -> str:
    lines = "\n".join(f"{name} = {_toml(value)}" for name, value in bridge.items())
    return f"\n[[bridges]]\n{lines}\n"
