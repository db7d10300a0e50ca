"""The demonstration: a real homeserver, two providers, the bridge and a client, from one command, checked.

It uses the project the way anyone else would: programs are started as processes and spoken to over their
public interfaces; only the SDK of ``linearized`` is imported.
"""
