"""`python -m polytask` is the same as `polytask`."""

from polytask.cli import main

main()
