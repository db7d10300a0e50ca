"""What a client of a provider can run into."""

from __future__ import annotations

from linearized.exceptions import InvalidInput, LinearizedError, StoreError


class ClientError(LinearizedError):
    """Root of the errors of ``linearized.client``."""


class ApiError(ClientError):
    """The server answered with an error.

    Attributes:
        status: HTTP status code.
        errcode: Matrix error code, ``M_UNKNOWN`` when the body held none.
        error: the server's text.
        retry_after: seconds for which the server asked not to be asked again; 0 if it did not say.
    """

    def __init__(self, status: int, errcode: str, error: str, *, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {errcode}: {error}")
        self.retry_after = retry_after
        self.status = status
        self.errcode = errcode
        self.error = error


class WrongEpochError(ApiError):
    """A message was encrypted for an epoch the room has left.

    Attributes:
        current_epoch: the room's epoch now, if the server said it.
    """

    def __init__(self, status: int, errcode: str, error: str, current_epoch: int | None) -> None:
        super().__init__(status, errcode, error)
        self.current_epoch = current_epoch


class ServerUnreachable(ClientError):  # noqa: N818 - names the fact
    """No usable answer within the deadline and the retries; whether the request took effect is unknown."""


class MalformedAnswer(ClientError):  # noqa: N818 - names the fact
    """The server's answer is not what its API promises, or is larger than we accept."""


class CommitRefused(ClientError):  # noqa: N818 - names the fact
    """The hub did not accept a commit, for another reason than its epoch; nothing changed.

    Attributes:
        code: the ``UpdateResponseCode`` (mimi-protocol, "Update Room State").
    """

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"the hub refused the commit (code {code}): {description}")
        self.code = code


class CommitLost(ClientError):  # noqa: N818 - names the fact
    """Other commits won every race within the attempts allowed; try again."""


class NotInGroup(ClientError):  # noqa: N818 - names the fact
    """This device has no usable MLS group for the room."""


class KeyMaterialUnavailable(ClientError):  # noqa: N818 - names the fact
    """No key package could be had for a user.

    Attributes:
        user_id: whose.
        code: the ``KeyMaterialUserCode`` (mimi-protocol, "Fetch Key Material").
    """

    def __init__(self, user_id: str, code: int) -> None:
        super().__init__(f"no key packages for {user_id} (code {code})")
        self.user_id = user_id
        self.code = code


class LacksSupport(ClientError):  # noqa: N818 - names the fact
    """A client does not have what the room's group asks of its members, by its key package's own account.

    Attributes:
        user_id: whose client.
        missing: components and media types.
    """

    def __init__(self, user_id: str, missing: tuple[str, ...]) -> None:
        super().__init__(f"a client of {user_id} lacks what the group asks for: {', '.join(missing)}")
        self.user_id = user_id
        self.missing = missing


class JoinRefused(ClientError):  # noqa: N818 - names the fact
    """The hub gave no GroupInfo to join with.

    Attributes:
        code: the ``GroupInfoCode`` (mimi-protocol, "Claim group key information").
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the hub gave no group information (code {code})")
        self.code = code


class AssetUnavailable(ClientError):  # noqa: N818 - names the fact
    """The hub gave no file.

    Attributes:
        status: the HTTP status inside the oblivious response: 404 if there is none that it would fetch.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the hub gave no file ({status})")
        self.status = status


class ObliviousUnavailable(ClientError):  # noqa: N818 - names the fact
    """A file cannot be had obliviously; ``ProviderApi.download_media`` asks our provider for it instead."""


class StateFileError(ClientError, StoreError):
    """A device's saved state cannot be read, or another process holds it."""


class UntrustedAnswer(ClientError, InvalidInput):  # noqa: N818 - names the fact
    """The server sent something that contradicts what it is cryptographically bound to."""


class ArchiveRefused(ClientError):  # noqa: N818 - names the fact
    """A device is not given the keys of archives, or gives none: the reason says why."""


class UntrustedIdentity(ClientError, InvalidInput):  # noqa: N818 - names the fact
    """Who is behind a pseudonym is not shown as it must be; nobody is believed to be anybody by it."""
