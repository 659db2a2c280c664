"""`python -m hauberk`, the same as the `hauberk` command."""

import sys

from hauberk.cli import main

sys.exit(main())
