"""The room: a pure state machine that turns submissions into entries."""
