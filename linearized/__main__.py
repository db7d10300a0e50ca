"""``python -m linearized``."""

from linearized.cli import main

main()
