"""Types and documentation of the native module."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, final

MAXIMUM_LIFETIME: Final[int]
"""Seconds a leaf may be valid, unless the application says otherwise: 84 days and an hour."""

CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519: Final[int]
CIPHERSUITE_P256_AES128GCM_SHA256_P256: Final[int]
CIPHERSUITE_X25519_CHACHA20POLY1305_SHA256_ED25519: Final[int]
CIPHERSUITE_P384_AES256GCM_SHA384_P384: Final[int]
CIPHERSUITE_XWING_CHACHA20POLY1305_SHA256_ED25519: Final[int]
"""MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519, 0x004D: X-Wing of draft-connolly-cfrg-xwing-kem-06.

The number is OpenMLS's own and not registered with IANA; a peer has to know it from OpenMLS.
"""

def inspect_message(data: bytes) -> MessageInfo:
    """Decode an MLSMessage without verifying anything.

    Raises MalformedMessage, also for trailing bytes.
    """

def reencode(data: bytes) -> bytes:
    """Decode an MLSMessage, verify nothing, and encode again what was understood of it.

    A struct of RFC 9420 has one encoding, so this gives ``data`` back or raises MalformedMessage. It is there
    to prove that.
    """

def inspect_key_package(
    data: bytes,
    *,
    now: int,
    ciphersuite: int | None = None,
    required_extensions: Sequence[int] = ...,
    required_proposals: Sequence[int] = ...,
    required_credentials: Sequence[int] = ...,
    maximum_lifetime: int = ...,
) -> KeyPackageInfo:
    """Decode and verify a KeyPackage, or an MLSMessage holding one (RFC 9420 section 10.1).

    ``now`` is in seconds since 1970, must lie within the lifetime of the key package, and is the only clock.
    ``ciphersuite`` is the one that the key package must be of. The client must announce what is required; the
    types that RFC 9420 section 7.2 calls default (extensions 1 to 5, proposals 1 to 7) are announced by
    nobody and supported by all. Its lifetime is at most ``maximum_lifetime`` seconds long.

    Raises InvalidKeyPackage for everything that is wrong with it, and names what is missing.
    """

def key_package_reference(data: bytes) -> bytes:
    """Give the KeyPackageRef (RFC 9420 section 5.2) of a KeyPackage, or of an MLSMessage holding one.

    Nothing is verified. Raises MalformedMessage, and NotAllowed for a ciphersuite that is not supported.
    """

def welcome_references(welcome: bytes) -> tuple[bytes, ...]:
    """Give the KeyPackageRefs a Welcome, or an MLSMessage holding one, is addressed to.

    Raises MalformedMessage.
    """

def group_info_details(group_info: bytes) -> GroupInfoDetails:
    """Decode a GroupInfo, or an MLSMessage holding one, without verifying anything.

    Raises MalformedMessage.
    """

def proposal_reference(message: bytes, *, ciphersuite: int) -> bytes:
    """Give the ProposalRef (RFC 9420 section 5.2) of an MLSMessage(PublicMessage) that holds a proposal.

    ``ciphersuite`` is that of its group. Nothing is verified. Raises MalformedMessage, NotAllowed.
    """

def inspect_ratchet_tree(data: bytes, *, ciphersuite: int) -> RatchetTreeInfo:
    """Decode the content of a `ratchet_tree` extension and compute its tree hash (RFC 9420 section 7.8).

    Nothing is verified: compare the tree hash with that of a GroupInfo, or use `PublicGroup.observe`.
    Raises MalformedMessage, NotAllowed.
    """

def hash(ciphersuite: int, data: bytes) -> bytes:  # noqa: A001
    """Hash ``data`` with the hash function of the ciphersuite; raw bytes in and out."""

def verify_with_label(
    *, ciphersuite: int, public_key: bytes, label: str, content: bytes, signature: bytes
) -> None:
    """VerifyWithLabel of RFC 9420 section 5.1.2; ``label`` without the "MLS 1.0 " prefix.

    Raises InvalidSignature.
    """

def ed25519_verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a raw Ed25519 signature (RFC 8032; 64 bytes) of a raw public key (32 bytes) is right.

    Small-order keys and points and second encodings of a point are refused, and there is no cofactor. What is
    malformed is a wrong signature. Keeps the GIL, for some 50 microseconds.
    """

def ed25519_verify_all(signatures: Sequence[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """`ed25519_verify` for many ``(key, message, signature)``, with the GIL released once for all.

    From eight on a second thread helps.
    """

def encrypt_with_label(
    *, ciphersuite: int, public_key: bytes, label: str, context: bytes, plaintext: bytes
) -> bytes:
    """EncryptWithLabel of RFC 9420 section 5.1.3; gives an HPKECiphertext.

    Raises NotAllowed if ``public_key`` is not a key of the ciphersuite.
    """

@final
class MessageInfo:
    """The unencrypted and unverified parts of an MLSMessage.

    ``sender_leaf_index`` and ``authenticated_data`` of a public message are what the sender claims until the
    message is verified; those of a private message are encrypted or merely authenticated.
    """

    @property
    def wire_format(
        self,
    ) -> Literal["public_message", "private_message", "welcome", "group_info", "key_package"]: ...
    @property
    def group_id(self) -> bytes | None: ...
    @property
    def epoch(self) -> int | None: ...
    @property
    def content_type(self) -> Literal["application", "proposal", "commit"] | None: ...
    @property
    def is_external_commit(self) -> bool: ...
    @property
    def sender_leaf_index(self) -> int | None: ...
    @property
    def authenticated_data(self) -> bytes | None: ...
    @property
    def ciphersuite(self) -> int | None: ...

@final
class Capabilities:
    """What a leaf announces (RFC 9420 section 7.2), as numbers of the IANA registries."""

    @property
    def versions(self) -> tuple[int, ...]: ...
    @property
    def ciphersuites(self) -> tuple[int, ...]: ...
    @property
    def extensions(self) -> tuple[int, ...]: ...
    @property
    def proposals(self) -> tuple[int, ...]: ...
    @property
    def credentials(self) -> tuple[int, ...]: ...

@final
class KeyPackageInfo:
    """A verified key package.

    ``credential`` is the Credential struct, ``identity`` the content of a basic one and empty for another,
    ``certificates`` the DER certificates of an X.509 one, the leaf's first (nothing of them is verified, see
    `Client`). The validity bounds are in seconds since 1970, the keys are raw public keys. ``last_resort`` is
    true with the `last_resort_key_package` component or the extension (0x000a) of earlier drafts.
    ``extensions`` and ``app_data`` (the `app_data_dictionary`) are of the key package, ``leaf_extensions``
    and ``leaf_app_data`` of its leaf; extensions by their type, in their order.
    """

    @property
    def reference(self) -> bytes: ...
    @property
    def ciphersuite(self) -> int: ...
    @property
    def identity(self) -> bytes: ...
    @property
    def credential(self) -> bytes: ...
    @property
    def certificates(self) -> tuple[bytes, ...]: ...
    @property
    def signature_key(self) -> bytes: ...
    @property
    def encryption_key(self) -> bytes: ...
    @property
    def init_key(self) -> bytes: ...
    @property
    def last_resort(self) -> bool: ...
    @property
    def not_before(self) -> int: ...
    @property
    def not_after(self) -> int: ...
    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def extensions(self) -> dict[int, bytes]: ...
    @property
    def app_data(self) -> dict[int, bytes]: ...
    @property
    def leaf_extensions(self) -> dict[int, bytes]: ...
    @property
    def leaf_app_data(self) -> dict[int, bytes]: ...

@final
class RatchetTreeInfo:
    """An unverified ratchet tree: the indices of the leaves that are not blank, and the tree hash."""

    @property
    def leaves(self) -> tuple[int, ...]: ...
    @property
    def tree_hash(self) -> bytes: ...

@final
class GroupInfoDetails:
    """An unverified GroupInfo; ``group_context`` is the GroupContext struct inside it.

    ``extensions`` is the vector of GroupInfo extensions with its length, which together with ``signature``
    makes a PartialGroupInfo if it holds no tree (see `PublicGroup.rebuild_group_info`).
    """

    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def ciphersuite(self) -> int: ...
    @property
    def signer_leaf(self) -> int: ...
    @property
    def has_ratchet_tree(self) -> bool: ...
    @property
    def has_external_pub(self) -> bool: ...
    @property
    def confirmed_transcript_hash(self) -> bytes: ...
    @property
    def tree_hash(self) -> bytes: ...
    @property
    def confirmation_tag(self) -> bytes: ...
    @property
    def group_context(self) -> bytes: ...
    @property
    def extensions(self) -> bytes: ...
    @property
    def signature(self) -> bytes: ...
    @property
    def app_data(self) -> dict[int, bytes]: ...

@final
class Member:
    """A leaf of the tree; equal if everything in it is.

    ``credential`` is the Credential struct, ``identity`` the content of a basic one and empty for another,
    ``certificates`` the DER certificates of an X.509 one, the leaf's first (nothing of them is verified, see
    `Client`). The keys are raw public keys. ``extensions`` are those of the leaf by their type, in their
    order, ``app_data`` its `app_data_dictionary`. ``lifetime`` (seconds since 1970, the second bound
    excluded) is None once the leaf was updated.
    """

    @property
    def leaf_index(self) -> int: ...
    @property
    def identity(self) -> bytes: ...
    @property
    def credential(self) -> bytes: ...
    @property
    def certificates(self) -> tuple[bytes, ...]: ...
    @property
    def signature_key(self) -> bytes: ...
    @property
    def encryption_key(self) -> bytes: ...
    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def extensions(self) -> dict[int, bytes]: ...
    @property
    def app_data(self) -> dict[int, bytes]: ...
    @property
    def lifetime(self) -> tuple[int, int] | None: ...

@final
class AppDataUpdate:
    """An AppDataUpdate proposal (draft-ietf-mls-extensions section 4.7).

    ``payload`` is empty for a removal; ``sender_leaf`` is None if the sender is an external joiner or an
    external sender (`StagedCommit.proposals` tells them apart).
    """

    @property
    def component_id(self) -> int: ...
    @property
    def operation(self) -> Literal["update", "remove"]: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def sender_leaf(self) -> int | None: ...

@final
class AppEphemeral:
    """An AppEphemeral proposal (draft-ietf-mls-extensions section 4.8).

    ``sender_leaf`` is None if the sender is no member.
    """

    @property
    def component_id(self) -> int: ...
    @property
    def data(self) -> bytes: ...
    @property
    def sender_leaf(self) -> int | None: ...

@final
class PskId:
    """Names a pre-shared key (RFC 9420 section 8.4). The nonce of each use is made when it is used."""

    @staticmethod
    def external(psk_id: bytes) -> PskId:
        """A key of the application, known by ``psk_id``."""
    @staticmethod
    def application(component_id: int, psk_id: bytes) -> PskId:
        """A key of a component (draft-ietf-mls-extensions section 4.5)."""
    @staticmethod
    def resumption(epoch: int) -> PskId:
        """The resumption secret of an earlier epoch of the group in which it is used."""
    @property
    def kind(self) -> Literal["external", "application", "resumption"]: ...
    @property
    def psk_id(self) -> bytes | None: ...
    @property
    def component_id(self) -> int | None: ...
    @property
    def epoch(self) -> int | None: ...

@final
class RequiredCapabilities:
    """What every member must support (RFC 9420 section 11.1), as numbers of the IANA registries."""

    @staticmethod
    def create(
        *, extensions: Sequence[int] = ..., proposals: Sequence[int] = ..., credentials: Sequence[int] = ...
    ) -> RequiredCapabilities: ...
    @property
    def extensions(self) -> tuple[int, ...]: ...
    @property
    def proposals(self) -> tuple[int, ...]: ...
    @property
    def credentials(self) -> tuple[int, ...]: ...

@final
class ReInit:
    """The parameters of the group that replaces one which a ReInit closed (RFC 9420 section 11.2).

    ``external_senders`` are (raw signature public key, content of the basic credential).
    """

    @property
    def group_id(self) -> bytes: ...
    @property
    def version(self) -> int: ...
    @property
    def ciphersuite(self) -> int: ...
    @property
    def app_data(self) -> dict[int, bytes]: ...
    @property
    def external_senders(self) -> tuple[tuple[bytes, bytes], ...]: ...
    @property
    def required_capabilities(self) -> RequiredCapabilities | None: ...

@final
class WelcomePreview:
    """What a verified Welcome invites to. ``sender`` is the inviter, who signed the GroupInfo."""

    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def ciphersuite(self) -> int: ...
    @property
    def own_leaf_index(self) -> int: ...
    @property
    def sender(self) -> Member: ...
    @property
    def members(self) -> tuple[Member, ...]: ...
    @property
    def app_data(self) -> dict[int, bytes]: ...

@final
class ProposalInfo:
    """A verified proposal.

    ``kind`` is "add", "update", "remove", "psk", "reinit", "external_init", "group_context_extensions",
    "self_remove", "app_data_update", "app_ephemeral" or "custom_" and four hex digits. ``external_sender`` is
    an index into the external senders. ``reference`` is the ProposalRef, None for a proposal that stands in
    the commit itself. What a kind has no use for is None:

    - "remove", "self_remove": ``removed_leaf`` is taken out.
    - "add": the KeyPackage struct and its KeyPackageRef.
    - "update": ``updated`` is the new leaf.
    - "app_data_update": ``component_id``, ``operation``, and ``payload`` for an "update".
    - "app_ephemeral": ``component_id`` and ``payload``. "custom_...": ``payload``.
    - "psk": ``psk`` is the PreSharedKeyID struct (RFC 9420 section 8.4), ``psk_id`` that of an external one.
    - "group_context_extensions": ``extensions`` by their type, in their order.
    - "reinit": the fields of RFC 9420 section 12.1.5, ``extensions`` among them.
    """

    @property
    def kind(self) -> str: ...
    @property
    def sender(self) -> Literal["member", "external", "new_member_proposal", "new_member_commit"]: ...
    @property
    def sender_leaf(self) -> int | None: ...
    @property
    def external_sender(self) -> int | None: ...
    @property
    def by_reference(self) -> bool: ...
    @property
    def reference(self) -> bytes | None: ...
    @property
    def removed_leaf(self) -> int | None: ...
    @property
    def key_package(self) -> bytes | None: ...
    @property
    def key_package_reference(self) -> bytes | None: ...
    @property
    def updated(self) -> Member | None: ...
    @property
    def component_id(self) -> int | None: ...
    @property
    def operation(self) -> Literal["update", "remove"] | None: ...
    @property
    def payload(self) -> bytes | None: ...
    @property
    def psk(self) -> bytes | None: ...
    @property
    def psk_id(self) -> bytes | None: ...
    @property
    def reinit_group_id(self) -> bytes | None: ...
    @property
    def reinit_version(self) -> int | None: ...
    @property
    def reinit_ciphersuite(self) -> int | None: ...
    @property
    def extensions(self) -> dict[int, bytes] | None: ...

@final
class CommitBundle:
    """What a committer sends.

    ``commit`` is an MLSMessage(PublicMessage), ``welcome`` an MLSMessage(Welcome), ``group_info`` a GroupInfo
    of the new epoch with `external_pub` and, unless asked for, without ratchet tree, ``ratchet_tree`` the
    content of the `ratchet_tree` extension of the new epoch.
    """

    @property
    def commit(self) -> bytes: ...
    @property
    def welcome(self) -> bytes | None: ...
    @property
    def group_info(self) -> bytes: ...
    @property
    def ratchet_tree(self) -> bytes: ...

@final
class Processed:
    """What `Group.process` found.

    ``kind`` "application": ``plaintext``, the sender and the epoch of the message.
    ``kind`` "proposal": ``proposal`` says what was stored.
    ``kind`` "commit": the committer as sender and as ``committer``, the new ``epoch``, the ``proposals`` in
    the order of the commit, who was ``added``, ``removed`` and ``updated`` (as in `StagedCommit`), the
    ``app_data`` of the group after it; with ``self_removed`` the group is no longer active.

    ``app_ephemeral`` are the AppEphemeral proposals in it, in order. In a group with the `safe_aad` component
    ``safe_aad`` is what each component sent and ``aad`` what follows, which should be nothing; in others
    ``safe_aad`` is None.
    """

    @property
    def kind(self) -> Literal["application", "proposal", "commit"]: ...
    @property
    def epoch(self) -> int: ...
    @property
    def sender_leaf(self) -> int | None: ...
    @property
    def sender_identity(self) -> bytes: ...
    @property
    def sender_credential(self) -> bytes: ...
    @property
    def aad(self) -> bytes: ...
    @property
    def safe_aad(self) -> dict[int, bytes] | None: ...
    @property
    def plaintext(self) -> bytes | None: ...
    @property
    def self_removed(self) -> bool: ...
    @property
    def app_data(self) -> dict[int, bytes] | None: ...
    @property
    def committer(self) -> Member | None: ...
    @property
    def added(self) -> tuple[Member, ...]: ...
    @property
    def removed(self) -> tuple[Member, ...]: ...
    @property
    def updated(self) -> tuple[Member, ...]: ...
    @property
    def proposal(self) -> ProposalInfo | None: ...
    @property
    def proposals(self) -> tuple[ProposalInfo, ...]: ...
    @property
    def app_ephemeral(self) -> tuple[AppEphemeral, ...]: ...

@final
class Ed25519Key:
    """A private Ed25519 key for plain messages (RFC 8032). Its memory is zeroised."""

    @staticmethod
    def from_seed(seed: bytes) -> Ed25519Key:
        """From a private key of RFC 8032, 32 bytes. Raises MalformedMessage for any other length."""
    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
    def sign(self, message: bytes) -> bytes:
        """The raw signature, 64 bytes. Keeps the GIL, for some 25 microseconds."""

@final
class SignatureKeyPair:
    """A signature key pair. ``ciphersuite`` is any of the supported numbers, else NotAllowed is raised.

    Raw private keys: of Ed25519 (suites 0x0001, 0x0003 and 0x004D) the 32-byte seed; of ECDSA the scalar,
    big-endian, 32 bytes for P-256 (0x0002) and 48 bytes for P-384 (0x0007). Public keys: of Ed25519 32 bytes,
    of ECDSA the uncompressed point, 65 and 97 bytes. Signatures: of Ed25519 64 bytes, of ECDSA in DER.
    """

    @staticmethod
    def generate(*, ciphersuite: int = 1) -> SignatureKeyPair:
        """Make a new key pair for the signature scheme of the ciphersuite."""
    @staticmethod
    def from_bytes(data: bytes, *, ciphersuite: int = 1) -> SignatureKeyPair:
        """Take a raw private key. Raises MalformedMessage if it is none of the ciphersuite."""
    def to_bytes(self) -> bytes:
        """Give the private key; it is a secret."""
    @property
    def ciphersuite(self) -> int: ...
    @property
    def public_key(self) -> bytes: ...
    def sign_with_label(self, *, label: str, content: bytes) -> bytes:
        """SignWithLabel of RFC 9420 section 5.1.2; ``label`` without the "MLS 1.0 " prefix."""

@final
class HpkeKeyPair:
    """An HPKE key pair. ``ciphersuite`` is any of the supported numbers, else NotAllowed is raised.

    Raw private keys: of X25519 (suites 0x0001 and 0x0003) 32 bytes; of P-256 (0x0002) and P-384 (0x0007) the
    scalar, big-endian, 32 and 48 bytes; of X-Wing (0x004D) the 32-byte seed. Public keys: of X25519 32 bytes;
    of P-256 and P-384 the uncompressed point, 65 and 97 bytes; of X-Wing 1216 bytes, ML-KEM-768 first. The
    encapsulated key in an HPKECiphertext is as long as a public key, except for X-Wing: 1120 bytes.
    """

    @staticmethod
    def generate(*, ciphersuite: int = 1) -> HpkeKeyPair:
        """Make a new key pair for the HPKE suite of the ciphersuite."""
    @staticmethod
    def from_bytes(data: bytes, *, ciphersuite: int = 1) -> HpkeKeyPair:
        """Take a raw private key. Raises MalformedMessage if it is none of the ciphersuite."""
    def to_bytes(self) -> bytes:
        """Give the private key; it is a secret."""
    @property
    def ciphersuite(self) -> int: ...
    @property
    def public_key(self) -> bytes: ...
    def decrypt_with_label(self, *, label: str, context: bytes, ciphertext: bytes) -> bytes:
        """DecryptWithLabel of RFC 9420 section 5.1.3, of an HPKECiphertext.

        Raises CannotDecrypt, and MalformedMessage if it is no HPKECiphertext.
        """

@final
class Client:
    """A signature key, a credential, key packages, pre-shared keys and groups, each behind a lock.

    The credential is basic, or has X.509 certificates. Those are passed along unread: that they hold, and
    that the first one is for the leaf's signature key (RFC 9420 section 5.3), is for the Authentication
    Service, which is the caller. Groups of a client with certificates ask their members to support both
    types.

    ``past_epochs`` (at most 64) of a group is how many epochs back its messages can be decrypted,
    ``out_of_order_tolerance`` (at most 1024) how many messages of a sender may overtake one that can still be
    read, ``maximum_forward_distance`` (at most 100000) how many may be missing before one. They are kept with
    the group; larger windows weaken forward secrecy. ``leaf_app_data`` is the `app_data_dictionary` of our
    leaf.
    """

    @staticmethod
    def create(
        *,
        identity: bytes | None = None,
        certificates: Sequence[bytes] | None = None,
        ciphersuite: int = 1,
        signature_key: SignatureKeyPair | None = None,
        maximum_lifetime: int = ...,
    ) -> Client:
        """Make a client without groups; ``identity`` becomes the content of its basic credential, or
        ``certificates`` (DER, the leaf's first) its X.509 credential, which needs ``signature_key``.

        Raises NotAllowed unless it is one of the two.

        ``maximum_lifetime`` is how many seconds a leaf may be valid that it makes, adds or lets others add
        (RFC 9420 section 7.2): all members of a group should agree on it. It is saved with the client.
        """
    @staticmethod
    def load(data: bytes) -> Client:
        """Restore what `save` gave, with all groups and pending commits. Raises SnapshotFormat."""
    def save(self) -> bytes:
        """Give everything as bytes. They contain all secrets: encrypt them before they are stored."""
    @property
    def identity(self) -> bytes:
        """The content of a basic credential; empty for another."""
    @property
    def certificates(self) -> tuple[bytes, ...]: ...
    def renew(self, *, certificates: Sequence[bytes]) -> None:
        """Have other certificates (DER, the leaf's first) for the signature key that we have. Key packages
        and leaves are made with them from now on; in each group our leaf gets them with our next commit or
        Update proposal. Raises NotAllowed for a client without certificates.
        """
    @property
    def ciphersuite(self) -> int: ...
    @property
    def signature_key(self) -> bytes:
        """The raw public key."""
    @property
    def maximum_lifetime(self) -> int: ...
    @property
    def credential(self) -> bytes:
        """The Credential struct."""
    def sign_with_label(self, *, label: str, content: bytes) -> bytes:
        """SignWithLabel of RFC 9420 section 5.1.2."""
    def key_package(
        self,
        *,
        now: int,
        lifetime: int,
        last_resort: bool = False,
        app_data: Mapping[int, bytes] = ...,
        leaf_app_data: Mapping[int, bytes] = ...,
    ) -> bytes:
        """Make a KeyPackage valid from an hour before ``now`` for ``lifetime`` seconds after it.

        ``app_data`` is the `app_data_dictionary` of the key package, ``leaf_app_data`` that of the leaf. The
        private keys stay here until a Welcome uses them; for ``last_resort`` they stay until
        `forget_key_package`. Raises NotAllowed for a lifetime above the client's maximum, which peers would
        refuse, and for component 0x0004, which ``last_resort`` sets.
        """
    def import_key_package(self, *, key_package: bytes, init_key: bytes, encryption_key: bytes) -> bytes:
        """Take over a KeyPackage, or an MLSMessage holding one, that was made elsewhere; gives its reference.

        ``init_key`` and ``encryption_key`` are the raw HPKE private keys. Raises NotAllowed if they do not
        belong to it, or if it is not of our signature key, credential and ciphersuite; InvalidKeyPackage.
        """
    def key_package_references(self) -> tuple[bytes, ...]:
        """Give the references of the key packages whose private keys are here, sorted."""
    def forget_key_package(self, reference: bytes) -> None:
        """Erase the private keys of a key package. Raises NotAllowed if there are none."""
    def add_psk(self, psk: PskId, secret: bytes) -> None:
        """Keep an external or application PSK for all groups and Welcomes, in place of an older one.

        Raises NotAllowed for a resumption PSK, for more than 4096 bytes or more than 1024 keys.
        """
    def remove_psk(self, psk: PskId) -> None:
        """Erase a PSK. Raises NotAllowed if there is none."""
    def psks(self) -> tuple[PskId, ...]:
        """Give the IDs of the PSKs that are kept, sorted."""
    def create_group(
        self,
        *,
        group_id: bytes,
        app_data: Mapping[int, bytes] = ...,
        external_senders: Sequence[tuple[bytes, bytes]] = ...,
        required_capabilities: bool = True,
        leaf_app_data: Mapping[int, bytes] = ...,
        now: int | None = None,
        past_epochs: int = 3,
        out_of_order_tolerance: int = 32,
        maximum_forward_distance: int = 2000,
    ) -> Group:
        """Create a group at epoch 0 with an `app_data_dictionary` of ``app_data``.

        ``now`` (seconds since 1970, the system clock if None) begins the lifetime of our leaf, 84 days.

        ``external_senders`` are (raw signature public key, content of the basic credential). Members must
        support `app_data_dictionary`, AppDataUpdate and SelfRemove; not so without ``required_capabilities``,
        where clients that know RFC 9420 alone can be members as long as there is no ``app_data``. Raises
        NotAllowed if the group exists here.
        """
    def create_reinit(
        self,
        group_id: bytes,
        *,
        add: Sequence[bytes],
        former: Client | None = None,
        leaf_app_data: Mapping[int, bytes] = ...,
        now: int | None = None,
        past_epochs: int = 3,
        out_of_order_tolerance: int = 32,
        maximum_forward_distance: int = 2000,
    ) -> tuple[Group, CommitBundle]:
        """Create the successor of a group that a ReInit closed (RFC 9420 section 11.2); gives it in epoch 1.

        Its parameters are those of `Group.reinit` of ``group_id``. ``add`` are key packages of all other
        members, who refuse it otherwise; they must prove with the resumption secret that they were in the old
        group. Only the Welcome of the bundle is for anybody: its ``commit`` is of epoch 0, where nobody else
        is, and takes the PSK by reference to a proposal that is not sent, so a delivery service begins with
        ``group_info``.

        A client has one ciphersuite: for a successor in another one, create a client of that and give the one
        that was in the old group as ``former``.

        Raises NotAllowed if there was no ReInit, if it names another ciphersuite than that of this client, or
        without ``add``; InvalidKeyPackage, InvalidProposal, UnknownGroup.
        """
    def create_branch(
        self,
        group_id: bytes,
        *,
        branch_id: bytes,
        add: Sequence[bytes],
        app_data: Mapping[int, bytes] | None = None,
        external_senders: Sequence[tuple[bytes, bytes]] | None = None,
        leaf_app_data: Mapping[int, bytes] = ...,
        now: int | None = None,
        past_epochs: int = 3,
        out_of_order_tolerance: int = 32,
        maximum_forward_distance: int = 2000,
    ) -> tuple[Group, CommitBundle]:
        """Create a group of some members of ``group_id``, which goes on (RFC 9420 section 11.3).

        Like `create_reinit`, but ``add`` are some members. Without ``app_data`` and ``external_senders`` it
        has the extensions of ``group_id``.
        """
    def join_welcome(
        self,
        *,
        welcome: bytes,
        ratchet_tree: bytes | None,
        former: Client | None = None,
        past_epochs: int = 3,
        out_of_order_tolerance: int = 32,
        maximum_forward_distance: int = 2000,
    ) -> Group:
        """Join by a Welcome, or an MLSMessage holding one.

        ``ratchet_tree`` may be None if the Welcome carries the tree. PSKs that it names are looked up here;
        if it goes on from another group, by ReInit or by branching, that group must be here, or in
        ``former``, and the new one is checked against it: its parameters, and that everybody was in the old
        group; after a ReInit also that nobody is missing. Members are told by their identities.

        Raises CannotDecrypt if it is not for one of our key packages, NotAllowed if we are in the group
        already (`forget_group` first) or do not have a PSK, InvalidCommit or InvalidSignature if GroupInfo
        and tree do not hold together. A failed join uses up no key package.
        """
    def preview_welcome(
        self, *, welcome: bytes, ratchet_tree: bytes | None, former: Client | None = None
    ) -> WelcomePreview:
        """Decrypt and verify a Welcome without joining: nothing changes and no key package is used up.

        Raises what `join_welcome` raises, but not for a group we are in.
        """
    def join_external(
        self,
        *,
        group_info: bytes,
        ratchet_tree: bytes | None,
        replace_leaf: int | None = None,
        aad: bytes = ...,
        proposals: Sequence[bytes] = ...,
        psks: Sequence[PskId] = ...,
        app_data_updates: Mapping[int, bytes] = ...,
        new_app_data: Mapping[int, bytes] = ...,
        leaf_app_data: Mapping[int, bytes] = ...,
        past_epochs: int = 3,
        out_of_order_tolerance: int = 32,
        maximum_forward_distance: int = 2000,
    ) -> tuple[Group, CommitBundle]:
        """Join by an external commit (RFC 9420 section 12.4.3.2), kept pending until
        `Group.merge_pending_commit`.

        ``replace_leaf`` removes that leaf, our own former one, in the same commit; its keys are not needed. A
        leaf with our present signature key is replaced in any case. It is for the application to check that
        the leaf is ours: nobody's MLS implementation compares the credentials. ``proposals`` are the pending
        SelfRemoves of the epoch. Until merged, an older state of the group stays in use, and a group that had
        none is not active; another external join of the group that is still pending is dropped. In a group
        with the `safe_aad` component an external commit carries no additional data.

        Raises NotAllowed without tree or `external_pub`, for a PSK that is not here, or if the signature key
        belongs to another leaf;
        InvalidProposal if ``replace_leaf`` is empty; InvalidCommit or InvalidSignature if GroupInfo and tree
        do not hold together.
        """
    def group(self, group_id: bytes) -> Group:
        """Give a handle. Raises UnknownGroup."""
    def group_ids(self) -> tuple[bytes, ...]:
        """Give the IDs of all groups, sorted."""
    def forget_group(self, group_id: bytes) -> None:
        """Drop all state and secrets of a group. Raises UnknownGroup."""

@final
class Group:
    """A group of a client; a handle, the state is in the client. All methods may raise UnknownGroup."""

    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def own_leaf_index(self) -> int: ...
    @property
    def is_active(self) -> bool:
        """False after our removal, after a ReInit, and before an external join is merged."""
    @property
    def reinit(self) -> ReInit | None:
        """What follows, if a ReInit closed the group: nothing can be sent in it any more, and of what arrives
        only messages of earlier epochs are read."""
    @property
    def has_pending_commit(self) -> bool: ...
    @property
    def ciphersuite(self) -> int: ...
    def members(self) -> tuple[Member, ...]:
        """Give the members in leaf order."""
    def app_data(self) -> dict[int, bytes]:
        """Give the `app_data_dictionary` of the group."""
    def group_context(self) -> bytes:
        """Give the GroupContext struct."""
    def group_info(self) -> tuple[bytes, bytes]:
        """Sign a GroupInfo of the current epoch; gives it without tree, and the ratchet tree."""
    def external_senders(self) -> tuple[tuple[bytes, bytes], ...]:
        """Give the external senders: raw signature public key and content of the basic credential."""
    def required_capabilities(self) -> RequiredCapabilities | None:
        """Give what members must support, None if nothing is required."""
    def commit(
        self,
        *,
        add: Sequence[bytes] = ...,
        remove: Sequence[int] = ...,
        psks: Sequence[PskId] = ...,
        app_data_updates: Mapping[int, bytes] = ...,
        app_data_removals: Sequence[int] = ...,
        new_app_data: Mapping[int, bytes] = ...,
        app_ephemeral: Sequence[tuple[int, bytes]] = ...,
        external_senders: Sequence[tuple[bytes, bytes]] | None = None,
        required_capabilities: RequiredCapabilities | None = None,
        leaf_app_data: Mapping[int, bytes] | None = None,
        aad: bytes = ...,
        safe_aad: Mapping[int, bytes] = ...,
        pending: bool = True,
        ratchet_tree_extension: bool = False,
        now: int | None = None,
    ) -> CommitBundle:
        """Commit new proposals and all pending ones, always with an update path; pending until merged.

        ``add`` are key packages, whose lifetimes must cover the system clock and, if given, ``now`` (seconds
        since 1970). ``remove`` are leaf indices, ``app_data_updates`` the payload of an update per component,
        ``app_ephemeral`` pairs of component and data. ``new_app_data`` must have the resulting value of
        exactly the components that these and the pending proposals update (see `pending_app_data_updates`).
        ``external_senders`` (as in `Client.create_group`) and ``required_capabilities`` replace those of the
        group, ``leaf_app_data`` the `app_data_dictionary` of our leaf; None leaves them alone.

        ``aad`` is readable by everyone. A group with the `safe_aad` component takes ``safe_aad`` instead,
        data per component (draft-ietf-mls-extensions section 4.9). Without ``pending`` the stored proposals
        are not committed. With ``ratchet_tree_extension`` the tree is also in the Welcome and the GroupInfo.

        Of the pending proposals these are left out: what removes ourselves, PSKs that are not here, ReInits
        (`commit_reinit`), and app data changes that cannot go with the others. Raises NotAllowed if a commit
        is pending, if the group is closed, for our own leaf in ``remove``, for an unknown PSK, and for a
        resumption PSK together with an Add; InvalidKeyPackage; InvalidProposal.
        """
    def commit_reinit(
        self, reference: bytes, *, aad: bytes = ..., safe_aad: Mapping[int, bytes] = ...
    ) -> CommitBundle:
        """Commit the stored ReInit proposal ``reference``, alone. Once merged, the group is closed.

        Raises NotAllowed if there is no such proposal.
        """
    def merge_pending_commit(self) -> None:
        """Enter the epoch of the pending commit or external join. Raises NotAllowed without one."""
    def clear_pending_commit(self) -> None:
        """Drop the pending commit or external join; a group that was only being joined is forgotten."""
    def propose_add(self, key_package: bytes, *, now: int | None = None) -> bytes:
        """Propose to add a client; ``now`` as in `commit`.

        Like all ``propose_`` methods it stores the proposal here and gives an MLSMessage(PublicMessage) for
        everybody, and raises NotAllowed while a commit is pending, after our removal and after a ReInit.
        """
    def propose_update(self, *, leaf_app_data: Mapping[int, bytes] | None = None) -> bytes:
        """Propose new keys for our leaf, which somebody else must commit.

        ``leaf_app_data`` replaces its `app_data_dictionary`; None leaves that alone.
        """
    def propose_remove(self, leaf_index: int) -> bytes:
        """Propose to remove a member. Raises InvalidProposal if there is none."""
    def propose_self_remove(self) -> bytes:
        """Propose to leave (draft-ietf-mls-extensions section 6.3); someone else must commit it."""
    def propose_psk(self, psk: PskId) -> bytes:
        """Propose to use a PSK. Raises NotAllowed if it is not here."""
    def propose_app_data_update(self, component_id: int, payload: bytes | None) -> bytes:
        """Propose to update a component, or to remove it with None."""
    def propose_app_ephemeral(self, component_id: int, data: bytes) -> bytes:
        """Propose to attach data to the commit (draft-ietf-mls-extensions section 4.8)."""
    def propose_group_context_extensions(
        self,
        *,
        external_senders: Sequence[tuple[bytes, bytes]] | None = None,
        required_capabilities: RequiredCapabilities | None = None,
    ) -> bytes:
        """Propose to replace extensions, as in `commit`.

        Raises NotAllowed without a change, InvalidProposal if a member does not support what is required.
        """
    def propose_reinit(
        self,
        *,
        group_id: bytes,
        ciphersuite: int | None = None,
        app_data: Mapping[int, bytes] = ...,
        external_senders: Sequence[tuple[bytes, bytes]] = ...,
    ) -> bytes:
        """Propose to close the group in favour of a new one (RFC 9420 section 12.1.5).

        The arguments are those of `Client.create_group`; the ciphersuite is that of this group if None.
        """
    def pending_proposals(self) -> tuple[ProposalInfo, ...]:
        """Give the stored proposals of this epoch, oldest first."""
    def remove_pending_proposal(self, reference: bytes) -> None:
        """Drop a stored proposal; a commit that takes it can then not be processed. Raises NotAllowed."""
    def clear_pending_proposals(self) -> None:
        """Drop all stored proposals, as if by `remove_pending_proposal`."""
    def encrypt(self, plaintext: bytes, *, aad: bytes = ..., safe_aad: Mapping[int, bytes] = ...) -> bytes:
        """Encrypt an application message.

        Gives an MLSMessage(PrivateMessage). ``aad`` or ``safe_aad`` (as in `commit`) is readable by everyone.
        """
    def app_data_updates(self, message: bytes) -> tuple[AppDataUpdate, ...]:
        """Give the updates a commit would apply, in order. Nothing is verified: `process` does that."""
    def pending_app_data_updates(self) -> tuple[AppDataUpdate, ...]:
        """Give the updates among the stored proposals."""
    def process(
        self, message: bytes, *, new_app_data: Mapping[int, bytes] = ..., now: int | None = None
    ) -> Processed:
        """Decrypt or verify a message, store a proposal, apply a commit.

        ``new_app_data`` must have the resulting value of exactly the components the commit updates, computed
        from `app_data_updates`. The lifetime of every leaf that the message adds must cover ``now`` (seconds
        since 1970, the system clock if None): give the time at which the message was accepted, and one that
        was valid then stays valid. Raises WrongEpoch, CannotDecrypt (also for our own messages),
        InvalidSignature, InvalidProposal, InvalidCommit, NotAllowed.
        """
    def export_secret(self, *, label: str, context: bytes, length: int) -> bytes:
        """MLS-Exporter of RFC 9420 section 8.5; ``length`` in bytes."""
    def safe_export_secret(self, component_id: int) -> bytes:
        """SafeExportSecret of draft-ietf-mls-extensions section 4.4: one secret per component and epoch.

        It is given once; after that its key material is erased and NotAllowed is raised.
        """
    def epoch_authenticator(self) -> bytes:
        """Give the `epoch_authenticator` of RFC 9420 section 8.7, equal for all who agree on the epoch."""

@final
class StagedCommit:
    """A verified commit that is not applied yet.

    ``epoch`` is the new epoch; ``sender_leaf`` is None for an external commit; ``committer`` is the
    committer's leaf before the commit, or the joiner's new leaf; ``added`` includes an external joiner;
    ``updated`` are leaves whose credential or signature key changes or that an Update proposal replaces;
    ``members`` is everyone in the new epoch. ``app_data`` is of the new group context.
    ``proposals`` is everything that the commit applies, in its order; of proposals by value that are equal,
    OpenMLS applies one. ``unused_proposals`` are the stored proposals of the epoch that it leaves out, and
    that end with it. ``proposal_references`` are the proposals it took by reference, ``proposal_kinds`` the
    distinct kinds (see `ProposalInfo`).
    """

    @property
    def epoch(self) -> int: ...
    @property
    def sender_leaf(self) -> int | None: ...
    @property
    def is_external(self) -> bool: ...
    @property
    def authenticated_data(self) -> bytes: ...
    @property
    def committer_identity(self) -> bytes: ...
    @property
    def committer(self) -> Member: ...
    @property
    def added(self) -> tuple[Member, ...]: ...
    @property
    def removed(self) -> tuple[Member, ...]: ...
    @property
    def updated(self) -> tuple[Member, ...]: ...
    @property
    def members(self) -> tuple[Member, ...]: ...
    @property
    def group_context(self) -> bytes: ...
    @property
    def confirmation_tag(self) -> bytes: ...
    @property
    def app_data(self) -> dict[int, bytes]: ...
    @property
    def app_data_updates(self) -> tuple[AppDataUpdate, ...]: ...
    @property
    def proposals(self) -> tuple[ProposalInfo, ...]: ...
    @property
    def unused_proposals(self) -> tuple[ProposalInfo, ...]: ...
    @property
    def proposal_references(self) -> tuple[bytes, ...]: ...
    @property
    def proposal_kinds(self) -> tuple[str, ...]: ...

@final
class PublicGroup:
    """The public state of a group, as a delivery service tracks it, behind one lock.

    Membership tags and the confirmation tag are keyed with secrets of the group, so no delivery service can
    check them; members do.
    """

    @staticmethod
    def observe(
        *,
        group_info: bytes,
        ratchet_tree: bytes | None,
        now: int | None = None,
        maximum_lifetime: int = ...,
    ) -> PublicGroup:
        """Begin with a GroupInfo and its tree, verifying signatures, tree hash and parent hashes.

        With ``now`` (seconds since 1970), leaves whose lifetime does not cover it are refused. No leaf is
        added later that is valid for more than ``maximum_lifetime`` seconds. Raises InvalidSignature,
        InvalidCommit, MalformedMessage, NotAllowed.
        """
    @staticmethod
    def load(data: bytes) -> PublicGroup:
        """Restore what `save` gave. Raises SnapshotFormat."""
    def save(self) -> bytes:
        """Give state and stored proposals as bytes; equal states give equal bytes."""
    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def ciphersuite(self) -> int: ...
    @property
    def maximum_lifetime(self) -> int: ...
    @property
    def reinit(self) -> ReInit | None:
        """What follows, if a ReInit closed the group; nothing is taken in it any more (NotAllowed)."""
    def members(self) -> tuple[Member, ...]:
        """Give the members in leaf order."""
    def member(self, leaf_index: int) -> Member | None:
        """Give the member at a leaf, None if there is none."""
    def app_data(self) -> dict[int, bytes]:
        """Give the `app_data_dictionary` of the group."""
    def group_context(self) -> bytes:
        """Give the GroupContext struct."""
    def extensions(self) -> dict[int, bytes]:
        """Give the extensions of the GroupContext by their type, in their order."""
    def export_ratchet_tree(self) -> bytes:
        """Give the content of the `ratchet_tree` extension."""
    def proposals(self) -> tuple[ProposalInfo, ...]:
        """Give the stored proposals of this epoch, oldest first."""
    def app_data_updates(self, message: bytes) -> tuple[AppDataUpdate, ...]:
        """Give the updates a commit would apply, in order. Nothing is verified: `stage_commit` does that."""
    def stage_proposal(self, message: bytes, *, now: int | None = None) -> ProposalInfo:
        """Verify a proposal without storing it.

        It may come from a member, from a client that asks to be added, or from an external sender. RFC 9420
        section 12.1.8 and draft-ietf-mls-extensions allow an external sender more than is taken here: Add,
        Remove, GroupContextExtensions and AppDataUpdate. ``now`` as in `stage_commit`.

        Raises MalformedMessage, UnknownGroup, WrongEpoch, InvalidSignature, InvalidProposal, InvalidCommit,
        NotAllowed.
        """
    def add_proposal(self, message: bytes, *, now: int | None = None) -> ProposalInfo:
        """Verify a proposal and store it for commits of this epoch; storing one twice does nothing.

        ``now`` as in `stage_commit`.
        """
    def stage_commit(
        self, message: bytes, *, new_app_data: Mapping[int, bytes] = ..., now: int | None = None
    ) -> StagedCommit:
        """Verify a commit against this epoch, changing nothing.

        ``new_app_data`` must have the resulting value of exactly the components the commit updates. The
        lifetime of every leaf it adds, by value or by reference, must cover ``now`` (seconds since 1970, the
        system clock if None): give the time at which the commit was accepted, and one that was valid then
        stays valid. Raises MalformedMessage, UnknownGroup, WrongEpoch, InvalidSignature, InvalidProposal,
        InvalidCommit, NotAllowed.
        """
    def merge(self, staged: StagedCommit) -> None:
        """Enter the new epoch; stored proposals are dropped.

        Raises NotAllowed if it was staged elsewhere or against another epoch, or merged already.
        """
    def verify_group_info(self, *, staged: StagedCommit, group_info: bytes) -> None:
        """Check a GroupInfo of the new epoch: group context, the commit's confirmation tag, signature.

        Raises WrongEpoch, InvalidCommit, InvalidSignature, MalformedMessage.
        """
    def rebuild_group_info(self, *, staged: StagedCommit, extensions: bytes, signature: bytes) -> bytes:
        """Complete a PartialGroupInfo (draft-mahy-mls-ratchet-tree-options-02) of the new epoch.

        ``extensions`` is its `group_info_extensions` vector with its length. The rest of the GroupInfo
        follows from the commit; its signer is the committer. Gives the GroupInfo, checked as by
        `verify_group_info`. Raises MalformedMessage, also for a tree among the extensions, InvalidSignature,
        NotAllowed.
        """
    def propose_add(
        self, *, signer: SignatureKeyPair, sender_index: int, key_package: bytes, now: int | None = None
    ) -> bytes:
        """Make an Add proposal as the external sender ``sender_index``, as an MLSMessage(PublicMessage).

        Like all proposals below, it is checked against this epoch and not stored. The lifetime of the key
        package must cover ``now`` (seconds since 1970, the system clock if None). Raises InvalidSignature or
        NotAllowed if ``signer`` is not that sender, InvalidKeyPackage, and InvalidProposal if the client does
        not support what the group requires or is of another ciphersuite.
        """
    def propose_remove(self, *, signer: SignatureKeyPair, sender_index: int, leaf_index: int) -> bytes:
        """Make a Remove proposal as the external sender ``sender_index``.

        Raises InvalidSignature or NotAllowed if ``signer`` is not that sender, InvalidProposal for an empty
        leaf.
        """
    def propose_app_data_update(
        self, *, signer: SignatureKeyPair, sender_index: int, component_id: int, payload: bytes | None
    ) -> bytes:
        """Make an AppDataUpdate proposal as an external sender; None as payload removes the component.

        OpenMLS itself takes no such proposal from an external sender; `PublicGroup` and `Group` do. Raises
        InvalidSignature, NotAllowed, and InvalidProposal if the component to be removed has no state or a
        member does not support AppDataUpdate.
        """
    def propose_group_context_extensions(
        self, *, signer: SignatureKeyPair, sender_index: int, extensions: Mapping[int, bytes]
    ) -> bytes:
        """Make a GroupContextExtensions proposal as an external sender.

        ``extensions`` are all of the group by their type, in order; begin with the present `extensions`.
        Raises InvalidSignature, NotAllowed, and InvalidProposal if they are malformed, if a member does not
        support one, or if `app_data_dictionary` changes where AppDataUpdate is required.
        """
    def propose_reinit(
        self,
        *,
        signer: SignatureKeyPair,
        sender_index: int,
        group_id: bytes,
        ciphersuite: int,
        extensions: Mapping[int, bytes],
        version: int = 1,
    ) -> bytes:
        """Make a ReInit proposal as an external sender, for a member to commit (`Group.commit_reinit`).

        Raises InvalidSignature, NotAllowed, InvalidProposal.
        """
