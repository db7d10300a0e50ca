"""Encrypted Matrix rooms: the bridge's users take part in them as devices (Matrix v1.16, "End-to-End
Encryption"), each with keys of its own and a cross-signing identity of its own.
"""
