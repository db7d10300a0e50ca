"""The client-server API: Matrix's, as far as this server has it, and the MLS additions beside it.

Unmodified Matrix clients log in, sync, read history and send; MLS clients also upload key packages and submit
handshakes. Which endpoint is whose function is the table below and nothing else.
"""

from __future__ import annotations

from typing import Final

from linearized.server.clients import (
    account_data,
    accounts,
    around,
    consents,
    creating,
    devices,
    discovery,
    ending_devices,
    faces,
    filters,
    forgetting,
    hierarchy,
    history,
    identifiers,
    imports,
    join_codes,
    keys,
    live,
    log,
    media,
    membership,
    metadata_policy,
    mls,
    oblivious,
    profiles,
    proofs,
    pseudonyms,
    push_rules,
    receipts,
    relations,
    reports,
    segments,
    sending,
    sessions,
    sliding_sync,
    sync,
    thumbnailing,
    to_device,
    typing_notices,
    user_directory,
)
from linearized.server.clients.auth import PrivateHandler, PublicHandler, private, public
from linearized.server.clients.context import context_of
from linearized.server.clients.paths import CLIENT, MEDIA, MLS, V1, V3
from linearized.server.http import Route
from linearized.server.node import Node

_ROOM: Final = f"{V3}/rooms/{{room_id}}"
_MLS_ROOM: Final = f"{MLS}/rooms/{{room_id}}"
_OWN: Final = f"{V3}/user/{{user_id}}"
_OWN_ROOM: Final = f"{_OWN}/rooms/{{room_id}}"
_PUSH_RULE: Final = f"{V3}/pushrules/global/{{kind}}/{{rule_id}}"
_RELATIONS: Final = f"{V1}/rooms/{{room_id}}/relations/{{event_id}}"
_DOWNLOAD: Final = f"{V1}/media/download/{{server_name}}/{{media_id}}"

PUBLIC: Final[tuple[tuple[str, str, PublicHandler], ...]] = (
    ("GET", f"{CLIENT}/versions", discovery.versions),
    ("GET", f"{V3}/login", accounts.login_types),
    ("POST", f"{V3}/login", accounts.login),
    ("POST", f"{V3}/refresh", sessions.refresh),
    ("POST", f"{V3}/register", accounts.register),
)

PRIVATE: Final[tuple[tuple[str, str, PrivateHandler], ...]] = (
    ("POST", f"{V3}/logout", accounts.logout),
    ("POST", f"{V3}/logout/all", accounts.logout_all),
    ("GET", f"{V3}/account/whoami", accounts.whoami),
    ("GET", f"{V3}/devices", devices.listing),
    ("GET", f"{V3}/devices/{{device_id}}", devices.get),
    ("PUT", f"{V3}/devices/{{device_id}}", devices.rename),
    ("DELETE", f"{V3}/devices/{{device_id}}", ending_devices.delete),
    ("POST", f"{V3}/delete_devices", ending_devices.delete_many),
    ("GET", f"{V3}/capabilities", discovery.capabilities),
    ("GET", f"{V3}/pushrules/", push_rules.get_all),
    ("GET", f"{V3}/pushrules", push_rules.get_all),
    ("GET", f"{V3}/pushrules/global/", push_rules.get_global),
    ("GET", _PUSH_RULE, push_rules.get),
    ("PUT", _PUSH_RULE, push_rules.put),
    ("DELETE", _PUSH_RULE, push_rules.delete),
    ("GET", f"{_PUSH_RULE}/{{part}}", push_rules.get_part),
    ("PUT", f"{_PUSH_RULE}/{{part}}", push_rules.put_part),
    ("GET", f"{V3}/profile/{{user_id}}", profiles.get),
    ("GET", f"{V3}/profile/{{user_id}}/{{field}}", profiles.get_field),
    ("PUT", f"{V3}/profile/{{user_id}}/{{field}}", profiles.put_field),
    ("POST", f"{V3}/user/{{user_id}}/filter", filters.upload_filter),
    ("GET", f"{V3}/user/{{user_id}}/filter/{{filter_id}}", filters.get_filter),
    ("GET", f"{_OWN}/account_data/{{type}}", account_data.get),
    ("PUT", f"{_OWN}/account_data/{{type}}", account_data.put),
    ("GET", f"{_OWN_ROOM}/account_data/{{type}}", account_data.get),
    ("PUT", f"{_OWN_ROOM}/account_data/{{type}}", account_data.put),
    ("GET", f"{_OWN_ROOM}/tags", account_data.tags),
    ("PUT", f"{_OWN_ROOM}/tags/{{tag}}", account_data.put_tag),
    ("DELETE", f"{_OWN_ROOM}/tags/{{tag}}", account_data.delete_tag),
    ("GET", f"{V3}/sync", sync.sync),
    ("POST", f"{CLIENT}/unstable/org.matrix.simplified_msc3575/sync", sliding_sync.sync),
    ("POST", f"{V3}/createRoom", creating.create_room),
    ("GET", f"{V3}/joined_rooms", membership.joined_rooms),
    ("POST", f"{V3}/join/{{room_id}}", membership.join),
    ("POST", f"{_ROOM}/join", membership.join),
    ("POST", f"{V3}/knock/{{room_id}}", membership.knock),
    ("POST", f"{_ROOM}/leave", membership.leave),
    ("POST", f"{_ROOM}/forget", forgetting.forget),
    ("POST", f"{_ROOM}/invite", membership.invite),
    ("POST", f"{_ROOM}/kick", membership.kick),
    ("POST", f"{_ROOM}/ban", membership.ban),
    ("POST", f"{_ROOM}/unban", membership.unban),
    ("GET", f"{_ROOM}/messages", history.messages),
    ("GET", f"{_ROOM}/event/{{event_id}}", history.event),
    ("GET", f"{_ROOM}/context/{{event_id}}", around.event_context),
    ("GET", f"{V1}/rooms/{{room_id}}/timestamp_to_event", around.timestamp_to_event),
    ("GET", f"{_ROOM}/state", history.state),
    ("GET", f"{_ROOM}/state/{{event_type}}", history.state_content),
    ("GET", f"{_ROOM}/state/{{event_type}}/", history.state_content),
    ("GET", f"{_ROOM}/state/{{event_type}}/{{state_key}}", history.state_content),
    ("PUT", f"{_ROOM}/state/{{event_type}}", sending.set_state),
    ("PUT", f"{_ROOM}/state/{{event_type}}/", sending.set_state),
    ("PUT", f"{_ROOM}/state/{{event_type}}/{{state_key}}", sending.set_state),
    ("GET", f"{_ROOM}/members", history.members),
    ("GET", f"{_ROOM}/joined_members", history.joined_members),
    ("PUT", f"{_ROOM}/send/{{event_type}}/{{txn_id}}", sending.send),
    ("PUT", f"{_ROOM}/redact/{{event_id}}/{{txn_id}}", sending.redact),
    ("POST", f"{_ROOM}/report/{{event_id}}", reports.report),
    ("GET", _RELATIONS, relations.relations),
    ("GET", f"{_RELATIONS}/{{rel_type}}", relations.relations),
    ("GET", f"{_RELATIONS}/{{rel_type}}/{{event_type}}", relations.relations),
    ("GET", f"{V1}/rooms/{{room_id}}/threads", relations.threads),
    ("GET", f"{V1}/rooms/{{room_id}}/hierarchy", hierarchy.hierarchy),
    ("GET", f"{V1}/room_summary/{{room_id}}", faces.summary),
    ("GET", f"{CLIENT}/unstable/im.nheko.summary/summary/{{room_id}}", faces.summary),
    ("POST", f"{V3}/user_directory/search", user_directory.search),
    ("POST", f"{_ROOM}/receipt/{{receipt_type}}/{{event_id}}", receipts.receipt),
    ("POST", f"{_ROOM}/read_markers", receipts.read_markers),
    ("PUT", f"{_ROOM}/typing/{{user_id}}", typing_notices.typing),
    ("POST", f"{V3}/keys/upload", keys.upload),
    ("POST", f"{V3}/keys/query", keys.query),
    ("POST", f"{V3}/keys/claim", keys.claim),
    ("PUT", f"{V3}/sendToDevice/{{event_type}}/{{txn_id}}", to_device.send_to_device),
    ("POST", f"{MEDIA}/upload", media.upload),
    ("GET", f"{V1}/media/config", media.config),
    ("GET", f"{V1}/media/thumbnail/{{server_name}}/{{media_id}}", thumbnailing.get),
    ("GET", _DOWNLOAD, media.download),
    ("GET", f"{_DOWNLOAD}/{{file_name}}", media.download),
    ("POST", f"{_MLS_ROOM}/mls/update", mls.update),
    ("POST", f"{_MLS_ROOM}/mls/key_material", mls.key_material),
    ("POST", f"{_MLS_ROOM}/mls/group_info", mls.group_info),
    ("GET", f"{_MLS_ROOM}/mls/hub_sender", mls.hub_sender),
    ("POST", f"{_MLS_ROOM}/import", imports.import_events),
    ("GET", f"{MLS}/consents", consents.listing),
    ("PUT", f"{MLS}/consents/required", consents.set_required),
    ("POST", f"{MLS}/consents/request", consents.ask),
    ("POST", f"{MLS}/consents/cancel", consents.cancel),
    ("POST", f"{MLS}/consents/grant", consents.grant),
    ("POST", f"{MLS}/consents/revoke", consents.revoke),
    ("POST", f"{MLS}/consents/key_packages", consents.key_packages),
    ("GET", f"{MLS}/pseudonyms", pseudonyms.listing),
    ("PUT", f"{MLS}/pseudonyms/{{user}}/{{client}}", pseudonyms.make),
    ("DELETE", f"{MLS}/pseudonyms/{{user}}", pseudonyms.forget),
    ("POST", f"{MLS}/identifiers/query", identifiers.query),
    ("GET", f"{MLS}/identifiers/profile", identifiers.profile),
    ("PUT", f"{MLS}/identifiers/profile", identifiers.set_profile),
    ("POST", f"{_MLS_ROOM}/join_codes", join_codes.create),
    ("GET", f"{_MLS_ROOM}/join_codes", join_codes.listing),
    ("DELETE", f"{_MLS_ROOM}/join_codes/{{code_id}}", join_codes.revoke),
    ("GET", f"{MLS}/metadata_policy/{{hub}}", metadata_policy.metadata_policy),
    ("GET", f"{MLS}/ohttp/{{gateway}}/keys", oblivious.key_configs),
    ("POST", f"{MLS}/ohttp/{{gateway}}", oblivious.forward),
    ("GET", f"{_MLS_ROOM}/log", log.log),
    ("GET", f"{_MLS_ROOM}/live", live.live),
    ("GET", f"{_MLS_ROOM}/segments", segments.index),
    ("GET", f"{_MLS_ROOM}/segments/{{number}}", segments.segment),
    ("GET", f"{_MLS_ROOM}/checkpoint", proofs.checkpoint),
    ("GET", f"{_MLS_ROOM}/proof/consistency", proofs.consistency),
    ("GET", f"{_MLS_ROOM}/proof/inclusion", proofs.inclusion),
)


def routes(node: Node) -> list[Route]:
    """Every endpoint of the client-server API, for one server."""
    context = context_of(node)
    return [
        *(public(context, method, pattern, handler) for method, pattern, handler in PUBLIC),
        *(private(context, method, pattern, handler) for method, pattern, handler in PRIVATE),
    ]
