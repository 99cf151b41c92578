"""What every method says of itself to people, and what it can say in addition."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pyrino import _core

if TYPE_CHECKING:
    import numpy as np

    from pyrino.flops import Flops
    from pyrino.jets import Jets
    from pyrino.recipe import Recipe

__all__ = ["About", "Alarm", "Chart", "Pictures", "listed", "pictures"]


class Chart(NamedTuple):
    """Numbers of a step that belong in one picture."""

    title: str
    lines: tuple[tuple[str, str], ...]  #: each number's name in `Trainer.step`'s report, and its words in the picture
    prototypes: bool = False  #: entropies of assignments to prototypes, in nats: their scale is ln K
    schedule: bool = False  #: follows from the recipe, without noise


class Pictures(NamedTuple):
    """What is drawn of a method's steps."""

    parts: tuple[tuple[str, str], ...]  #: of the loss, in its picture: names and words as in `Chart.lines`
    charts: tuple[Chart, ...]  #: what else belongs in a picture


class Sign(NamedTuple):
    """A sign that nothing is learned, as the registry has it."""

    metric: str  #: in `Trainer.step`'s report
    text: str  #: what it means and what helps
    low: float  #: the mean over 50 steps is a sign below it
    high: float  #: or above this


def pictures(method: str) -> Pictures:
    """What the registry says is drawn of a method.

    Raises
    ------
    RinoError
        For a name that there is not.
    """
    entry = _core.method_entry(method)
    charts = (Chart(title, tuple(lines), *kinds) for title, lines, *kinds in entry["charts"])
    return Pictures(tuple(entry["parts"]), tuple(charts))


class Alarm(Protocol):
    """Looks for signs that training learns nothing any more."""

    def step(self, report: Mapping[str, float]) -> list[str]:
        """What is new with a step, as `Trainer.step` reports it."""
        ...

    def rank(self, rank: float, width: int) -> list[str]:
        """What is new with an effective rank of embeddings of so many numbers."""
        ...


class SignAlarm:
    """Looks for the signs that the registry has of a method, in means over 50 steps, each told once.

    Parameters
    ----------
    signs
        Of the method.
    recipe
        Of the run; nothing is said before 200 steps at its peak learning rate.
    path
        Sum of the learning rates of the steps done so far over the peak.
    """

    def __init__(self, signs: Sequence[Sign], recipe: Recipe, path: float) -> None:
        self._values = {sign: deque[float](maxlen=50) for sign in signs}
        self._peak, self._path = recipe.optimizer.lr, path

    def step(self, report: Mapping[str, float]) -> list[str]:
        """What is new with a step."""
        self._path += report["lr"] / self._peak if self._peak > 0 else 0.0
        said = []
        for sign, values in list(self._values.items()):
            if sign.metric not in report or self._path < 200:
                continue
            values.append(report[sign.metric])
            mean = sum(values) / len(values)
            if len(values) == values.maxlen and not sign.low <= mean <= sign.high:
                said.append(f"training collapses: {sign.metric} is {mean:.3g}: {sign.text}")
                del self._values[sign]
        return said

    def rank(self, rank: float, width: int) -> list[str]:
        """Nothing."""
        return []


class About:
    """What a method says of itself; this is what all have, and methods add theirs.

    ``parts`` and ``charts`` are its `Pictures`.

    Parameters
    ----------
    recipe
        Of the run.
    """

    #: Pictures of `derived` numbers in TensorBoard, where they say more than the charts: title and tags.
    derived_charts: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.parts, self.charts = pictures(recipe.method)
        entry = _core.method_entry(recipe.method)
        self._shown = entry["shown"]
        self._signs = [Sign(*sign) for sign in entry["signs"]]

    @property
    def prototypes(self) -> int | None:
        """Their number, where there are any."""
        return None

    @property
    def wants_labels(self) -> bool:
        """Whether it needs the jets' labels."""
        return False

    @property
    def resolutions(self) -> Sequence[int | str]:
        """At which a jet is clustered in a step; none where its views are others."""
        return ()

    @property
    def views(self) -> str:
        """What is seen of a jet, in words."""
        return ""

    @property
    def losses(self) -> Sequence[str]:
        """The losses that are on with their weights, in words."""
        return ()

    @property
    def networks(self) -> str:
        """How large the networks beside the encoder are, in words that follow on the encoder's."""
        return ""

    def alarm(self, path: float) -> Alarm | None:
        """Who looks for signs that nothing is learned.

        Parameters
        ----------
        path
            Sum of the learning rates of the steps done so far over the peak learning rate.
        """
        return SignAlarm(self._signs, self.recipe, path) if self._signs else None

    def shown(self, report: Mapping[str, float]) -> Sequence[tuple[str, str]]:
        """What the progress bar shows of a step beside the loss: pieces, at length and in short."""
        return [(f"{words} {report[name]:.2f}",) * 2 for name, words in self._shown if name in report]

    def derived(self, report: Mapping[str, float]) -> Mapping[str, float]:
        """Further numbers of a step for TensorBoard, by tag."""
        return {}

    def operations(self, jets: Jets, batch: int | None) -> Flops | None:
        """Floating-point operations of a step for one of these jets, None where the method does not say.

        Parameters
        ----------
        batch
            Jets that are compared with each other, where the method does that; None: the recipe's batch.
        """
        return None

    def histograms(self, snapshot: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """What TensorBoard shows the distribution of, from tensors of the last step."""
        return {}


def listed(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)
