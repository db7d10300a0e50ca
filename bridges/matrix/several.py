"""Several bridges in one process, each for a homeserver of its own.

They share the processor and nothing else: each has its database, connections, socket, tasks and pauses. What
goes wrong in one, even for good, is said and tried again, and the others do not notice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import structlog
import trio

from bridges.matrix.config import BridgeConfig
from bridges.matrix.failures import describe
from bridges.matrix.process import run_bridge
from linearized.exceptions import ConfigError

# Seconds before a bridge that stopped starts again; twice as long each time, up to the second. An operator
# who mends something waits five minutes at most, and a bridge that fails at once does not fill the log.
FIRST_PAUSE: Final = 5.0
MAX_PAUSE: Final = 300.0
# A bridge that ran for so long was well: the pauses begin anew.
STEADY: Final = 600.0

log = structlog.get_logger(__name__)


async def run_bridges(
    configs: Sequence[BridgeConfig], *, run: Callable[[BridgeConfig], Awaitable[None]] = run_bridge
) -> None:
    """Run bridges until cancelled. One alone ends as ``run`` does; of several, each is started again.

    Raises:
        ConfigError: two of them would be in each other's way.
    """
    check_apart(configs)
    if len(configs) == 1:
        await run(configs[0])
        return
    async with trio.open_nursery() as nursery:
        for config in configs:
            nursery.start_soon(_keep_running, config.homeserver_domain, partial(run, config))


async def _keep_running(domain: str, run: Callable[[], Awaitable[None]]) -> None:
    # Every line of what this bridge logs says whose it is.
    structlog.contextvars.bind_contextvars(homeserver=domain)
    pause = FIRST_PAUSE
    while True:
        began = trio.current_time()
        try:
            await run()
        except Exception as fault:  # noqa: BLE001 - whatever it is, the other bridges go on
            reason = describe(fault)
        else:
            reason = "it ended"
        if trio.current_time() - began >= STEADY:
            pause = FIRST_PAUSE
        log.error("a bridge stopped; it starts again", reason=reason, seconds=pause)
        await trio.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE)


def check_apart(configs: Sequence[BridgeConfig]) -> None:
    """Make sure that no two bridges use the same thing.

    Raises:
        ConfigError: names the setting and the two homeservers.
    """
    for setting, value in (
        ("homeserver.domain", lambda config: config.homeserver_domain),
        ("homeserver.as_token_file", lambda config: config.as_token),
        ("homeserver.hs_token_file", lambda config: config.hs_token),
        ("provider.bot", lambda config: config.bot),
        ("bridge.listen", _address),
        ("bridge.database", lambda config: config.database.resolve()),
        ("bridge.storage_key_file", lambda config: config.storage_key_path.resolve()),
    ):
        seen: dict[object, BridgeConfig] = {}
        for config in configs:
            other = seen.setdefault(value(config), config)
            if other is not config:
                domains = f"{other.homeserver_domain} and {config.homeserver_domain}"
                raise ConfigError(f"{setting}: the bridges of {domains} have the same")


def _address(config: BridgeConfig) -> object:
    """Where a bridge listens; any free port is never another's."""
    return object() if config.listen.endswith(":0") else config.listen
