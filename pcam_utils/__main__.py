"""`python -m pcam_utils` is `pcam`."""

from .cli import main

main()
