"""A member made by hand, from the specifications alone: no MLS library signs, encodes or derives here.

It takes the place of a member that another implementation brought into the group, in suite 0x0001, and makes
what that implementation cannot: proposals of draft-ietf-mls-extensions, and commits of them without an update
path. Section numbers are of RFC 9420.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from forge import BY_REFERENCE, BY_VALUE, HEADER, Reader, vector

HASH_SIZE = 32
CONTENT_PROPOSAL, CONTENT_COMMIT = b"\x02", b"\x03"
APP_DATA_DICTIONARY, APP_DATA_UPDATE, SELF_REMOVE = b"\x00\x06", b"\x00\x08", b"\x00\x0a"
NO_PATH = b"\x00"


def app_data_update(component: int, payload: bytes) -> bytes:
    """A Proposal with an AppDataUpdate that updates (draft-ietf-mls-extensions section 4.7)."""
    return APP_DATA_UPDATE + component.to_bytes(2, "big") + b"\x01" + vector(payload)


def app_data_remove(component: int) -> bytes:
    """A Proposal with an AppDataUpdate that removes."""
    return APP_DATA_UPDATE + component.to_bytes(2, "big") + b"\x02"


def by_value(proposal: bytes) -> bytes:
    return BY_VALUE + proposal


def by_reference(proposal_message: bytes) -> bytes:
    """ProposalRef of an MLSMessage(PublicMessage) of a member: RefHash of its AuthenticatedContent (5.2)."""
    reader = Reader(proposal_message[len(HEADER) :])
    for skip in (reader.vector, lambda: reader.take(8 + 5), reader.vector, lambda: reader.take(1)):
        skip()  # group_id; epoch and sender; authenticated_data; content_type
    kind = reader.take(2)
    if kind == APP_DATA_UPDATE:
        reader.take(2)
        if reader.take(1) == b"\x01":
            reader.vector()
    else:
        assert kind == SELF_REMOVE
    reader.vector()  # signature
    authenticated = HEADER[2:] + proposal_message[len(HEADER) : len(proposal_message) - len(reader.data)]
    labelled = vector(b"MLS 1.0 Proposal Reference") + vector(authenticated)
    return BY_REFERENCE + vector(hashlib.sha256(labelled).digest())


def dictionary(values: Mapping[int, bytes]) -> bytes:
    """The `app_data_dictionary` extension, sorted by component."""
    entries = [component.to_bytes(2, "big") + vector(values[component]) for component in sorted(values)]
    return APP_DATA_DICTIONARY + vector(vector(b"".join(entries)))


def extensions(group_context: bytes) -> dict[bytes, bytes]:
    """The extensions of a GroupContext by type, in their order."""
    reader = Reader(Context.read(group_context).extensions)
    found = {}
    while reader.data:
        kind = reader.take(2)
        found[kind] = reader.vector()
    return found


def expand_with_label(secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """ExpandWithLabel (8) with HKDF-Expand of one block, which all lengths here fit into."""
    assert length <= HASH_SIZE
    info = length.to_bytes(2, "big") + vector(b"MLS 1.0 " + label.encode()) + vector(context)
    return hmac.digest(secret, info + b"\x01", "sha256")[:length]


def derive_secret(secret: bytes, label: str) -> bytes:
    return expand_with_label(secret, label, b"", HASH_SIZE)


@dataclass(slots=True)
class Context:
    """A GroupContext (8.1)."""

    front: bytes  # version, cipher_suite and group_id
    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: bytes

    @classmethod
    def read(cls, data: bytes) -> "Context":
        reader = Reader(data)
        front, group_id = reader.take(4), reader.vector()
        epoch = int.from_bytes(reader.take(8), "big")
        context = cls(
            front + vector(group_id), group_id, epoch, reader.vector(), reader.vector(), reader.vector()
        )
        assert not reader.data
        return context

    def encode(self) -> bytes:
        hashes = vector(self.tree_hash) + vector(self.confirmed_transcript_hash)
        return self.front + self.epoch.to_bytes(8, "big") + hashes + vector(self.extensions)


class HandmadeMember:
    """A member at ``leaf`` with the secrets of one epoch, by the names of section 8."""

    def __init__(self, group_context: bytes, leaf: int, secrets: Mapping[str, bytes]) -> None:
        self._context = Context.read(group_context)
        self._sender = b"\x01" + leaf.to_bytes(4, "big")
        self._key = Ed25519PrivateKey.from_private_bytes(secrets["signature_key"])
        self._membership_key = secrets["membership_key"]
        self._init_secret = secrets["init_secret"]
        self._confirmation_tag = secrets["confirmation_tag"]
        self._exporter_secret = b""

    def group_context(self) -> bytes:
        return self._context.encode()

    def export_secret(self, label: str, context: bytes, length: int) -> bytes:
        """MLS-Exporter (8.5), once a commit was made here."""
        hashed = hashlib.sha256(context).digest()
        return expand_with_label(derive_secret(self._exporter_secret, label), "exported", hashed, length)

    def propose(self, proposal: bytes) -> bytes:
        """An MLSMessage(PublicMessage) with a Proposal."""
        content = self._content(CONTENT_PROPOSAL + proposal)
        return self._public(content, vector(self._sign(content)))

    def commit(self, proposals: Sequence[bytes], app_data: Mapping[int, bytes]) -> bytes:
        """Commit these ProposalOrRefs without a path and enter the epoch; the group then has ``app_data``.

        What stands in the `app_data_dictionary` now is replaced where it is; it is added at the end if there
        is none (draft-ietf-mls-extensions section 4.7).
        """
        content = self._content(CONTENT_COMMIT + vector(b"".join(proposals)) + NO_PATH)
        signature = self._sign(content)
        before = self._context
        after = Context(
            before.front,
            before.group_id,
            before.epoch + 1,
            before.tree_hash,
            self._confirmed(content, signature),
            self._with(app_data),
        )
        encoded = after.encode()
        zero = bytes(HASH_SIZE)  # commit_secret without a path, and psk_secret without a PSK
        extracted = hmac.digest(self._init_secret, zero, "sha256")
        joiner = expand_with_label(extracted, "joiner", encoded, HASH_SIZE)
        epoch_secret = expand_with_label(hmac.digest(joiner, zero, "sha256"), "epoch", encoded, HASH_SIZE)
        confirmation_key = derive_secret(epoch_secret, "confirm")
        tag = hmac.digest(confirmation_key, after.confirmed_transcript_hash, "sha256")

        message = self._public(content, vector(signature) + vector(tag))
        self._context, self._confirmation_tag = after, tag
        self._init_secret = derive_secret(epoch_secret, "init")
        self._membership_key = derive_secret(epoch_secret, "membership")
        self._exporter_secret = derive_secret(epoch_secret, "exporter")
        return message

    def _content(self, body: bytes) -> bytes:
        """A FramedContent without authenticated data."""
        front = vector(self._context.group_id) + self._context.epoch.to_bytes(8, "big")
        return front + self._sender + vector(b"") + body

    def _signed(self, content: bytes) -> bytes:
        """FramedContentTBS (6.1)."""
        return HEADER + content + self._context.encode()

    def _sign(self, content: bytes) -> bytes:
        """SignWithLabel (5.1.2)."""
        return self._key.sign(vector(b"MLS 1.0 FramedContentTBS") + vector(self._signed(content)))

    def _public(self, content: bytes, auth: bytes) -> bytes:
        """A PublicMessage with its membership tag (6.2)."""
        tag = hmac.digest(self._membership_key, self._signed(content) + auth, "sha256")
        return HEADER + content + auth + vector(tag)

    def _confirmed(self, content: bytes, signature: bytes) -> bytes:
        """The confirmed transcript hash of the next epoch (8.2)."""
        before = self._context.confirmed_transcript_hash
        interim = hashlib.sha256(before + vector(self._confirmation_tag)).digest()
        return hashlib.sha256(interim + HEADER[2:] + content + vector(signature)).digest()

    def _with(self, app_data: Mapping[int, bytes]) -> bytes:
        """The extensions of the GroupContext with this dictionary."""
        reader, encoded, there = Reader(self._context.extensions), b"", False
        while reader.data:
            kind, data = reader.take(2), reader.vector()
            if kind == APP_DATA_DICTIONARY:
                encoded, there = encoded + dictionary(app_data), True
            else:
                encoded += kind + vector(data)
        return encoded if there else encoded + dictionary(app_data)
