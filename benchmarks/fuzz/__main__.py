"""Compare what the product makes of mutated inputs with an independent statement of the rules.

    python -m benchmarks.fuzz --inputs 10000 --json F
    python -m benchmarks.fuzz --seed 3 --only 4711 --keep FOLDER
    python -m benchmarks.fuzz --replay FOLDER

An input is a CSV, TSV, JSON Lines or Parquet file, rows that an application inserts, a payload of the pyfunc,
items with strange attributes, or settings in the environment. It starts from made-up rows of a shop, a
newsroom, a music service and a film site. Each is made from the seed and its number alone.

The modules `oracle_*` state from docs/files.md, without the product's code, what an input says: which rows
are accepted, with which values, and which lines are rejected. The counts are `tracebacks` (an error that is
not a message for the user), `silent_changes` (a value that means something else than the input says, or a
wrong row that is accepted), `lost_rows` (a row that is neither in the table nor in quarantine nor in the
reject file) and `needless_rejections` (a valid row that is rejected). Failing inputs are kept for `--replay`.
"""

import argparse
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.fuzz.inputs import FAULTS, Input, keep, kept
from benchmarks.fuzz.run import KINDS, Fuzz, kind_of, make_input
from benchmarks.made_warehouse import report

_PROGRESS = 500
_SHOWN = 400


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the inputs and report."""
    options = _options(arguments)
    # An end by SIGTERM must not leave Postgres running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    inputs = _inputs(options)
    found: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="recsys-fuzz-") as folder, Fuzz(Path(folder)) as fuzz:
        for count, (number, given) in enumerate(inputs, 1):
            kinds[given.kind] += 1
            findings = fuzz.check(given)
            for fault in {finding.fault for finding in findings}:
                found[fault] += 1
            if findings and not options.replay:
                keep(options.keep, number, given, findings)
            for finding in findings[:3]:
                last = finding.message.strip().splitlines()[-1]
                print(f"{number} {given.kind}: {finding.fault}: {last[:_SHOWN]}")
            if count % _PROGRESS == 0:
                print(f"{count} inputs, {dict(found) or 'no fault'}", flush=True)
    figures = {"inputs": kinds.total()} | {f"{fault}s": found[fault] for fault in FAULTS}
    report(figures | {f"inputs_{kind}": count for kind, count in sorted(kinds.items())}, options.json)


def _inputs(options: argparse.Namespace) -> Iterator[tuple[int, Input]]:
    if options.replay:
        yield from kept(options.replay)
    else:
        for number in [options.only] if options.only is not None else range(options.inputs):
            if kind_of(number) in options.kinds:
                yield number, make_input(options.seed, number)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz")
    parser.add_argument("--inputs", type=int, default=10_000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs")
    parser.add_argument("--only", type=int, help="number of the one input to run")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of inputs to run")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for failing inputs")
    parser.add_argument("--replay", type=Path, help="run the inputs that an earlier run kept in this folder")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
