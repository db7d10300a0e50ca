"""``linearized room verify``: a good log holds, and each way of damaging one is found at its entry."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from linearized.cli import main
from linearized.config import Config
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import canonical_json
from linearized.protocol.events import parse_pdu
from linearized.protocol.hashing import content_hash, signed_bytes
from linearized.protocol.versions import get_version
from linearized.provider_files import SETTINGS, ProviderPlan, create_provider, database_path, load_signing_key
from linearized.room.participation import StateChange
from linearized.room.room import Room
from linearized.room.submissions import Accepted, LocalEvent, Submission
from linearized.room_check import BrokenLog, RoomReport, check_room
from linearized.room_report import known_keys
from linearized.store.base import EntryRow, GroupRow, Role, RoomAppend, RoomRow
from linearized.store.sqlite import SqliteStore
from tests.room.party import Party, commit_pending, leave
from tests.room.support import (
    ALICE,
    BOB,
    CAROL,
    MLS,
    NOW,
    ROOM,
    A,
    Member,
    handshake,
    member,
    new_room,
    state_event,
)

VERSION = get_version("dev.linearized.1")


class Recorder:
    """Keeps what every submission to a room became, as the hub would have stored it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries: list[EntryRow] = []
        self.group: GroupRow | None = None
        original = Room.submit

        def submit(room: Room, submission: Submission, *, now: int) -> Accepted:
            accepted = original(room, submission, now=now)
            self._keep(accepted)
            return accepted

        monkeypatch.setattr(Room, "submit", submit)

    def _keep(self, accepted: Accepted) -> None:
        for new in accepted.entries:
            event = new.event
            self.entries.append(
                EntryRow(
                    room_id=event.room_id,
                    seq=new.seq,
                    event_id=event.event_id,
                    type=event.type,
                    state_key=event.state_key,
                    sender=event.sender,
                    origin_server_ts=event.origin_server_ts,
                    epoch=new.epoch,
                    pdu=event.raw,
                )
            )
        if accepted.group is not None:
            self.group = GroupRow(
                room_id=ROOM,
                epoch=accepted.group.epoch,
                snapshot=accepted.group.snapshot,
                group_info=accepted.group.group_info,
                ratchet_tree=accepted.group.ratchet_tree,
                commit_event_id=accepted.event_id,
            )

    async def store(self, database: Path) -> None:
        """Write it all into a new database."""
        store = SqliteStore.open(database)
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            row = RoomRow(
                room_id=ROOM,
                version="dev.linearized.1",
                role=Role.HUB,
                hub="a.example",
                head_seq=0,
                epoch=None,
            )
            await store.append(
                RoomAppend(room_id=ROOM, room=row, entries=tuple(self.entries), group=self.group)
            )
            await store.aclose()


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A provider whose database holds a bridged room: history, commits, messages, a rejoin."""
    recorder = Recorder(monkeypatch)
    imported = LocalEvent(
        sender=CAROL,
        type="m.room.message",
        content={"msgtype": "m.text", "body": "before"},
        origin_server_ts=NOW - 86_400_000,
        provenance={
            "protocol": "matrix",
            "provider": "matrix.example",
            "event_id": "$orig",
            "imported": True,
        },
    )
    room = new_room(initial=[state_event(ALICE, "m.room.name", {"name": "Clubhouse"}), imported])
    alice, bob = Member(ALICE), Member(BOB)
    room.submit(alice.create(), now=NOW)
    alice.accept()
    accepted = room.submit(alice.add(bob), now=NOW)
    alice.accept()
    bob.join(accepted)
    for sender in (alice, bob):
        room.submit(sender.message(), now=NOW)
    room.submit(bob.rejoin(accepted), now=NOW)
    bob.accept()
    room.submit(bob.message(b"back"), now=NOW)
    room.submit(member("@zoe:a.example", "invite", sender=ALICE), now=NOW)

    return made(recorder, tmp_path)


def made(recorder: Recorder, directory: Path) -> Config:
    """A provider that holds what was recorded."""
    config = create_provider(directory / "a", ProviderPlan(server_name="a.example", dev_ca=directory / "ca"))
    (config.data_dir / "signing.key").write_text(A.key.to_line() + "\n")
    trio.run(recorder.store, database_path(config))
    return config


def check(config: Config) -> RoomReport:
    own = load_signing_key(config)
    store = SqliteStore.open_readonly(database_path(config))
    try:
        keys = known_keys(store, config.server_name, {own.key_id: own.verify_key})
        return check_room(store, ROOM, keys=keys, mls=MLS)
    finally:
        trio.run(store.aclose)


def run(config: Config, *command: str) -> Result:
    settings = config.data_dir.parent / SETTINGS
    return CliRunner().invoke(main, ["room", command[0], "--config", str(settings), *command[1:]])


def test_a_good_log_holds_and_everything_in_it_is_counted(provider: Config) -> None:
    report = check(provider)
    assert (report.imported, report.commits, report.ciphertexts, report.epoch, report.leaves) == (
        1,
        3,
        3,
        3,
        2,
    )
    assert report.entries == sum(report.types.values())
    assert report.signatures >= report.entries


def test_the_command_prints_what_was_checked_and_exits_0(provider: Config) -> None:
    result = run(provider, "verify", ROOM)
    assert result.exit_code == 0, result.output
    assert f"{ROOM} holds" in result.output
    assert "commits staged and merged" in result.output


def test_the_list_shows_the_room_with_its_epoch(provider: Config) -> None:
    line = next(line for line in run(provider, "list").output.splitlines() if ROOM in line)
    assert line.split()[1:4] == ["dev.linearized.1", "hub", "a.example"]
    assert line.split()[-1] == "3"


Damage = Callable[[sqlite3.Connection], None]


def rewrite(seq: int, change: Callable[[dict[str, object]], None], *, sign: bool = False) -> Damage:
    """Replace an entry's PDU (and its event ID, as a forger with database access would)."""

    def damage(database: sqlite3.Connection) -> None:
        (raw,) = database.execute("SELECT pdu FROM entries WHERE id & 4294967295 = ?", (seq,)).fetchone()
        pdu = json.loads(raw)
        change(pdu)
        if sign:
            pdu["hashes"]["sha256"] = content_hash(pdu, VERSION)
            signature = encode_base64(A.key.sign(signed_bytes(pdu, VERSION)))
            pdu["signatures"] = {"a.example": {A.key.key_id: signature}}
        event_id = parse_pdu(pdu, VERSION).event_id
        database.execute(
            "UPDATE entries SET pdu = ?, event_id = ? WHERE id & 4294967295 = ?",
            (canonical_json(pdu), event_id, seq),
        )

    return damage


def column(seq: int, name: str, value: object) -> Damage:
    def damage(database: sqlite3.Connection) -> None:
        database.execute(f"UPDATE entries SET {name} = ? WHERE id & 4294967295 = ?", (value, seq))  # noqa: S608

    return damage


def set_body(pdu: dict[str, object]) -> None:
    pdu["content"] = {"msgtype": "m.text", "body": "forged"}


def set_name(pdu: dict[str, object]) -> None:
    pdu["content"] = {"name": "Forged"}


def set_auth(pdu: dict[str, object]) -> None:
    pdu["auth_events"] = list(pdu["auth_events"])[:1]  # type: ignore[call-overload]


def unlink(pdu: dict[str, object]) -> None:
    pdu["prev_events"] = list(pdu["auth_events"])[:1]  # type: ignore[call-overload]


def cut(seq: int) -> Damage:
    def damage(database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM entries WHERE id & 4294967295 = ?", (seq,))

    return damage


# Entries: 1 create, 2 join, 3 name, 4 imported, 5 commit, 6 invite, 7 join, 8 commit, 9-10 messages
@pytest.mark.parametrize(
    ("damage", "seq", "reason"),
    [
        (rewrite(3, set_name), 3, "content hash"),
        (rewrite(4, set_body), 4, "content hash"),
        (rewrite(3, set_name, sign=True), 4, "prev_events is not the entry before"),
        (rewrite(3, set_auth, sign=True), 3, "auth_events"),
        (rewrite(3, unlink, sign=True), 3, "prev_events is not the entry before"),
        (column(3, "event_id", "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), 3, "reference hash"),
        (column(3, "sender", "@mallory:a.example"), 3, "columns"),
        (column(4, "origin_server_ts", 1), 4, "columns"),
        (column(9, "epoch", 7), 9, "stored with epoch 7"),
        (column(3, "pdu", b"{}"), 3, "missing|required|lacks"),
        (cut(3), 4, "sequence number 3 is missing"),
    ],
)
def test_damage_is_found_at_its_entry(provider: Config, damage: Damage, seq: int, reason: str) -> None:
    with sqlite3.connect(database_path(provider)) as database:
        damage(database)
    database.close()
    with pytest.raises(BrokenLog, match=reason) as broken:
        check(provider)
    assert broken.value.seq == seq
    result = run(provider, "verify", ROOM)
    assert result.exit_code == 1
    assert f"{ROOM} is broken at entry {seq}" in result.output


def test_an_entry_signed_by_another_key_is_found(provider: Config) -> None:
    (provider.data_dir / "signing.key").write_text(
        "ed25519 other AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
    )
    with pytest.raises(BrokenLog) as broken:
        check(provider)
    assert broken.value.seq == 1


def test_a_stored_tree_that_the_log_does_not_lead_to_is_found(provider: Config) -> None:
    with sqlite3.connect(database_path(provider)) as database:
        database.execute("UPDATE groups SET ratchet_tree = x'00'")
    database.close()
    with pytest.raises(BrokenLog, match="ratchet tree"):
        check(provider)


def test_a_log_cut_off_at_its_end_is_found(provider: Config) -> None:
    with sqlite3.connect(database_path(provider)) as database:
        database.execute("DELETE FROM entries WHERE id = (SELECT max(id) FROM entries)")
    database.close()
    with pytest.raises(BrokenLog, match="the log ends here"):
        check(provider)


def test_a_hub_that_let_a_stranger_into_the_group_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    room = new_room()
    alice, bob = Member(ALICE), Member(BOB)
    room.submit(alice.create(), now=NOW)
    alice.accept()
    with monkeypatch.context() as careless:
        careless.setattr("linearized.room.handshakes.check_tie", lambda *_, **__: None)
        room.submit(alice.add(bob, listed=False), now=NOW)
    with pytest.raises(BrokenLog, match=r"entry 4 .*@bob:b\.example is not joined"):
        check(made(recorder, tmp_path))


def test_a_log_with_standalone_proposals_holds_and_a_commit_that_leaves_one_out_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    bob, phone = Member(BOB), Member(BOB, "PHONE")
    party = Party(bob, phone)
    party.submit(leave(bob, phone), by=bob)
    tablet = Member(ALICE, "TABLET")
    party.submit(party.join(tablet), by=tablet)
    party.submit(commit_pending(party.alice), by=party.alice)
    assert check(made(recorder, tmp_path / "good")).epoch == party.room.epoch
    # The hub never took the proposals that the external commit contains.
    recorder.entries = [entry for entry in recorder.entries if entry.type != "m.mls.proposal"]
    for seq, entry in enumerate(recorder.entries, start=1):
        recorder.entries[seq - 1] = replace(entry, seq=seq)
    with pytest.raises(BrokenLog):
        check(made(recorder, tmp_path / "bad"))


def test_what_no_handshake_says_is_found_though_the_hub_vouches_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    party = Party(bob := Member(BOB), role=2)
    levels = {"users": {ALICE: 100, BOB: 100}}
    lie = StateChange(sender=BOB, type="m.room.power_levels", state_key="", content=levels)
    monkeypatch.setattr("linearized.room.handshakes.join_rule_changes", lambda *_, **__: [lie])
    party.submit(handshake(bob, bob.joined().commit()), by=bob)
    with pytest.raises(BrokenLog, match="which the commit it names does not say"):
        check(made(recorder, tmp_path))


def test_a_log_that_ends_before_the_handshake_it_names_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    Party(Member(BOB))
    del recorder.entries[-1]
    assert (recorder.entries[-1].type, recorder.entries[-1].sender) == ("m.room.member", BOB)
    with pytest.raises(BrokenLog, match="the handshake that it names is not in the log"):
        check(made(recorder, tmp_path))
