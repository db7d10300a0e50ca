"""Room policy (draft-ietf-mimi-room-policy): its components as typed values, and ready-made sets of roles.

Values only; what a hub makes of them is in ``linearized.room.policy``.
"""
