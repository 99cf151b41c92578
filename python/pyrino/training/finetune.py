"""Taggers: a head on an encoder, trained on labels."""

from __future__ import annotations

import copy
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pyrino import _core
from pyrino._arguments import checked
from pyrino._columns import as_array
from pyrino.bars import progress_bar
from pyrino.errors import RinoError
from pyrino.inference import Call, compute
from pyrino.jets import Jets
from pyrino.nn import Encoder, Tokens, encoder_of, load_weights, save_weights
from pyrino.recipe import Recipe
from pyrino.training.folder import claim_folder
from pyrino.training.history import History

if TYPE_CHECKING:
    import awkward as ak
    import dask_awkward as dak
    from numpy.typing import NDArray

    from pyrino.inference import Collection

__all__ = ["Tagger", "finetune", "predict", "train_supervised"]

_HISTORY = "history.parquet"

Labelled = tuple[Jets, Sequence[int] | np.ndarray]


class Tagger(torch.nn.Module):
    """An encoder and a head that together give the logit of label 1.

    Parameters
    ----------
    encoder
        Any `Encoder`; it is used, not copied.
    head
        "linear" or "mlp".
    seed
        Of the head's initial values.

    Notes
    -----
    The MLP has two hidden layers with GELU and dropout, of the widths in the recipe's ``finetune`` section. With
    ``normalized_head`` the last layer is as in the authors' heads: input and weight normalised, so that the logit
    lies in [-1, 1].
    """

    _file = "tagger.safetensors"

    @checked
    def __init__(self, encoder: Encoder, head: str = "linear", seed: int = 0) -> None:
        super().__init__()
        settings = encoder.recipe.finetune
        if not isinstance(head, str) or head not in ("linear", "mlp"):
            raise RinoError(f"there is no head {head!r}: choose 'linear' or 'mlp'")
        self.encoder = encoder
        self.kind = head
        widths = [encoder.width] if head == "linear" else [encoder.width, settings.hidden1, settings.hidden2]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[torch.nn.Module] = []
            for inputs, outputs in itertools.pairwise(widths):
                layers += [
                    torch.nn.Linear(inputs, outputs),
                    torch.nn.GELU(),
                    torch.nn.Dropout(settings.head_dropout),
                ]
            layers.append(_CosineLogit(widths[-1]) if settings.normalized_head else torch.nn.Linear(widths[-1], 1))
            self.head = torch.nn.Sequential(*layers)
        self.head.to(encoder.device, encoder.dtype)
        self.history = History()

    @checked
    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Logits [S], one per sequence of the tokens."""
        return self.head(self.encoder(tokens, constituents=False).jets).squeeze(-1)

    @checked
    def predict(self, jets: Collection, *, prior: float | None = None, batch_size: int = 1024, threads: int = 1) -> Any:
        """Scores of label 1: what the network says, or with `prior` probabilities.

        Training counts the loss of a signal jet ``finetune.positive_weight`` times (2 in the paper), so that the
        network's own score is a probability for a sample with that much more signal than the one it was trained on:
        good for cuts and for the paper's accuracies, too high as a probability.

        Parameters
        ----------
        jets
            n jets; or an awkward array or a collection of dask-awkward, as `pyrino.predict` takes them.
        prior
            None: the network's score s. A number q in (0, 1): the probability of label 1 in a sample of which the
            share q is signal, if as many signal as background jets were trained on. Its odds are those of the score,
            s / (1 - s), divided by ``positive_weight`` and multiplied by q / (1 - q).
        batch_size
            Jets at a time.
        threads
            For features.

        Returns
        -------
        numpy.ndarray
            (n,) float64 in [0, 1]; of the kind of `jets` if they are not `Jets`.

        Raises
        ------
        RinoError
            If `prior` is not between 0 and 1.

        Notes
        -----
        The head is computed in double precision, so that the jets beside a jet change nothing, and on a copy in
        evaluation mode, so that several threads may predict at once.
        """
        if not isinstance(jets, Jets):
            return predict(self, jets, prior=prior, batch_size=batch_size, threads=threads)
        from scipy.special import expit

        shift = self._log_odds(prior)
        embeddings = torch.from_numpy(self.encoder.embed(jets, batch_size=batch_size, threads=threads))
        head = copy.deepcopy(self.head).double().eval()
        with torch.no_grad():
            logits = head(embeddings.to(self.encoder.device, torch.float64)).squeeze(-1)
        # Not torch's sigmoid, whose last bit depends on the place in the array.
        return expit(logits.to(embeddings.dtype).double().cpu().numpy() + shift)

    def _log_odds(self, prior: float | None) -> float:
        """What a prior adds to the logit."""
        if prior is None:
            return 0.0
        if isinstance(prior, bool) or not isinstance(prior, (int, float, np.number)) or not 0 < prior < 1:
            raise RinoError(f"prior is {prior!r}: give the share of signal, a number above 0 and below 1, or None")
        return math.log(prior / (1 - prior)) - math.log(self.encoder.recipe.finetune.positive_weight)

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights (safetensors) with recipe and kind of head in the metadata, whole or not at all."""
        metadata = {
            "kind": "tagger",
            "head": self.kind,
            "encoder": self.encoder.recipe.encoder.kind,
            "recipe": self.encoder.recipe.to_json(),
        }
        save_weights(path, self.state_dict(), metadata)

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str]) -> Tagger:
        """Read a tagger that `save` or `finetune` wrote: a safetensors file or the folder of a run."""
        path = Path(path)
        file = path / cls._file if path.is_dir() else path
        tensors, metadata = load_weights(file)
        if metadata.get("kind") != "tagger":
            raise RinoError(
                f"{file} is no tagger but {metadata.get('kind', 'of unknown kind')!r}: give what finetune wrote"
            )
        tagger = cls(encoder_of(Recipe.from_json(metadata["recipe"], weights=True), seed=0), metadata["head"])
        try:
            first = next(iter(tagger.state_dict()))
            tagger.to(tensors[first].dtype).load_state_dict(tensors)
        except (KeyError, RuntimeError) as error:
            raise RinoError(f"{file} does not fit its own recipe: {error}") from error
        tagger.history = History.load(file.parent / _HISTORY)
        return tagger.eval()


def predict(
    tagger: Tagger | str | os.PathLike[str],
    jets: Collection,
    *,
    prior: float | None = None,
    batch_size: int = 1024,
    threads: int = 1,
    empty: str = "raise",
) -> NDArray[np.float64] | ak.Array | dak.Array:
    """A tagger's scores of label 1, of the kind that the jets are of; with `prior` probabilities.

    Parameters
    ----------
    tagger
        As `embed` takes an encoder.
    jets, empty
        As `embed` takes them.
    prior, batch_size, threads
        As `Tagger.predict` takes them.

    Returns
    -------
    numpy.ndarray or awkward.Array or dask_awkward.Array
        float64 in [0, 1]; in the place of every jet its score, or None where the jet is missing.

    Raises
    ------
    RinoError
        As `embed`.

    Examples
    --------
    >>> p = predict("runs/tagger", events.FatJet.constituents.pf)
    """
    options = {"prior": prior, "batch_size": batch_size, "threads": threads}
    return compute(Call(Tagger, "predict", options, empty), tagger, jets)


class _CosineLogit(torch.nn.Module):
    """Cosine between the input and one learned direction."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weight = torch.nn.Linear(inputs, 1, bias=False).weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normalize = torch.nn.functional.normalize
        return torch.nn.functional.linear(normalize(x, dim=-1), normalize(self.weight, dim=-1))


@checked
def finetune(
    encoder: Encoder,
    train: Labelled | Jets,
    *,
    head: str | None = None,
    out: str | os.PathLike[str] | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    threads: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> Tagger:
    """Fine-tune a pretrained encoder on labelled jets by LP-FT: the head alone first, then everything.

    Parameters
    ----------
    encoder
        Pretrained; it is copied and stays as it is.
    train
        (jets, labels), labels (n,) of 0 and 1; or jets that carry such labels.
    head
        "linear" or "mlp"; None: as the recipe says.
    out
        Folder for ``tagger.safetensors`` and ``history.parquet``; None writes nothing.
    recipe
        Its ``finetune`` section has every number; None: the encoder's own recipe.
    seed
        Of the head, the order of jets and dropout.
    threads
        For features.
    overwrite
        Replace a tagger that is in `out`.
    progress
        Show a bar.

    Returns
    -------
    Tagger
        In evaluation mode.

    Raises
    ------
    RinoError
        For labels other than 0 and 1, only one of them, a length that does not fit, or an `out` that holds a tagger.

    Notes
    -----
    Kumar et al., arXiv:2202.10054; numbers of arXiv:2509.07486. While the encoder is frozen its embeddings do not
    change, so that they are computed once.
    """
    recipe = encoder.recipe if recipe is None else recipe
    _check(recipe)
    settings = recipe.finetune
    jets, labels = _labelled(train)
    folder = _claim(out, overwrite)
    tagger = Tagger(_copy_with(encoder, recipe), settings.head if head is None else head, seed)
    device = tagger.encoder.device
    rng = np.random.default_rng(seed)
    history = History()
    with _forked(device), _small_operations(tagger, settings):
        torch.manual_seed(seed)
        embeddings = torch.from_numpy(tagger.encoder.embed(jets, threads=threads)).to(device)
        schedule = _Schedule(settings, len(labels), settings.probe_epochs)
        optimizer = _adamw(tagger.head.parameters(), settings, settings.probe_lr)
        _train(
            tagger.head,
            lambda picks: tagger.head(embeddings[torch.from_numpy(picks)]).squeeze(-1),
            labels,
            optimizer,
            schedule,
            settings,
            rng,
            history,
            "probing",
            progress,
        )
        groups = [
            {"params": list(tagger.encoder.parameters()), "lr": settings.encoder_lr},
            {"params": list(tagger.head.parameters()), "lr": settings.head_lr},
        ]
        optimizer = _adamw(groups, settings)
        _train(
            tagger,
            lambda picks: _logits(tagger, jets, picks, threads),
            labels,
            optimizer,
            _Schedule(settings, len(labels), settings.epochs),
            settings,
            rng,
            history,
            "fine-tuning",
            progress,
        )
    tagger.history = history
    return _finish(tagger, folder)


@checked
def train_supervised(
    recipe: Recipe,
    train: Labelled | Jets,
    *,
    head: str = "mlp",
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    threads: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> Tagger:
    """The baseline: the same network trained on labels from scratch, with early stopping.

    Parameters and errors as `finetune`, and `device`, where it trains; the numbers are those of the recipe's
    ``supervised`` section, the rest of its ``finetune`` section. The tagger has the weights of the epoch with the
    lowest validation loss.
    """
    _check(recipe)
    settings = recipe.finetune
    rules = recipe.supervised
    jets, labels = _labelled(train)
    folder = _claim(out, overwrite)
    tagger = Tagger(encoder_of(recipe, seed).to(device), head, seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    held = max(1, round(rules.validation * len(labels)))
    validation, fitted = order[:held], order[held:]
    if len(fitted) == 0:
        raise RinoError(f"{len(labels)} labelled jets leave none to train on: give more")
    best: tuple[float, int, dict[str, torch.Tensor]] = (np.inf, -1, {})

    def stop(epoch: int, row: dict[str, float]) -> bool:
        nonlocal best
        tagger.eval()
        with torch.no_grad():
            total = 0.0
            for first in range(0, held, settings.batch_size):
                picks = validation[first : first + settings.batch_size]
                target = torch.from_numpy(labels[picks])
                loss = _loss(_logits(tagger, jets, picks, threads), target, settings)
                total += _finite(loss, "validation", epoch) * len(picks)
        row["validation_loss"] = total / held
        if row["validation_loss"] < best[0]:
            best = (row["validation_loss"], epoch, copy.deepcopy(tagger.state_dict()))
        return epoch - best[1] >= rules.patience

    history = History()
    with _forked(tagger.encoder.device), _small_operations(tagger, settings):
        torch.manual_seed(seed)
        optimizer = _adamw(tagger.parameters(), settings, rules.lr)
        _train(
            tagger,
            lambda picks: _logits(tagger, jets, fitted[picks], threads),
            labels[fitted],
            optimizer,
            _Schedule(settings, len(fitted), rules.epochs),
            settings,
            rng,
            history,
            "supervised",
            progress,
            stop,
        )
    tagger.load_state_dict(best[2])
    tagger.history = history
    return _finish(tagger, folder)


def _forked(device: torch.device) -> AbstractContextManager[None]:
    """Inside, seeding torch leaves the user's generators alone."""
    return torch.random.fork_rng(devices=[] if device.type == "cpu" else [device])


def _small_operations(tagger: Tagger, settings: Any) -> AbstractContextManager[None]:
    """Inside, torch's own operations take one thread where more would only wait for each other."""
    return _core.OneThread(sum(tensor.numel() for tensor in tagger.parameters()), settings.batch_size)


def _adamw(parameters: Any, settings: Any, lr: float = 0.0) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr, eps=settings.eps, weight_decay=settings.weight_decay)


class _Schedule:
    """Warm-up in a straight line or along half a cosine, then half a cosine down: a factor on the peak rates."""

    def __init__(self, settings: Any, jets: int, epochs: int) -> None:
        self.settings = settings
        self.epochs = epochs
        self.steps = epochs * max(1, -(-jets // settings.batch_size))

    def __call__(self, step: int) -> float:
        s = self.settings
        warmup = s.warmup * self.steps
        if step < warmup:
            risen = step / warmup
            if s.warmup_shape == "cosine":
                risen = 0.5 * (1 - np.cos(np.pi * risen))
            return s.warmup_start + (1 - s.warmup_start) * risen
        phase = (step - warmup) / max(self.steps - warmup, 1)
        return s.final_lr + 0.5 * (1 - s.final_lr) * (1 + np.cos(np.pi * min(phase, 1.0)))


def _train(
    module: torch.nn.Module,
    logits: Callable[[np.ndarray], torch.Tensor],
    labels: np.ndarray,
    optimizer: torch.optim.Optimizer,
    schedule: _Schedule,
    settings: Any,
    rng: np.random.Generator,
    history: History,
    phase: str,
    progress: bool,
    stop: Callable[[int, dict[str, float]], bool] | None = None,
) -> None:
    """Epochs of shuffled batches with clipping; one row of history per epoch."""
    factor = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    for epoch in _epochs(schedule.epochs, phase, progress):
        module.train()
        order = rng.permutation(len(labels))
        total = 0.0
        for first in range(0, len(order), settings.batch_size):
            picks = order[first : first + settings.batch_size]
            loss = _loss(logits(picks), torch.from_numpy(labels[picks]), settings)
            total += _finite(loss, phase, epoch) * len(picks)
            optimizer.zero_grad()
            loss.backward()
            if settings.clip > 0:
                torch.nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
            optimizer.step()
            factor.step()
        row = {"epoch": history.rows, "probing": float(phase == "probing"), "loss": total / len(labels)}
        ended = stop is not None and stop(epoch, row)
        history.append(row)
        if ended:
            break
    module.eval()


def _epochs(count: int, phase: str, progress: bool) -> Iterator[int]:
    return iter(progress_bar(range(count), desc=phase, unit=" epochs", disable=not progress, dynamic_ncols=True))


def _logits(tagger: Tagger, jets: Jets, picks: np.ndarray, threads: int) -> torch.Tensor:
    tokens = tagger.encoder.tokenize(jets[picks], threads=threads)
    return tagger(tokens)


def _loss(logits: torch.Tensor, labels: torch.Tensor, settings: Any) -> torch.Tensor:
    weight = torch.tensor(settings.positive_weight, dtype=logits.dtype, device=logits.device)
    return binary_cross_entropy_with_logits(logits, labels.to(logits), pos_weight=weight)


def _finite(loss: torch.Tensor, phase: str, epoch: int) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise RinoError(f"the loss is {value} in epoch {epoch} of {phase}: lower the learning rate")
    return value


def _check(recipe: Recipe) -> None:
    """Raise for the first number outside its range."""
    f, s = recipe.finetune, recipe.supervised
    for name, value, right, remedy in (
        ("finetune.hidden1", f.hidden1, f.hidden1 >= 1, "1 or more"),
        ("finetune.hidden2", f.hidden2, f.hidden2 >= 1, "1 or more"),
        ("finetune.head_dropout", f.head_dropout, 0 <= f.head_dropout < 1, "a probability in [0, 1)"),
        ("finetune.probe_epochs", f.probe_epochs, f.probe_epochs >= 0, "0 or more"),
        ("finetune.epochs", f.epochs, f.epochs >= 0, "0 or more"),
        ("finetune.probe_lr", f.probe_lr, f.probe_lr > 0, "a number above 0"),
        ("finetune.head_lr", f.head_lr, f.head_lr > 0, "a number above 0"),
        ("finetune.encoder_lr", f.encoder_lr, f.encoder_lr >= 0, "0 or more"),
        ("finetune.eps", f.eps, f.eps > 0, "a number above 0"),
        ("finetune.weight_decay", f.weight_decay, f.weight_decay >= 0, "0 or more"),
        ("finetune.clip", f.clip, f.clip >= 0, "0 for off or more"),
        ("finetune.warmup", f.warmup, 0 <= f.warmup <= 1, "a share of the epochs in [0, 1]"),
        ("finetune.positive_weight", f.positive_weight, f.positive_weight > 0, "a number above 0"),
        ("finetune.batch_size", f.batch_size, f.batch_size >= 1, "1 or more"),
        ("supervised.lr", s.lr, s.lr > 0, "a number above 0"),
        ("supervised.epochs", s.epochs, s.epochs >= 1, "1 or more"),
        ("supervised.patience", s.patience, s.patience >= 1, "1 or more"),
        ("supervised.validation", s.validation, 0 < s.validation < 1, "a share in (0, 1)"),
    ):
        if not right:
            raise RinoError(f"'{name}' is {value}: choose {remedy}")


def _labelled(train: Labelled | Jets) -> tuple[Jets, np.ndarray]:
    """Jets and their labels 0 and 1 as int64, checked."""
    if isinstance(train, Jets):
        if train.labels is None:
            raise RinoError("the jets carry no labels: give (jets, labels) with labels 0 and 1")
        train = (train, train.labels)
    try:
        jets, labels = train
    except (TypeError, ValueError) as error:
        raise RinoError(f"train is {type(train).__name__}; give (jets, labels), or jets that carry labels") from error
    if not isinstance(jets, Jets):
        raise RinoError(f"train has jets of type {type(jets).__name__}; give pyrino.Jets, such as read_jets returns")
    array = as_array(labels, "labels", "are")
    if array.ndim != 1 or len(array) != len(jets):
        raise RinoError(f"labels have shape {array.shape} for {len(jets)} jets: give one label per jet")
    wrong = np.flatnonzero(~np.isin(array, (0, 1)) if array.dtype.kind in "fiub" else np.ones(len(array), dtype=bool))
    if len(wrong):
        raise RinoError(
            f"the label of jet {wrong[0]} is {array[wrong[0]]!s}: a tagger learns 0 (background) and 1 (signal); "
            "map your classes first, for example (labels == 8).astype(int)"
        )
    array = array.astype(np.int64)
    if len(np.unique(array)) < 2:
        raise RinoError(
            f"all {len(array)} labels are {array[0] if len(array) else 'missing'}: give jets of both classes"
        )
    return jets, array


def _copy_with(encoder: Encoder, recipe: Recipe) -> Encoder:
    duplicate = copy.deepcopy(encoder)
    mine = recipe.copy()
    for section in ("jets", "encoder"):
        mine.update({section: encoder.recipe.to_dict()[section]})
    duplicate.recipe = mine
    return duplicate


def _claim(out: str | os.PathLike[str] | None, overwrite: bool) -> Path | None:
    if out is None:
        return None
    folder = Path(out)
    claim_folder(
        folder,
        [Tagger._file, _HISTORY],
        overwrite=overwrite,
        remedy="give overwrite=True to replace it, or another folder",
    )
    return folder


def _finish(tagger: Tagger, folder: Path | None) -> Tagger:
    if folder is not None:
        tagger.history.save(folder / _HISTORY)
        tagger.save(folder / tagger._file)
    return tagger.eval()
