"""The settings file, ``linearized.toml``: what it may hold, what each setting means, and its default.

``load_config`` reads a file, checks all of it, and gives frozen dataclasses; nothing else in the package
reads the file. Relative paths are relative to the file. An unknown or ill-typed setting is an error that
names it: a typo must not silently become a default.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.x509 import Certificate

from linearized.authorities import read_authorities
from linearized.exceptions import ConfigError
from linearized.mimi.metadata_policy import RequiredPolicy
from linearized.settings import (
    USER_ID,
    Address,
    IPAddress,
    IPNetwork,
    Section,
    as_address,
    as_count,
    as_flag,
    as_nameservers,
    as_networks,
    as_optional_server_names,
    as_seconds,
    as_server_name,
    as_server_names,
    as_text,
    as_user_id,
    as_user_ids,
)

__all__ = [
    "Address",
    "BridgeConfig",
    "Config",
    "ConsentConfig",
    "DiscoveryConfig",
    "IPAddress",
    "IPNetwork",
    "KeysConfig",
    "LimitsConfig",
    "ListenConfig",
    "MetadataConfig",
    "ProviderConfig",
    "StoreConfig",
    "TlsConfig",
    "default_config",
    "load_config",
    "parse_config",
]

# --- defaults, each with its reason ---
# file descriptors: the usual limit of 4096, halved for the database, media and outgoing ones
MAX_CONNECTIONS = 2000
GRACE_SECONDS = 10  # init systems kill after 30 to 90 seconds; a request in flight should need far less
REQUEST_SECONDS = 30  # what a peer may take to answer one of our requests before we call it down
MAX_MEDIA_BYTES = 50 * 1024 * 1024  # what homeservers commonly accept
MAX_BACKFILL = 100  # events per answer; at most 6.5 MB when every event is as large as it may be
MAX_NOTARY_SERVERS = 100  # servers one notary request may make us contact
# Requests a second; ten times as many may come at once. Each is far above what its kind needs in ordinary use
# and far below what it takes to keep a small machine busy.
ADDRESS_RATE = 20  # one address, before anybody there is logged in
ACCOUNT_RATE = 50  # all devices of one user: a client that starts asks for a few dozen things
PROVIDER_RATE = 50  # a server catching up on a few hundred rooms at once stays below the burst
GROUP_RATE = 100  # what one provider sends to one room: a hundred people who write every second
# Whoever gets hold of a key of the oblivious gateway can read the requests of its time that they recorded.
GATEWAY_DAYS = 30
MAX_GATEWAY_DAYS = 1000  # more is never; less than two would end a key before clients heard of the next
# FULL: an acknowledged entry survives power loss; NORMAL: only a process crash
SYNCHRONOUS = ("FULL", "NORMAL")

EVERYBODY = "*"  # in consent.required_from
# How MIMI messages get from a hub to a follower: notify, our fetching them, or fan-out requests of
# draft-robert-mimi-delivery-service. A hub takes the last on request alone: it needs the follower's tokens.
PUSH, PULL = WAYS = ("push", "pull")
FANOUT_REQUEST = "fanout-request"
DELIVERY_WAYS = (*WAYS, FANOUT_REQUEST)

_TOKEN_BYTES = 32  # shortest bridge token: it opens every user of its domains, so it must not be guessable


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenConfig:
    """``[listen]``: ``tls`` serves every face, ``client`` only the client API, without TLS."""

    tls: Address
    client: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """``[tls]``: PEM files. ``certificate`` is the chain, leaf first, valid for ``server_name``.

    ``trusted_ca`` adds authorities to the system's when we connect to peers; client certificates are accepted
    only when it is set, and only from it.
    """

    certificate: Path
    key: Path
    trusted_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeConfig:
    """``[[bridges]]``: an application service that may act for every user of ``domains`` and as ``bot``."""

    id: str
    token_file: Path
    token: str = field(repr=False)
    bot: str
    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """``[store]``: SQLite's ``synchronous`` pragma, ``FULL`` or ``NORMAL``."""

    synchronous: str = "FULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """``[discovery]`` without its overrides: ``allowed_networks`` may be connected to though they are not
    public, ``nameservers`` are asked instead of the system's.
    """

    allowed_networks: tuple[IPNetwork, ...] = ()
    nameservers: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysConfig:
    """``[keys]``: ``notaries`` are asked for the keys of servers that do not answer; none by default. The
    oblivious gateway has a new key every ``gateway_days``; 0 leaves that to a command.
    """

    notaries: tuple[str, ...] = ()
    gateway_days: int = GATEWAY_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentConfig:
    """``[consent]``: the users of which other providers need a grant before they can add a user of ours who
    has not said otherwise; ``*`` stands for all. Nobody does by default.
    """

    required_from: tuple[str, ...] = ()

    def is_required_from(self, provider: str) -> bool:
        """Whether users of that provider need a grant."""
        return provider in self.required_from or EVERYBODY in self.required_from


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOnConfig:
    """``[sign_on]``: the homeservers whose users may log in here with an OpenID token; none by default."""

    homeservers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """``[providers."b.example"]``: how MIMI messages travel between that provider and us, ``push`` or
    ``pull``. ``delivery`` is for the rooms it is the hub of: with ``pull`` we fetch them, with
    ``fanout-request`` we have it send us fan-out requests. ``fan_out`` is for the rooms we are the hub of:
    with ``pull`` it fetches them, and is sent nothing.
    """

    delivery: str = "push"
    fan_out: str = "push"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataConfig:
    """``[metadata]``: what a hub says of itself and cannot know (``log_seconds``: how long the operator keeps
    its log; None if they do not say), and in ``[metadata.required]`` what we ask of other hubs before we take
    part in their rooms.
    """

    log_seconds: int | None = None
    required: RequiredPolicy = field(default_factory=RequiredPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """``[limits]``: bounds an operator may want to move; the others are constants beside their code."""

    max_connections: int = MAX_CONNECTIONS
    grace_seconds: int = GRACE_SECONDS
    request_seconds: int = REQUEST_SECONDS
    max_media_bytes: int = MAX_MEDIA_BYTES
    max_backfill: int = MAX_BACKFILL
    max_notary_servers: int = MAX_NOTARY_SERVERS
    address_rate: int = ADDRESS_RATE
    account_rate: int = ACCOUNT_RATE
    provider_rate: int = PROVIDER_RATE
    group_rate: int = GROUP_RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings. ``discovery_overrides`` maps a server name to the address to use instead; ``operators``
    are the accounts (user IDs) that see every room's followers and group.
    """

    server_name: str
    data_dir: Path
    listen: ListenConfig
    tls: TlsConfig
    discovery_overrides: Mapping[str, Address] = field(default_factory=dict)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    keys: KeysConfig = field(default_factory=KeysConfig)
    bridges: tuple[BridgeConfig, ...] = ()
    operators: tuple[str, ...] = ()
    consent: ConsentConfig = field(default_factory=ConsentConfig)
    sign_on: SignOnConfig = field(default_factory=SignOnConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    providers: Mapping[str, ProviderConfig] = field(default_factory=dict)
    metadata: MetadataConfig = field(default_factory=MetadataConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    certificate_authorities: Mapping[str, tuple[Certificate, ...]] = field(default_factory=dict)

    def authorities_of(self, domain: str) -> Sequence[Certificate]:
        """Those that may certify the clients of a domain's users; none unless the settings name them."""
        return self.certificate_authorities.get(domain, ())

    @property
    def pulled_hubs(self) -> tuple[str, ...]:
        """The hubs whose rooms we fetch."""
        return tuple(name for name, settings in self.providers.items() if settings.delivery == PULL)

    @property
    def requesting_hubs(self) -> tuple[str, ...]:
        """The hubs that are to send us fan-out requests."""
        return tuple(name for name, settings in self.providers.items() if settings.delivery == FANOUT_REQUEST)

    @property
    def pull_followers(self) -> tuple[str, ...]:
        """The providers that fetch the rooms we are the hub of."""
        return tuple(name for name, settings in self.providers.items() if settings.fan_out == PULL)

    def bridge_for(self, domain: str) -> BridgeConfig | None:
        """The bridge that acts for a domain's users, if any."""
        return next((bridge for bridge in self.bridges if domain in bridge.domains), None)


def load_config(path: Path) -> Config:
    """Read and check a settings file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or a setting is missing, unknown or wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {error}") from error
    return parse_config(text, base=path.resolve().parent)


def parse_config(text: str, *, base: Path) -> Config:
    """Check the text of a settings file whose relative paths start at ``base``.

    Raises:
        ConfigError: as ``load_config``.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the settings file is not TOML: {error}") from error
    top = Section("", raw, base)
    discovery = top.section("discovery", optional=True)
    config = Config(
        server_name=top.take("server_name", as_server_name),
        data_dir=top.take("data_dir", as_text, "data", then=top.path),
        listen=_listen(top.section("listen")),
        tls=_tls(top.section("tls")),
        discovery_overrides=_overrides(discovery),
        discovery=_discovery(discovery),
        keys=_keys(top.section("keys", optional=True)),
        bridges=tuple(_bridge(section) for section in top.sections("bridges")),
        operators=top.take("operators", as_user_ids, []),
        consent=_consent(top.section("consent", optional=True)),
        sign_on=_sign_on(top.section("sign_on", optional=True)),
        store=_store(top.section("store", optional=True)),
        providers=_providers(top.section("providers", optional=True)),
        metadata=_metadata(top.section("metadata", optional=True)),
        limits=_limits(top.section("limits", optional=True)),
        certificate_authorities=read_authorities(top.section("certificate_authorities", optional=True)),
    )
    top.finish()
    _check_bridges(config)
    for operator in config.operators:
        if operator.partition(":")[2] != config.server_name:
            raise ConfigError(f"operators: {operator} is no account of {config.server_name}")
    return config


def _listen(section: Section) -> ListenConfig:
    listen = ListenConfig(
        tls=section.take("tls", as_address), client=section.take("client", as_address, None)
    )
    section.finish()
    return listen


def _tls(section: Section) -> TlsConfig:
    tls = TlsConfig(
        certificate=section.take("certificate", as_text, then=section.path),
        key=section.take("key", as_text, then=section.path),
        trusted_ca=section.take("trusted_ca", as_text, None, then=section.path),
    )
    section.finish()
    return tls


def _overrides(section: Section) -> dict[str, Address]:
    inner = section.section("overrides", optional=True)
    overrides: dict[str, Address] = {}
    for name, value in inner.rest().items():
        try:
            overrides[as_server_name(name)] = as_address(value)
        except ValueError as error:
            raise ConfigError(f'{inner.name}."{name}": {error}') from error
    return overrides


def _discovery(section: Section) -> DiscoveryConfig:
    discovery = DiscoveryConfig(
        allowed_networks=section.take("allowed_networks", as_networks, []),
        nameservers=section.take("nameservers", as_nameservers, []),
    )
    section.finish()
    return discovery


def _keys(section: Section) -> KeysConfig:
    keys = KeysConfig(
        notaries=section.take("notaries", as_optional_server_names, []),
        gateway_days=section.take("gateway_days", _gateway_days, GATEWAY_DAYS),
    )
    section.finish()
    return keys


def _gateway_days(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in {0, *range(2, MAX_GATEWAY_DAYS)}:
        raise ValueError(f"expected a number of days from 2 to {MAX_GATEWAY_DAYS - 1}, or 0")
    return value


def _providers(section: Section) -> dict[str, ProviderConfig]:
    providers: dict[str, ProviderConfig] = {}
    for name, table in section.tables():
        try:
            server = as_server_name(name)
        except ValueError as error:
            raise ConfigError(f"{table.name}: {error}") from error
        providers[server] = ProviderConfig(
            delivery=table.take("delivery", partial(_way, DELIVERY_WAYS), PUSH),
            fan_out=table.take("fan_out", partial(_way, WAYS), PUSH),
        )
        table.finish()
    return providers


def _way(ways: tuple[str, ...], value: Any) -> str:
    if value not in ways:
        raise ValueError(f"expected one of {', '.join(ways)}")
    return str(value)


def _bridge(section: Section) -> BridgeConfig:
    token_file: Path = section.take("token_file", as_text, then=section.path)
    bridge = BridgeConfig(
        id=section.take("id", as_text),
        token_file=token_file,
        token=_read_token(section.label("token_file"), token_file),
        bot=section.take("bot", as_user_id),
        domains=section.take("domains", as_server_names),
    )
    section.finish()
    return bridge


def _read_token(label: str, path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{label}: cannot read the bridge's token from {path}: {error}") from error
    if len(token) < _TOKEN_BYTES or any(character.isspace() for character in token):
        raise ConfigError(f"{label}: {path} must hold one token of at least {_TOKEN_BYTES} characters")
    return token


def _consent(section: Section) -> ConsentConfig:
    consent = ConsentConfig(required_from=section.take("required_from", _everybody_or_names, []))
    section.finish()
    return consent


def _sign_on(section: Section) -> SignOnConfig:
    sign_on = SignOnConfig(homeservers=section.take("homeservers", as_optional_server_names, []))
    section.finish()
    return sign_on


def _everybody_or_names(value: Any) -> tuple[str, ...]:
    return (EVERYBODY,) if value == [EVERYBODY] else as_optional_server_names(value)


def _store(section: Section) -> StoreConfig:
    store = StoreConfig(synchronous=section.take("synchronous", _synchronous, "FULL"))
    section.finish()
    return store


def _metadata(section: Section) -> MetadataConfig:
    inner = section.section("required", optional=True)
    times = ("addresses_seconds", "log_seconds", "history_seconds", "replies_seconds", "reports_seconds")
    required = RequiredPolicy(
        **{name: inner.take(name, as_seconds, None) for name in times},
        **{name: inner.take(name, as_flag, False) for name in ("hidden_participants", "hidden_senders")},
    )
    inner.finish()
    metadata = MetadataConfig(log_seconds=section.take("log_seconds", as_seconds, None), required=required)
    section.finish()
    return metadata


def _limits(section: Section) -> LimitsConfig:
    values = {item.name: section.take(item.name, as_count, item.default) for item in fields(LimitsConfig)}
    section.finish()
    return LimitsConfig(**values)


def _check_bridges(config: Config) -> None:
    seen: dict[str, str] = {config.server_name: "this server"}
    for bridge in config.bridges:
        match = USER_ID.fullmatch(bridge.bot)
        if match is None or match["domain"] != config.server_name:
            raise ConfigError(f"bridges: the bot {bridge.bot} must be a user of {config.server_name}")
        for domain in bridge.domains:
            if domain in seen:
                raise ConfigError(f"bridges: {domain} already belongs to {seen[domain]}")
            seen[domain] = f"the bridge {bridge.id!r}"
    for attribute in ("id", "bot", "token"):
        values = [getattr(bridge, attribute) for bridge in config.bridges]
        if len(set(values)) != len(values):
            raise ConfigError(f"bridges: two bridges have the same {attribute}")


def _synchronous(value: Any) -> str:
    if value not in SYNCHRONOUS:
        raise ValueError(f"expected one of {', '.join(SYNCHRONOUS)}")
    return str(value)


_DEFAULT_FILE = """\
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
# are the hub of.
# [providers."b.example"]
# delivery = "push"
# fan_out = "push"

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

_LIMIT_NOTES = {
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
