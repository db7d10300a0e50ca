"""A hostile member: takes apart an honest commit, changes it and signs it again.

The hub cannot check membership and confirmation tags (they need secrets), so a commit with a good signature
is all a hostile member needs; everything else about it must be refused for what it says. Field names are
those of RFC 9420 sections 6 and 7.2.
"""

from dataclasses import dataclass, field

from openmls import Client, SignatureKeyPair

HEADER = b"\x00\x01\x00\x01"  # MLSMessage: version mls10, wire_format public_message
BY_VALUE, BY_REFERENCE = b"\x01", b"\x02"
SENDER_MEMBER = 1
EXTERNAL_SENDER, NEW_MEMBER_PROPOSAL = b"\x02", b"\x03"
CONTENT_PROPOSAL = b"\x02"


def vector(data: bytes) -> bytes:
    """Encode ``opaque data<V>`` (RFC 9420 section 2.1.2)."""
    if len(data) < 1 << 6:
        return bytes([len(data)]) + data
    if len(data) < 1 << 14:
        return (len(data) | 0x4000).to_bytes(2, "big") + data
    return (len(data) | 0x80000000).to_bytes(4, "big") + data


def external(index: int) -> bytes:
    """The Sender struct of an external sender."""
    return EXTERNAL_SENDER + index.to_bytes(4, "big")


def proposal_message(
    signer: Client | SignatureKeyPair,
    sender: bytes,
    proposal: bytes,
    *,
    group_id: bytes,
    epoch: int,
    group_context: bytes = b"",
) -> bytes:
    """An MLSMessage(PublicMessage) with a proposal (RFC 9420 section 6).

    Of a member, whose signature covers the ``group_context``, it has a membership tag that only members see
    through.
    """
    content = vector(group_id) + epoch.to_bytes(8, "big") + sender + vector(b"") + CONTENT_PROPOSAL + proposal
    signature = signer.sign_with_label(label="FramedContentTBS", content=HEADER + content + group_context)
    tag = vector(bytes(32)) if sender[0] == SENDER_MEMBER else b""
    return HEADER + content + vector(signature) + tag


def extension_vector(extensions: dict[int, bytes]) -> bytes:
    """Encode ``Extension extensions<V>`` (RFC 9420 section 7.2)."""
    return vector(b"".join(kind.to_bytes(2, "big") + vector(data) for kind, data in extensions.items()))


@dataclass(slots=True)
class Reader:
    """Takes fields off the front of a struct."""

    data: bytes

    def take(self, count: int) -> bytes:
        assert len(self.data) >= count
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def vector(self) -> bytes:
        size = 1 << (self.data[0] >> 6)
        length = int.from_bytes(self.take(size), "big") & ((1 << (8 * size - 2)) - 1)
        return self.take(length)


def read_leaf(reader: Reader) -> bytes:
    """Take one LeafNode (RFC 9420 section 7.2)."""
    leaf = vector(reader.vector()) + vector(reader.vector())
    leaf += reader.take(2) + vector(reader.vector())  # a basic credential
    leaf += b"".join(vector(reader.vector()) for _ in range(5))  # capabilities
    source = reader.take(1)
    leaf += source
    if source == b"\x01":  # key_package: Lifetime
        leaf += reader.take(16)
    elif source == b"\x03":  # commit: parent_hash
        leaf += vector(reader.vector())
    return leaf + vector(reader.vector()) + vector(reader.vector())


@dataclass(slots=True)
class Leaf:
    """A LeafNode of an update path."""

    encryption_key: bytes
    signature_key: bytes
    credential: bytes
    capabilities: bytes
    parent_hash: bytes
    extensions: bytes
    signature: bytes

    @classmethod
    def read(cls, reader: Reader) -> "Leaf":
        encryption_key, signature_key = reader.vector(), reader.vector()
        credential = reader.take(2) + vector(reader.vector())
        capabilities = b"".join(vector(reader.vector()) for _ in range(5))
        assert reader.take(1) == b"\x03"  # leaf_node_source commit
        return cls(
            encryption_key,
            signature_key,
            credential,
            capabilities,
            reader.vector(),
            reader.vector(),
            reader.vector(),
        )

    def unsigned(self) -> bytes:
        return (
            vector(self.encryption_key)
            + vector(self.signature_key)
            + self.credential
            + self.capabilities
            + b"\x03"
            + vector(self.parent_hash)
            + vector(self.extensions)
        )

    def sign(self, signer: Client, group_id: bytes, leaf_index: int) -> None:
        position = vector(group_id) + leaf_index.to_bytes(4, "big")
        self.signature = signer.sign_with_label(label="LeafNodeTBS", content=self.unsigned() + position)


@dataclass(slots=True)
class Forgery:
    """The parts of an MLSMessage(PublicMessage(Commit))."""

    group_id: bytes
    epoch: int
    sender: bytes
    authenticated_data: bytes
    proposals: bytes
    leaf: Leaf
    path: bytes
    confirmation_tag: bytes
    membership_tag: bytes | None
    signature: bytes = field(default=b"")

    @classmethod
    def read(cls, commit: bytes) -> "Forgery":
        reader = Reader(commit)
        assert reader.take(4) == HEADER
        group_id, epoch = reader.vector(), int.from_bytes(reader.take(8), "big")
        sender = reader.take(1)
        if sender[0] == SENDER_MEMBER:
            sender += reader.take(4)
        aad = reader.vector()
        assert reader.take(1) == b"\x03"  # content_type commit
        proposals = reader.vector()
        assert reader.take(1) == b"\x01"  # there is an update path
        leaf, path = Leaf.read(reader), reader.vector()
        signature, confirmation_tag = reader.vector(), reader.vector()
        membership_tag = reader.vector() if sender[0] == SENDER_MEMBER else None
        assert reader.data == b""
        return cls(
            group_id, epoch, sender, aad, proposals, leaf, path, confirmation_tag, membership_tag, signature
        )

    def content(self) -> bytes:
        commit = (
            vector(self.proposals)
            + b"\x01"
            + self.leaf.unsigned()
            + vector(self.leaf.signature)
            + vector(self.path)
        )
        return (
            vector(self.group_id)
            + self.epoch.to_bytes(8, "big")
            + self.sender
            + vector(self.authenticated_data)
            + b"\x03"
            + commit
        )

    def sign(self, signer: Client | SignatureKeyPair, group_context: bytes) -> bytes:
        """Sign as ``signer`` and give the message. Outside of the group, the context is not signed."""
        signed = HEADER + self.content() + group_context
        self.signature = signer.sign_with_label(label="FramedContentTBS", content=signed)
        return self.encode()

    def encode(self) -> bytes:
        tags = vector(self.signature) + vector(self.confirmation_tag)
        if self.membership_tag is not None:
            tags += vector(self.membership_tag)
        return HEADER + self.content() + tags


def split_commit(message: bytes) -> tuple[bytes, bytes, bytes]:
    """FramedContent, signature and confirmation tag of any MLSMessage(PublicMessage(Commit))."""
    reader = Reader(message)
    assert reader.take(4) == HEADER
    reader.vector()  # group_id
    reader.take(8)  # epoch
    if reader.take(1)[0] == SENDER_MEMBER:
        reader.take(4)
    reader.vector()  # authenticated_data
    assert reader.take(1) == b"\x03"  # content_type commit
    reader.vector()  # proposals
    if reader.take(1) == b"\x01":
        Leaf.read(reader)
        reader.vector()
    content = message[4 : len(message) - len(reader.data)]
    return content, reader.vector(), reader.vector()


@dataclass(slots=True)
class ForgedKeyPackage:
    """The parts of a KeyPackage (RFC 9420 section 10), to be changed and signed again by their owner."""

    ciphersuite: int
    init_key: bytes
    encryption_key: bytes
    signature_key: bytes
    credential: bytes
    capabilities: list[bytes]
    """The content of its vectors: versions, ciphersuites, extensions, proposals, credentials."""
    not_before: int
    not_after: int
    leaf_extensions: bytes
    extensions: bytes

    @classmethod
    def read(cls, key_package: bytes) -> "ForgedKeyPackage":
        reader = Reader(key_package)
        assert reader.take(2) == b"\x00\x01"
        ciphersuite, init_key = int.from_bytes(reader.take(2), "big"), reader.vector()
        keys = reader.vector(), reader.vector()
        credential = reader.take(2) + vector(reader.vector())
        capabilities = [reader.vector() for _ in range(5)]
        assert reader.take(1) == b"\x01"  # leaf_node_source key_package
        lifetime = int.from_bytes(reader.take(8), "big"), int.from_bytes(reader.take(8), "big")
        leaf_extensions, _ = reader.vector(), reader.vector()
        extensions = reader.vector()
        return cls(
            ciphersuite, init_key, *keys, credential, capabilities, *lifetime, leaf_extensions, extensions
        )

    def sign(self, signer: Client, source: bytes | None = None) -> bytes:
        """Sign both structs; ``source`` replaces the leaf_node_source and what it selects."""
        lifetime = self.not_before.to_bytes(8, "big") + self.not_after.to_bytes(8, "big")
        leaf = vector(self.encryption_key) + vector(self.signature_key) + self.credential
        leaf += b"".join(vector(part) for part in self.capabilities)
        leaf += (source or b"\x01" + lifetime) + vector(self.leaf_extensions)
        leaf += vector(signer.sign_with_label(label="LeafNodeTBS", content=leaf))
        unsigned = b"\x00\x01" + self.ciphersuite.to_bytes(2, "big") + vector(self.init_key)
        unsigned += leaf + vector(self.extensions)
        return unsigned + vector(signer.sign_with_label(label="KeyPackageTBS", content=unsigned))


def with_tree(group_info: bytes, tree: bytes, signer: Client) -> bytes:
    """The GroupInfo with a `ratchet_tree` extension (0x0002), signed again."""
    reader = Reader(group_info)
    context = reader.take(4) + vector(reader.vector()) + reader.take(8)
    context += b"".join(vector(reader.vector()) for _ in range(3))
    extensions = b"\x00\x02" + vector(tree) + reader.vector()
    signed = context + vector(extensions) + vector(reader.vector()) + reader.take(4)
    return signed + vector(signer.sign_with_label(label="GroupInfoTBS", content=signed))
