"""Let a language model write about made lists of real titles, and count what the guard accepts and refuses.

    python -m benchmarks.summaries --data ml-latest-small-folder --writer FILE.gguf --model NAME --json F

Each list has five films of one genre, with the reason that their person liked another film of it. Each item
has two praised and one criticised phrase, in the languages that are asked for. Time is stated per text, and
every refused text is counted with its reason.
"""

import argparse
import csv
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys.model.reasons import packaged_texts
from recsys.publishing.summaries.given import Given, item_facts, list_facts
from recsys.publishing.summaries.guard import Guard
from recsys.publishing.summaries.renew import open_writer
from recsys.settings import SummarySettings
from recsys.warehouse.languages import PACKAGED

_PRAISED = (
    "easy to use",
    "bright",
    "accurate",
    "good sound",
    "fast",
    "funny",
    "worth the price",
    "well made",
)
_CRITICISED = ("battery", "too slow", "broke", "buttons", "hard to clean", "too long", "poor ending")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    settings = SummarySettings(writer=options.writer, model=options.model, licence="not stated")
    guard = Guard([packaged_texts(language) for language in PACKAGED])
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    examples: dict[str, list[str]] = defaultdict(list)
    seconds = 0.0
    with open_writer(settings) as writer:
        for given in _subjects(options.data, options.texts, options.languages):
            started = time.perf_counter()
            text = writer.write(given.messages(packaged_texts(given.language))).strip()
            seconds += time.perf_counter() - started
            outcome = guard.refusal(text, given) or "accepted"
            outcomes[f"{given.kind} {given.language}"][outcome] += 1
            print(f"{given.kind} {given.language}: {outcome}: {text!r}", file=sys.stderr, flush=True)
            examples[outcome].append(text)
    figures: dict[str, Any] = {
        "model": options.model,
        "seconds_per_text": seconds / (2 * options.texts * len(options.languages)),
        "outcomes": {name: dict(counts.most_common()) for name, counts in outcomes.items()},
        "examples": {name: texts[:3] for name, texts in examples.items()},
    }
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def _subjects(data: Path, texts: int, languages: Sequence[str]) -> list[Given]:
    """Return as many lists and items in each language; the same ones in each run."""
    with (data / "movies.csv").open(encoding="utf-8", newline="") as file:
        films = [(row["title"], row["genres"].split("|")) for row in csv.DictReader(file)]
    chance = random.Random(0)
    subjects: list[Given | None] = []
    for language in languages:
        said = packaged_texts(language)
        for _ in range(texts):
            genre = chance.choice(("Comedy", "Crime", "Drama", "Horror", "Romance", "Sci-Fi", "Thriller"))
            liked, *listed = chance.sample([film for film in films if genre in film[1]], 6)
            did = said.did("like", highly=True, title=liked[0])
            reason = said.say("because", did=did, also=said.say("also", label=genre))
            items = [
                {"title": title, "reason": reason, "attributes": json.dumps({"genres": genres})}
                for title, genres in listed
            ]
            subjects.append(list_facts(items, said))
            phrases = [
                {"praised": praised, "phrase": phrase, "people": chance.randint(5, 60)}
                for praised, found in (
                    (True, chance.sample(_PRAISED, 2)), (False, chance.sample(_CRITICISED, 1))
                )
                for phrase in found
            ]  # fmt: skip
            subjects.append(item_facts(chance.choice(films)[0], phrases, language, 5))
    return [given for given in subjects if given is not None]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.summaries", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="folder of MovieLens latest-small")
    parser.add_argument("--writer", required=True, help="as RECSYS_SUMMARIES__WRITER")
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--languages", nargs="+", choices=PACKAGED, default=["en"])
    parser.add_argument("--texts", type=int, default=30, help="lists, and items, in each language")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
