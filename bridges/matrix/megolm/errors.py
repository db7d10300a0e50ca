"""What can be wrong with what is encrypted. Whatever raises one of these has changed nothing."""

from __future__ import annotations

from linearized.exceptions import LinearizedError


class EncryptionError(LinearizedError):
    """The root: something that is encrypted, or a key, cannot be used."""


class MalformedKeyMessage(EncryptionError):  # noqa: N818 - names the fact
    """It has not the form the specification gives it."""


class TooLarge(EncryptionError):  # noqa: N818 - names the fact
    """It is larger than anything of its kind has reason to be."""


class UnknownAlgorithm(EncryptionError):  # noqa: N818 - names the fact
    """It is encrypted in a way we do not know."""


class BadSignature(EncryptionError):  # noqa: N818 - names the fact
    """A signature that has to be there is missing or wrong."""


class UnknownDevice(EncryptionError):  # noqa: N818 - names the fact
    """The device it claims to come from is none of its sender's."""


class NotForUs(EncryptionError):  # noqa: N818 - names the fact
    """It is encrypted for another device, or names another recipient inside."""


class Undecryptable(EncryptionError):  # noqa: N818 - names the fact
    """It does not decrypt."""


class ForgedSender(EncryptionError):  # noqa: N818 - names the fact
    """It is not from whom it says it is."""


class WrongRoom(EncryptionError):  # noqa: N818 - names the fact
    """It was encrypted for another room than the one it stands in."""


class Replayed(EncryptionError):  # noqa: N818 - names the fact
    """The same ciphertext stood in another event before."""


class MissingKey(EncryptionError):  # noqa: N818 - names the fact
    """The key has not come, or begins later than the message."""

    def __init__(self, session_id: str) -> None:
        super().__init__("the key of the message is not here")
        self.session_id = session_id


class RoomClosed(EncryptionError):  # noqa: N818 - names the fact
    """The room is encrypted and the bridge takes no part in its encryption; nothing is sent in the clear."""
