"""Run training in a separate process, or in several under torchrun, and follow its output."""

import logging
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable

from recsys import errors
from recsys.errors import ServiceUnavailableError, TrainingError
from recsys.training.job import TrainingJob
from recsys.training.result import TrainingResult, finished_result, read_result

_LAST_LINES = 20
_RENDEZVOUS_SECONDS = 1_800
"""Longest wait for the other machines; as long as Airflow lets a task wait for a place on Kubernetes."""
_OWN_ERRORS = frozenset(name for name in vars(errors) if name.endswith("Error"))
_log = logging.getLogger(__name__)


def _ignore(_line: str) -> None:
    pass


def run_training(job: TrainingJob, on_line: Callable[[str], None] = _ignore) -> TrainingResult:
    """Train and return the result; a run that is finished in the job's folder is not repeated if it is sound.

    The output of the process goes to the log line by line. When this process is stopped or killed, the other
    ends too. If the process of an earlier attempt still trains in the folder, the new one waits for it.

    With `training.machines` above 1, a full fine-tune waits until `assist_training` runs on each of the other
    machines. All of them read and write the job's folder.

    Parameters
    ----------
    on_line
        Called with each line that the process prints. If it raises, the process is ended.

    Raises
    ------
    TrainingError
        The process failed; the message holds its last lines.
    ServiceUnavailableError
        One of several machines was stopped, or did not come.
    """
    if _is_finished(job):
        return _result(job)
    _follow(job, on_line)
    return _result(job)


def assist_training(job: TrainingJob) -> None:
    """Take part in a run on another machine until it ends; return at once if it is finished.

    Raises
    ------
    TrainingError, ServiceUnavailableError
        As in `run_training`.
    """
    if not _is_finished(job):
        _follow(job)


def _is_finished(job: TrainingJob) -> bool:
    finished = finished_result(job.output, job.snapshot.uri) is not None
    if finished:
        _log.info("training in %s is already finished", job.output)
    return finished


def _result(job: TrainingJob) -> TrainingResult:
    result = read_result(job.output)
    if result is None:
        raise TrainingError(f"{job.kind} training ended without a result in {job.output}")
    return result


def _follow(job: TrainingJob, on_line: Callable[[str], None] = _ignore) -> None:
    """Run the processes of this machine and log what they print."""
    tail: deque[str] = deque(maxlen=_LAST_LINES)
    own_error: str | None = None
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
            if line.partition(":")[0] in _OWN_ERRORS:
                own_error = line.rstrip()
            _log.info("%s", line.rstrip())
            on_line(line.rstrip())
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
    if code != 0:
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code == -9:
            reason += ", perhaps killed for using too much memory"
        # torchrun prints a long report after it.
        lines = tail if own_error is None or own_error in tail else [own_error, "...", *tail]
        message = f"{job.kind} training ended with {reason}; its last lines:\n" + "\n".join(lines)
        if _machines(job) > 1 and own_error is None:
            # This machine or another one was stopped: all of them start again and resume.
            raise ServiceUnavailableError(message)
        raise TrainingError(message)


def _machines(job: TrainingJob) -> int:
    return job.training.machines if job.kind == "full" else 1


def _python(job: TrainingJob) -> list[str]:
    program = ["-m", "recsys.training"]
    machines = _machines(job)
    if job.training.devices == machines == 1:
        return [sys.executable, *program]
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={job.training.devices}"]
    if machines == 1:
        return [*torchrun, "--standalone", *program]
    assert job.training.rendezvous is not None  # checked by the settings
    return [
        *torchrun,
        f"--nnodes={machines}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={job.training.rendezvous}",
        f"--rdzv-id={job.output.name}",
        f"--rdzv-conf=join_timeout={_RENDEZVOUS_SECONDS}",
        # Host names of containers are often unknown to other machines.
        f"--local-addr={_address_towards(job.training.rendezvous)}",
        *program,
    ]


def _address_towards(rendezvous: str) -> str:
    """Return the address of this machine that the machine of the rendezvous can reach."""
    host, port = rendezvous.rsplit(":", 1)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # chooses a route and sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise TrainingError(
            f"no way to RECSYS_TRAINING__RENDEZVOUS = {rendezvous} ({error}): it must name one of the "
            "machines that train"
        ) from error
