"""`python -m recsys.training full|micro --snapshot URI --output DIR [--parent CHECKPOINT]`."""

import sys

from recsys.training.run import main

if __name__ == "__main__":
    sys.exit(main())
