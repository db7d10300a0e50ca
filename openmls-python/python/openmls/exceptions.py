"""Every exception this package raises, as one tree.

``code`` is a stable camel-case word for logs and wire errors. A wrong Python type raises ``TypeError`` and an
integer that is too large ``OverflowError``, as everywhere; whatever arrives as bytes raises only these.
"""

from typing import ClassVar

__all__ = [
    "CannotDecrypt",
    "InvalidCommit",
    "InvalidKeyPackage",
    "InvalidProposal",
    "InvalidSignature",
    "MalformedMessage",
    "MlsError",
    "NotAllowed",
    "Poisoned",
    "SnapshotFormat",
    "UnknownGroup",
    "WrongEpoch",
]


class MlsError(Exception):
    """Base of all; never raised itself."""

    code: ClassVar[str] = "error"


class MalformedMessage(MlsError):
    """Bytes that do not decode, or have trailing bytes."""

    code = "malformed"


class WrongEpoch(MlsError):
    """A message of another epoch than the group is in.

    ``current_epoch`` is the epoch of the group that refused it.
    """

    code = "wrongEpoch"

    def __init__(self, message: str, *, current_epoch: int) -> None:
        super().__init__(message)
        self.current_epoch = current_epoch


class InvalidSignature(MlsError):
    """A signature or membership tag that does not verify."""

    code = "invalidSignature"


class InvalidProposal(MlsError):
    """A proposal, or a commit because of its proposals, that RFC 9420 section 12.2 calls invalid."""

    code = "invalidProposal"


class InvalidCommit(MlsError):
    """A commit, GroupInfo or ratchet tree that does not hold together."""

    code = "invalidCommit"


class NotAllowed(MlsError):
    """The call makes no sense in this state, or the sender may not send this."""

    code = "notAllowed"


class InvalidKeyPackage(MlsError):
    """A key package that is malformed, wrongly signed, expired or of an unsupported ciphersuite."""

    code = "invalidKeyPackage"


class UnknownGroup(MlsError):
    """No such group here, or a message that belongs to another one."""

    code = "unknownGroup"


class CannotDecrypt(MlsError):
    """A ciphertext for which there is no key: not addressed to us, already used, too old, or our own."""

    code = "cannotDecrypt"


class SnapshotFormat(MlsError):
    """A snapshot of another format version, of another kind of object, or a damaged one."""

    code = "snapshotFormat"


class Poisoned(MlsError):
    """The native code panicked or contradicted itself, which is a defect of it.

    If that cut a change short, what was being changed (a group, a `PublicGroup`, the client's key packages)
    is dropped and refuses all further calls: load it again from a snapshot. Everything else goes on.
    """

    code = "poisoned"
