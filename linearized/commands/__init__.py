"""The commands of ``linearized``, one module per group; ``linearized.cli`` loads the one that is called."""
