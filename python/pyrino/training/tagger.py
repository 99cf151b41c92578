"""Taggers: an encoder and a head."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, overload

import numpy as np
import torch

from pyrino._arguments import checked
from pyrino.errors import RinoError
from pyrino.evaluate.evaluation import AtWorkingPoint, Evaluation, evaluation_of
from pyrino.evaluate.working_point import WorkingPoint, sample_digest
from pyrino.inference import Call, compute, weights_digest
from pyrino.jets import Jets
from pyrino.nn import Encoder, TaggerHead, Tokens, encoder_of, load_weights, save_weights
from pyrino.recipe import Recipe
from pyrino.training.history import HISTORY, History
from pyrino.training.task import Labelled, classes_of, jets_of_task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from pyrino.data.stream import JetStream
    from pyrino.inference import Collection

#: A working point, or its file, or the folder of a tagger that has one.
Point = WorkingPoint | str | os.PathLike[str]

__all__ = ["Tagger", "predict"]


class PredictOptions(TypedDict, total=False):
    """What `predict` takes beside a tagger and jets."""

    prior: float | None
    working_point: Point | None
    batch_size: int
    threads: int


class Tagger(torch.nn.Module):
    """An encoder and a head that together say what jets are: signal or background, one of several classes, numbers.

    Parameters
    ----------
    encoder
        Any `Encoder`; it is used, not copied. The ``finetune`` section of its recipe has task, classes and targets.
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

    _file: ClassVar[str] = "tagger.safetensors"

    #: Of the targets of a regression, [targets] float64, as training sets them; None for other tasks.
    mean: np.ndarray | None = None
    deviation: np.ndarray | None = None

    @checked
    def __init__(self, encoder: Encoder, head: str = "linear", seed: int = 0) -> None:
        super().__init__()
        if not isinstance(head, str) or head not in ("linear", "mlp"):
            raise RinoError(f"there is no head {head!r}: choose 'linear' or 'mlp'")
        self.encoder = encoder
        self.kind = head
        self.head = TaggerHead(encoder.recipe, head, seed)
        self.head.to(encoder.device, encoder.dtype)
        if self.task == "regression":
            self.mean, self.deviation = np.zeros(len(self.targets)), np.ones(len(self.targets))
        self.history = History()

    @property
    def task(self) -> str:
        """ "binary", "multiclass" or "regression"."""
        return self.encoder.recipe.finetune.task

    @property
    def labels(self) -> list[int]:
        """The label of each class, in the order of the outputs: [0, 1], or those of the recipe's classes."""
        return [label for label, _ in self._classes]

    @property
    def classes(self) -> list[str]:
        """Their names."""
        return [name for _, name in self._classes]

    @property
    def outputs(self) -> int:
        """Numbers per jet: 1, or as many as classes or targets."""
        return {"binary": 1, "multiclass": len(self.labels), "regression": len(self.targets)}[self.task]

    @property
    def _classes(self) -> list[tuple[int, str]]:
        binary = [(0, "background"), (1, "signal")]
        return {"binary": binary, "multiclass": classes_of(self.encoder.recipe), "regression": []}[self.task]

    @property
    def targets(self) -> list[str]:
        """The columns that a regression has learned, in the order of the outputs."""
        return list(self.encoder.recipe.finetune.targets) if self.task == "regression" else []

    @checked
    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Logits [S] of label 1, one per sequence of the tokens; of other tasks [S, classes], [S, targets], these with
        mean 0 and deviation 1.
        """
        outputs = self.head(self.encoder(tokens, constituents=False).jets)
        return outputs.squeeze(-1) if self.task == "binary" else outputs

    @overload
    def predict(self, jets: Jets, **options: Unpack[PredictOptions]) -> NDArray[Any]: ...
    @overload
    def predict(self, jets: JetStream, **options: Unpack[PredictOptions]) -> Iterator[tuple[Jets, NDArray[Any]]]: ...
    @overload
    def predict(self, jets: Any, **options: Unpack[PredictOptions]) -> Any: ...
    @checked
    def predict(
        self,
        jets: Collection,
        *,
        prior: float | None = None,
        working_point: Point | None = None,
        batch_size: int = 1024,
        threads: int = 1,
    ) -> Any:
        """Scores of label 1: what the network says, or with `prior` probabilities; of several classes the probability
        of each; of a regression its targets.

        Binary training counts the loss of a signal jet ``finetune.positive_weight`` times (2 in the paper), so that the
        network's own score is a probability for a sample with that much more signal than the one it was trained on:
        good for cuts and for the paper's accuracies, too high as a probability.

        Parameters
        ----------
        jets
            n jets; or a stream, an awkward array or a collection of dask-awkward, as `pyrino.predict` takes them.
        prior
            None: the network's score s. A number q in (0, 1): the probability of label 1 in a sample of which the
            share q is signal, if as many signal as background jets were trained on. Its odds are those of the score,
            s / (1 - s), divided by ``positive_weight`` and multiplied by q / (1 - q).
        working_point
            What `Evaluation.fix_working_point` gave, or its file: whether jets pass it is said in place of scores.
        batch_size
            Jets at a time.
        threads
            For features.

        Returns
        -------
        numpy.ndarray
            float64: (n,) in [0, 1]; (n, classes), rows with sum 1, in the order of `labels`; (n,) of one target and
            (n, targets) of several, in their units; bool (n,) at a working point. Of the kind of `jets` if they are not
            `Jets`.

        Raises
        ------
        RinoError
            If `prior` is not between 0 and 1, or the task is not binary; if the working point was fixed for another
            tagger, or `prior` is given beside it.

        Notes
        -----
        The head is computed in double precision, so that the jets beside a jet change nothing, and on a copy in
        evaluation mode, so that several threads may predict at once.
        """
        if not isinstance(jets, Jets):
            return predict(self, jets, prior=prior, working_point=working_point, batch_size=batch_size, threads=threads)
        if working_point is not None:
            point = self.checked_point(working_point, prior)
            return self.predict(jets, batch_size=batch_size, threads=threads) >= point.threshold
        from scipy.special import expit, softmax

        shift = self._log_odds(prior)
        embeddings = torch.from_numpy(self.encoder.embed(jets, batch_size=batch_size, threads=threads))
        head = copy.deepcopy(self.head).double().eval()
        with torch.no_grad():
            logits = head(embeddings.to(self.encoder.device, torch.float64))
        # Not torch's sigmoid, whose last bit depends on the place in the array.
        outputs = logits.to(embeddings.dtype).double().cpu().numpy()
        if self.task == "multiclass":
            return softmax(outputs, axis=1)
        if self.task == "regression":
            values = outputs * self.deviation + self.mean
            return values[:, 0] if len(self.targets) == 1 else values
        return expit(outputs[:, 0] + shift)

    @checked
    def evaluate(
        self,
        test: Labelled | Jets,
        *,
        signal: Sequence[int] | None = None,
        weight: str = "",
        working_point: Point | None = None,
        resamplings: int = 200,
        seed: int = 0,
        batch_size: int = 1024,
        threads: int = 1,
    ) -> Evaluation:
        """Figures of merit on labelled jets, with bootstrap errors, as the task has them.

        Parameters
        ----------
        test
            n jets with labels, or (jets, labels); of a regression jets with the targets as `Jets.values`, or (jets, y).
        signal
            The class numbers that are label 1, of a binary task; None: labels are 0 and 1.
        weight
            The column that says how much each jet counts; "": all count 1.
        working_point
            What `Evaluation.fix_working_point` gave, or its file: eps_S and eps_B at its threshold are said, too.
        resamplings, seed
            Of the bootstrap.
        batch_size, threads
            As `predict` takes them.

        Raises
        ------
        RinoError
            If labels, targets or weights do not fit the task or are missing; if a class has no jet; if the working
            point is of another tagger.

        Examples
        --------
        >>> found = tagger.evaluate(rino.read_jets("test/*.parquet"), signal=[8], working_point="runs/tagger")
        >>> print(found); found.plot().savefig("roc.pdf"); rino.report.write_evaluation(found, "runs/tagger/test")
        >>> tagger.evaluate(validation).fix_working_point(background_efficiency=0.01).save("runs/tagger")
        """
        point = None if working_point is None else self.checked_point(working_point)
        jets, truth, weights = self._sample(test, signal, weight)
        predicted = self.predict(jets, batch_size=batch_size, threads=threads)
        sample = sample_digest(jets, truth, weights)
        at = None
        if point is not None:
            at = AtWorkingPoint(point, *point.measure(predicted, truth, weights), sample == point.sample)
        return evaluation_of(
            self.task,
            predicted.reshape(len(jets), -1) if self.task == "regression" else predicted,
            truth,
            self.targets or self.classes,
            self.labels,
            weight=weight,
            weights=weights,
            resamplings=resamplings,
            seed=seed,
            sample=sample,
            tagger=weights_digest(self),
            at=at,
        )

    def _sample(
        self, test: Labelled | Jets, signal: Sequence[int] | None, weight: str
    ) -> tuple[Jets, np.ndarray, np.ndarray | None]:
        """Jets, what is true of them as `Evaluation` has it, and weights."""
        recipe = self.encoder.recipe.replace(**{"finetune.weight": weight})
        jets = jets_of_task(test, recipe, signal, "test")
        truth: NDArray[Any]
        if self.task == "regression":
            truth = np.stack([jets.values[name] for name in self.targets], axis=1)
        elif self.task == "multiclass":
            truth = np.array([self.labels.index(label) for label in jets.labels.tolist()], dtype=np.int64)
        else:
            truth = np.asarray(jets.labels)
        return jets, truth, jets.values[weight] if weight else None

    def checked_point(self, given: Point, prior: float | None = None) -> WorkingPoint:
        """A working point, which is this tagger's.

        Raises
        ------
        RinoError
            If it is not, or cannot be read; if there is a `prior` beside it, or the task is not binary.
        """
        self._require_binary()
        if prior is not None:
            raise RinoError(
                f"prior = {prior!r} and a working point are both given: the threshold is on the score without prior: "
                "leave one of them out"
            )
        point = given if isinstance(given, WorkingPoint) else WorkingPoint.load(given)
        point.check(weights_digest(self))
        return point

    def _require_binary(self) -> None:
        if self.task != "binary":
            raise RinoError(f"the task is {self.task}: working points are of signal against background alone")

    def _log_odds(self, prior: float | None) -> float:
        """What a prior adds to the logit."""
        if prior is None:
            return 0.0
        if self.task != "binary":
            raise RinoError(f"prior is {prior!r}, but the task is {self.task}: it is of signal and background alone")
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
            "toml": self.encoder.recipe.toml_of_weights(),
        }
        tensors = self.state_dict()
        if self.task == "regression":
            tensors |= {"mean": torch.from_numpy(self.mean), "deviation": torch.from_numpy(self.deviation)}
        save_weights(path, tensors, metadata)

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
            if tagger.task == "regression":
                tagger.mean, tagger.deviation = (tensors.pop(name).numpy() for name in ("mean", "deviation"))
            first = next(iter(tagger.state_dict()))
            tagger.to(tensors[first].dtype).load_state_dict(tensors)
        except (KeyError, RuntimeError) as error:
            raise RinoError(f"{file} does not fit its own recipe: {error}") from error
        tagger.history = History.load(file.parent / HISTORY)
        return tagger.eval()


@overload
def predict(
    tagger: Tagger | str | os.PathLike[str], jets: Jets, *, empty: str = ..., **options: Unpack[PredictOptions]
) -> NDArray[Any]: ...
@overload
def predict(
    tagger: Tagger | str | os.PathLike[str], jets: JetStream, *, empty: str = ..., **options: Unpack[PredictOptions]
) -> Iterator[tuple[Jets, NDArray[Any]]]: ...
@overload
def predict(
    tagger: Tagger | str | os.PathLike[str], jets: Any, *, empty: str = ..., **options: Unpack[PredictOptions]
) -> Any: ...
def predict(
    tagger: Tagger | str | os.PathLike[str],
    jets: Collection,
    *,
    prior: float | None = None,
    working_point: Point | None = None,
    batch_size: int = 1024,
    threads: int = 1,
    empty: str = "raise",
) -> Any:
    """What a tagger says, of the kind that the jets are of: scores, probabilities, numbers, whether jets pass.

    Parameters
    ----------
    tagger
        As `embed` takes an encoder.
    jets, empty
        As `embed` takes them.
    prior, working_point, batch_size, threads
        As `Tagger.predict` takes them.

    Returns
    -------
    numpy.ndarray or awkward.Array or dask_awkward.Array
        What `Tagger.predict` gives: in the place of every jet its score, or None where the jet is missing.

    Raises
    ------
    RinoError
        As `embed`.

    Examples
    --------
    >>> p = predict("runs/tagger", events.FatJet.constituents.pf)
    """
    if isinstance(working_point, (str, os.PathLike)):
        working_point = WorkingPoint.load(working_point)  # here: workers may not see the file
    options = {"prior": prior, "working_point": working_point, "batch_size": batch_size, "threads": threads}
    return compute(Call(Tagger, "predict", options, empty), tagger, jets)
