"""What the numbers say, in words that follow from the numbers and from nothing else.

A difference counts as measured when it is larger than twice its error; one that is smaller is not called equal. For
taggers that is the error of the test sample (bootstrap, taken as independent for the two, which is on the safe side:
they share the test jets) and, where several training seeds are given, that of the mean over the seeds. Probes share
their folds and are compared fold by fold. How an error follows from the spread that the tables show is told with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from pyrino.errors import RinoError
from pyrino.evaluate.metrics import Measurement
from pyrino.report.schema import Probe, Sample, Strategy, Tagger, Transfer

__all__ = [
    "Difference",
    "Statement",
    "Verdict",
    "best",
    "compare_recipes",
    "difference",
    "fold_factor",
    "mean_error",
    "seed_factor",
    "signed",
    "verdict",
]

#: A difference is called measured from this many of its errors on.
SIGNIFICANCE = 2.0

#: Of pretrained taggers, that of the verdict first.
_HEADS: tuple[Strategy, ...] = ("mlp", "linear")

Outcome = Literal["helps", "no difference", "mixed", "hurts", "not compared"]


class Difference(NamedTuple):
    """A difference of two measurements and its error."""

    value: float
    error: float

    @property
    def sign(self) -> int:
        """1 or -1 where the difference is larger than twice its error, else 0."""
        return 0 if abs(self.value) <= SIGNIFICANCE * self.error else int(math.copysign(1, self.value))


class Statement(NamedTuple):
    """What it is about, and what the numbers say about it."""

    subject: str
    text: str


class Verdict(NamedTuple):
    """What one transfer shows, or two recipes beside each other.

    Attributes
    ----------
    outcome : str
        Of pretraining, or of the other recipe, on the target: "helps" or "hurts" (accuracy at 0.5 or AUC or both, and
        neither goes the other way), "mixed", "no difference", or "not compared".
    headline : str
        The same in one sentence.
    statements : list of Statement
        The numbers behind it.
    """

    outcome: Outcome
    headline: str
    statements: list[Statement]


def mean_error(measurement: Measurement) -> float:
    """Error of a measurement: test sample and, in quadrature, the mean over the training seeds."""
    seeds = measurement.get("seed_values", [])
    return math.hypot(measurement["error"] or 0.0, _error_of_mean(seeds) if len(seeds) > 1 else 0.0)


def difference(a: Measurement, b: Measurement) -> Difference | None:
    """a - b with its error; None if either is only a lower bound.

    With equally many folds in both, the error is that of the mean difference fold by fold, widened because
    the folds share most of what they are fitted on (Nadeau & Bengio, Machine Learning 52 (2003) 239).
    """
    if a.get("lower_bound", False) or b.get("lower_bound", False):
        return None
    change = a["value"] - b["value"]
    n = len(a.get("folds", []))
    if n > 1 and n == len(b.get("folds", [])):
        by_fold = np.subtract(a["folds"], b["folds"])
        return Difference(change, fold_factor(n) * float(np.std(by_fold, ddof=1)))
    return Difference(change, math.hypot(mean_error(a), mean_error(b)))


def best(measurements: Sequence[Measurement]) -> list[bool]:
    """Which share the first place: the largest, and all that are not measurably below it.

    Nobody does if none is measurably below, that is, if there is nothing to tell apart.
    """
    if not measurements:
        return []
    first = max(measurements, key=lambda measurement: measurement["value"])
    below = []
    for measurement in measurements:
        change = difference(first, measurement)
        below.append(change is not None and change.sign > 0)
    return [any(below) and not is_below for is_below in below]


def verdict(transfer: Transfer, probes: Sequence[Probe] = ()) -> Verdict:
    """What a transfer shows about pretraining on the target.

    Compared are the supervised network and the pretrained one with the same head (MLP; the linear one where
    there is no MLP), so that nothing but the pretraining differs and nothing is chosen by looking at the
    target. Accuracy at 0.5 and AUC decide; the rest is told.

    Parameters
    ----------
    transfer : Transfer
        The taggers on all samples.
    probes : sequence of Probe
        Those on the target domain are told too.
    """
    taggers = {(tagger["strategy"], tagger["sample"]): tagger for tagger in transfer["taggers"]}
    target = transfer["target"]
    scratch = taggers.get(("supervised", "target"))
    head = next((head for head in _HEADS if (head, "target") in taggers), None)
    if scratch is None or head is None:
        missing = "the network from scratch" if scratch is None else "a pretrained network"
        return Verdict("not compared", f"No verdict: {missing} was not tested on {target}.", [])
    tuned = taggers[head, "target"]
    accuracy, auc = _of(tuned, scratch, "accuracy"), _of(tuned, scratch, "auc")
    outcome = _outcome(accuracy.sign, auc.sign)
    headline = f"{_OPENINGS[outcome]} on {target}: {_change_of_accuracy(accuracy)}, {_change_of_auc(auc)}."
    if min(_n_seeds(scratch), _n_seeds(tuned)) == 1:
        headline += " This is from one training."
    statements = [_accuracy(transfer, scratch, tuned, head), _separation(scratch, tuned)]
    if head == "mlp" and ("linear", "target") in taggers:
        statements.append(_linear_head(scratch, tuned, taggers["linear", "target"]))
    if ("supervised", "source") in taggers and (head, "source") in taggers:
        statements.append(_source(taggers["supervised", "source"], taggers[head, "source"]))
    if ("supervised", "target_truncated") in taggers:
        statements.append(_truncation(taggers["supervised", "target_truncated"], scratch, tuned))
    statements += _frozen(probes, target)
    statements.append(_errors(scratch, tuned, transfer))
    return Verdict(outcome, headline, statements)


def compare_recipes(transfers: Sequence[Transfer]) -> list[Verdict]:
    """What each further recipe gives beside the first, from the same labelled source to the same target.

    Compared are the pretrained networks with the MLP head (the linear one where there is no MLP); accuracy at 0.5 and
    AUC on the target decide, as in `verdict`.

    Parameters
    ----------
    transfers : sequence of Transfer
        One per recipe, each with its ``recipe``.
    """
    first, *others = transfers
    return [_beside(first, other) for other in others]


def _beside(first: Transfer, other: Transfer) -> Verdict:
    names = (first.get("recipe", "the first"), other.get("recipe", "the other"))
    a, b = ({(tagger["strategy"], tagger["sample"]): tagger for tagger in t["taggers"]} for t in (first, other))
    target = first["target"]
    both = a.keys() & b.keys()
    head = next((head for head in _HEADS if (head, "target") in both), None)
    if head is None:
        return Verdict(
            "not compared", f"The recipe {names[1]} beside {names[0]}: not both were tested on {target}.", []
        )

    def change(strategy: Strategy, sample: Sample) -> str:
        one, two = a[strategy, sample], b[strategy, sample]
        return f"{_points(_of(two, one, 'accuracy'))} in accuracy, {signed(_of(two, one, 'auc'))} in AUC"

    mine, theirs = b[head, "target"], a[head, "target"]
    accuracy, auc = _of(mine, theirs, "accuracy"), _of(mine, theirs, "auc")
    headline = (
        f"The recipe {names[1]} beside {names[0]} on {target}: {_change_of_accuracy(accuracy)}, {_change_of_auc(auc)}."
    )
    statements = [
        Statement(
            "Accuracy at 0.5",
            f"on {target} {names[0]} reaches {_value(theirs['metrics']['accuracy'])}, {names[1]} "
            f"{_value(mine['metrics']['accuracy'])}{' with an MLP head' if head == 'mlp' else ' with a linear head'}; "
            f"AUC {_value(theirs['metrics']['auc'])} and {_value(mine['metrics']['auc'])}.",
        )
    ]
    if head == "mlp" and ("linear", "target") in both:
        statements.append(Statement("Linear head", f"{change('linear', 'target')}."))
    if (head, "source") in both:
        statements.append(Statement("On the source", f"{change(head, 'source')}."))
    if ("supervised", "target") in both:
        statements.append(
            Statement(
                "Without pretraining",
                f"the network of {names[1]} beside that of {names[0]}, both from scratch, on {target}: "
                f"{change('supervised', 'target')}.",
            )
        )
        gains = [
            f"{name} {_points(_of(taggers[head, 'target'], taggers['supervised', 'target'], 'accuracy'))} in accuracy, "
            f"{signed(_of(taggers[head, 'target'], taggers['supervised', 'target'], 'auc'))} in AUC"
            for name, taggers in zip(names, (a, b), strict=True)
        ]
        statements.append(Statement("What pretraining adds", f"on {target} against from scratch: {'; '.join(gains)}."))
    statements.append(_errors_between(theirs, mine, first, other))
    return Verdict(_outcome(accuracy.sign, auc.sign), headline, statements)


def _errors_between(one: Tagger, two: Tagger, first: Transfer, other: Transfer) -> Statement:
    seeds = min(_n_seeds(one), _n_seeds(two))
    if seeds == 1:
        return Statement(
            "Errors", "of the test sample alone: one training each does not show the spread between seeds."
        )
    several = min(t.get("pretrainings", 1) for t in (first, other)) > 1
    start = "each a pretraining and a fine-tuning of its own" if several else "of fine-tunings from one pretraining"
    return Statement(
        "Errors", f"test sample and mean over {seeds} seeds, {start}, in quadrature. {_of_a_mean({seeds})}"
    )


_OPENINGS: dict[Outcome, str] = {
    "helps": "Pretraining helps",
    "hurts": "Pretraining hurts",
    "mixed": "Pretraining gives a mixed result",
    "no difference": "Pretraining makes no measurable difference",
}


def _outcome(*signs: int) -> Outcome:
    if max(signs) > 0:
        return "mixed" if min(signs) < 0 else "helps"
    return "hurts" if min(signs) < 0 else "no difference"


def seed_factor(n: int) -> float:
    """What the standard deviation between n values is multiplied by for the error of their mean.

    1 / sqrt(n), times Student's t (95%) over its limit for many values: two or three hardly know their own spread.
    """
    return _student(n) / math.sqrt(n)


def fold_factor(n: int) -> float:
    """The same for n folds, which share most of what they are fitted on: times sqrt(1 + n / (n - 1))."""
    return seed_factor(n) * math.sqrt(1 + n / (n - 1))


def _student(n: int) -> float:
    from scipy.stats import norm, t

    return float(t.ppf(0.975, n - 1) / norm.ppf(0.975))


def _error_of_mean(values: Sequence[float]) -> float:
    return seed_factor(len(values)) * float(np.std(values, ddof=1))


def _of_a_mean(numbers: set[int]) -> str:
    """How the error of a mean over so many seeds follows from their standard deviation, which the tables show."""
    rules = [
        f"{seed_factor(n):.2f} times the standard deviation between {n} seeds (1/√{n}, and {_student(n):.2f} by "
        "Student's t, as so few hardly know their own spread)"
        for n in sorted(numbers)
    ]
    return f"The error of a mean is {'; '.join(rules)}."


def _n_seeds(tagger: Tagger) -> int:
    return max(len(tagger["metrics"]["accuracy"].get("seed_values", [])), 1)


def _of(a: Tagger, b: Tagger, metric: str) -> Difference:
    return _measured(a["metrics"][metric], b["metrics"][metric])


def _measured(a: Measurement, b: Measurement) -> Difference:
    """Of quantities that are never mere bounds, such as accuracy and AUC."""
    found = difference(a, b)
    if found is None:
        raise RinoError("an accuracy or AUC is marked as a lower bound; only rejections can be")
    return found


def _value(measurement: Measurement) -> str:
    return f"{measurement['value']:.3f} ± {mean_error(measurement):.3f}"


def _points(change: Difference) -> str:
    return f"{100 * change.value:+.1f} ± {100 * change.error:.1f} points".replace("-", "\N{MINUS SIGN}")


def signed(change: Difference) -> str:
    """A difference with its sign and error, three digits after the point."""
    return f"{change.value:+.3f} ± {change.error:.3f}".replace("-", "\N{MINUS SIGN}")


def _change_of_accuracy(change: Difference) -> str:
    if change.sign == 0:
        return f"accuracy at 0.5 does not change measurably ({_points(change)})"
    size = f"{100 * abs(change.value):.1f} ± {100 * change.error:.1f} points"
    return f"accuracy at 0.5 {'rises' if change.sign > 0 else 'falls'} by {size}"


def _change_of_auc(change: Difference) -> str:
    does = {1: "improves", 0: "does not change measurably", -1: "gets worse"}[change.sign]
    return f"separation (AUC) {does} ({signed(change)})"


def _accuracy(transfer: Transfer, scratch: Tagger, tuned: Tagger, head: str) -> Statement:
    before, after = scratch["metrics"]["accuracy"], tuned["metrics"]["accuracy"]
    same = "with the same MLP head" if head == "mlp" else "with a linear head"
    return Statement(
        "Accuracy at 0.5",
        f"trained on labelled {transfer['source']}, the network from scratch reaches {_value(before)} on "
        f"{transfer['target']}, the pretrained one {same} {_value(after)}.",
    )


def _separation(scratch: Tagger, tuned: Tagger) -> Statement:
    before, after = scratch["metrics"]["auc"], tuned["metrics"]["auc"]
    words = f"AUC, which knows no threshold, {_value(before)} from scratch, {_value(after)} pretrained"
    name = "accuracy_at_median"
    if name not in scratch["metrics"] or name not in tuned["metrics"]:
        return Statement("Separation", words + ".")
    median, fixed, auc = (_of(tuned, scratch, metric) for metric in (name, "accuracy", "auc"))
    words += f"; accuracy at the median score {_points(median)}."
    if fixed.sign > 0 and median.sign <= 0 and auc.sign <= 0:
        words += (
            " So what is gained at 0.5 is a threshold that survives the change of domain; no gain in separation is "
            "measured."
        )
    elif fixed.sign > 0 and 0 < median.value < fixed.value:
        gained, separation = 100 * fixed.value, 100 * median.value
        words += (
            f" So about {separation:.1f} of the {gained:.1f} points gained at 0.5 are separation, the other "
            f"{gained - separation:.1f} a threshold that survives the change of domain better."
        )
    return Statement("Separation", words)


def _linear_head(scratch: Tagger, tuned: Tagger, linear: Tagger) -> Statement:
    names = ("accuracy", "auc")
    accuracy, auc = (_of(linear, scratch, name) for name in names)
    agrees = (accuracy.sign, auc.sign) == tuple(_of(tuned, scratch, name).sign for name in names)
    return Statement(
        "Linear head",
        f"{'likewise' if agrees else 'not quite the same'}: {_points(accuracy)} in accuracy, "
        f"{signed(auc)} in AUC against from scratch.",
    )


def _source(scratch: Tagger, tuned: Tagger) -> Statement:
    change = _of(tuned, scratch, "accuracy")
    does = {1: "gains", 0: "changes nothing measurable", -1: "costs"}[change.sign]
    before, after = scratch["metrics"]["accuracy"], tuned["metrics"]["accuracy"]
    return Statement(
        "On the source",
        f"pretraining {does}: accuracy {_value(before)} from scratch, {_value(after)} pretrained ({_points(change)}).",
    )


def _truncation(truncated: Tagger, scratch: Tagger, tuned: Tagger) -> Statement:
    cure, gap = _of(truncated, scratch, "accuracy"), _of(tuned, truncated, "accuracy")
    does = {1: "helps too", 0: "changes nothing measurable", -1: "makes it worse"}[cure.sign]
    beside = {1: "is better", 0: "does not differ measurably", -1: "is worse"}[gap.sign]
    return Statement(
        "Without pretraining",
        f"cutting the target's jets to their 30 hardest constituents {does}: accuracy "
        f"{_value(truncated['metrics']['accuracy'])} from scratch ({_points(cure)}). Beside that, the "
        f"pretrained network on whole jets {beside} ({_points(gap)}).",
    )


def _frozen(probes: Sequence[Probe], target: str) -> list[Statement]:
    here = [probe for probe in probes if probe["sample"] == target]
    clauses = []
    for method in dict.fromkeys(probe["method"] for probe in here):
        by_encoder = {probe["encoder"]: probe["auc"] for probe in here if probe["method"] == method}
        if set(by_encoder) != {"pretrained", "untrained"}:
            continue
        trained, random = by_encoder["pretrained"], by_encoder["untrained"]
        change = _measured(trained, random)
        says = {1: "better than", 0: "not measurably better than", -1: "worse than"}[change.sign]
        clauses.append(
            f"{method}: AUC {trained['value']:.3f}, {says} the {random['value']:.3f} of an untrained network "
            f"({signed(change)})"
        )
    return [Statement("Frozen embedding", "; ".join(clauses) + ".")] if clauses else []


def _errors(scratch: Tagger, tuned: Tagger, transfer: Transfer) -> Statement:
    seeds = [_n_seeds(scratch), _n_seeds(tuned)]
    if min(seeds) > 1:
        several = transfer.get("pretrainings", 1) > 1
        start = (
            "every fine-tuning starts from a pretraining of its own"
            if several
            else ("all fine-tunings start from one pretraining")
        )
        words = (
            f"test sample and mean over training seeds ({seeds[0]} from scratch, {seeds[1]} fine-tuned), in "
            f"quadrature; {start}. {_of_a_mean(set(seeds))}"
        )
    else:
        which = "each network was" if max(seeds) == 1 else "one of the two networks was"
        words = (
            f"{which} trained only once, so these are the errors of the test sample and do not hold the "
            "spread between trainings, which only several seeds can show."
        )
    return Statement("Errors", words)
