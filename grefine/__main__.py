"""`python -m grefine` is `grefine`."""

from grefine.cli.main import main

main()
