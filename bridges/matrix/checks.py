"""Whether both sides are there and know us, and for each answer what to do next.

The homeserver is asked for its versions and for who we are; the provider likewise. Then the homeserver is
asked to reach us ("Pinging", Application Service API v1.13), so the bridge has to listen meanwhile. Nothing
is repeated here: somebody is waiting for the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

import httpx

from bridges.matrix.config import REFUSE, BridgeConfig
from bridges.matrix.puppets import DEVICE
from linearized.client import ApiError, ClientError
from linearized.client.transport import JsonObject, Transport

# Long enough for a busy server and short enough for a person.
CHECK_DEADLINE = 15.0
# The homeserver has its own deadline for reaching us before it answers; Synapse's is a minute.
PING_DEADLINE = 75.0
_VERSIONS = "/_matrix/client/versions"
_WHOAMI = "/_matrix/client/v3/account/whoami"
_PING_TRANSACTION = "linearized-check"


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One answer: what was asked, how it went, what was found, and what to do next (empty if nothing)."""

    name: str
    outcome: Outcome
    found: str
    next_step: str = ""


HOMESERVER, WHO_THERE, PROVIDER, WHO_HERE, PING = (
    "homeserver answers",
    "homeserver knows us",
    "provider answers",
    "provider knows us",
    "homeserver reaches us",
)
ENCRYPTED = "encrypted rooms"
_LOAD = (
    "name the registration file in the homeserver's settings (Synapse: app_service_config_files), restart"
    " the homeserver, then run `linearized bridge check`"
)
# What to do about a ping's error codes (Application Service API v1.13, "Pinging").
_PING_STEPS = {
    "M_FORBIDDEN": "bridge.id is not the ID of the registration with our as_token: write the registration"
    " again and restart the homeserver",
    "M_URL_NOT_SET": "the registration has no url: write it again with `linearized bridge registration`",
    "M_BAD_STATUS": "something else answers at bridge.url, or the homeserver's hs_token is an older one:"
    " write the registration again and restart the homeserver",
    "M_CONNECTION_TIMEOUT": "a firewall may be between the homeserver and bridge.url",
    "M_CONNECTION_FAILED": "the homeserver cannot connect to bridge.url: set it to where the homeserver finds"
    " this machine (in a container, 127.0.0.1 is the container), write the registration again",
}
_ENCRYPTED_STEP = (
    "for Synapse: experimental_features msc2409_to_device_messages_enabled and"
    " msc3202_transaction_extensions, and the registration as `linearized bridge registration` writes it;"
    ' or set bridge.encrypted_rooms to "refuse"'
)
# A homeserver older than the endpoint says one of these.
_NO_PING = frozenset({404, 405})


async def check_both(
    config: BridgeConfig, *, homeserver: httpx.AsyncClient, provider: httpx.AsyncClient
) -> list[Check]:
    """Ask both sides. A check that depends on one that failed is left out."""
    there = Transport(base_url=config.homeserver_url, token=config.as_token, http=homeserver, query={})
    bot = {"user_id": config.bot, "device_id": DEVICE}
    here = Transport(base_url=config.provider_url, token=config.provider_token, http=provider, query=bot)
    checks = [
        await _check(
            HOMESERVER, lambda: _versions(there), _unreachable("homeserver.url", config.homeserver_url)
        )
    ]
    if checks[-1].outcome is Outcome.OK:
        wanted = config.names.bot
        checks.append(await _check(WHO_THERE, lambda: _whoami(there, wanted), _unknown_there))
    reachable = checks[-1].name == WHO_THERE and checks[-1].outcome is Outcome.OK
    checks.append(
        await _check(PROVIDER, lambda: _versions(here), _unreachable("provider.url", config.provider_url))
    )
    if checks[-1].outcome is Outcome.OK:
        checks.append(await _check(WHO_HERE, lambda: _whoami(here, config.bot), _unknown_here))
    if reachable:
        checks.append(await _ping(there, config))
    return checks


async def _check(name: str, ask: Callable[[], Awaitable[str]], advise: Callable[[Exception], str]) -> Check:
    try:
        found = await ask()
    except ClientError as error:
        return Check(name=name, outcome=Outcome.FAILED, found=str(error), next_step=advise(error))
    return Check(name=name, outcome=Outcome.OK, found=found)


class _WrongUserError(ClientError):
    """The token is someone else's."""


async def _versions(side: Transport) -> str:
    answer = await side.json("GET", _VERSIONS, idempotent=False, deadline=CHECK_DEADLINE)
    versions = answer.get("versions")
    newest = versions[-1] if isinstance(versions, list) and versions else "none"
    return f"{side.base_url}, newest version {newest}"


async def _whoami(side: Transport, wanted: str) -> str:
    answer = await side.json("GET", _WHOAMI, idempotent=False, deadline=CHECK_DEADLINE)
    user_id = str(answer.get("user_id", ""))
    if user_id != wanted:
        raise _WrongUserError(f"the token is that of {user_id or 'nobody'}, not of {wanted}")
    return user_id


async def _ping(there: Transport, config: BridgeConfig) -> Check:
    body: JsonObject = {"transaction_id": _PING_TRANSACTION}
    path = f"/_matrix/client/v1/appservice/{config.id}/ping"
    try:
        answer = await there.json("POST", path, body=body, idempotent=False, deadline=PING_DEADLINE)
    except ApiError as error:
        if error.status in _NO_PING:
            return Check(
                name=PING,
                outcome=Outcome.SKIPPED,
                found="the homeserver has no ping for application services",
                next_step=f"see for yourself that the homeserver reaches {config.url}",
            )
        step = _PING_STEPS.get(error.errcode, "see the homeserver's log")
        return Check(name=PING, outcome=Outcome.FAILED, found=str(error), next_step=step)
    except ClientError as error:
        step = "see the homeserver's log"
        return Check(name=PING, outcome=Outcome.FAILED, found=str(error), next_step=step)
    return Check(name=PING, outcome=Outcome.OK, found=f"{config.url} in {answer.get('duration_ms')} ms")


def check_encrypted_rooms(config: BridgeConfig, missing: str | None) -> Check:
    """What is ``missing`` for encrypted rooms, as a check. Other rooms do not depend on it."""
    if config.encrypted_rooms == REFUSE:
        return Check(name=ENCRYPTED, outcome=Outcome.SKIPPED, found="bridge.encrypted_rooms is refuse")
    if missing is None:
        return Check(name=ENCRYPTED, outcome=Outcome.OK, found="the homeserver passes on what they need")
    return Check(name=ENCRYPTED, outcome=Outcome.SKIPPED, found=missing, next_step=_ENCRYPTED_STEP)


def _unreachable(setting: str, url: str) -> Callable[[Exception], str]:
    def advise(error: Exception) -> str:
        if isinstance(error, ApiError):
            return f"what answers at {url} is no Matrix server: correct {setting}"
        return f"start what should answer at {url}, or correct {setting}; then run `linearized bridge check`"

    return advise


def _unknown_there(error: Exception) -> str:
    if isinstance(error, _WrongUserError):
        return "homeserver.domain or bridge.prefix differ from the registration the homeserver has: " + _LOAD
    return _LOAD


def _unknown_here(error: Exception) -> str:
    if isinstance(error, _WrongUserError):
        return "the [[bridges]] entry of the provider's settings must have this bot"
    return (
        "provider.token_file must be the token of the provider's [[bridges]] entry: restart the provider if"
        " the entry is newer than it"
    )
