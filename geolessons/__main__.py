"""`python -m geolessons` is the command `geolessons`."""

import sys

from geolessons.cli import main

if __name__ == "__main__":
    sys.exit(main())
