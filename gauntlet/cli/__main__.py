"""`python -m gauntlet.cli`, for the supervisor that starts each service as a process of its own."""

import sys

from gauntlet.cli.command import main

sys.exit(main())
