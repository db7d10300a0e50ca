"""A Matrix bridge's directory: settings and tokens, made from a provider's settings."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from linearized.config import BridgeConfig, Config
from linearized.dev_certificates import write_private
from linearized.exceptions import ConfigError

SETTINGS = "bridge.toml"
_AS_TOKEN = "as.token"  # noqa: S105 - a file name
_HS_TOKEN = "hs.token"  # noqa: S105 - a file name
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgePlan:
    """What to make. ``url`` is the bridge as the homeserver reaches it; by default, where it listens."""

    homeserver_url: str
    domain: str | None = None
    provider_url: str | None = None
    listen: str = "127.0.0.1:9009"
    url: str | None = None


def create_bridge(directory: Path, provider: Config, plan: BridgePlan) -> Path:
    """Write the settings file and the tokens the bridge and the homeserver share; gives the settings' path.

    Raises:
        ConfigError: there is a bridge already, or the provider's settings do not name this one.
    """
    settings = directory / SETTINGS
    if settings.exists():
        raise ConfigError(f"{settings} exists: this directory already holds a bridge")
    bridge, domain = _bridge_of(provider, plan.domain)
    # Before anything is written: what is made here has to load.
    for option, url in (
        ("homeserver", plan.homeserver_url),
        ("provider-url", plan.provider_url),
        ("url", plan.url),
    ):
        if url is not None and not url.startswith(("http://", "https://")):
            raise ConfigError(f"--{option}: {url} must begin with http:// or https://")
    directory.mkdir(parents=True, exist_ok=True)
    for name in (_AS_TOKEN, _HS_TOKEN):
        write_private(directory / name, secrets.token_urlsafe(_TOKEN_BYTES).encode() + b"\n")
    settings.write_text(_settings(directory, provider, bridge, domain, plan), encoding="utf-8")
    return settings


def _bridge_of(provider: Config, domain: str | None) -> tuple[BridgeConfig, str]:
    """The provider's entry for this bridge, and the homeserver's domain."""
    if domain is None:
        domains = [name for bridge in provider.bridges for name in bridge.domains]
        if len(domains) != 1:
            raise ConfigError(
                f"--domain: the provider's settings name {len(domains)} bridged domains; say which"
            )
        domain = domains[0]
    bridge = provider.bridge_for(domain)
    if bridge is None:
        raise ConfigError(f"--domain: no [[bridges]] entry of the provider's settings lists {domain}")
    return bridge, domain


def _settings(directory: Path, provider: Config, bridge: BridgeConfig, domain: str, plan: BridgePlan) -> str:
    def relative(path: Path) -> str:
        return os.path.relpath(path.resolve(), directory.resolve())

    provider_url = plan.provider_url or f"https://{provider.listen.tls}"
    lines = [
        "# Settings of the bridge to a Matrix homeserver. Relative paths start at this file.",
        "[homeserver]",
        f"url = {_quoted(plan.homeserver_url)}  # its client API",
        f"domain = {_quoted(domain)}",
        f"as_token_file = {_quoted(_AS_TOKEN)}",
        f"hs_token_file = {_quoted(_HS_TOKEN)}",
        "",
        "[provider]",
        f"url = {_quoted(provider_url)}",
        f"domain = {_quoted(provider.server_name)}",
        f"token_file = {_quoted(relative(bridge.token_file))}",
    ]
    if bridge.bot != f"@_bridge:{provider.server_name}":
        lines.append(f"bot = {_quoted(bridge.bot)}  # each bridge of a provider has its own")
    if provider.tls.trusted_ca is not None:
        lines.append(f"trusted_ca = {_quoted(relative(provider.tls.trusted_ca))}")
    lines += ["", "[bridge]", f"listen = {_quoted(plan.listen)}  # where the homeserver reaches us"]
    if plan.url is not None:
        lines.append(f"url = {_quoted(plan.url)}  # the same, as the homeserver has to say it")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # JSON's escapes are a subset of TOML's
