"""What a tagger learns: labels of two, of several classes, or numbers, from what users give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pyrino._columns import as_array
from pyrino.data.labelled_stream import is_signal
from pyrino.data.stream import JetStream
from pyrino.errors import RinoError
from pyrino.jets import Jets
from pyrino.recipe import Recipe

__all__ = ["Labelled", "balanced", "classes_of", "columns_of_task", "jets_of_task", "with_classes"]

Labelled = tuple[Jets, ArrayLike]


def columns_of_task(recipe: Recipe) -> list[str]:
    """The columns that readers have to read: those of features, of weights and of targets."""
    f = recipe.finetune
    return [*recipe.columns, *([f.weight] if f.weight else []), *(f.targets if f.task == "regression" else [])]


def classes_of(recipe: Recipe) -> list[tuple[int, str]]:
    """Label and name of the classes of a recipe, in their order."""
    try:
        pairs = [str(text).partition("=") for text in recipe.finetune.classes]
        return [(int(label), name or label) for label, _, name in pairs]
    except ValueError as error:
        raise RinoError(
            f"finetune.classes is {recipe.finetune.classes}: write 'label=name', as in '0=gluon', or 'label'"
        ) from error


def with_classes(recipe: Recipe, train: Labelled | Jets) -> Recipe:
    """The recipe with the classes that labels have, in their order, where it names none."""
    if recipe.finetune.task != "multiclass" or recipe.finetune.classes:
        return recipe
    _, labels = _pair(train, "train")
    found = np.unique(np.asarray(labels))
    if found.dtype.kind in "US":
        classes = [f"{number}={name}" for number, name in enumerate(found)]
    else:
        classes = [str(number) for number in _whole(found, "labels")]
    return recipe.replace(**{"finetune.classes": classes})


def jets_of_task(given: Any, recipe: Recipe, signal: Sequence[int] | None, what: str) -> Jets:
    """Jets as the task has them, checked: with labels, or with the columns of the targets.

    Parameters
    ----------
    signal
        The class numbers that are label 1, of a binary task; None: labels are 0 and 1.
    what
        The argument's name.
    """
    jets = _learned(given, recipe, signal, what)
    weight = recipe.finetune.weight
    if weight and weight not in jets.values:
        raise RinoError(
            f"finetune.weight is {weight!r}, but the jets of {what} have no such column with one number per jet, only: "
            f"{', '.join(jets.values) or 'none'}: read it with columns=, or set it with Jets.with_value"
        )
    return jets


def _learned(given: Any, recipe: Recipe, signal: Sequence[int] | None, what: str) -> Jets:
    task = recipe.finetune.task
    if task != "binary" and signal is not None:
        raise RinoError(f"signal is given, but finetune.task is {task!r}: it is of the task 'binary' alone")
    if task == "regression":
        return _with_targets(given, recipe.finetune.targets, what)
    jets, labels = _pair(given, what)
    array = as_array(labels, "labels", "are")
    if array.ndim != 1 or len(array) != len(jets):
        raise RinoError(f"labels have shape {array.shape} for {len(jets)} jets: give one label per jet")
    return _of_classes(jets, array, recipe, what) if task == "multiclass" else _binary(jets, array, signal, what)


def balanced(jets: Jets | JetStream, recipe: Recipe, seed: int) -> tuple[Jets | JetStream, list[float]]:
    """The jets to train on, and the weights of classes, by ``finetune.balance``.

    "sampling" repeats jets of the smaller classes until each has as many as the largest; "weights" gives each class the
    weight n / (classes x its jets).
    """
    f = recipe.finetune
    if f.balance == "none":
        return jets, []
    if f.task == "regression":
        raise RinoError("finetune.balance is of classes: choose 'none' for a regression")
    if isinstance(jets, JetStream):
        raise RinoError(
            "finetune.balance needs all labels: mix streams with weights, open_dataset({path: weight, ...}), instead"
        )
    labels = np.asarray(jets.labels)
    found, counts = np.unique(labels, return_counts=True)
    if f.balance == "sampling":
        rng = np.random.default_rng(seed)
        most, picks = counts.max(), []
        for label in found:
            mine = np.flatnonzero(labels == label)
            whole, rest = divmod(most, len(mine))
            picks.append(np.concatenate([np.tile(mine, whole), rng.permutation(mine)[:rest]]))
        return jets[np.concatenate(picks)], []
    if f.task == "binary":
        raise RinoError("finetune.balance 'weights' is of several classes: set finetune.positive_weight instead")
    by_label = dict(zip(found.tolist(), counts.tolist(), strict=True))
    wanted = [label for label, _ in classes_of(recipe)]
    missing = [label for label in wanted if label not in by_label]
    if missing:
        raise RinoError(f"there is no jet of the class {missing[0]}: leave it out of finetune.classes")
    return jets, [len(labels) / (len(wanted) * by_label[label]) for label in wanted]


def _pair(given: Any, what: str) -> tuple[Jets, Any]:
    """Jets and their labels, or what stands in their place."""
    if isinstance(given, Jets):
        if given.labels is None:
            raise RinoError("the jets carry no labels: give (jets, labels), or jets that carry them")
        return given, given.labels
    try:
        jets, labels = given
    except (TypeError, ValueError) as error:
        raise RinoError(f"{what} is {type(given).__name__}: give (jets, labels), or jets that carry labels") from error
    if not isinstance(jets, Jets):
        raise RinoError(f"{what} has jets of type {type(jets).__name__}: give pyrino.Jets, such as read_jets returns")
    return jets, labels


def _whole(array: np.ndarray, what: str) -> np.ndarray:
    """As int64. Raises for what is none."""
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all() or not (array == np.floor(array)).all():
        raise RinoError(f"{what} are {array.tolist()[:5]}: classes are whole numbers of 0 or more, or names")
    return array.astype(np.int64)


def _binary(jets: Jets, array: np.ndarray, signal: Sequence[int] | None, what: str) -> Jets:
    if signal is not None:
        array = is_signal(array, signal)
    wrong = np.flatnonzero(~np.isin(array, (0, 1)) if array.dtype.kind in "fiub" else np.ones(len(array), dtype=bool))
    if len(wrong):
        raise RinoError(
            f"the label of jet {wrong[0]} is {array[wrong[0]]!s}: a tagger learns 0 (background) and 1 (signal): "
            "map your classes first, for example (labels == 8).astype(int), give signal=[8], or set finetune.task = "
            "'multiclass'"
        )
    array = array.astype(np.int64)
    if what == "train" and len(np.unique(array)) < 2:
        raise RinoError(
            f"all {len(array)} labels are {array[0] if len(array) else 'missing'}: give jets of both classes"
        )
    return jets.with_labels(array)


def _of_classes(jets: Jets, array: np.ndarray, recipe: Recipe, what: str) -> Jets:
    pairs = classes_of(recipe)
    if array.dtype.kind in "US":
        numbers = {name: label for label, name in pairs}
        wrong = [j for j, name in enumerate(array.tolist()) if name not in numbers]
        if wrong:
            raise RinoError(
                f"the label of jet {wrong[0]} is {str(array[wrong[0]])!r}: finetune.classes has {', '.join(numbers)}"
            )
        array = np.array([numbers[name] for name in array.tolist()], dtype=np.int64)
    array = _whole(array, "labels")
    known = np.array([label for label, _ in pairs])
    others = np.flatnonzero(~np.isin(array, known))
    if len(others):
        raise RinoError(
            f"the label of jet {others[0]} is {array[others[0]]}, which is none of finetune.classes "
            f"({', '.join(map(str, recipe.finetune.classes))}): add it, or leave such jets out"
        )
    if what == "train" and len(np.unique(array)) < 2:
        raise RinoError(
            f"all {len(array)} labels are {array[0] if len(array) else 'missing'}: give jets of two classes or more"
        )
    return jets.with_labels(array)


def _with_targets(given: Any, targets: Sequence[str], what: str) -> Jets:
    if not targets:
        raise RinoError("finetune.targets names no column: name those with the numbers that are to be learned")
    if isinstance(given, Jets):
        missing = [name for name in targets if name not in given.values]
        if missing:
            raise RinoError(
                f"the target {missing[0]!r} is no column with a number per jet of these jets, which have: "
                f"{', '.join(given.values) or 'none'}: read it with columns=, set it with Jets.with_value, or give "
                "(jets, y)"
            )
        jets = given
    else:
        jets, y = _pair(given, what)
        array = as_array(y, "y", "is")
        array = array[:, None] if array.ndim == 1 else array
        if array.shape != (len(jets), len(targets)) or array.dtype.kind not in "fiub":
            raise RinoError(
                f"y has shape {array.shape} for {len(jets)} jets and the targets {', '.join(targets)}: give one number "
                "per jet and target"
            )
        for name, column in zip(targets, array.T, strict=True):
            jets = jets.with_value(name, column.astype(np.float64))
    for name in targets:
        wrong = np.flatnonzero(~np.isfinite(jets.values[name]))
        if len(wrong):
            raise RinoError(
                f"the target {name!r} of jet {wrong[0]} is {jets.values[name][wrong[0]]}: leave the jet out, or repair "
                "the column"
            )
    return jets
