"""A language-model recommender that keeps learning from its users' feedback.

One sub-package per stage of the loop; importing this package loads none of the heavy libraries.
"""

import os

# torch reads this when it is loaded. Threads that wait by spinning take cores from other programs: on a busy
# machine, publishing with two threads took twice the processor time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
