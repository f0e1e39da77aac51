"""What the processes of one training run decide together."""

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import os, sys, time
from pathlib import Path
import torch
from recsys.training.parallel import is_first, join_processes, leave_processes
from recsys.training.trainer import time_limit

join_processes(torch.device("cpu"))
late = is_first() == (sys.argv[1] == "first")
out_of_time = time_limit(10, time.monotonic() - 1_200 * late)
Path(sys.argv[2], os.environ["RANK"]).write_text(str([out_of_time() for _ in range(3)]))
leave_processes()
"""


@pytest.mark.parametrize(("late", "answer"), [("first", True), ("second", False)])
def test_all_processes_stop_at_the_same_step_although_their_clocks_differ(
    late: str, answer: bool, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*torchrun, program, late, tmp_path], check=True, capture_output=True, timeout=120)
    assert [(tmp_path / rank).read_text() for rank in "01"] == [str([answer] * 3)] * 2
