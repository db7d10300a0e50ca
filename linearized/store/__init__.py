"""What a provider keeps: the ``Store`` protocol (``base``) and its SQLite implementation (``sqlite``)."""
