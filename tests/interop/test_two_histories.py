"""A hub that shows two histories is caught, and the proof convinces people who were not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from linearized.cli import main
from linearized.control import control_path
from linearized.exceptions import InvalidInput
from linearized.protocol.base64 import encode_base64
from linearized.room.evidence import verify_equivocation
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server.auditing import Auditor
from linearized.server.control import commands, serve_control
from linearized.server.exchange import OutboundError
from linearized.store.base import RoomRow
from linearized.store.history import FindingRow
from tests.interop.hostile_hub import BOB, PATIENCE, Deceived, arrived, shared_room, two_faced
from tests.server.support import Network, Server, running_server

SCHEMAS = Path(__file__).parents[2] / "schemas" / "linearized"


def schema(name: str) -> Any:
    """One of the published schemas of the verifiable log."""
    found = orjson.loads((SCHEMAS / f"{name}.json").read_bytes())
    Draft202012Validator.check_schema(found)
    return found


async def parted(world: Deceived, first: int, second: int) -> None:
    """Let the histories part by that many messages each, and reach those they are for."""
    for number in range(first):
        await arrived(world.b, await world.say(world.first, f"to b {number}"))
    for number in range(second):
        await arrived(world.c, await world.say(world.second, f"to c {number}"))


def proved(world: Deceived, found: FindingRow | None) -> FindingRow:
    assert found is not None
    assert found.proven
    Draft202012Validator(schema("equivocation")).validate(orjson.loads(found.document))
    keys = {"the hub's": world.first.node.identity.key.verify_key}
    proof = verify_equivocation(orjson.loads(found.document), keys)
    assert (proof.hub, proof.room_id) == ("a.example", world.room_id)
    return found


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 1)])
async def test_participants_that_compare_what_they_hold_catch_it(
    tmp_path: Path, first: int, second: int
) -> None:
    async with two_faced(tmp_path) as world:
        await parted(world, first, second)
        await world.c.node.audits.audit(world.room_id)
        found = proved(world, await world.b.node.audits.audit(world.room_id))
        assert world.b.node.store.findings(world.room_id) == [found]


async def test_whoever_was_shown_less_suspects_it_and_whoever_was_shown_more_proves_it(
    tmp_path: Path,
) -> None:
    async with two_faced(tmp_path) as world:
        await parted(world, 1, 3)
        await world.c.node.audits.audit(world.room_id)
        # The hub can show b.example no log as long as the one c.example holds a checkpoint of.
        suspicion = await world.b.node.audits.audit(world.room_id)
        assert suspicion is not None
        assert not suspicion.proven
        proved(world, await world.c.node.audits.audit(world.room_id))


async def test_it_is_caught_in_the_background_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_faced(tmp_path) as world:
        await parted(world, 2, 2)
        await world.c.node.audits.audit(world.room_id)
        done, audit = trio.Event(), world.b.node.audits.audit

        async def watched(room_id: str) -> FindingRow | None:
            found = await audit(room_id)
            done.set()
            return found

        monkeypatch.setattr(world.b.node.audits, "audit", watched)
        world.b.node.audits.due(world.room_id)
        with trio.fail_after(PATIENCE):
            await done.wait()
        proved(world, world.b.node.store.findings()[0])


async def test_a_hub_that_goes_back_and_goes_on_differently_is_caught_by_one_participant(
    tmp_path: Path,
) -> None:
    async with two_faced(tmp_path) as world:
        await parted(world, 3, 0)
        assert await world.b.node.audits.audit(world.room_id) is None
        await parted(world, 0, 5)
        # The hub forgets the first history: it shows b.example the second from now on.
        world.show_b_the_second()
        proved(world, await world.b.node.audits.audit(world.room_id))


async def test_a_hub_that_signs_one_log_and_sends_another_is_suspect(tmp_path: Path) -> None:
    async with two_faced(tmp_path) as world:
        await parted(world, 1, 2)
        # b.example gets its entries from the first, and checkpoints of the second from now on.
        world.show_b_the_second()
        found = await world.b.node.audits.audit(world.room_id)
        assert found is not None
        assert not found.proven
        assert "another log than it sends" in found.reason
        # Finding it again adds nothing, and a suspicion stops nobody.
        again = await world.b.node.audits.audit(world.room_id)
        assert again is not None
        assert [row.digest for row in world.b.node.store.findings()] == [again.digest]
        world.b.node.audits.require_trusted(row_of(world.b, world.room_id))


def row_of(server: Server, room_id: str) -> RoomRow:
    row = server.node.store.room(room_id)
    assert row is not None
    return row


async def test_a_room_whose_hub_was_caught_can_only_be_read(tmp_path: Path) -> None:
    async with two_faced(tmp_path) as world:
        await parted(world, 1, 1)
        await world.c.node.audits.audit(world.room_id)
        proved(world, await world.b.node.audits.audit(world.room_id))
        rooms = world.b.node.rooms
        with pytest.raises(Rejected) as refused:
            await rooms.send(
                world.room_id, LocalEvent(sender=BOB, type="m.room.message", content={"body": "?"})
            )
        assert refused.value.code is Reason.FORBIDDEN
        head = row_of(world.b, world.room_id).head_seq
        await world.say(world.first, "one more")
        last = world.first.node.store.entries_before(world.room_id, before=2**31, limit=1)[0]
        with pytest.raises(Rejected):
            await rooms.receive_pdu(world.room_id, orjson.loads(last.pdu), "a.example")
        assert row_of(world.b, world.room_id).head_seq == head
        assert await world.b.node.audits.audit(world.room_id) is None  # once is enough
    # It stays so after a restart.
    async with running_server("b.example", tmp_path, Network()) as b:
        with pytest.raises(Rejected):
            b.node.audits.require_trusted(row_of(b, world.room_id))
        assert len(b.node.store.entries(world.room_id, after=0, limit=100)) == head


async def test_an_honest_hub_is_found_honest_by_all(tmp_path: Path) -> None:
    async with shared_room(tmp_path, Network()) as (a, b, c, room_id):
        for round_ in range(4):
            event = LocalEvent(
                sender="@alice:a.example", type="m.room.message", content={"body": str(round_)}
            )
            last = await a.node.rooms.send(room_id, event)
            await arrived(b, last)
            if round_ % 2:
                await arrived(c, last)
            for server in (b, c):
                assert await server.node.audits.audit(room_id) is None
        held = b.node.store.audit(room_id)
        assert held is not None
        assert held.size == row_of(a, room_id).head_seq
        assert not b.node.store.findings()


async def test_a_participant_tells_others_only_what_the_hub_signed(tmp_path: Path) -> None:
    async with shared_room(tmp_path, Network()) as (a, b, c, room_id):
        path = f"/_linearized/v1/rooms/{room_id.replace('!', '%21').replace(':', '%3A')}"
        ask = c.node.federation.request
        await b.node.audits.audit(room_id)
        answer = await ask("b.example", "GET", f"{path}/checkpoint")
        assert answer["key_id"] == a.node.identity.key.key_id
        for query in ("checkpoint?size=1", "proof/consistency?from=1&to=2", "proof/inclusion?seq=1"):
            with pytest.raises(OutboundError) as refused:
                await ask("b.example", "GET", f"{path}/{query}")
            assert refused.value.errcode == "M_WRONG_SERVER"


# --- what the operator does with it ---


async def test_the_operator_lists_proofs_and_anybody_verifies_them(tmp_path: Path) -> None:
    async with two_faced(tmp_path) as world:
        await parted(world, 1, 1)
        await world.c.node.audits.audit(world.room_id)
        proved(world, await world.b.node.audits.audit(world.room_id))
        key = encode_base64(world.first.node.identity.key.verify_key)
        other = encode_base64(world.b.node.identity.key.verify_key)
    settings = str(tmp_path / "b.example" / "linearized.toml")
    run = CliRunner().invoke
    listed = run(main, ["room", "findings", "--config", settings, "--write", str(tmp_path / "out")])
    assert listed.exit_code == 0, listed.output
    assert "proof" in listed.output
    assert world.room_id in listed.output
    (file,) = (tmp_path / "out").iterdir()
    good = run(main, ["room", "verify-proof", str(file), "--key", f"ed25519:{key}"])
    assert good.exit_code == 0, good.output
    assert "a.example signed two histories" in good.output
    forged = run(main, ["room", "verify-proof", str(file), "--key", f"ed25519:{other}"])
    assert forged.exit_code == 1
    document = orjson.loads(file.read_bytes())
    for spoilt in (
        {**document, "checkpoints": document["checkpoints"][:1] * 2},
        {**document, "room_id": "!other:a.example"},
        {**document, "checkpoints": [note.replace("=", "A=", 1) for note in document["checkpoints"]]},
    ):
        file.write_bytes(orjson.dumps(spoilt))
        assert run(main, ["room", "verify-proof", str(file), "--key", f"ed25519:{key}"]).exit_code == 1
    verified = run(main, ["room", "verify", "--config", settings, world.room_id])
    assert verified.exit_code == 1


def whole(world: Deceived) -> str:
    """The digest of the one finding that ``b.example`` has."""
    (found,) = world.b.node.store.findings()
    return found.digest


async def test_the_operator_has_a_stopped_room_go_on(tmp_path: Path) -> None:
    async with two_faced(tmp_path) as world:
        await parted(world, 1, 1)
        await world.c.node.audits.audit(world.room_id)
        audits = world.b.node.audits
        proved(world, await audits.audit(world.room_id))
        with pytest.raises(InvalidInput, match="resume the room"):
            await audits.dismiss(whole(world))
        # The other operator trusts the hub again, too; else its checkpoint would stop us at once.
        await world.c.node.store.delete_audit(world.room_id)
        (closed,) = await audits.resume(world.room_id)
        assert closed.digest == whole(world)
        audits.require_trusted(row_of(world.b, world.room_id))
        await parted(world, 1, 0)
        Auditor(world.b.node).require_trusted(row_of(world.b, world.room_id))  # after a restart, too
        for room_id in (world.room_id, "!unknown:a.example"):
            with pytest.raises(InvalidInput, match="not stopped"):
                await audits.resume(room_id)
        # It is no amnesty for what comes to light after.
        await parted(world, 0, 1)
        await world.c.node.audits.audit(world.room_id)
        proved(world, await audits.audit(world.room_id))
        with pytest.raises(Rejected):
            audits.require_trusted(row_of(world.b, world.room_id))


async def test_the_operator_closes_a_suspicion_and_it_opens_if_it_comes_up_again(tmp_path: Path) -> None:
    async with two_faced(tmp_path) as world:
        await parted(world, 1, 2)
        world.show_b_the_second()
        audits = world.b.node.audits
        await audits.audit(world.room_id)
        digest = whole(world)
        for wrong in ("", digest[:7], "f" * 64, digest + "0"):
            with pytest.raises(InvalidInput, match="name one"):
                await audits.dismiss(wrong)
        assert (await audits.dismiss(digest[:16])).digest == digest
        assert world.b.node.store.findings()[0].dismissed_at is not None
        with pytest.raises(InvalidInput, match="0 open findings"):
            await audits.dismiss(digest)
        await audits.audit(world.room_id)
        assert whole(world) == digest
        assert world.b.node.store.findings()[0].dismissed_at is None


async def test_the_operator_looks_at_findings_and_closes_them_by_command(tmp_path: Path) -> None:
    settings = str(tmp_path / "b.example" / "linearized.toml")

    async def run(command: str, *arguments: str) -> tuple[int, str]:
        words = ["room", command, "--config", settings, *arguments]
        result = await trio.to_thread.run_sync(lambda: CliRunner().invoke(main, words))
        return result.exit_code, result.output

    async with two_faced(tmp_path) as world, trio.open_nursery() as nursery:
        node = world.b.node
        await nursery.start(serve_control, control_path(node.config), commands(node))
        await parted(world, 1, 2)
        world.show_b_the_second()
        found = await node.audits.audit(world.room_id)
        assert found is not None
        name = found.digest[:16]
        code, shown = await run("findings", "--show", name)
        assert (code, found.document in shown) == (0, True)  # the server in this process logs beside it
        assert (await run("findings", "--show", "nothing"))[0] == 2
        assert name in (await run("findings"))[1]
        assert (await run("verify", world.room_id))[0] == 1
        assert (await run("resume", world.room_id))[0] == 2, "a suspicion stops nothing"
        assert (await run("dismiss", name))[0] == 0
        assert (await run("dismiss", name))[0] == 2
        assert name not in (await run("findings"))[1]
        assert name in (await run("findings", "--all"))[1]
        await node.store.put_finding(replace(found, digest="a" * 64, proven=True))
        node.audits = Auditor(node)
        status, said = await run("resume", world.room_id)
        assert (status, "1 findings" in said) == (0, True), said
        nursery.cancel_scope.cancel()
