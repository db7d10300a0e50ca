"""Double puppeting: what somebody's own account at a provider says appears in Matrix as from themselves."""
