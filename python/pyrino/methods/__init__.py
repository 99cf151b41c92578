"""What methods say of themselves to people: charts, warnings, the line of the progress bar, operations of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrino import _core
from pyrino.methods.contrastive import AboutContrastive
from pyrino.methods.description import About, Alarm, Chart, Pictures, pictures
from pyrino.methods.method import AboutPythonMethod, Batch, Method, Step, method_class
from pyrino.methods.self_distillation import AboutSelfDistillation
from pyrino.methods.teacher import Teacher

if TYPE_CHECKING:
    from pyrino.recipe import Recipe

__all__ = [
    "About",
    "Alarm",
    "Batch",
    "Chart",
    "Method",
    "Pictures",
    "Step",
    "Teacher",
    "about",
    "all_pictures",
    "method_class",
]

#: By the method's name; one that is not here shows what every method has.
_ABOUT: dict[str, type[About]] = {"self-distillation": AboutSelfDistillation, "contrastive": AboutContrastive}


def about(recipe: Recipe, method: Method | None = None) -> About:
    """What the method of a recipe says of itself; `method` is its object, of one that is written in Python."""
    if method_class(recipe.method):
        return AboutPythonMethod(recipe, method)
    return _ABOUT.get(recipe.method, About)(recipe)


def all_pictures() -> list[Pictures]:
    """Those of all the library's methods, the oldest first."""
    return [pictures(name) for name, *_ in _core.Recipe.methods() if method_class(name) is None]
