"""What MLS costs a hub and a client, at several group sizes, next to mls-rs doing the same in the same run.

    python -m benchmarks.bench_mls [--members 10,100,1000,10000] [--rounds 15] > result.json

For each size, medians in microseconds over the rounds and the bytes of what is sent and stored:

- ``commit``: a member makes a commit with an update path; ``process``: another member applies it;
  ``stage_merge``: the hub's public group verifies and enters it;
- ``join``: a new member joins by a Welcome (each round adds one member, so the group grows by the rounds);
- ``encrypt``, ``decrypt``: an application message of 1 KiB;
- ``save``, ``load``: one member's state; ``hub_save``, ``hub_load``: the public group.

``cpu_us`` has the same as CPU time of the process, which tells more where others use the machine.

Members are added in big commits and most never join, so paths are encrypted to many single leaves: the costly
shape of a tree, and the same one for both. mls-rs's wheel has no public group, so there it is compared by
``process``. ``save`` is not quite the same: ours gives the whole client as bytes, mls-rs hands its storage
what changed in one group.

``filled`` is what a hub pays where everyone has committed, here by joining with an external commit: a path is
then encrypted to one key for each level. Up to 1,000 members, because each of them has to join.

``two_threads`` is how many times faster two threads stage commits on two groups than one thread does both:
near 2 on two idle cores if the interpreter lock is released, near 1 if not. ``two_threads_hashing`` is the
same for hashing, which is known to release it: what the machine had to give at that moment.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from openmls import Client, Group, PublicGroup

GROUP_ID = b"mimi://hub.example/g/bench"
CHUNKS = 10  # commits that add the members during the set-up, so that it stays linear for big groups
LEAST_CHUNK = 100
MANY = 5000  # from here on a third of the rounds: one of mls-rs takes seconds
WEEK = 7 * 24 * 3600
TEXT = bytes(1024)
STAGED_PER_ROUND = 10  # so that starting the threads does not count
HASH_ROUNDS = 300_000  # some tenths of a second
P = ParamSpec("P")
T = TypeVar("T")


class Timings:
    """Durations by name."""

    def __init__(self) -> None:
        self.durations: dict[str, list[int]] = {}
        self.cpu: dict[str, list[int]] = {}
        self.bytes: dict[str, int] = {}

    def time(self, name: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started, cpu = time.perf_counter_ns(), time.process_time_ns()
        result = work(*args, **kwargs)
        self.cpu.setdefault(name, []).append(time.process_time_ns() - cpu)
        self.durations.setdefault(name, []).append(time.perf_counter_ns() - started)
        return result

    def report(self) -> dict[str, dict[str, float]]:
        return {
            "median_us": medians_us(self.durations),
            "cpu_us": medians_us(self.cpu),
            "bytes": dict(self.bytes),
        }


def medians_us(durations: dict[str, list[int]]) -> dict[str, float]:
    return {name: statistics.median(values) / 1000 for name, values in durations.items()}


def chunks(count: int) -> Iterator[range]:
    size = max(LEAST_CHUNK, count // CHUNKS)
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


class Ours:
    """A creator, a second member and a hub, in a group of ``members``."""

    def __init__(self, members: int) -> None:
        self.now = int(time.time())
        self.creator: Group = Client.create(identity=b"creator").create_group(group_id=GROUP_ID)
        for numbers in chunks(members - 2):
            self.creator.commit(add=[self.key_package(Client.create(identity=b"%d" % n)) for n in numbers])
            self.creator.merge_pending_commit()
        self.client = Client.create(identity=b"second")
        bundle = self.creator.commit(add=[self.key_package(self.client)])
        self.creator.merge_pending_commit()
        assert bundle.welcome is not None
        self.second = self.client.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
        self.hub = PublicGroup.observe(group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree)
        assert len(self.hub.members()) == members

    def key_package(self, client: Client) -> bytes:
        return client.key_package(now=self.now, lifetime=WEEK)

    def stage_and_merge(self, commit: bytes) -> None:
        self.hub.merge(self.hub.stage_commit(commit))

    def apply(self, commit: bytes, timings: Timings | None = None) -> None:
        """Let everybody enter the epoch of a commit of the creator, timed if it is only that."""
        timings = timings or Timings()
        timings.time("stage_merge", self.stage_and_merge, commit)
        timings.time("process", self.second.process, commit)
        self.creator.merge_pending_commit()
        assert self.hub.group_context() == self.second.group_context() == self.creator.group_context()

    def measure(self, rounds: int) -> Timings:
        timings = Timings()
        for _ in range(rounds):
            bundle = timings.time("commit", self.creator.commit)
            self.apply(bundle.commit, timings)
            message = timings.time("encrypt", self.creator.encrypt, TEXT)
            assert timings.time("decrypt", self.second.process, message).plaintext == TEXT
            state = timings.time("save", self.client.save)
            self.client = timings.time("load", Client.load, state)
            self.second = self.client.group(GROUP_ID)
            public = timings.time("hub_save", self.hub.save)
            self.hub = timings.time("hub_load", PublicGroup.load, public)
        timings.bytes = {
            "commit": len(bundle.commit),
            "group_info": len(bundle.group_info),
            "ratchet_tree": len(bundle.ratchet_tree),
            "message": len(message),
            "saved": len(state),
            "hub_saved": len(public),
        }
        for number in range(rounds):
            client = Client.create(identity=b"new %d" % number)
            key_package = self.key_package(client)
            bundle = self.creator.commit(add=[key_package])
            self.apply(bundle.commit)
            welcome = bundle.welcome
            assert welcome is not None
            timings.time("join", client.join_welcome, welcome=welcome, ratchet_tree=bundle.ratchet_tree)
            timings.bytes |= {"key_package": len(key_package), "welcome": len(welcome)}
        return timings

    def two_threads(self, rounds: int) -> float:
        """How many times faster two threads stage a commit ``rounds`` times each, on a group each."""
        commit = self.creator.commit().commit
        hubs = [self.hub, PublicGroup.load(self.hub.save())]

        def stage(which: int) -> None:
            for _ in range(rounds):
                hubs[which].stage_commit(commit)

        gain = gain_of_two_threads(stage)
        self.creator.clear_pending_commit()
        return gain


def filled(members: int, rounds: int) -> Timings:
    """What a hub pays for a commit in a tree without blank parents: everyone has joined by a commit."""
    group: Group = Client.create(identity=b"creator").create_group(group_id=GROUP_ID)
    bundle = group.commit()
    group.merge_pending_commit()
    for number in range(members - 1):
        group, bundle = Client.create(identity=b"%d" % number).join_external(
            group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree
        )
        group.merge_pending_commit()
    hub = PublicGroup.observe(group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree)
    assert len(hub.members()) == members
    timings = Timings()
    for _ in range(rounds):
        commit = group.commit().commit
        group.merge_pending_commit()
        staged = timings.time("stage", hub.stage_commit, commit)
        timings.time("merge", hub.merge, staged)
        timings.bytes["commit"] = len(commit)
    assert hub.group_context() == group.group_context()
    return timings


def gain_of_two_threads(work: Callable[[int], None]) -> float:
    """The time for ``work(0)`` and ``work(1)`` in one thread, over that in two; medians of three."""

    def alone() -> None:
        work(0)
        work(1)

    def together() -> None:
        threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    timings = Timings()
    for _ in range(3):
        timings.time("alone", alone)
        timings.time("together", together)
    medians = timings.report()["median_us"]
    return medians["alone"] / medians["together"]


def hash_without_the_lock(which: int) -> None:
    """Work in C that is known to release the interpreter lock: what this machine can give two threads now."""
    hashlib.pbkdf2_hmac("sha256", TEXT, bytes([which]), HASH_ROUNDS)


def storage(rs: Any) -> Any:
    """A GroupStateStorage of mls-rs that keeps the bytes where they can be counted."""

    class Storage(rs.GroupStateStorage):  # type: ignore[misc, name-defined, unused-ignore]  # the base is Any
        def __init__(self) -> None:
            self.states: dict[bytes, bytes] = {}
            self.epochs: dict[tuple[bytes, int], bytes] = {}

        def state(self, group_id: bytes) -> bytes | None:
            return self.states.get(group_id)

        def epoch(self, group_id: bytes, epoch_id: int) -> bytes | None:
            return self.epochs.get((group_id, epoch_id))

        def write(
            self, group_id: bytes, group_state: bytes, epoch_inserts: list[Any], epoch_updates: list[Any]
        ) -> None:
            self.states[group_id] = group_state
            for record in (*epoch_inserts, *epoch_updates):
                self.epochs[group_id, record.id] = record.data

        def max_epoch_id(self, group_id: bytes) -> int | None:
            return max((number for owner, number in self.epochs if owner == group_id), default=None)

    return Storage()


class MlsRs:
    """The same group with mls-rs: a creator and a second member, trees apart from Welcomes."""

    def __init__(self, rs: Any, members: int) -> None:
        self.rs = rs
        self.creator = self.client(b"creator").create_group(GROUP_ID)
        for numbers in chunks(members - 2):
            packages = [self.client(b"%d" % n).generate_key_package_message() for n in numbers]
            self.creator.process_incoming_message(self.creator.add_members(packages).commit_message)
        self.store = storage(rs)
        self.member = self.client(b"second", self.store)
        self.second = self.join(self.member, self.add(self.member))

    def client(self, name: bytes, store: Any = None) -> Any:
        config = self.rs.client_config_default()
        config.use_ratchet_tree_extension = False
        config.group_state_storage = store or config.group_state_storage
        keys = self.rs.generate_signature_keypair(self.rs.CipherSuite.CURVE25519_AES128)
        return self.rs.Client(name, keys, config)

    def add(self, client: Any) -> Any:
        output = self.creator.add_members([client.generate_key_package_message()])
        self.creator.process_incoming_message(output.commit_message)
        return output

    def encrypt(self) -> bytes:
        message: bytes = self.creator.encrypt_application_message(TEXT).to_bytes()
        return message

    def process(self, data: bytes) -> Any:
        return self.second.process_incoming_message(self.rs.Message.from_bytes(data))

    def join(self, client: Any, output: Any) -> Any:
        welcome = output.welcome_message.to_bytes()
        return client.join_group(output.ratchet_tree, self.rs.Message.from_bytes(welcome)).group

    def measure(self, rounds: int) -> Timings:
        timings = Timings()
        for _ in range(rounds):
            output = timings.time("commit", self.creator.commit)
            commit = output.commit_message.to_bytes()
            timings.time("process", self.process, commit)
            self.creator.process_incoming_message(output.commit_message)
            message = timings.time("encrypt", self.encrypt)
            assert timings.time("decrypt", self.process, message).data == TEXT
            timings.time("save", self.second.write_to_storage)
            self.second = timings.time("load", self.member.load_group, GROUP_ID)
        timings.bytes = {
            "commit": len(commit),
            "ratchet_tree": len(self.second.export_tree().bytes),
            "message": len(message),
            "saved": len(self.store.states[GROUP_ID]),
            "saved_epochs": sum(map(len, self.store.epochs.values())),
        }
        for number in range(rounds):
            client = self.client(b"new %d" % number)
            output = self.add(client)
            self.second.process_incoming_message(output.commit_message)
            timings.time("join", self.join, client, output)
            timings.bytes["welcome"] = len(output.welcome_message.to_bytes())
        assert self.creator.export_tree().bytes == self.second.export_tree().bytes
        return timings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", default="10,100,1000,10000")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    try:
        rs: Any = importlib.import_module("mls_rs_uniffi")
    except ImportError:
        rs = None
        print("mls-rs is not installed: only our side is measured", file=sys.stderr)
    results = []
    for members in map(int, options.members.split(",")):
        rounds = options.rounds // 3 if members >= MANY else options.rounds
        ours = Ours(members)
        timings = ours.measure(rounds)
        result: dict[str, object] = {"members": members, "rounds": rounds, "openmls": timings.report()}
        if rs is not None:
            theirs = MlsRs(rs, members).measure(rounds)
            result["mls_rs"] = theirs.report()
            mine, other = (side.report()["median_us"] for side in (timings, theirs))
            result["ratio_to_mls_rs"] = {name: mine[name] / other[name] for name in other}
        if members < MANY:
            result["filled"] = filled(members, rounds).report()
        result["two_threads"] = ours.two_threads(rounds * STAGED_PER_ROUND)
        result["two_threads_hashing"] = gain_of_two_threads(hash_without_the_lock)
        results.append(result)
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()}
    print(json.dumps({**machine, "results": results}, indent=2))


if __name__ == "__main__":
    main()
