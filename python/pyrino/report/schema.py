"""What a report is made from: the `Result`, as plain dictionaries that JSON can hold.

`report.json` is a `Result`; reading it back and calling `write_report` again gives the same page. Every
entry is checked against these types before anything is written, so a missing or misspelt key is an error
that names its place.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Union

import numpy as np

from pyrino.errors import RinoError
from pyrino.evaluate.embeddings import KinematicsExplained
from pyrino.evaluate.metrics import Measurement

__all__ = [
    "SAMPLES",
    "STRATEGIES",
    "Change",
    "ComparedRecipe",
    "Domain",
    "Embedding",
    "FlowJet",
    "Histogram",
    "PcaGroup",
    "Pretraining",
    "PrincipalPlane",
    "Probe",
    "Result",
    "Roc",
    "SimilarityEntry",
    "Stage",
    "Tagger",
    "Transfer",
    "check_result",
]

Strategy = Literal["supervised", "linear", "mlp"]
Sample = Literal["target", "target_truncated", "source"]

#: Strategies in the order and in the words of the report.
STRATEGIES: dict[str, str] = {
    "supervised": "supervised (scratch)",
    "linear": "pretrained + linear head",
    "mlp": "pretrained + MLP head",
}

#: Samples a tagger is tested on, in the order of the report.
SAMPLES: tuple[str, ...] = ("target", "target_truncated", "source")


class Domain(TypedDict):
    """One row of the table of domains, in words; `n_jets` by purpose, as ``{"pretraining": 20000}``."""

    name: str
    role: str
    generator: str
    detector: str
    selection: str
    n_jets: dict[str, int]


class _PretrainingValues(TypedDict):
    domain: str
    preset: str
    n_parameters: int
    n_jets: int
    jets_seen: int


class Pretraining(_PretrainingValues, total=False):
    """How the encoder was pretrained.

    Attributes
    ----------
    domain, preset : str
        Domain of the jets and name of the recipe.
    n_parameters, n_jets, jets_seen : int
        Trainable parameters of the encoder, distinct jets, jets seen over all epochs.
    n_prototypes : int
        Prototypes K, where the method has some.
    views : str
        What is seen of a jet, as teacher's and student's resolutions, and what else is special, in words.
    charts : dict
        What a method of a user's shows: by title the names of columns of the history, and their words; "loss" has the
        loss's parts.
    history : dict of str to list
        Columns as `pyrino.plots.training_curves` takes them; None where a value was not taken.
    """

    n_prototypes: int
    views: str
    charts: dict[str, dict[str, str]]
    history: dict[str, list[float | None]]


class Roc(TypedDict):
    """A ROC curve, as `pyrino.evaluate.thin_roc` gives it."""

    signal_efficiency: list[float]
    background_efficiency: list[float]
    n_background: int


class Histogram(TypedDict):
    """Distribution of the scores, as `pyrino.evaluate.score_histogram` gives it."""

    edges: list[float]
    signal: list[int]
    background: list[int]
    median: float


class _TaggerValues(TypedDict):
    strategy: Strategy
    sample: Sample
    n_jets: int
    metrics: dict[str, Measurement]


class Tagger(_TaggerValues, total=False):
    """One tagger on one sample; `pyrino.report.tagger_entry` makes it from scores and labels.

    Attributes
    ----------
    strategy : {"supervised", "linear", "mlp"}
        From scratch, or pretrained with this head (the supervised network has an MLP head).
    sample : {"target", "target_truncated", "source"}
        What it is tested on; truncated: each jet cut to its 30 hardest constituents, as the source's.
    n_jets : int
        Number of test jets.
    metrics : dict
        As `pyrino.evaluate.tagger_metrics` or `combine_seeds` gives them.
    roc, histogram : dict
        Of the first training seed.
    """

    roc: Roc
    histogram: Histogram


class _TransferValues(TypedDict):
    source: str
    target: str
    n_labelled: int
    taggers: list[Tagger]


class Transfer(_TransferValues, total=False):
    """From one labelled source to the target: all taggers on all samples.

    `recipe` is the name of the recipe of all of them, where several are compared; `pretrainings` how many pretrained
    encoders the fine-tunings start from, 1 where it is left out.
    """

    recipe: str
    pretrainings: int


class Change(TypedDict):
    """A number that is not what the recipe's preset has: its name, both values and its meaning."""

    number: str
    published: str
    here: str
    meaning: str


class ComparedRecipe(TypedDict):
    """One of several recipes that were pretrained on the same jets with the same number of steps.

    Attributes
    ----------
    name, preset, summary, source : str
        What the report calls it, the preset it starts from, what that is and where it was published.
    losses : str
        The losses with their weights, in words.
    published_parameters : int
        Parameters of the preset's encoder; those of this one are in `pretraining`.
    steps, batch_size : int
        Of one pretraining; jets.
    seeds : list of int
        One pretraining each.
    seconds : list of float
        Time of each pretraining.
    changes : list of Change
        Where it departs from its preset.
    pretraining : Pretraining
        That of the first seed.
    """

    name: str
    preset: str
    summary: str
    source: str
    losses: str
    published_parameters: int
    steps: int
    batch_size: int
    seeds: list[int]
    seconds: list[float]
    changes: list[Change]
    pretraining: Pretraining


class Probe(TypedDict):
    """A simple classifier on a frozen embedding.

    `method` in words ("k-NN, k = 20"), `sample` the domain or "source to target"; accuracy and AUC as a
    probe of `pyrino.evaluate` gives them.
    """

    method: str
    encoder: Literal["pretrained", "untrained"]
    sample: str
    accuracy: Measurement
    auc: Measurement


class SimilarityEntry(TypedDict):
    """Cosine similarity along the flow, as `pyrino.evaluate.similarity_along_flow` gives it, with names."""

    resolutions: list[str]
    same_jet: list[list[float]]
    different_jets: list[list[float]]


# "class" is a keyword, so this type needs the other notation.
PcaGroup = TypedDict("PcaGroup", {"class": str, "domain": str, "points": list[list[float]]})
PcaGroup.__doc__ = "Embeddings of one class in one domain along two principal components, (n, 2)."


class PrincipalPlane(TypedDict):
    """Two principal components of the embeddings of all domains together."""

    groups: list[PcaGroup]
    explained: list[float]


class Embedding(TypedDict, total=False):
    """What the frozen embedding holds; each entry may be left out."""

    dimension: int
    effective_rank: float
    similarity: SimilarityEntry
    pca: PrincipalPlane
    kinematics: KinematicsExplained


class _FlowJetValues(TypedDict):
    views: list[list[list[float]]]
    resolutions: list[int | str]
    radius: float


class FlowJet(_FlowJetValues, total=False):
    """One jet at several resolutions: what `pyrino.plots.draw_flow` takes. Momenta in GeV."""

    title: str


class Stage(TypedDict):
    """Wall-clock time of one stage, in seconds."""

    name: str
    seconds: float


class _ResultValues(TypedDict):
    title: str
    created: str
    command: str
    demo: bool
    domains: list[Domain]
    transfers: list[Transfer]
    stages: list[Stage]
    seeds: dict[str, int | list[int]]
    versions: dict[str, str]


class Result(_ResultValues, total=False):
    """All that a report shows.

    Attributes
    ----------
    title, created, command : str
        Heading, date and time, and the command that made it.
    demo : bool
        The recipe is the demo's; the page then says how its setting was chosen.
    domains, transfers, stages, seeds, versions
        As typed; one transfer per source (and recipe), at least one.
    pretraining, recipes
        One of the two: how the encoder was pretrained, or the recipes that are compared.
    probes, embedding, jet
        Left out where they were not made.
    recipe : dict
        Every number of the recipe, or of every recipe by its name, kept in ``report.json``.
    machine : str
        Processor, number of cores, device.
    remarks : list of str
        Further sentences for the end of the page.
    """

    pretraining: Pretraining
    recipes: list[ComparedRecipe]
    probes: list[Probe]
    embedding: Embedding
    jet: FlowJet
    recipe: dict[str, Any]
    machine: str
    remarks: list[str]


def check_result(result: Mapping[str, Any]) -> Result:
    """A copy in plain Python types (arrays become lists), after checking every entry.

    Raises
    ------
    RinoError
        If a key is missing or unknown, a value has another type or is not finite, there is no transfer, a transfer
        has no two taggers to compare, or its recipe is none of those there are; the message names the place.
    """
    plain = _plain(result, "result")
    _check(plain, Result, "result")
    if ("pretraining" in plain) == ("recipes" in plain):
        has = "both" if "recipes" in plain else "neither"
        raise RinoError(f"result has {has} of 'pretraining' and 'recipes': give one of them")
    if not plain["transfers"]:
        raise RinoError("result['transfers'] is empty: give at least one source with its taggers")
    names = [recipe["name"] for recipe in plain.get("recipes", [])]
    shown: set[tuple[str, str]] = set()
    for i, transfer in enumerate(plain["transfers"]):
        if names:
            name = transfer.get("recipe")
            if name not in names:
                place = f"result['transfers'][{i}]['recipe']"
                raise RinoError(f"{place} is {name!r}: give one of {', '.join(names)}")
            if (name, transfer["source"]) in shown:
                raise RinoError(
                    f"result['transfers'][{i}] is a second {name} from {transfer['source']}: give each once"
                )
            shown.add((name, transfer["source"]))
        where = f"result['transfers'][{i}]['taggers']"
        if not transfer["taggers"]:
            raise RinoError(f"{where} is empty: give the supervised and the pretrained taggers")
        seen: set[tuple[str, str]] = set()
        for j, tagger in enumerate(transfer["taggers"]):
            which = (tagger["strategy"], tagger["sample"])
            if which in seen:
                raise RinoError(f"{where}[{j}] is a second {which[0]} on the {which[1]}; combine seeds into one entry")
            seen.add(which)
            for name in ("accuracy", "auc"):
                if name not in tagger["metrics"]:
                    raise RinoError(f"{where}[{j}]['metrics'] lacks {name!r}: use pyrino.evaluate.tagger_metrics")
    return plain


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{where}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, (str, bool, int, type(None))):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RinoError(f"{where} = {value} is not finite; JSON and a reader cannot use it: leave it out")
        return float(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist(), where)
    if isinstance(value, Sequence):
        return [_plain(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    raise RinoError(f"{where} is a {type(value).__name__}: give numbers, strings, lists, arrays and dictionaries")


def _check(value: Any, kind: Any, where: str) -> None:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return
    if typing.is_typeddict(kind):
        _check_keys(value, kind, where)
        return
    if origin in (list, dict):
        _expect(isinstance(value, origin), value, f"a {origin.__name__}", where)
        entries = enumerate(value) if origin is list else value.items()
        for key, entry in entries:
            _check(entry, arguments[-1], f"{where}[{key!r}]")
    elif origin is Literal:
        _expect(value in arguments, value, f"one of {', '.join(map(repr, arguments))}", where)
    elif origin in (Union, types.UnionType):
        _check_union(value, arguments, where)
    elif kind is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), value, "a number", where)
    elif kind is int:
        _expect(isinstance(value, int) and not isinstance(value, bool), value, "an integer", where)
    else:
        _expect(isinstance(value, kind), value, f"a {kind.__name__}", where)


def _check_union(value: Any, kinds: Sequence[Any], where: str) -> None:
    failures = []
    for kind in kinds:
        try:
            _check(value, kind, where)
        except RinoError as error:
            failures.append(str(error))
        else:
            return
    raise RinoError(failures[0])


def _check_keys(value: Any, kind: Any, where: str) -> None:
    _expect(isinstance(value, dict), value, "a dictionary", where)
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
            raise RinoError(f"{where} has the unknown key {key!r}; {remedy} (pyrino.report.schema.{kind.__name__})")
    missing = sorted(kind.__required_keys__ - value.keys())
    if missing:
        raise RinoError(f"{where} lacks {', '.join(map(repr, missing))}: see pyrino.report.schema.{kind.__name__}")
    for key, entry in value.items():
        _check(entry, hints[key], f"{where}[{key!r}]")


def _expect(good: bool, value: Any, wanted: str, where: str) -> None:
    if not good:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise RinoError(f"{where} = {shown} is not {wanted}: see pyrino.report.schema")
