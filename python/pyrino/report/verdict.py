"""What the numbers say, in words that follow from the numbers and from nothing else.

A difference counts as measured when it is larger than twice its error. Its error is that of the test
sample (bootstrap, taken as independent for the two taggers, which is on the safe side: they share the test
jets) and, where several training seeds are given, that of the mean over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from pyrino.errors import RinoError
from pyrino.evaluate.metrics import Measurement
from pyrino.report.schema import Probe, Tagger, Transfer

__all__ = ["Difference", "Verdict", "best", "difference", "mean_error", "verdict"]

#: A difference is called measured from this many of its errors on.
SIGNIFICANCE = 2.0

Outcome = Literal["helps", "no difference", "mixed", "hurts", "not compared"]


class Difference(NamedTuple):
    """A difference of two measurements and its error."""

    value: float
    error: float

    @property
    def sign(self) -> int:
        """1 or -1 where the difference is larger than twice its error, else 0."""
        return 0 if abs(self.value) <= SIGNIFICANCE * self.error else int(math.copysign(1, self.value))


class Verdict(NamedTuple):
    """What one transfer shows.

    Attributes
    ----------
    outcome : str
        Of pretraining on the target: "helps", "no difference", "mixed", "hurts" or "not compared".
    headline : str
        One sentence.
    sentences : list of str
        The numbers behind it.
    """

    outcome: Outcome
    headline: str
    sentences: list[str]


def mean_error(measurement: Measurement) -> float:
    """Error of a measurement: test sample and, in quadrature, the mean over the training seeds.

    The standard error of the mean over n seeds is widened by Student's t (95%) over its limit for many
    seeds: two or three seeds hardly know their own spread.
    """
    error = measurement["error"] or 0.0
    seeds = measurement.get("seed_values", [])
    if len(seeds) < 2:
        return error
    from scipy.stats import norm, t

    widening = t.ppf(0.975, len(seeds) - 1) / norm.ppf(0.975)
    return math.hypot(error, widening * float(np.std(seeds, ddof=1)) / math.sqrt(len(seeds)))


def difference(a: Measurement, b: Measurement) -> Difference | None:
    """a - b with its error; None if either is only a lower bound."""
    if a.get("lower_bound", False) or b.get("lower_bound", False):
        return None
    return Difference(a["value"] - b["value"], math.hypot(mean_error(a), mean_error(b)))


def best(measurements: Sequence[Measurement]) -> int | None:
    """Position of the one that is measurably larger than every other; None if there is none."""
    if len(measurements) < 2:
        return None
    first = max(range(len(measurements)), key=lambda i: measurements[i]["value"])
    differences = [difference(measurements[first], m) for i, m in enumerate(measurements) if i != first]
    return first if all(d is not None and d.sign > 0 for d in differences) else None


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
    scratch = taggers.get(("supervised", "target"))
    head = next((head for head in ("mlp", "linear") if (head, "target") in taggers), None)
    if scratch is None or head is None:
        missing = "the network from scratch" if scratch is None else "a pretrained network"
        headline = f"No verdict: {missing} was not tested on {transfer['target']}."
        return Verdict("not compared", headline, [])
    tuned = taggers[head, "target"]
    accuracy, auc = _of(tuned, scratch, "accuracy"), _of(tuned, scratch, "auc")
    outcome, phrase = _OUTCOMES[accuracy.sign, auc.sign]
    headline = phrase.format(target=transfer["target"])
    if min(_n_seeds(scratch), _n_seeds(tuned)) == 1:
        headline += " So far from one training."
    sentences = [_accuracy_sentence(transfer, scratch, tuned, head), _separation_sentence(scratch, tuned)]
    if head == "mlp" and ("linear", "target") in taggers:
        sentences.append(_linear_sentence(scratch, tuned, taggers["linear", "target"]))
    if ("supervised", "source") in taggers and (head, "source") in taggers:
        source = transfer["source"]
        sentences.append(_source_sentence(source, taggers["supervised", "source"], taggers[head, "source"]))
    if ("supervised", "target_truncated") in taggers:
        sentences.append(_truncation_sentence(taggers["supervised", "target_truncated"], scratch, tuned))
    sentences += _probe_sentences(probes, transfer["target"])
    sentences.append(_error_sentence(scratch, tuned))
    return Verdict(outcome, headline, sentences)


#: Outcome and headline by the signs of the differences in accuracy at 0.5 and in AUC.
_OUTCOMES: dict[tuple[int, int], tuple[Outcome, str]] = {
    (1, 1): ("helps", "Pretraining helps on {target}: accuracy at 0.5 and separation both improve."),
    (1, 0): (
        "helps",
        "Pretraining helps on {target} at the fixed threshold: accuracy at 0.5 improves, "
        "the separation (AUC) does not change measurably.",
    ),
    (0, 1): (
        "helps",
        "Pretraining improves the separation (AUC) on {target}, "
        "but the accuracy at 0.5 does not change measurably.",
    ),
    (1, -1): (
        "mixed",
        "A mixed result on {target}: with pretraining the accuracy at 0.5 improves, "
        "the separation (AUC) gets worse.",
    ),
    (-1, 1): (
        "mixed",
        "A mixed result on {target}: with pretraining the separation (AUC) improves, "
        "the accuracy at 0.5 gets worse.",
    ),
    (0, 0): ("no difference", "Pretraining does not help on {target}: no difference beyond the errors."),
    (0, -1): (
        "hurts",
        "Pretraining hurts on {target}: the separation (AUC) gets worse, "
        "accuracy at 0.5 does not change measurably.",
    ),
    (-1, 0): (
        "hurts",
        "Pretraining hurts on {target}: accuracy at 0.5 gets worse, "
        "the separation (AUC) does not change measurably.",
    ),
    (-1, -1): ("hurts", "Pretraining hurts on {target}: accuracy at 0.5 and separation both get worse."),
}


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


def _signed(change: Difference) -> str:
    return f"{change.value:+.3f} ± {change.error:.3f}".replace("-", "\N{MINUS SIGN}")


def _accuracy_sentence(transfer: Transfer, scratch: Tagger, tuned: Tagger, head: str) -> str:
    before, after = scratch["metrics"]["accuracy"], tuned["metrics"]["accuracy"]
    same = "with the same MLP head" if head == "mlp" else "with a linear head"
    return (
        f"Trained on labelled {transfer['source']} and tested on {transfer['target']} at the threshold 0.5, the "
        f"network from scratch has an accuracy of {_value(before)}, the pretrained one {same} {_value(after)}: "
        f"{_points(_of(tuned, scratch, 'accuracy'))}."
    )


def _separation_sentence(scratch: Tagger, tuned: Tagger) -> str:
    auc = _of(tuned, scratch, "auc")
    does = {1: "improves", 0: "does not change measurably", -1: "gets worse"}[auc.sign]
    before, after = scratch["metrics"]["auc"]["value"], tuned["metrics"]["auc"]["value"]
    words = (
        f"Separation, which no threshold can change, {does}: AUC {before:.3f} to {after:.3f} ({_signed(auc)})"
    )
    name = "accuracy_at_median"
    if name not in scratch["metrics"] or name not in tuned["metrics"]:
        return words + "."
    median, fixed = _of(tuned, scratch, name), _of(tuned, scratch, "accuracy")
    before, after = scratch["metrics"][name]["value"], tuned["metrics"][name]["value"]
    words += f"; accuracy at the median score {before:.3f} to {after:.3f} ({_points(median)})."
    if fixed.sign > 0 and median.value < fixed.value:
        gained, separation = 100 * fixed.value, 100 * max(median.value, 0.0)
        words += (
            f" So about {separation:.1f} of the {gained:.1f} points gained are separation, the other "
            f"{gained - separation:.1f} a threshold that survives the change of domain better."
        )
    return words


def _linear_sentence(scratch: Tagger, tuned: Tagger, linear: Tagger) -> str:
    names = ("accuracy", "auc")
    accuracy, auc = (_of(linear, scratch, name) for name in names)
    agrees = (accuracy.sign, auc.sign) == tuple(_of(tuned, scratch, name).sign for name in names)
    return (
        f"The linear head {'says the same' if agrees else 'does not say quite the same'}: accuracy "
        f"{_value(linear['metrics']['accuracy'])} ({_points(accuracy)} against from scratch), "
        f"AUC {linear['metrics']['auc']['value']:.3f} ({_signed(auc)})."
    )


def _source_sentence(source: str, scratch: Tagger, tuned: Tagger) -> str:
    change = _of(tuned, scratch, "accuracy")
    does = {1: "gains", 0: "changes nothing measurable", -1: "costs"}[change.sign]
    before, after = scratch["metrics"]["accuracy"], tuned["metrics"]["accuracy"]
    return (
        f"On the source, {source}, pretraining {does}: accuracy {before['value']:.3f} from scratch, "
        f"{after['value']:.3f} pretrained ({_points(change)})."
    )


def _truncation_sentence(truncated: Tagger, scratch: Tagger, tuned: Tagger) -> str:
    cure, gap = _of(truncated, scratch, "accuracy"), _of(tuned, truncated, "accuracy")
    does = {1: "helps too", 0: "changes nothing measurable", -1: "makes it worse"}[cure.sign]
    beside = {1: "is better", 0: "is equal within errors", -1: "is worse"}
    return (
        f"The cure without pretraining, cutting the target's jets to their 30 hardest constituents, {does}: the "
        f"network from scratch then has {_value(truncated['metrics']['accuracy'])} ({_points(cure)}); "
        f"the pretrained network on whole jets {beside[gap.sign]} ({_points(gap)})."
    )


def _probe_sentences(probes: Sequence[Probe], target: str) -> list[str]:
    sentences = []
    here = [probe for probe in probes if probe["sample"] == target]
    for method in dict.fromkeys(probe["method"] for probe in here):
        by_encoder = {probe["encoder"]: probe for probe in here if probe["method"] == method}
        if set(by_encoder) != {"pretrained", "untrained"}:
            continue
        trained, random = by_encoder["pretrained"]["auc"], by_encoder["untrained"]["auc"]
        change = _measured(trained, random)
        says = {
            1: "the pretraining has learned something about the classes",
            0: "the pretraining has learned nothing measurable about the classes",
            -1: "the pretraining has lost something about the classes",
        }[change.sign]
        sentences.append(
            f"Frozen embedding of {target}, {method}: AUC {trained['value']:.3f} pretrained, "
            f"{random['value']:.3f} untrained ({_signed(change)}): {says}."
        )
    return sentences


def _error_sentence(scratch: Tagger, tuned: Tagger) -> str:
    seeds = [_n_seeds(scratch), _n_seeds(tuned)]
    if min(seeds) > 1:
        return (
            f"Errors: test sample and mean over the training seeds ({seeds[0]} from scratch, {seeds[1]} "
            "fine-tuned), in quadrature; all fine-tunings start from one pretraining."
        )
    which = "each network" if max(seeds) == 1 else "one of the two networks"
    return (
        f"{which.capitalize()} was trained only once: the errors are those of the test sample and do not hold the "
        "spread between trainings, which only several seeds can show."
    )
