"""`Evaluation`: what a tagger does on labelled jets, whatever its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino._weighted import effective_number
from pyrino.errors import RinoError
from pyrino.evaluate.metrics import Measurement, roc_auc, score_histogram, tagger_metrics, thin_roc
from pyrino.evaluate.tasks import class_metrics, confusion_matrix, regression_metrics
from pyrino.evaluate.working_point import Efficiency, WorkingPoint, fix_working_point
from pyrino.tables import aligned, html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["METRIC_NAMES", "AtWorkingPoint", "Evaluation", "evaluation_of"]

#: What metrics are called in tables.
METRIC_NAMES = {
    "accuracy": "accuracy",
    "accuracy_at_0.5": "accuracy at 0.5",
    "accuracy_at_median": "accuracy at the median score",
    "auc": "AUC",
    "balanced_accuracy": "mean accuracy of the classes",
    "macro_auc": "mean one-vs-rest AUC",
    "bias": "mean of predicted - true",
    "resolution": "its standard deviation",
    "half_width_68": "half width of its central 68%",
    "explained": "share of the variance explained",
}


@dataclass(frozen=True)
class AtWorkingPoint:
    """A working point on these jets.

    Attributes
    ----------
    fixed : WorkingPoint
        As it was fixed.
    signal_efficiency, background_efficiency : Efficiency
        Of these jets.
    same_sample : bool
        Whether these are the jets that it was fixed on, so that the efficiencies say nothing new.
    """

    fixed: WorkingPoint
    signal_efficiency: Efficiency
    background_efficiency: Efficiency
    same_sample: bool


@dataclass(frozen=True)
class Evaluation:
    """What `Tagger.evaluate` finds; its text is a table, a notebook shows it as HTML.

    Attributes
    ----------
    task : str
        "binary", "multiclass" or "regression".
    jets : int
        Jets that were tested on.
    metrics : dict
        As `tagger_metrics` or `class_metrics` gives them; of a regression target -> `regression_metrics`.
    classes : dict of str to int
        Name -> label of each class, in the order of the outputs; empty for a regression.
    counts : dict of str to int
        Name -> jets of each class.
    confusion : ndarray or None
        Of several classes, as `confusion_matrix` gives it.
    aucs : dict of str to float
        Of several classes: name -> area of its probability against all other jets.
    weight : str
        The column of weights; "" without.
    resamplings, seed : int
        Of the bootstrap.
    sample, tagger : str
        Digests of the jets and of the tagger's weights.
    at : AtWorkingPoint or None
        The working point that was given, on these jets.
    predicted, truth : ndarray
        What the tagger says, (n,), (n, classes) or (n, targets); labels 0 and 1, numbers of classes, or (n, targets).
    weights : ndarray or None
        (n,).
    """

    task: str
    jets: int
    metrics: dict[str, Any]
    classes: dict[str, int]
    counts: dict[str, int]
    confusion: NDArray[np.float64] | None
    aucs: dict[str, float]
    weight: str
    resamplings: int
    seed: int
    sample: str = field(repr=False)
    tagger: str = field(repr=False)
    at: AtWorkingPoint | None
    predicted: NDArray[np.float64] = field(repr=False)
    truth: NDArray[Any] = field(repr=False)
    weights: NDArray[np.float64] | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON."""
        found: dict[str, Any] = {"task": self.task, "jets": self.jets, "sample": self.sample, "metrics": self.metrics}
        if self.classes:
            found |= {"classes": self.classes, "counts": self.counts}
        if self.confusion is not None:
            found |= {"confusion": self.confusion.tolist(), "aucs": self.aucs}
        if self.weight and self.weights is not None:
            found |= {"weight": self.weight, "effective_jets": effective_number(self.weights)}
        if self.at is not None:
            found["working_point"] = asdict(self.at)
        return found | {"resamplings": self.resamplings, "seed": self.seed, "pyrino": _core.__version__}

    def fix_working_point(
        self,
        *,
        signal_efficiency: float | None = None,
        background_efficiency: float | None = None,
        threshold: float | None = None,
    ) -> WorkingPoint:
        """A threshold on the score, fixed on these jets; `WorkingPoint.save` writes it beside the tagger.

        Parameters
        ----------
        signal_efficiency, background_efficiency, threshold
            One of them: the highest threshold that this share of the signal passes, or more; the lowest that this share
            of the background passes, or less; the threshold itself.

        Raises
        ------
        RinoError
            If the task is not binary, not exactly one of the three is given, or one is out of range.

        Examples
        --------
        >>> point = tagger.evaluate(validation).fix_working_point(background_efficiency=0.01)
        >>> point.save("runs/tagger")
        >>> passes = rino.predict("runs/tagger", events.FatJet.constituents.pf, working_point="runs/tagger")
        """
        if self.task != "binary":
            raise RinoError(f"the task is {self.task}: working points are of signal against background alone")
        return fix_working_point(
            self.predicted,
            self.truth,
            self.weights,
            signal_efficiency=signal_efficiency,
            background_efficiency=background_efficiency,
            threshold=threshold,
            sample=self.sample,
            tagger=self.tagger,
        )

    def plot(self) -> Figure:
        """ROC curve and scores; the confusion matrix; or residuals against the truth."""
        from pyrino import plots

        if self.task == "regression":
            truth = dict(zip(self.metrics, self.truth.T, strict=True))
            return plots.regression_residuals(
                {name: (self.predicted[:, t], truth[name]) for t, name in enumerate(self.metrics)}, weights=self.weights
            )
        if self.confusion is not None:
            return plots.confusion(self.confusion, list(self.classes))
        curve = thin_roc(self.predicted, self.truth, weights=self.weights)
        return plots.roc_curves([{"name": "tagger", "domain": "", "auc": self.metrics["auc"]["value"], **curve}])

    def figures(self) -> dict[str, Figure]:
        """All pictures: title -> figure."""
        from pyrino import plots

        if self.task == "regression":
            return {"Predicted minus true": self.plot()}
        if self.task == "multiclass":
            curves = [
                {"name": name, "domain": "", "auc": self.aucs[name]}
                | thin_roc(self.predicted[:, c], self.truth == c, weights=self.weights)
                for c, name in enumerate(self.classes)
            ]
            return {"Confusion matrix": self.plot(), "Each class against all others": plots.roc_curves(curves)}
        scores = score_histogram(self.predicted, self.truth, weights=self.weights)
        cut = 0.5 if self.at is None else self.at.fixed.threshold
        histogram = plots.score_distributions([{"name": "", "domain": "", **scores}], threshold=cut)
        return {"ROC curve": self.plot(), "Scores of both classes": histogram}

    def summary(self) -> str:
        """The jets, in a line."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        text = f"{self.jets} jets" + (f": {counts}" if counts else "")
        if self.weights is None:
            return text
        return f"{text}; weighted by {self.weight!r}, as many as {effective_number(self.weights):.0f} of one weight"

    def rows(self) -> list[list[str]]:
        """The metrics as a table: what, value, error."""
        if self.task == "regression":
            return [[t, *_row(name, one)] for t, each in self.metrics.items() for name, one in each.items()]
        of_cut = {"accuracy": "accuracy_at_0.5"} if self.task == "binary" else {}
        return [_row(of_cut.get(name, name), one) for name, one in self.metrics.items()]

    def confusion_rows(self) -> list[list[str]]:
        """The confusion matrix as a table with a head, one-vs-rest AUCs at its end; empty where there is none."""
        if self.confusion is None:
            return []
        names = list(self.classes)
        body = zip(names, self.confusion, strict=True)
        rows = [[name, *(f"{x:.3f}" for x in row), f"{self.aucs[name]:.4f}"] for name, row in body]
        return [["is \\ called", *names, "AUC"], *rows]

    def working_point_lines(self) -> list[str]:
        """What passes the working point, in words; empty without one."""
        if self.at is None:
            return []
        at, fixed = self.at, self.at.fixed
        lines = [
            f"working point: threshold {fixed.threshold:.6g}, fixed by {fixed.wanted}",
            f"  eps_S = {at.signal_efficiency} here, {fixed.signal_efficiency} where it was fixed",
            f"  eps_B = {at.background_efficiency} here, {fixed.background_efficiency} where it was fixed",
        ]
        if at.same_sample:
            lines.append("  these are the jets that it was fixed on: take others to measure efficiencies")
        return lines

    def __repr__(self) -> str:
        return f"{self.summary()}\n\n{self.tables()}"

    def tables(self) -> str:
        """All but the summary."""
        rows, matrix = self.rows(), self.confusion_rows()
        parts = [aligned(rows, [len(rows[0]) - 2]), aligned(matrix, range(1, len(self.classes) + 2))]
        parts.append("\n".join(self.working_point_lines()))
        return "\n\n".join([*filter(None, parts), self.note()])

    def note(self) -> str:
        """How the errors came about."""
        return f"errors: bootstrap, {self.resamplings} resamplings, seed {self.seed}"

    def _repr_html_(self) -> str:
        matrix = self.confusion_rows()
        tables = html(self.rows(), head=False) + (html(matrix) if matrix else "")
        lines = "<br>".join(map(escape, [*self.working_point_lines(), self.note()]))
        return f"<div><p>{escape(self.summary())}</p>{tables}<p>{lines}</p></div>"


def evaluation_of(
    task: str,
    predicted: NDArray[np.float64],
    truth: NDArray[Any],
    names: Sequence[str],
    labels: Sequence[int],
    *,
    weight: str,
    weights: NDArray[np.float64] | None,
    resamplings: int,
    seed: int,
    sample: str,
    tagger: str,
    at: AtWorkingPoint | None,
) -> Evaluation:
    """The evaluation of what a tagger of this task says.

    Parameters
    ----------
    predicted, truth
        As `Evaluation` has them; of a regression (n, targets) both.
    names, labels
        Of the classes; `names` are the targets of a regression.
    """
    metrics: dict[str, Any]
    how: dict[str, Any] = {"n": resamplings, "weights": weights}
    confusion, aucs = None, {}
    if task == "binary":
        metrics = tagger_metrics(predicted, truth, seed, **how)
    elif task == "multiclass":
        metrics = class_metrics(predicted, truth, seed, **how)
        confusion = confusion_matrix(predicted, truth, weights=weights)
        aucs = {name: roc_auc(predicted[:, c], truth == c, weights=weights) for c, name in enumerate(names)}
    else:
        metrics = {name: regression_metrics(predicted[:, t], truth[:, t], seed, **how) for t, name in enumerate(names)}
    of_class = task != "regression"
    return Evaluation(
        task,
        len(truth),
        metrics,
        dict(zip(names, labels, strict=True)) if of_class else {},
        {name: int(np.sum(truth == c)) for c, name in enumerate(names)} if of_class else {},
        confusion,
        aucs,
        weight,
        resamplings,
        seed,
        sample,
        tagger,
        at,
        predicted,
        truth,
        weights,
    )


def _row(name: str, measurement: Mapping[str, Any] | Measurement) -> list[str]:
    shown = METRIC_NAMES.get(name) or f"1/eps_B at eps_S = {name.removeprefix('rejection_at_')}"
    digits = 4 if name in METRIC_NAMES else 1
    if measurement.get("lower_bound"):
        return [shown, f"> {measurement['value']:.{digits}f}", "(95% confidence: no background jet passes)"]
    return [shown, f"{measurement['value']:.{digits}f}", f"+- {measurement['error']:.{digits}f}"]
