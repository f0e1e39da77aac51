"""Run training in a separate process, or in several under torchrun, and follow its output."""

import logging
import subprocess
import sys
from collections import deque

from recsys.errors import TrainingError
from recsys.training.job import TrainingJob
from recsys.training.result import TrainingResult, finished_result, read_result

_LAST_LINES = 20
_log = logging.getLogger(__name__)


def run_training(job: TrainingJob) -> TrainingResult:
    """Train and return the result; a run that is finished in the job's folder is not repeated if it is sound.

    The output of the process goes to the log line by line. When this process is stopped or killed, the other
    ends too. If the process of an earlier attempt still trains in the folder, the new one waits for it.

    Raises
    ------
    TrainingError
        The process failed; the message holds its last lines.
    """
    finished = finished_result(job.output, job.snapshot.uri)
    if finished is not None:
        _log.info("training in %s is already finished", job.output)
        return finished
    tail: deque[str] = deque(maxlen=_LAST_LINES)
    process = subprocess.Popen(
        [*_python(job), str(job.write()), "--end-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line.rstrip())
            _log.info("%s", line.rstrip())
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        assert process.stdin is not None
        process.stdin.close()
    result = read_result(job.output)
    if code != 0 or result is None:
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code == -9:
            reason += ", perhaps killed for using too much memory"
        raise TrainingError(f"{job.kind} training ended with {reason}; its last lines:\n" + "\n".join(tail))
    return result


def _python(job: TrainingJob) -> list[str]:
    if job.training.devices == 1:
        return [sys.executable, "-m", "recsys.training"]
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={job.training.devices}",
        "-m",
        "recsys.training",
    ]
