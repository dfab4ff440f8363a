"""`python -m geolessons` is the command `geolessons`."""

import sys

from geolessons.cli import main

sys.exit(main())
