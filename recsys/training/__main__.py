"""Train in this process: `python -m recsys.training JOB.json`. torchrun starts several of them."""

import os
import sys

# Read when torch and tokenizers are imported. Threads that wait by spinning take cores from other programs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from recsys.training.run import main

sys.exit(main())
