"""Train RecTools' SASRec, or LiGR, on a given split; runs in the environment of `make bench-peers`.

    .bench-peers/bin/python benchmarks/rectools_sasrec.py SPLIT.npz OUTPUT --factors 64 ...

SPLIT.npz holds `users` and `items` [training events, in time order]. For the prefixes `validation` and
`test` it holds `_offsets` [cases + 1] and `_items` [history events]. For validation it also holds `_targets`
[cases], and `hidden_rows` and `hidden_items`, which may not be recommended. `n_items` is the size of the
catalogue. The script trains with the full softmax until validation NDCG@10 stops improving and restores the
best epoch. It writes OUTPUT.npy with scores [test cases, n_items] in float32, and OUTPUT.json with the
seconds and validation NDCG@10 of each epoch.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from rectools.models.nn.transformers.ligr import LiGRLayers
from rectools.models.nn.transformers.sasrec import SASRecTransformerLayers

LAYERS = {"sasrec": SASRecTransformerLayers, "ligr": LiGRLayers}
ABSENT = -1e9
"""Score of an item without training events, which this model cannot rank."""


class SoftmaxWithoutPadding(TransformerLightningModule):
    """The same softmax loss, computed only where there is a target.

    Most users have far fewer events than the longest, so with the padding it is several times as much work.
    Attention reads the padding in RecTools, so there it stays.
    """

    def training_step(self, batch: dict[str, torch.Tensor], _batch_index: int) -> torch.Tensor:
        """Return the mean loss over the targets of a batch."""
        network, targets = self.torch_model, batch["y"]
        table = network.item_model.get_all_embeddings()
        users = network.encode_sessions(batch, table)[targets != 0]
        loss = torch.nn.functional.cross_entropy(users @ table.T / self.logits_t, targets[targets != 0])
        self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
        return loss


_callbacks: list[Callback] = []


def make_trainer(epochs: int, accelerator: str) -> Trainer:
    """Build a trainer without output; RecTools finds this function by its name."""
    return Trainer(
        max_epochs=epochs, callbacks=_callbacks, accelerator=accelerator, devices=1, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip


def main() -> None:
    """Train, restore the best epoch, and write scores and report."""
    options = _options()
    torch.set_num_threads(options.threads)
    seed_everything(options.seed, verbose=False)
    split = dict(np.load(options.split))
    frame = pd.DataFrame(
        {
            "user_id": split["users"],
            "item_id": split["items"],
            "weight": 1.0,
            # Only the order of a user's events matters, so no two may have the same time.
            "datetime": pd.to_datetime(np.arange(len(split["users"])), unit="s"),
        }
    )
    watch = _Watch(split, options.patience, options.minutes)
    _callbacks.append(watch)

    model = SASRecModel(
        n_factors=options.factors, n_blocks=options.blocks, n_heads=options.heads,
        session_max_len=options.length, dropout_rate=options.dropout, lr=options.learning_rate,
        batch_size=options.batch, loss="softmax", get_trainer_func=make_trainer,
        get_trainer_func_kwargs={"epochs": options.epochs, "accelerator": options.accelerator},
        transformer_layers_type=LAYERS[options.layers], lightning_module_type=SoftmaxWithoutPadding,
    )  # fmt: skip
    started = time.monotonic()
    model.fit(Dataset.construct(frame))
    seconds = time.monotonic() - started
    # RecTools trains with a copy of the trainer and of its callbacks.
    watch = next(callback for callback in model.fit_trainer.callbacks if isinstance(callback, _Watch))
    np.save(options.output.with_suffix(".npy"), watch.scores(model.lightning_model, "test"))
    report = {"fit_seconds": seconds, "epochs": watch.rows, "best_validation_ndcg": watch.best}
    options.output.with_suffix(".json").write_text(json.dumps(report) + "\n")


class _Watch(Callback):
    """Validates after each epoch, keeps the best weights, and stops early or when its time is over."""

    def __init__(self, split: dict, patience: int, minutes: float) -> None:
        self.split, self.patience = split, patience
        self.ends = time.monotonic() + 60 * minutes
        self.rows: list[dict] = []
        self.best, self.best_epoch, self.state = -1.0, 0, None
        self.began = 0.0

    def on_train_epoch_start(self, _trainer: Trainer, _module: torch.nn.Module) -> None:
        """Note when the epoch starts."""
        self.began = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, module: torch.nn.Module) -> None:
        """Validate."""
        trained = time.monotonic() - self.began
        ndcg = self._ndcg(module)
        self.rows.append({"seconds": trained, "validation_ndcg": ndcg})
        print(f"epoch {len(self.rows)}: validation NDCG {ndcg:.4f} ({trained:.1f} s)", flush=True)
        if ndcg > self.best:
            self.best, self.best_epoch = ndcg, len(self.rows)
            self.state = copy.deepcopy(module.torch_model.state_dict())
        elif len(self.rows) - self.best_epoch >= self.patience:
            trainer.should_stop = True
        if time.monotonic() > self.ends:
            trainer.should_stop = True

    def on_train_end(self, _trainer: Trainer, module: torch.nn.Module) -> None:
        """Restore the weights of the best epoch."""
        module.torch_model.load_state_dict(self.state)

    def _ndcg(self, module: torch.nn.Module) -> float:
        scores = self.scores(module, "validation")
        targets = self.split["validation_targets"]
        target_scores = scores[np.arange(len(targets)), targets].copy()
        scores[self.split["hidden_rows"], self.split["hidden_items"]] = -np.inf
        scores[np.arange(len(targets)), targets] = target_scores
        rank = (scores >= target_scores[:, None]).sum(1)
        return float(np.where(rank <= 10, 1 / np.log2(1 + rank), 0).mean())

    @torch.no_grad()
    def scores(self, module: torch.nn.Module, prefix: str) -> np.ndarray:
        """Return scores [cases, n_items] for the histories with this prefix."""
        split = self.split
        network, preparator = module.torch_model, module.data_preparator
        training = network.training
        network.eval()
        device = next(network.parameters()).device
        n_items, length = int(split["n_items"]), preparator.session_max_len
        ids = np.zeros(n_items, dtype=np.int64)
        known = preparator.item_id_map.external_ids[preparator.n_item_extra_tokens :].astype(np.int64)
        ids[known] = preparator.item_id_map.convert_to_internal(known)
        offsets, items = split[f"{prefix}_offsets"], ids[split[f"{prefix}_items"]]
        table = network.item_model.get_all_embeddings()
        result = np.full((len(offsets) - 1, n_items), ABSENT, dtype=np.float32)
        for begin in range(0, len(result), 512):
            rows = range(begin, min(begin + 512, len(result)))
            sessions = np.zeros((len(rows), length), dtype=np.int64)
            for place, row in enumerate(rows):
                history = items[offsets[row] : offsets[row + 1]]
                history = history[history > 0][-length:]
                if len(history):
                    sessions[place, -len(history) :] = history
            users = network.encode_sessions({"x": torch.from_numpy(sessions).to(device)}, table)[:, -1]
            given = (users @ table.T).float().cpu().numpy()
            result[begin : begin + len(rows), known] = given[:, ids[known]]
        network.train(training)
        return result


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--layers", choices=LAYERS, default="sasrec")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--patience", type=int, default=15)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no epoch starts after these")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
