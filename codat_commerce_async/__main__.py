"""Run the command line with `python -m codat_commerce_async`."""

import sys

from codat_commerce_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
