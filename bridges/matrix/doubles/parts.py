"""Double puppeting, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from bridges.matrix.config import BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.doubles.commands import LoginCommands
from bridges.matrix.doubles.login import Login
from bridges.matrix.doubles.records import Doubles, Sayings
from bridges.matrix.doubles.sealing import Sealing
from bridges.matrix.doubles.speaking import Speaking
from bridges.matrix.doubles.user_api import UserApi
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.notices import Notices


@dataclass(frozen=True, slots=True, kw_only=True)
class DoublePuppeting:
    """What the rest of the bridge has of it."""

    login: Login
    speaking: Speaking
    commands: LoginCommands


def double_puppeting(
    *,
    config: BridgeConfig,
    database: Database,
    sealing: Sealing,
    homeserver: HomeserverApi,
    http: httpx.AsyncClient,
    notices: Notices,
    is_encrypted: Callable[[str], Awaitable[bool]],
    clock: Callable[[], int],
    ids: Callable[[int], str],
) -> DoublePuppeting:
    """``homeserver`` is it as the bot; ``clock`` gives milliseconds."""
    doubles = Doubles(database, sealing)
    login = Login(
        doubles=doubles,
        base_url=config.homeserver_url,
        http=http,
        names=config.names,
        bot=config.bot,
        notices=notices,
        clock=clock,
        ids=ids,
    )
    speaking = Speaking(
        doubles=doubles,
        sayings=Sayings(database),
        login=login,
        base_url=config.homeserver_url,
        http=http,
        names=config.names,
        bot=homeserver,
        is_encrypted=is_encrypted,
        clock=clock,
    )
    commands = LoginCommands(
        login=login,
        homeserver=homeserver,
        bot=config.names.bot,
        as_user=lambda token: UserApi(config.homeserver_url, token=token, http=http),
    )
    return DoublePuppeting(login=login, speaking=speaking, commands=commands)
