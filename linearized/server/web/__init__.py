"""The page at the server's root: static files, read once, that need nothing but the client API."""
