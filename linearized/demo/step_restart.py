"""Step 6: B's client loses its state; A and B are killed; nothing is lost, repeated or out of order."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial

import trio

from linearized.client import ApiError, ServerUnreachable
from linearized.demo.failures import StepFailed
from linearized.demo.homeserver import MatrixUser
from linearized.demo.participant import Participant
from linearized.demo.providers import Provider
from linearized.demo.talk import body_of, hear, salt, say, type_in_matrix, unique
from linearized.demo.watcher import Watcher
from linearized.demo.world import World
from linearized.mimi.content import text

# Messages in each direction around each kill; the server dies while a third of them is on its way.
MESSAGES = 12
KILL_AFTER = 4
# Between two messages: slow enough that some fall into the time the server is away.
PAUSE_S = 0.2
# How long the server stays away.
AWAY_S = 1.0
# How often to offer a message again to a server that is away; each offer itself retries for some seconds.
OFFERS = 10
_SERVER_ERROR = 500


async def rejoin(world: World, dora: Participant, alice: MatrixUser) -> None:
    """A client with nothing but its access token replaces its former leaf and reads on."""
    world.checks.step = "6 losses"
    task = world.progress.add_task("6 B's client rejoins without its state", total=1)
    began = time.monotonic()
    await dora.session.groups.join(world.room_id)
    world.checks.note(
        "rejoined by external commit",
        f"{time.monotonic() - began:.2f} s, epoch {dora.session.device.epoch(world.room_id)}",
    )
    device = dora.session.device
    leaves = Counter(owner.client_uri for owner in device.members(world.room_id).values())
    world.checks.equal("leaves of that client", leaves[device.owner.client_uri], 1)
    words = unique(world, "Can dora read again?")
    await type_in_matrix(world, alice, words)
    message, _ = await hear(dora, words)
    world.checks.note("and read on in epoch", message.epoch)
    world.progress.update(task, completed=1)


async def restart_servers(world: World, dora: Participant, alice: MatrixUser, watcher: Watcher) -> None:
    """Kill A, then B, with messages on their way in both directions, and count what arrives."""
    for provider in (world.a, world.b):
        typed = [unique(world, f"Typed around {provider.name}'s death, number {n}:") for n in range(MESSAGES)]
        said = [unique(world, f"Said around {provider.name}'s death, number {n}:") for n in range(MESSAGES)]
        task = world.progress.add_task(f"6 {provider.name} is killed and started", total=2 * MESSAGES)
        step = partial(world.progress.update, task, advance=1)
        under_way = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_type_all, world, alice, typed, under_way, step)
            nursery.start_soon(_say_all, world, dora, said, step)
            await under_way.wait()
            await _kill_and_start(world, provider)
        await hear(dora, typed[-1])
        await watcher.wait_for_body(said[-1])
        heard = [body_of(message) for message in dora.messages]
        compare(world, f"{provider.name}: Matrix to B", [words for words in heard if words in typed], typed)
        shown = [str(event["content"].get("body")) for event in watcher.events]
        compare(world, f"{provider.name}: B to Matrix", [words for words in shown if words in said], said)


def compare(world: World, what: str, arrived: list[str], sent: list[str]) -> None:
    """Everything once, in order."""
    counts = Counter(arrived)
    lost = sum(words not in counts for words in sent)
    repeated = sum(count - 1 for count in counts.values())
    order = "in order" if arrived == sent or lost or repeated else "out of order"
    world.checks.that(what, arrived == sent, f"{len(sent)} sent, {lost} lost, {repeated} repeated, {order}")


async def _kill_and_start(world: World, provider: Provider) -> None:
    killed = provider.service.pid
    await provider.service.kill()
    await trio.sleep(AWAY_S)
    began = time.monotonic()
    await provider.service.start()
    seconds = time.monotonic() - began
    world.checks.note(
        f"{provider.name} killed (SIGKILL, PID {killed})", f"healthy again after {seconds:.2f} s"
    )


async def _type_all(
    world: World, alice: MatrixUser, texts: list[str], under_way: trio.Event, step: partial[None]
) -> None:
    for number, words in enumerate(texts, start=1):
        await type_in_matrix(world, alice, words)
        step()
        if number == KILL_AFTER:
            under_way.set()
        await trio.sleep(PAUSE_S)


async def _say_all(world: World, dora: Participant, texts: list[str], step: partial[None]) -> None:
    for words in texts:
        await _say_until_accepted(world, dora, words)
        step()
        await trio.sleep(PAUSE_S)


async def _say_until_accepted(world: World, dora: Participant, words: str) -> None:
    """What a client does whose server is away: offer the same transaction again."""
    content, txn_id = text(words, salt=salt()), dora.session.api.transaction_id()
    for _ in range(OFFERS):
        try:
            await say(world, dora, content, txn_id=txn_id)
        except ServerUnreachable:
            continue
        except ApiError as error:
            if error.status < _SERVER_ERROR:
                raise
            continue  # our provider is there, the hub behind it is not
        return
    raise StepFailed(f"{words!r} was refused {OFFERS} times")
