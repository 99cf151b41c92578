"""Callbacks of a run: Optuna's pruning, and a log at Weights & Biases.

    python examples/callbacks.py ENCODER JETS --trials 20
    python examples/callbacks.py ENCODER JETS --wandb PROJECT

ENCODER is a run of `pyrino pretrain`, JETS are labelled files; --signal says which of their classes are label 1.
``pip install optuna`` and ``pip install wandb`` are yours to do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pyrino as rino

Report = dict[str, float]


def pruning(trial: Any, every: int = 50) -> Callable[[Report], None]:
    """Reports the mean loss of every 50 steps to a trial of Optuna, and ends the run where that one is hopeless.

    `TrialPruned` comes out of `finetune` as it is: Optuna catches it.
    """
    from optuna import TrialPruned

    losses: list[float] = []

    def callback(report: Report) -> None:
        losses.append(report["loss"])
        if len(losses) % every == 0:
            trial.report(sum(losses[-every:]) / every, step=int(report["step"]))
            if trial.should_prune():
                raise TrialPruned()

    return callback


def logging_to(run: Any, every: int = 10) -> Callable[[Report], None]:
    """Sends every tenth step's numbers to a run of wandb."""

    def callback(report: Report) -> None:
        if report["step"] % every == 0:
            run.log(report, step=int(report["step"]))

    return callback


def search(encoder: rino.Encoder, train: Any, signal: list[int] | None, trials: int) -> Any:
    """A study of Optuna: learning rates with the lowest validation loss."""
    import optuna

    def objective(trial: Any) -> float:
        recipe = encoder.recipe.replace(
            **{
                "finetune.encoder_lr": trial.suggest_float("encoder_lr", 1e-6, 1e-3, log=True),
                "finetune.head_lr": trial.suggest_float("head_lr", 1e-4, 1e-2, log=True),
                "finetune.layer_decay": trial.suggest_float("layer_decay", 0.6, 1.0),
                "finetune.set_aside": 0.2,
            }
        )
        tagger = rino.finetune(encoder, train, recipe=recipe, signal=signal, progress=False, callback=pruning(trial))
        return float(min(tagger.history["validation_loss"][recipe.finetune.probe_epochs :]))

    study = optuna.create_study(direction="minimize", pruner=optuna.pruners.MedianPruner(n_warmup_steps=100))
    study.optimize(objective, n_trials=trials)
    return study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("jets", nargs="+")
    parser.add_argument("--signal", type=int, nargs="+", help="class numbers that are label 1")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--wandb", metavar="PROJECT", help="one fine-tuning with a log there, instead of a search")
    args = parser.parse_args()
    encoder = rino.load(args.encoder)
    if args.wandb:
        import wandb

        with wandb.init(project=args.wandb, config=encoder.recipe.to_dict()) as run:
            rino.finetune(encoder, args.jets, signal=args.signal, callback=logging_to(run))
        return
    study = search(encoder, args.jets, args.signal, args.trials)
    print(study.best_params, study.best_value)


if __name__ == "__main__":
    main()
