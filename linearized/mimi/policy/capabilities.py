"""The MIMI Role Capabilities registry (draft-ietf-mimi-room-policy, IANA Considerations)."""

from __future__ import annotations

from enum import IntEnum


class Capability(IntEnum):
    """What a role may do.

    The registry grows: what it has that we do not know is kept as an ``UnknownValue`` and allows nothing.
    """

    ADD_PARTICIPANT = 0x0000
    REMOVE_PARTICIPANT = 0x0001
    ADD_OWN_CLIENT = 0x0002
    REMOVE_OWN_CLIENT = 0x0003
    OPEN_JOIN = 0x0004
    JOIN_IF_PREAUTHORIZED = 0x0005
    REMOVE_SELF = 0x0006
    CREATE_JOIN_CODE = 0x0007
    DELETE_JOIN_CODE = 0x0008
    USE_JOIN_CODE = 0x0009
    BAN = 0x000A
    UN_BAN = 0x000B
    KICK = 0x000C
    KNOCK = 0x000D
    ACCEPT_KNOCK = 0x000E
    CHANGE_USER_ROLE = 0x000F
    CHANGE_OWN_ROLE = 0x0010
    CREATE_SUBGROUP = 0x0011
    SEND_MESSAGE = 0x0100
    RECEIVE_MESSAGE = 0x0101
    COPY_MESSAGE = 0x0102
    REPORT_ABUSE = 0x0103
    REPLY_TO_MESSAGE = 0x0104
    REACT_TO_MESSAGE = 0x0105
    EDIT_REACTION = 0x0106
    DELETE_OWN_REACTION = 0x0107
    DELETE_OTHER_REACTION = 0x0108
    EDIT_OWN_MESSAGE = 0x0109
    DELETE_OWN_MESSAGE = 0x010A
    DELETE_OTHER_MESSAGE = 0x010B
    START_TOPIC = 0x010C
    REPLY_IN_TOPIC = 0x010D
    EDIT_OWN_TOPIC = 0x010E
    EDIT_OTHER_TOPIC = 0x010F
    SEND_DIRECT_MESSAGE = 0x0110
    TARGET_MESSAGE = 0x0111
    UPLOAD_IMAGE = 0x0200
    UPLOAD_AUDIO = 0x0201
    UPLOAD_VIDEO = 0x0202
    UPLOAD_ATTACHMENT = 0x0203
    DOWNLOAD_IMAGE = 0x0204
    DOWNLOAD_AUDIO = 0x0205
    DOWNLOAD_VIDEO = 0x0206
    DOWNLOAD_ATTACHMENT = 0x0207
    SEND_LINK = 0x0208
    SEND_LINK_PREVIEW = 0x0209
    FOLLOW_LINK = 0x020A
    COPY_LINK = 0x020B
    CHANGE_ROOM_NAME = 0x0300
    CHANGE_ROOM_DESCRIPTION = 0x0301
    CHANGE_ROOM_AVATAR = 0x0302
    CHANGE_ROOM_SUBJECT = 0x0303
    CHANGE_ROOM_MOOD = 0x0304
    CHANGE_OWN_NAME = 0x0380
    CHANGE_OWN_PRESENCE = 0x0381
    CHANGE_OWN_MOOD = 0x0382
    CHANGE_OWN_AVATAR = 0x0383
    START_CALL = 0x0400
    JOIN_CALL = 0x0401
    SEND_AUDIO = 0x0402
    RECEIVE_AUDIO = 0x0403
    SEND_VIDEO = 0x0404
    RECEIVE_VIDEO = 0x0405
    SHARE_SCREEN = 0x0406
    VIEW_SHARED_SCREEN = 0x0407
    CREATE_ROOM = 0x0500
    DESTROY_ROOM = 0x0501
    CHANGE_ROOM_MEMBERSHIP_STYLE = 0x0502
    CHANGE_ROLE_DEFINITIONS = 0x0503
    CHANGE_PREAUTHORIZED_USER_LIST = 0x0504
    CHANGE_OTHER_POLICY_ATTRIBUTE = 0x0505
    CHANGE_MLS_OPERATIONAL_POLICIES = 0x0600
    SEND_MLS_REINIT_PROPOSAL = 0x0601
    SEND_MLS_UPDATE_PROPOSAL = 0x0602
    SEND_MLS_PSK_PROPOSAL = 0x0603
    SEND_MLS_EXTERNAL_PROPOSAL = 0x0604
    SEND_MLS_EXTERNAL_COMMIT = 0x0605

    @property
    def label(self) -> str:
        """The registry's name, ``canAddParticipant``."""
        if self is Capability.CHANGE_MLS_OPERATIONAL_POLICIES:
            return "canChangeMlsOperationalPolicies"  # the one place where the registry writes Mls
        words = self.name.split("_")
        return "can" + "".join(word if word in _ACRONYMS else word.capitalize() for word in words)


_ACRONYMS = frozenset({"MLS", "PSK"})

RESERVED = frozenset(
    {
        Capability.CREATE_JOIN_CODE,
        Capability.DELETE_JOIN_CODE,
        Capability.KNOCK,
        Capability.ACCEPT_KNOCK,
        Capability.CREATE_SUBGROUP,
        Capability.SEND_DIRECT_MESSAGE,
        Capability.TARGET_MESSAGE,
        Capability.CHANGE_OWN_NAME,
        Capability.CHANGE_OWN_PRESENCE,
        Capability.CHANGE_OWN_MOOD,
        Capability.CHANGE_OWN_AVATAR,
        Capability.CREATE_ROOM,
        Capability.CHANGE_OTHER_POLICY_ATTRIBUTE,
        Capability.CHANGE_MLS_OPERATIONAL_POLICIES,
        Capability.SEND_MLS_UPDATE_PROPOSAL,
        Capability.SEND_MLS_PSK_PROPOSAL,
        Capability.SEND_MLS_EXTERNAL_PROPOSAL,
        Capability.SEND_MLS_EXTERNAL_COMMIT,
    }
)
"""Names "reserved for possible future use"."""
