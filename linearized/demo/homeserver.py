"""A real homeserver beside us: Synapse as a program in an environment of its own, and its client API.

Synapse is never imported. Its settings are written as JSON, which is YAML.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from linearized.client.transport import in_one_piece
from linearized.demo.failures import StepFailed
from linearized.demo.processes import Service, run_command

SERVER_NAME = "matrix.example"
# Rate limits keep strangers from flooding a homeserver; here everybody is ours.
_NO_LIMIT = {"per_second": 1_000_000, "burst_count": 1_000_000}
_PAGE = 1000  # the homeserver clamps /messages to this
_TIMEOUT_S = 60.0

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """Where other homeservers reach it, over TLS with a certificate nobody checks."""

    port: int
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeserverFiles:
    """Where it lives and listens; ``python`` is that of the environment Synapse is installed in."""

    directory: Path
    port: int
    python: Path
    registrations: tuple[Path, ...]
    shared_secret: str
    # Whether it pushes to application services what encrypted rooms need: to-device messages; counts of keys.
    pushes_to_device: bool = True
    pushes_counts: bool = True
    # Its domain; ``localhost:PORT``, with ``federation``, if another homeserver on loopback is to find it.
    server_name: str = SERVER_NAME
    federation: Federation | None = None

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.directory / "homeserver.yaml"

    @property
    def url(self) -> str:
        """Base URL of its client API."""
        return f"http://127.0.0.1:{self.port}"


def write_settings(files: HomeserverFiles) -> None:
    """Write ``homeserver.yaml`` and the log settings it names."""
    directory = files.directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "media").mkdir(exist_ok=True)
    log_settings = directory / "log.yaml"
    log_settings.write_text(json.dumps(_LOG_SETTINGS, indent=1), encoding="utf-8")
    limits = ("rc_message", "rc_registration", "rc_admin_redaction", "rc_room_creation")
    settings = {
        "server_name": files.server_name,
        "pid_file": str(directory / "synapse.pid"),
        "log_config": str(log_settings),
        "media_store_path": str(directory / "media"),
        "signing_key_path": str(directory / "signing.key"),
        "listeners": [
            {
                "port": files.port,
                "bind_addresses": ["127.0.0.1"],
                "type": "http",
                "tls": False,
                "resources": [{"names": ["client"], "compress": False}],
            },
            *_federation_listener(files.federation),
        ],
        **_federating(files.federation),
        "database": {"name": "sqlite3", "args": {"database": str(directory / "homeserver.db")}},
        "registration_shared_secret": files.shared_secret,
        # Passwords of a demonstration: the least work that is allowed.
        "bcrypt_rounds": 4,
        "macaroon_secret_key": secrets.token_urlsafe(16),
        "form_secret": secrets.token_urlsafe(16),
        "report_stats": False,
        "trusted_key_servers": [],
        "default_room_version": "11",
        "app_service_config_files": [str(path) for path in files.registrations],
        "experimental_features": {
            "msc2409_to_device_messages_enabled": files.pushes_to_device,
            "msc3202_transaction_extensions": files.pushes_counts,
        },
        **dict.fromkeys(limits, _NO_LIMIT),
        "rc_login": {"address": _NO_LIMIT, "account": _NO_LIMIT, "failed_attempts": _NO_LIMIT},
        "rc_joins": {"local": _NO_LIMIT, "remote": _NO_LIMIT},
        "rc_joins_per_room": _NO_LIMIT,
        "rc_invites": {"per_room": _NO_LIMIT, "per_user": _NO_LIMIT, "per_issuer": _NO_LIMIT},
    }
    files.settings.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _federation_listener(federation: Federation | None) -> list[JsonObject]:
    if federation is None:
        return []
    return [
        {
            "port": federation.port,
            "bind_addresses": ["127.0.0.1"],
            "type": "http",
            "tls": True,
            "resources": [{"names": ["federation"], "compress": False}],
        }
    ]


def _federating(federation: Federation | None) -> JsonObject:
    if federation is None:
        return {}
    return {
        "tls_certificate_path": str(federation.certificate),
        "tls_private_key_path": str(federation.key),
        "federation_verify_certificates": False,
        "ip_range_blacklist": [],
        # Who was away for a moment is soon sent something again, and not for long the same.
        "federation": {
            "destination_min_retry_interval": "1s",
            "destination_max_retry_interval": "1s",
            "max_long_retries": 1,
            "max_long_retry_delay": "1s",
        },
        "rc_federation": {"window_size": 1000, "sleep_limit": 1_000_000, "reject_limit": 1_000_000},
    }


_LOG_SETTINGS: JsonObject = {
    "version": 1,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {"synapse.storage.SQL": {"level": "WARNING"}},
    "root": {"level": "WARNING", "handlers": ["console"]},
    "disable_existing_loggers": False,
}


async def prepare(files: HomeserverFiles, log: Path) -> Service:
    """Write its settings, have it generate its keys, and give it as a service that is not started yet.

    Raises:
        StepFailed: its environment is missing, or it refuses the settings.
    """
    if not files.python.exists():
        raise StepFailed(f"no homeserver at {files.python}: run `make synapse`")
    write_settings(files)
    command = [str(files.python), "-m", "synapse.app.homeserver", "-c", str(files.settings)]
    await run_command([*command, "--generate-keys"], log=log)
    return Service(name="homeserver", command=command, log=log, health=f"{files.url}/health")


class MatrixUser:
    """One user, over the client API. ``as_user``: the token is an application service's, acting for them."""

    def __init__(self, http: httpx.AsyncClient, user_id: str, token: str, *, as_user: bool = False) -> None:
        self.user_id = user_id
        self.token = token
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}
        self._as = {"user_id": user_id} if as_user else {}
        self._transactions = 0

    async def call(
        self, method: str, path: str, *, body: object = None, query: dict[str, str] | None = None
    ) -> JsonObject:
        """One request below ``/_matrix/client/v3``; gives the decoded answer.

        Raises:
            StepFailed: any other status than 200.
        """
        request = self._http.build_request(
            method,
            f"/_matrix/client/v3{path}",
            json=body if method != "GET" else None,
            params={**self._as, **(query or {})},
            headers=self._headers,
            timeout=_TIMEOUT_S,
        )
        response = await self._http.send(in_one_piece(request))
        if response.status_code != httpx.codes.OK:
            raise StepFailed(
                f"homeserver: {method} {path} as {self.user_id}: {response.status_code} {response.text}"
            )
        answer: JsonObject = response.json()
        return answer

    async def send(self, room_id: str, event_type: str, content: JsonObject, *, ts: int | None = None) -> str:
        """Send an event; gives its ID. ``ts``: its timestamp in milliseconds, where the token may set one."""
        self._transactions += 1
        # Synapse keys transaction IDs of an application service by path alone, so the user is part of ours.
        transaction = quote(f"demo-{self.user_id}-{self._transactions}", safe="")
        path = f"/rooms/{quote(room_id)}/send/{event_type}/{transaction}"
        answer = await self.call("PUT", path, body=content, query={"ts": str(ts)} if ts is not None else None)
        return str(answer["event_id"])

    async def set_state(
        self, room_id: str, event_type: str, state_key: str, content: JsonObject, *, ts: int | None = None
    ) -> str:
        """Set a piece of state; gives the event's ID."""
        path = f"/rooms/{quote(room_id)}/state/{event_type}/{quote(state_key, safe='')}"
        answer = await self.call("PUT", path, body=content, query={"ts": str(ts)} if ts is not None else None)
        return str(answer["event_id"])

    async def upload(self, data: bytes, content_type: str, filename: str) -> str:
        """Upload a file; gives its ``mxc://`` URI."""
        response = await self._http.post(
            "/_matrix/media/v3/upload",
            content=data,
            params={**self._as, "filename": filename},
            headers={**self._headers, "Content-Type": content_type},
            timeout=_TIMEOUT_S,
        )
        if response.status_code != httpx.codes.OK:
            raise StepFailed(f"homeserver: upload as {self.user_id}: {response.status_code} {response.text}")
        return str(response.json()["content_uri"])

    async def history(self, room_id: str) -> list[JsonObject]:
        """Every event of a room this user may see, oldest first, in the order of the homeserver."""
        events: list[JsonObject] = []
        query = {"dir": "b", "limit": str(_PAGE)}
        while True:
            page = await self.call("GET", f"/rooms/{quote(room_id)}/messages", query=query)
            events.extend(page["chunk"])
            if "end" not in page:
                return events[::-1]
            query["from"] = page["end"]


async def register(http: httpx.AsyncClient, shared_secret: str, localpart: str, password: str) -> MatrixUser:
    """Make an account with the homeserver's shared secret, as its operator would.

    Raises:
        StepFailed: the homeserver refuses.
    """
    path = "/_synapse/admin/v1/register"
    nonce = (await http.get(path, timeout=_TIMEOUT_S)).json()["nonce"]
    parts: Sequence[str] = (nonce, localpart, password, "notadmin")
    # The homeserver's own construction; SHA-1 is not our choice.
    mac = hmac.new(shared_secret.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
    body = {"nonce": nonce, "username": localpart, "password": password, "admin": False, "mac": mac}
    response = await http.post(path, json=body, timeout=_TIMEOUT_S)
    if response.status_code != httpx.codes.OK:
        raise StepFailed(f"homeserver: register {localpart}: {response.status_code} {response.text}")
    answer = response.json()
    return MatrixUser(http, answer["user_id"], answer["access_token"])
