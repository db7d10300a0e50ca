"""A client of a provider: its API, an MLS device with its groups, and a session that follows rooms.

session = Session(api, MlsDevice.open(storage, user_id="@alice:a.example", device_id="PHONE"))
await session.upload_key_packages()
async for item in session.items():
    ...
"""

from openmls import MlsError

from linearized.client.answers import ImportEvent, ImportResult, LoginResult, LogPage, Page
from linearized.client.api import ProviderApi
from linearized.client.archive.reading import ArchivedMessage, ArchiveGap, Gap
from linearized.client.archive.session import Approval, Archive
from linearized.client.device import ROLE_ADMIN, ROLE_REGULAR, MlsDevice, role_index
from linearized.client.errors import (
    ApiError,
    ArchiveRefused,
    AssetUnavailable,
    ClientError,
    CommitLost,
    CommitRefused,
    JoinRefused,
    KeyMaterialUnavailable,
    LacksSupport,
    MalformedAnswer,
    NotInGroup,
    ObliviousUnavailable,
    ServerUnreachable,
    StateFileError,
    UntrustedAnswer,
    UntrustedIdentity,
    WrongEpochError,
)
from linearized.client.following import ALGORITHM
from linearized.client.franks import FrankError, FrankFault
from linearized.client.identity import check_certificates
from linearized.client.identity_links import RealIdentity
from linearized.client.items import (
    ArchiveRequested,
    ArchiveShared,
    ArchiveStopped,
    DecryptedMessage,
    EpochChanged,
    GroupLost,
    IdentitiesShared,
    Item,
    Joined,
    MembershipChanged,
    OwnMessage,
    RoomEvent,
    Undecryptable,
)
from linearized.client.key_packages import is_last_resort
from linearized.client.pseudonyms import KnownClient, PseudonymousSession, new_pseudonym, open_pseudonym
from linearized.client.sealed_storage import SEALED, SealedStorage
from linearized.client.session import Sent, Session
from linearized.client.storage import FileStorage, MemoryStorage, StateStorage
from linearized.client.transport import Download, repeated
from linearized.client.verify import (
    LogBroken,
    LogReport,
    LogVerifier,
    check_included,
    check_signed,
    fetch_and_verify,
    server_keys,
    verify_log,
)
from linearized.mimi.bridged import BRIDGED_CLIENT, BridgedClient
from linearized.mimi.message_status import MessageStatus, StatusReport, report_in, status_report

__all__ = [
    "ALGORITHM",
    "BRIDGED_CLIENT",
    "ROLE_ADMIN",
    "ROLE_REGULAR",
    "SEALED",
    "ApiError",
    "Approval",
    "Archive",
    "ArchiveGap",
    "ArchiveRefused",
    "ArchiveRequested",
    "ArchiveShared",
    "ArchiveStopped",
    "ArchivedMessage",
    "AssetUnavailable",
    "BridgedClient",
    "ClientError",
    "CommitLost",
    "CommitRefused",
    "DecryptedMessage",
    "Download",
    "EpochChanged",
    "FileStorage",
    "FrankError",
    "FrankFault",
    "Gap",
    "GroupLost",
    "IdentitiesShared",
    "ImportEvent",
    "ImportResult",
    "Item",
    "JoinRefused",
    "Joined",
    "KeyMaterialUnavailable",
    "KnownClient",
    "LacksSupport",
    "LogBroken",
    "LogPage",
    "LogReport",
    "LogVerifier",
    "LoginResult",
    "MalformedAnswer",
    "MembershipChanged",
    "MemoryStorage",
    "MessageStatus",
    "MlsDevice",
    "MlsError",
    "NotInGroup",
    "ObliviousUnavailable",
    "OwnMessage",
    "Page",
    "ProviderApi",
    "PseudonymousSession",
    "RealIdentity",
    "RoomEvent",
    "SealedStorage",
    "Sent",
    "ServerUnreachable",
    "Session",
    "StateFileError",
    "StateStorage",
    "StatusReport",
    "Undecryptable",
    "UntrustedAnswer",
    "UntrustedIdentity",
    "WrongEpochError",
    "check_certificates",
    "check_included",
    "check_signed",
    "fetch_and_verify",
    "is_last_resort",
    "new_pseudonym",
    "open_pseudonym",
    "repeated",
    "report_in",
    "role_index",
    "server_keys",
    "status_report",
    "verify_log",
]
