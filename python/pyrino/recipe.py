"""Recipes: every number of a training run by name."""

from __future__ import annotations

import difflib
import html
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyrino import _core
from pyrino._arguments import checked
from pyrino.errors import RinoError
from pyrino.files import text_of, whole_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Recipe", "RecipeEncoder", "RecipeMethod", "RecipeNumber", "RecipePreset"]

_LOG = logging.getLogger("pyrino")

#: Bare names of which was said what they do not change.
_SAID: set[str] = set()

#: How a number says that no publication has it, and that it was changed by whoever made the recipe.
OWN_CHOICE: str = _core.own_choice
CHANGED = "changed"

#: What becomes of an encoder after pretraining. The workshop paper's numbers fill these sections in every preset: its
#: successor's configuration has none of them.
TASKS = ("finetune", "supervised")

#: Sections that recipes of all methods have; their defaults are the workshop paper's.
_COMMON = ("jets", "encoder", "optimizer", "training", *TASKS)

#: The version of what `Recipe.to_dict` and files say: 2 names the method, of 1 it is self-distillation.
FORMAT: int = _core.Recipe.format

#: The method of recipes that name none.
_FIRST_METHOD = "self-distillation"


class RecipePreset(NamedTuple):
    """A recipe that has a name."""

    name: str
    summary: str  #: what it is, in one line
    source: str  #: its publication, or "own choice"
    method: str  #: what it trains


class RecipeMethod(NamedTuple):
    """A way to pretrain."""

    name: str
    summary: str  #: what it does, in one line
    source: str  #: publication of its defaults


class RecipeEncoder(NamedTuple):
    """A kind of encoder."""

    kind: str
    summary: str  #: what it is, in one line
    source: str  #: publication of its defaults


class RecipeNumber(NamedTuple):
    """One number of a recipe with all that is known of it."""

    section: str
    name: str
    value: Any
    published: Any  #: what the preset has that the recipe starts from
    unit: str  #: "" where it has none
    meaning: str
    source: str  #: a publication; "own choice" where none has it; "changed" where it is not the preset's any more

    @property
    def key(self) -> str:
        """Section and name, as in ``training.epochs``."""
        return f"{self.section}.{self.name}"

    @property
    def changed(self) -> bool:
        """Whether it is not what the preset has."""
        return self.value != self.published


class Recipe:
    """Every number of a training run, by section and name.

    Parameters
    ----------
    method
        What is trained: `methods` has them. Numbers are the method's defaults; `preset` has recipes by name.
    **overrides
        Numbers by name, as `preset` takes them.

    Notes
    -----
    The numbers, their defaults and their meanings are those of the C++ config structs; `print(recipe)` shows
    them all, `describe` tells where each comes from. A bare name means the first section that has it: ``epochs``
    is ``training.epochs``; write ``recipe.finetune.epochs`` or ``{"finetune.epochs": 3}`` for the other.

    Examples
    --------
    >>> recipe = Recipe.preset("nano", epochs=5)
    >>> recipe.encoder.width
    32
    >>> recipe.training.batch_size = 500
    >>> recipe.views.teacher
    [1, 2, 3, 4]
    """

    __slots__ = ("_core", "name")

    def __init__(self, method: str = _FIRST_METHOD, /, **overrides: Any) -> None:
        names = [known.name for known in Recipe.methods()]
        if method not in names:
            raise RinoError(
                f"there is no method {method!r}{_nearest(str(method), names)}: choose one of {', '.join(names)}, or "
                "import the module of a class of your own (--method-module FILE)"
            )
        self._core = _core.Recipe(method)
        #: Of the preset that it starts from; "" for a method's defaults that are none.
        self.name = "nano" if method == _FIRST_METHOD else ""
        self.update(overrides)

    @property
    def method(self) -> str:
        """What is trained."""
        return self._core.method

    @staticmethod
    def methods() -> list[RecipeMethod]:
        """The methods with what they do and where their defaults come from."""
        return [RecipeMethod(name, summary, source) for name, summary, source in _core.Recipe.methods()]

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Recipe:
        """A named recipe, some of its numbers replaced.

        Parameters
        ----------
        name
            ``nano``, ``lite``, ``mini``, ``base``: the paper's four (arXiv:2509.07486); ``rino`` and its variants,
            as ``rino-swapped``: its successor's, the production recipe; ``demo``, ``study``: what ``make demo`` and
            ``make study`` run. `catalogue` has them all.
        **overrides
            Numbers by name, e.g. ``epochs=5``; dotted names go in as ``**{"finetune.epochs": 3}``. A bare name is that
            of the first section that has it: ``epochs`` and ``batch_size`` are pretraining's. What other sections have
            of that name, such as the epochs of fine-tuning, stays as it is, which is said once (on the logger
            "pyrino").

        Raises
        ------
        RinoError
            For a name that does not exist, with the nearest that does.
        """
        names = cls.presets()
        if name not in names:
            raise RinoError(
                f"there is no preset {name!r}{_nearest(str(name), names)}: choose one of {', '.join(names)}"
            )
        recipe = cls()
        recipe._core, recipe.name = _core.Recipe.preset(name), name
        recipe.update(overrides)
        recipe._say_what_stays(overrides)
        return recipe

    @staticmethod
    def presets() -> list[str]:
        """The names of the presets."""
        return [preset.name for preset in Recipe.catalogue()]

    @staticmethod
    def catalogue() -> list[RecipePreset]:
        """The presets with what they are and where their numbers come from."""
        return [RecipePreset(name, summary, source, method) for name, summary, source, method in _core.Recipe.presets()]

    def describe(self) -> list[RecipeNumber]:
        """Every number with its unit, its meaning and where it comes from.

        Examples
        --------
        >>> for number in Recipe.preset("rino", epochs=5).describe():
        ...     if number.changed:
        ...         print(number.key, number.published, "->", number.value)
        training.epochs 100 -> 5
        """
        sources = {method.name: method.source for method in Recipe.methods()}
        workshop = sources[_FIRST_METHOD]
        source = next((p.source for p in Recipe.catalogue() if p.name == self.name), sources[self.method])
        kinds = self._published().entries()
        mine, preset, defaults = (
            {(entry.section, entry.name): entry for entry in recipe.entries()}
            for recipe in (self._core, self._of_kind(self._published()), self._of_kind(_core.Recipe(self.method)))
        )
        preset |= {(e.section, e.name): e for e in kinds if e.name == "kind"}
        numbers = []
        for key, entry in mine.items():
            published, default = preset[key], defaults[key]
            origin_of_defaults = workshop if entry.section in _COMMON else sources[self.method]
            if entry.value != published.value:
                origin = CHANGED
            elif entry.source and entry.value == default.value:
                origin = entry.source
            elif source == OWN_CHOICE or not self.name:
                origin = origin_of_defaults if entry.value == default.value else OWN_CHOICE
            else:
                origin = workshop if entry.section in TASKS else source
            values = (_show(entry.value), _show(published.value))
            numbers.append(RecipeNumber(entry.section, entry.name, *values, entry.unit, entry.meaning, origin))
        return numbers

    def _published(self) -> Any:
        """The numbers that it starts from."""
        return _core.Recipe.preset(self.name) if self.name else _core.Recipe(self.method)

    def _of_kind(self, other: Any) -> Any:
        """Another recipe with the numbers of this one's kind of encoder."""
        other.set("encoder", "kind", self.encoder.kind)
        return other

    @property
    def columns(self) -> list[str]:
        """What its features need of files beside the momenta, as `read_jets` takes it: names, or "a|b" where files have
        the same under several. `pretrain`, `finetune`'s commands and `embed_files` read them without being asked.
        """
        return ["|".join(names) for names in self._core.columns()]

    @staticmethod
    def encoders() -> list[RecipeEncoder]:
        """The kinds of encoders (``encoder.kind``) with what they are and where their defaults come from."""
        return [RecipeEncoder(name, summary, source) for name, summary, source in _core.Recipe.encoders()]

    @property
    def encoder_parameters(self) -> int:
        """Number of parameters of the encoder, its table of positions included."""
        return _count(self._core.make_encoder())

    @property
    def head_parameters(self) -> int:
        """Number of trainable parameters of a projection head."""
        return _count(self._core.make_head())

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a TOML file; what it does not name is as in its ``preset`` (nano unless it names one).

        Raises
        ------
        RinoError
            If the file is missing, is no TOML, or has an unknown section, name or value.
        """
        path = Path(path)
        try:
            data = tomllib.loads(text_of(path))
        except OSError as error:
            raise RinoError(f"the recipe {path} cannot be read ({error.strerror}): give a TOML file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RinoError(f"the recipe {path} is no TOML: {error}; Recipe.save() writes one to start from") from error
        try:
            return cls.from_dict(data)
        except RinoError as error:
            raise RinoError(f"{path}: {error}") from error

    @classmethod
    @checked
    def from_dict(cls, data: Mapping[str, Any], *, weights: bool = False) -> Recipe:
        """The recipe of a nested dictionary {section: {name: value}}, with optional ``preset`` and ``method``.

        What it does not name is the preset's, or the method's where it names no preset, but for numbers that are
        younger than the dictionary: a section that has all others was written before them, and they are what they were
        then. Without either it is self-distillation, as all were once.

        Parameters
        ----------
        data
            What `to_dict` gives, or some of it.
        weights
            The recipe is only read to use weights that were trained with it: a method that is not known here, as one of
            a user's own, is no error, nor are numbers that its method has no more.

        Raises
        ------
        RinoError
            For names or values that there are not, and for a format of a later version.
        """
        data = dict(data)
        if weights:
            _stand_in(data)
        version = data.pop("format", 1)
        if version not in range(1, FORMAT + 1):
            raise RinoError(
                f"the recipe's format is {version!r}: this version of pyrino knows up to {FORMAT}; update it"
            )
        method, preset = data.pop("method", None), data.pop("preset", None)
        recipe = cls(_FIRST_METHOD if method is None else method) if preset is None else cls.preset(str(preset))
        if method not in (None, recipe.method):
            raise RinoError(
                f"the recipe's method is {method!r} but its preset {preset!r} is one of {recipe.method!r}: name one "
                "of them"
            )
        for section, values in data.items():
            homes = [entry.section for entry in recipe._core.entries() if entry.name == section]
            if homes and section not in recipe._sections():
                raise RinoError(f"{section!r} stands above all sections: write it below [{homes[0]}]")
            recipe._known_section(section)
            if not isinstance(values, Mapping):
                raise RinoError(f"{section!r} is {values!r}: it is a section, write [{section}] and its numbers below")
            values = {**values, **dict(recipe._core.meant_before(section, {str(name) for name in values}))}
            for name, value in _kinds_first(values):
                if name in ("format", "method", "preset"):
                    raise RinoError(f"{name!r} stands in [{section}]: write it above the first section")
                if not weights or section in _COMMON or name in recipe.sections()[section]:
                    recipe._set(section, name, value)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """All numbers as a nested dictionary {section: {name: value}}, with ``method``, ``preset`` (where it is one)
        and ``format``.
        """
        return self._head() | self.sections()

    def sections(self) -> dict[str, dict[str, Any]]:
        """All numbers as a nested dictionary {section: {name: value}}."""
        data: dict[str, dict[str, Any]] = {}
        for entry in self._core.entries():
            data.setdefault(entry.section, {})[entry.name] = _show(entry.value)
        return data

    def _head(self) -> dict[str, Any]:
        return {"format": FORMAT, "method": self.method} | ({"preset": self.name} if self.name else {})

    def to_toml(self) -> str:
        """The recipe as TOML, every number with its meaning beside it."""
        return self._toml(self._head())

    def toml_of_weights(self) -> str:
        """What a C++ program needs of it to use weights (`rino::read_encoder`), whichever method they are of."""
        return self._toml({"format": FORMAT}, ("jets", "encoder", "finetune"))

    def _toml(self, head: Mapping[str, Any], sections: Sequence[str] = ()) -> str:
        lines = [f"{name} = {_toml(value)}" for name, value in head.items()]
        section = None
        for entry in self._core.entries():
            if sections and entry.section not in sections:
                continue
            if entry.section != section:
                section = entry.section
                lines += ["", f"[{section}]"]
            unit = f" [{entry.unit}]" if entry.unit else ""
            lines.append(f"{entry.name} = {_toml(_show(entry.value))}  # {entry.meaning}{unit}")
        return "\n".join(lines) + "\n"

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_toml()` to a file, whole or not at all."""
        with whole_file(path) as partial:
            partial.write_text(self.to_toml(), encoding="utf-8")

    def to_json(self) -> str:
        """The recipe as JSON, as it travels in the metadata of weights."""
        return json.dumps(self.to_dict())

    @classmethod
    @checked
    def from_json(cls, text: str, *, weights: bool = False) -> Recipe:
        """The inverse of `to_json`; `weights` as `from_dict` has it. Raises RinoError for other text."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise RinoError(f"the recipe is no JSON: {error}: give what Recipe.to_json() wrote") from error
        if not isinstance(data, dict):
            raise RinoError(f"the recipe is {data!r}: give an object of sections, as Recipe.to_json() writes it")
        return cls.from_dict(data, weights=weights)

    def replace(self, **overrides: Any) -> Recipe:
        """A copy, some of its numbers replaced."""
        recipe = self.copy()
        recipe.update(overrides)
        return recipe

    def copy(self) -> Recipe:
        """A copy that shares nothing."""
        recipe = Recipe()
        recipe._core = self._core.copy()
        recipe.name = self.name
        return recipe

    @checked
    def update(self, values: Mapping[str, Any]) -> None:
        """Set numbers by bare or dotted name, or whole sections as dictionaries."""
        for key, value in _kinds_first(values):
            if key in self._sections() and isinstance(value, Mapping):
                for name, inner in _kinds_first(value):
                    self._set(key, name, inner)
                continue
            section, _, name = key.rpartition(".")
            if section:
                self._known_section(section)
            else:
                sections = [entry.section for entry in self._core.entries() if entry.name == name]
                if not sections:
                    names = [entry.name for entry in self._core.entries()]
                    raise RinoError(f"the recipe has no {name!r}{_nearest(name, names)}: print(recipe) lists all names")
                section = sections[0]
            self._set(section, name, value)

    def __getattr__(self, section: str) -> _Section:
        if section.startswith("_") or section not in self._sections():
            raise AttributeError(f"a recipe has no section {section!r}{_nearest(section, self._sections())}")
        return _Section(self, section)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._sections()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self._core == other._core

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Recipe.from_dict, (self.to_dict(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Recipe:
        return self.copy()

    def __repr__(self) -> str:
        lines = [f"Recipe({self.name or self.method!r})"]
        section = None
        for entry in self._core.entries():
            if entry.section != section:
                section = entry.section
                lines.append(f"  [{section}]")
            value = _toml(_show(entry.value)) + (f" {entry.unit}" if entry.unit else "")
            lines.append(f"    {entry.name:<26}{value:<24}  {entry.meaning}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        section = None
        for entry in self._core.entries():
            if entry.section != section:
                section = entry.section
                rows.append(f"<tr><th colspan='3' style='text-align:left'>{section}</th></tr>")
            value = html.escape(_toml(_show(entry.value)) + (f" {entry.unit}" if entry.unit else ""))
            rows.append(
                f"<tr><td>{entry.name}</td><td>{value}</td>"
                f"<td style='text-align:left'>{html.escape(entry.meaning)}</td></tr>"
            )
        return f"<b>Recipe {html.escape(self.name or self.method)}</b><table>{''.join(rows)}</table>"

    def _say_what_stays(self, overrides: Mapping[str, Any]) -> None:
        """Name the numbers of later sections that a bare name could have meant, too."""
        for name in overrides:
            found = [entry for entry in self._core.entries() if entry.name == name]
            same = {e.key: e for e in self.describe() if e.name == name} if len(found) > 1 else {}
            others = [
                f"{key} = {e.value}" for key, e in list(same.items())[1:] if key not in overrides and not e.changed
            ]
            if others and name not in _SAID:
                _SAID.add(name)
                _LOG.warning(
                    "%s is %s; as before: %s (set them by these names)", name, next(iter(same)), ", ".join(others)
                )

    def _sections(self) -> list[str]:
        return list(dict.fromkeys(entry.section for entry in self._core.entries()))

    def _known_section(self, section: str) -> None:
        if section not in self._sections():
            raise RinoError(
                f"the recipe has no section {section!r}{_nearest(section, self._sections())}: "
                f"its sections are {', '.join(self._sections())}"
            )

    def _set(self, section: str, name: str, value: Any) -> None:
        names = [entry.name for entry in self._core.entries() if entry.section == section]
        if name not in names:
            raise RinoError(
                f"the recipe has no '{section}.{name}'{_nearest(name, names)}: print(recipe) lists all names"
            )
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, (list, tuple)):
            value = [str(item) for item in value]
        # checked here: pybind11 would take anything that has a truth value for a bool
        if not isinstance(value, (bool, int, float, str, list)):
            raise RinoError(f"'{section}.{name}' is {value!r}: give a number, text or list as the default is")
        self._core.set(section, name, value)


class _Section:
    """One section of a recipe; its numbers are attributes."""

    __slots__ = ("_name", "_recipe")

    def __init__(self, recipe: Recipe, name: str) -> None:
        object.__setattr__(self, "_recipe", recipe)
        object.__setattr__(self, "_name", name)

    def __getattr__(self, name: str) -> Any:
        values = self._values()
        if name.startswith("__") or name not in values:
            raise AttributeError(f"the recipe has no '{self._name}.{name}'{_nearest(name, list(values))}")
        return values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._recipe._set(self._name, name, value)

    def __dir__(self) -> list[str]:
        return list(self._values())

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._recipe, self._name)

    def __repr__(self) -> str:
        return "\n".join(f"{name} = {_toml(value)}" for name, value in self._values().items())

    def _values(self) -> dict[str, Any]:
        return {e.name: _show(e.value) for e in self._recipe._core.entries() if e.section == self._name}


def _stand_in(data: Mapping[str, Any]) -> None:
    """Make a method known by its name and numbers, if it is not, so that an encoder can be read without it."""
    name = data.get("method")
    if not isinstance(name, str) or name in [method.name for method in Recipe.methods()]:
        return
    sections = {}
    for section, values in data.items():
        if section not in _COMMON and isinstance(values, Mapping):
            texts = {k: [str(v) for v in value] if isinstance(value, list) else value for k, value in values.items()}
            sections[section] = [(number, value, "", "", OWN_CHOICE) for number, value in texts.items()]
    _core.register_method(name, f"{name}, whose code is not known here", sections, {})


def _kinds_first(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The items, ``encoder.kind`` before the numbers that it decides about."""
    return sorted(values.items(), key=lambda item: str(item[0]) not in ("kind", "encoder.kind"))


def _show(value: Any) -> Any:
    """Resolutions travel as text; a number of subjets is shown as the number it is."""
    if isinstance(value, list):
        return [int(item) if item.isdigit() else item for item in value]
    return value


def _count(module: Any) -> int:
    return sum(tensor.numel() for _, tensor, buffer in module.tensors() if not buffer)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
