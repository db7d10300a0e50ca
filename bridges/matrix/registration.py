"""The registration file that tells the homeserver of the bridge (Application Service API, "Registration")."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from bridges.matrix.config import BridgeConfig


def registration(config: BridgeConfig) -> dict[str, Any]:
    """The registration: every user and alias beginning with the bridge's prefix is the bridge's alone."""
    prefix, domain = re.escape(config.prefix), re.escape(config.homeserver_domain)
    return {
        "id": config.id,
        "url": config.url,
        "as_token": config.as_token,
        "hs_token": config.hs_token,
        "sender_localpart": f"{config.prefix}bot",
        "rate_limited": False,
        "receive_ephemeral": True,
        "de.sorunome.msc2409.push_ephemeral": True,
        "org.matrix.msc3202": True,
        "protocols": ["mimi"],
        "namespaces": {
            "users": [{"exclusive": True, "regex": f"@{prefix}.*:{domain}"}],
            "aliases": [{"exclusive": True, "regex": f"#{prefix}.*:{domain}"}],
            "rooms": [],
        },
    }


def write_registration(config: BridgeConfig, path: Path) -> None:
    """Write the file, mode 0600: it holds both tokens. JSON is YAML, so homeservers that want YAML read
    it.
    """
    text = json.dumps(registration(config), indent=2) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
