"""Runs the demonstration: the steps in order, the table of what they found, and where to look."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import trio
from rich.console import Console

from linearized.demo.failures import StepFailed
from linearized.demo.step_bridge import bridge_room, make_existing_room, start_homeserver
from linearized.demo.step_history import read_history
from linearized.demo.step_messages import messages
from linearized.demo.world import World, make_world
from linearized.exceptions import LinearizedError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def run_demo(directory: Path, *, once: bool, console: Console) -> int:
    """Run everything in ``directory``; gives the exit status.

    With ``once`` the programs are stopped at the end; without, they run until Ctrl-C.

    Raises:
        ConfigError: something it needs is not installed, or the directory is not free.
    """
    return trio.run(_demo, directory.resolve(), once, console)


async def _demo(directory: Path, once: bool, console: Console) -> int:
    status = EXIT_INTERRUPTED
    async with trio.open_nursery() as nursery:
        # Signals are listened to until everything has ended: a second Ctrl-C must leave nothing behind.
        working = trio.CancelScope()
        await nursery.start(_cancel_on_signal, working)
        with working:
            status = await _run(directory, once, console)
        nursery.cancel_scope.cancel()
    return status


async def _run(directory: Path, once: bool, console: Console) -> int:
    began = time.monotonic()
    async with make_world(directory, console) as world:
        failure = await _steps(world)
        world.progress.stop()
        console.print(world.checks.table())
        if failure is not None:
            console.print(f"[bold red]{world.checks.step}: {failure.reason}[/bold red]", highlight=False)
            console.print(failure.evidence, markup=False, highlight=False)
        held = failure is None and world.checks.all_held
        verdict = "[green]all of it held[/green]" if held else "[bold red]not all of it held[/bold red]"
        console.print(f"{verdict}: {len(world.checks.lines)} lines, {time.monotonic() - began:.0f} s")
        _where_to_look(world, console, running=not once)
        if not once:
            await trio.sleep_forever()
    return 0 if held else EXIT_FAILED


async def _steps(world: World) -> StepFailed | None:
    try:
        await start_homeserver(world)
        await make_existing_room(world)
        await bridge_room(world)
        await messages(world)
        await read_history(world)
    except (StepFailed, LinearizedError) as error:
        return _failure(error)
    except BaseExceptionGroup as group:
        # A nursery wraps what its tasks raise. Bugs and cancellation go on as they are.
        expected, other = group.split((StepFailed, LinearizedError))
        if other is not None or expected is None:
            raise
        return _failure(_first(expected))
    return None


def _failure(error: BaseException) -> StepFailed:
    return error if isinstance(error, StepFailed) else StepFailed(f"{type(error).__name__}: {error}")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _cancel_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for _ in received:
            scope.cancel()


def _where_to_look(world: World, console: Console, *, running: bool) -> None:
    console.print("\nWhere to look:")
    if running:
        console.print(
            f"  homeserver      {world.homeserver_files.url} (alice, password 'alice has a password')"
        )
        console.print(f"  provider A      {world.a.url} ({world.reader}, room {world.room_id})")
        console.print(f"  provider B      {world.b.url} ({world.dora})")
    console.print(f"  log on A        linearized room verify --config {world.a.settings} '{world.room_id}'")
    console.print(f"  databases       {world.a.database}, {world.b.database}")
    console.print(f"  program logs    {world.directory / 'logs'}")
    if running:
        console.print("Ctrl-C ends everything.")
