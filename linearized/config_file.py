"""The settings file, ``linearized.toml``.

``load_config`` reads a file, checks all of it, and gives frozen dataclasses; nothing else in the package
reads the file. Relative paths are relative to the file. An unknown or ill-typed setting is an error that
names it: a typo must not silently become a default.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from linearized.authorities import read_authorities
from linearized.config import (
    DELIVERY_WAYS,
    EVERYBODY,
    GATEWAY_DAYS,
    MAX_GATEWAY_DAYS,
    PUSH,
    SYNCHRONOUS,
    WAYS,
    BridgeConfig,
    Config,
    ConsentConfig,
    DiscoveryConfig,
    KeysConfig,
    LimitsConfig,
    ListenConfig,
    MetadataConfig,
    ProviderConfig,
    SignOnConfig,
    StoreConfig,
    TlsConfig,
)
from linearized.exceptions import ConfigError
from linearized.mimi.metadata_policy import RequiredPolicy
from linearized.settings import (
    USER_ID,
    Address,
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

_TOKEN_BYTES = 32  # shortest bridge token: it opens every user of its domains, so it must not be guessable


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
            asset_hosts=table.take("asset_hosts", as_optional_server_names, []),
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
