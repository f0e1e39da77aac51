"""Log a search to MLflow: a run of the search, with a plot, and one below it for each trial."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys.registry.connection import mlflow_client, mlflow_errors
from recsys.registry.tracking import find_or_create_run
from recsys.settings import Settings
from recsys.tuning.search import COMPLETE, FAILED, Search, Trial
from recsys.tuning.trial import trial_key

PLOT = "search.png"


def track_trial(settings: Settings, search: Search, trial: Trial) -> None:
    """Log the settings, the validation curve and the score of a trial that has ended."""
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"log trial {trial.number} of {search.run_key}"):
        parent = find_or_create_run(client, settings, search.run_key, "search")
        run_id = find_or_create_run(client, settings, trial_key(search, trial.number), "trial")
        started = client.get_run(run_id).info.start_time
        metrics = [
            Metric("curve/validation_ndcg", value, started + epoch, epoch)
            for epoch, value in enumerate(trial.curve, start=1)
        ]
        if trial.score is not None:
            metrics.append(Metric("score", trial.score, started, 0))
        client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(name, str(value)) for name, value in trial.values.items()],
            tags=[
                RunTag(MLFLOW_PARENT_RUN_ID, parent),
                RunTag("recsys.kind", "trial"),
                RunTag("recsys.trial_state", trial.state),
            ],
        )
        client.set_terminated(run_id, "FAILED" if trial.state == FAILED else "FINISHED")


def track_search(settings: Settings, search: Search, trials: Sequence[Trial], explanation: str) -> None:
    """Log the plot of a search and how it ended."""
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"log the search {search.run_key}"), tempfile.TemporaryDirectory() as folder:
        run_id = find_or_create_run(client, settings, search.run_key, "search")
        path = Path(folder) / PLOT
        _plot(trials, path)
        client.log_artifact(run_id, str(path))
        client.set_tag(run_id, "recsys.search_outcome", explanation)
        client.set_terminated(run_id, "FINISHED")


def _plot(trials: Sequence[Trial], path: Path) -> None:
    """Draw the curves of all trials, and the score of each complete one with the best so far."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(9, 3.6), layout="constrained")
    curves, scores = plot.subplots(1, 2)
    for trial in trials:
        colour = {0: "black"}.get(trial.number, "tab:blue" if trial.state == COMPLETE else "tab:gray")
        curves.plot(range(1, len(trial.curve) + 1), trial.curve, color=colour, alpha=0.7)
    curves.set(title="validation by epoch; black: present settings, grey: ended early", xlabel="epoch")
    curves.title.set_fontsize("small")
    complete = [(trial.number, trial.score) for trial in trials if trial.score is not None]
    numbers = [number for number, _ in complete]
    values = [score for _, score in complete]
    scores.plot(numbers, values, "o", color="tab:blue")
    best = [max(values[: place + 1]) for place in range(len(values))]
    scores.step(numbers, best, where="post", color="tab:orange")
    scores.set(title="score by trial, and the best so far", xlabel="trial")
    scores.title.set_fontsize("small")
    for axes in (curves, scores):
        axes.spines[["top", "right"]].set_visible(False)
    plot.savefig(path, dpi=120)
