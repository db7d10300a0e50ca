"""mls-rs, through its Python wheel: suite 0x0001, key packages of a year, no external commits, no GroupInfo.

The wheel has no types, so what comes from it is `Any`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from peers import EXPORTED, Heard, RefusedByPeerError, Sent


class MlsRsPeer:
    """A member that mls-rs keeps. It knows whom to remove once it has read a message of theirs."""

    def __init__(self, name: str, *, tree_inside: bool) -> None:
        self.name = name
        self._library: Any = pytest.importorskip(
            "mls_rs_uniffi", reason="mls-rs publishes no wheel for this platform"
        )
        config = self._library.client_config_default()
        config.use_ratchet_tree_extension = tree_inside
        keys = self._library.generate_signature_keypair(self._library.CipherSuite.CURVE25519_AES128)
        self._client = self._library.Client(name.encode(), keys, config)
        self._group: Any = None
        self._identities: dict[str, Any] = {}

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except self._library.Error as error:
            raise RefusedByPeerError(str(error)) from error

    def _message(self, data: bytes) -> Any:
        with self._refusing():
            return self._library.Message.from_bytes(data)

    def key_package(self) -> bytes:
        package: bytes = self._client.generate_key_package_message().to_bytes()
        return package

    def create_group(self, group_id: bytes) -> None:
        self._group = self._client.create_group(group_id)

    def join(self, welcome: bytes, tree: bytes | None) -> None:
        ratchet_tree = None if tree is None else self._library.RatchetTree(bytes=tree)
        with self._refusing():
            self._group = self._client.join_group(ratchet_tree, self._message(welcome)).group

    def _sent(self, output: Any) -> Sent:
        welcome = None if output.welcome_message is None else output.welcome_message.to_bytes()
        tree = None if output.ratchet_tree is None else output.ratchet_tree.bytes
        return Sent(output.commit_message.to_bytes(), welcome, tree)

    def commit(self) -> Sent:
        return self._sent(self._group.commit())

    def add(self, *key_packages: bytes) -> Sent:
        with self._refusing():
            return self._sent(self._group.add_members([self._message(data) for data in key_packages]))

    def remove(self, name: str, leaf: int) -> Sent:
        return self._sent(self._group.remove_members([self._identities[name]]))

    def propose_add(self, key_package: bytes) -> bytes:
        with self._refusing():
            [proposal] = self._group.propose_add_members([self._message(key_package)])
        data: bytes = proposal.to_bytes()
        return data

    def propose_remove(self, name: str, leaf: int) -> bytes:
        [proposal] = self._group.propose_remove_members([self._identities[name]])
        data: bytes = proposal.to_bytes()
        return data

    def merge(self, commit: bytes) -> None:
        with self._refusing():
            self._group.process_incoming_message(self._message(commit))

    def process(self, message: bytes, sender: str) -> Heard:
        with self._refusing():
            received = self._group.process_incoming_message(self._message(message))
        if received.is_application_message():
            self._identities[sender] = received.sender
            return Heard(plaintext=received.data)
        return Heard(removed=received.is_commit() and received.effect.is_removed())

    def encrypt(self, plaintext: bytes) -> bytes:
        data: bytes = self._group.encrypt_application_message(plaintext).to_bytes()
        return data

    def tree(self) -> bytes:
        data: bytes = self._group.export_tree().bytes
        return data

    def exported(self) -> bytes:
        label, context, length = EXPORTED
        secret: bytes = self._group.export_secret(label.encode(), context, length)
        return secret

    def group_context(self) -> None:
        return None

    def group_info(self) -> None:
        return None
