"""`python -m gauntlet.cli`: how `gauntlet up` starts each service as a process."""

from gauntlet.cli.command import entry

entry()
