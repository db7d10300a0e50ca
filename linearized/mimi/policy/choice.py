"""How the creator of a room says which policy it has: the create event's ``dev.linearized.policy``.

It is the name of a ready-made policy (``"moderated"``), or ``{"organizations": ["north", "south"]}``. The
group's components are the policy; the choice holds whoever makes the group to what the creator asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from linearized.mimi.policy.common import MAX_NAME_BYTES
from linearized.mimi.policy.presets import PRESETS, Preset, multi_organization

POLICY_CHOICE: Final = "dev.linearized.policy"
# The draft's example has three; every one brings two roles, each of which is named in others.
MAX_ORGANIZATIONS: Final = 32
_SUFFIX: Final = "_admin"


def chosen_policy(choice: object, *, pseudonyms: bool = False, parent: tuple[str, ...] = ()) -> Preset:
    """The policy that a choice (a JSON value) stands for.

    Args:
        pseudonyms: whether the room is a minimal metadata room, whose policy allows them.
        parent: the URI of the room that it depends on, if it depends on one.

    Raises:
        ValueError: it is none.
    """
    preset = _chosen(choice)
    if not pseudonyms and not parent:
        return preset
    base = replace(
        preset.base,
        pseudonyms_allowed=pseudonyms or preset.base.pseudonyms_allowed,
        parent_dependant=bool(parent),
        parent_room=parent,
    )
    return replace(preset, base=base)


def _chosen(choice: object) -> Preset:
    if isinstance(choice, str) and choice in PRESETS:
        return PRESETS[choice]
    organizations = choice.get("organizations") if isinstance(choice, dict) else None
    if not isinstance(organizations, list):
        raise ValueError(f"a policy is one of {', '.join(PRESETS)}, or an object with organizations")
    names = [name for name in organizations if isinstance(name, str) and name]
    if len(names) != len(organizations) or len(set(names)) != len(names):
        raise ValueError("organizations are different names")
    if len(names) > MAX_ORGANIZATIONS:
        raise ValueError(f"a room has {MAX_ORGANIZATIONS} organizations at most")
    if any(len((name + _SUFFIX).encode()) > MAX_NAME_BYTES for name in names):
        raise ValueError("an organization's name is too long")
    return multi_organization(names)
