"""Train in this process: `python -m recsys.training JOB.json`. torchrun starts several of them."""

import os
import sys

# Read when tokenizers are imported.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from recsys.training.run import main

sys.exit(main())
