"""Every exception of linearized, as one tree.

``LinearizedError`` splits in two: what a *peer* or a stored byte got wrong (``InvalidInput`` and below, safe
to report to whoever sent it), and what *we* or the operator got wrong (``ConfigError``, ``StoreError``). The
tables that map rejection codes to Matrix and MIMI codes live beside the faces that use them, never in the
middle of a check.
"""

from __future__ import annotations


class LinearizedError(Exception):
    """Root of all errors raised on purpose by this package."""


class ConfigError(LinearizedError):
    """The settings file or a command line is wrong; the text names the setting and says what to do."""


class StoreError(LinearizedError):
    """The store could not do what was asked."""


class AppendConflict(StoreError):  # noqa: N818 - a conflict is what it is; the caller reloads and retries
    """An append was made against a sequence number the log has already passed."""


class SchemaTooNew(StoreError):  # noqa: N818 - as above
    """The database was written by a newer version than this one."""


class InvalidInput(LinearizedError):  # noqa: N818 - the root of "the peer is wrong"
    """Something received is malformed, unsigned or unauthorised."""


class CanonicalJsonError(InvalidInput):
    """A value has no canonical JSON form (float, integer beyond 2**53 - 1, non-string key, too deep) or is
    not JSON.
    """


class IdentifierError(InvalidInput):
    """A user, room, event, device or server identifier does not match its grammar."""


class EventFormatError(InvalidInput):
    """An event does not match the schema of its room version, or is too large."""


class SignatureError(InvalidInput):
    """A required signature is missing, made with an unknown key, or wrong."""


class HashMismatch(InvalidInput):
    """A content hash does not match the content."""


class AuthorizationError(InvalidInput):
    """An event is not allowed by the authorization rules.

    Attributes:
        rule: number of the rule in the draft, for example ``"5.2.3"``.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"rule {rule}: {reason}")
        self.rule = rule
        self.reason = reason


class CertificateError(InvalidInput):
    """A client's certificate leads to no trusted authority, or is not good at the time."""


class ProofError(InvalidInput):
    """A Merkle proof, a checkpoint or a proof of equivocation does not show what it should."""


class MimiDecodeError(InvalidInput):
    """Bytes are not the TLS presentation-language or CBOR structure they should be."""
