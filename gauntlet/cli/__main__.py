"""`python -m gauntlet.cli`: how `gauntlet up` starts each service as a process."""

import sys

from gauntlet.cli.command import main

sys.exit(main())
