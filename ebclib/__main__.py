"""``python -m ebclib`` is the console command ``ebc``."""

import sys

from ebclib.cli import main

if __name__ == "__main__":
    sys.exit(main())
