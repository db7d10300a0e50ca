"""ts-mls, an implementation in TypeScript: `peer.mjs` keeps the members, all in one node process."""

import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from peers import EXPORTED, Heard, RefusedByPeerError, Sent

ANSWER_SECONDS = 60.0  # far more than any answer takes, on a machine that does much else
CLOSE_SECONDS = 10.0  # to end by itself once its input has ended
LIFETIME = 28 * 24 * 3600
CLOCK_SKEW = 3600


def installed() -> Path:
    """The node_modules with ts-mls. `make test` installs it and makes its absence a failure."""
    place = os.environ.get("LINEARIZED_TS_MLS")
    if place is not None and (Path(place) / "ts-mls").is_dir():
        return Path(place)
    reason = "LINEARIZED_TS_MLS does not name a directory with ts-mls; `make ts-mls` installs it"
    if os.environ.get("LINEARIZED_PEERS_REQUIRED"):
        pytest.fail(reason)
    pytest.skip(reason)


class TsMls:
    """The node process. Requests are answered one by one, each within ANSWER_SECONDS."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(Path(__file__).parent / "peer.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "LINEARIZED_TS_MLS": str(installed())},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)

    def call(self, op: str, member: int | None = None, **arguments: object) -> dict[str, Any]:
        """Let the peer do something. Raises RefusedByPeerError with what it says."""
        request = {"op": op, "member": member, **arguments}
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()
        answer = json.loads(self._line())
        if "error" in answer:
            raise RefusedByPeerError(answer["error"])
        value: dict[str, Any] = answer["value"]
        return value

    def _line(self) -> bytes:
        deadline = time.monotonic() + ANSWER_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                self._process.kill()
                raise TimeoutError("ts-mls does not answer")
            piece = os.read(self._answers.fileno(), 1 << 16)
            if not piece:
                raise EOFError(f"the ts-mls peer ended with status {self._process.wait(CLOSE_SECONDS)}")
            line += piece
        return line

    def close(self) -> None:
        """End the process, which ends by itself when its input does."""
        self._selector.close()
        self._requests.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._answers.close()


class TsMlsPeer:
    """A member that ts-mls keeps; a plain one announces the default capabilities of ts-mls."""

    def __init__(self, process: TsMls, name: str, *, suite: int, plain: bool, tree_inside: bool) -> None:
        self.name = name
        self._process = process
        self._tree_inside = tree_inside
        self._member: int = process.call("new", identity=name.encode().hex(), suite=suite, plain=plain)[
            "member"
        ]

    def _call(self, op: str, **arguments: object) -> dict[str, Any]:
        return self._process.call(op, self._member, **arguments)

    def key_package(self) -> bytes:
        now = int(time.time())
        bounds = {"not_before": now - CLOCK_SKEW, "not_after": now + LIFETIME}
        return bytes.fromhex(self._call("key_package", **bounds)["message"])

    def create_group(self, group_id: bytes, extensions: Sequence[bytes] = ()) -> None:
        """Create a group with these Extensions in its GroupContext."""
        self.key_package()  # its leaf becomes the first of the group
        self._call("create_group", group_id=group_id.hex(), extensions=[data.hex() for data in extensions])

    def join(self, welcome: bytes, tree: bytes | None) -> None:
        self._call("join_welcome", welcome=welcome.hex(), tree=tree and tree.hex())

    def join_external(self, group_info: bytes, tree: bytes | None, *, replace: bool = False) -> bytes:
        """Join by an external commit with new keys; ``replace`` removes the leaf with our name in it."""
        self.key_package()
        answer = self._call(
            "join_external", group_info=group_info.hex(), tree=tree and tree.hex(), replace=replace
        )
        return bytes.fromhex(answer["commit"])

    def change(self, add: Sequence[bytes] = (), remove: Sequence[int] = (), aad: bytes = b"") -> Sent:
        """Commit additions and removals together with all pending proposals."""
        answer: Mapping[str, str | None] = self._call(
            "commit",
            add=[data.hex() for data in add],
            remove=list(remove),
            tree_inside=self._tree_inside,
            aad=aad.hex(),
        )
        commit, welcome, tree = (bytes.fromhex(answer[key] or "") for key in ("commit", "welcome", "tree"))
        return Sent(commit, welcome or None, None if self._tree_inside else tree)

    def commit(self) -> Sent:
        return self.change()

    def add(self, *key_packages: bytes) -> Sent:
        return self.change(add=key_packages)

    def remove(self, name: str, leaf: int) -> Sent:
        return self.change(remove=[leaf])

    def propose_add(self, key_package: bytes) -> bytes:
        return bytes.fromhex(self._call("propose", add=key_package.hex(), remove=None)["message"])

    def propose_remove(self, name: str, leaf: int) -> bytes:
        return bytes.fromhex(self._call("propose", add=None, remove=leaf)["message"])

    def merge(self, commit: bytes) -> None:
        self._call("merge")

    def process(self, message: bytes, sender: str) -> Heard:
        answer = self._call("process", message=message.hex())
        plaintext = answer["plaintext"]
        return Heard(None if plaintext is None else bytes.fromhex(plaintext), answer["removed"])

    def encrypt(self, plaintext: bytes, aad: bytes = b"") -> bytes:
        return bytes.fromhex(self._call("encrypt", plaintext=plaintext.hex(), aad=aad.hex())["message"])

    def group(self) -> Mapping[str, Any]:
        """What ts-mls shows of its group: epoch, leaf, hashes and structs; bytes as hexadecimal."""
        return self._call("group")

    def secrets(self) -> Mapping[str, bytes]:
        """The keys that this member signs and authenticates with in its epoch, and where the next begins."""
        return {name: bytes.fromhex(value) for name, value in self._call("secrets").items()}

    def tree(self) -> bytes:
        return bytes.fromhex(self.group()["tree"])

    def exported(self) -> bytes:
        label, context, length = EXPORTED
        answer = self._call("export_secret", label=label, context=context.hex(), length=length)
        return bytes.fromhex(answer["secret"])

    def group_context(self) -> bytes:
        return bytes.fromhex(self.group()["group_context"])

    def group_info(self) -> bytes:
        return bytes.fromhex(self._call("group_info")["message"])
