"""Networks: C++ modules that behave as any `torch.nn.Module`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
import torch

from pyrino import _core
from pyrino._arguments import checked, translated
from pyrino.cpp_module import CppModule
from pyrino.errors import RinoError
from pyrino.files import whole_file
from pyrino.jets import Jets
from pyrino.recipe import Recipe
from pyrino.views import _core_of

__all__ = [
    "DeepSetsEncoder",
    "Embeddings",
    "Encoder",
    "JetEncoder",
    "ProjectionHead",
    "TaggerHead",
    "Tokens",
    "draw_masks",
    "encoder_of",
    "tokenize",
]

Tokens = _core.Tokens
translated(Tokens, "from_padded", "hide", "rows", "to")


class Embeddings(NamedTuple):
    """What an encoder makes of `Tokens`."""

    jets: torch.Tensor  #: [S, D], one embedding per sequence
    constituents: torch.Tensor | None  #: [T, W], one per token, where asked for; W is the recipe's ``encoder.width``


class Encoder(CppModule):
    """What every encoder is: tokens in, one embedding per jet out. Its kinds are `JetEncoder`, `DeepSetsEncoder` ...

    An encoder carries the recipe it belongs to, so that `embed` prepares jets as pretraining did. `pyrino.load` and
    `Encoder.load` read any; a kind that C++ users have added is an `Encoder` itself.

    Parameters
    ----------
    recipe
        Its ``encoder`` section gives the kind, sizes and parts, its ``jets`` section how jets become tokens.
    seed
        Of the initial values; None draws one from torch's generator.

    Raises
    ------
    RinoError
        If the recipe's encoder is of another kind than this class.

    Notes
    -----
    Outside it is a `torch.nn.Module` as any other: optimisers, ``state_dict``, ``.to()``, ``deepcopy``, ``pickle``,
    hooks of the encoder and of its tensors work, and so does freezing or replacing parameters of a part, as in
    ``encoder.blocks[0].requires_grad_(False)``.

    Inside it is computed in C++ as a whole. Its parts (``blocks``, ``blocks[0].attention`` ...) hold parameters: they
    cannot be called, forward and backward hooks on them do not fire, and one that is put in the place of another is
    not computed. What a constituent becomes is the second entry of `forward`.
    """

    _file: ClassVar[str] = "encoder.safetensors"
    #: The ``encoder.kind`` of recipes that is this class; "": any.
    kind: ClassVar[str] = ""

    @checked
    def __init__(self, recipe: Recipe | None = None, seed: int | None = None, *, _from: Any = None) -> None:
        recipe = recipe or self._recipe_of("nano")
        if self.kind not in ("", recipe.encoder.kind):
            raise RinoError(
                f"the recipe's encoder.kind is {recipe.encoder.kind!r} and {type(self).__name__} is {self.kind!r}: "
                f'set encoder.kind = "{self.kind}", or take Encoder, which is of any kind'
            )
        super().__init__(recipe, seed, _from)

    @classmethod
    def _recipe_of(cls, preset: str) -> Recipe:
        recipe = Recipe.preset(preset)
        return recipe.replace(**{"encoder.kind": cls.kind}) if cls.kind else recipe

    def _make_core(self) -> Any:
        return self.recipe._core.make_encoder()

    @classmethod
    def preset(cls, name: str, seed: int | None = None) -> Encoder:
        """A new encoder of a preset, one of `Recipe.presets`; of this class's kind."""
        return cls(cls._recipe_of(name), seed)

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str]) -> Encoder:
        """Read an encoder that `save` or `pretrain` wrote; it is in evaluation mode.

        Parameters
        ----------
        path
            A safetensors file, or the folder of a pretraining run (its ``encoder.safetensors``).

        Raises
        ------
        RinoError
            If there is none, or the file is damaged, not an encoder, or one of another kind than this class.
        """
        path = Path(path)
        file = path / "encoder.safetensors" if path.is_dir() else path
        tensors, metadata = load_weights(file)
        if "recipe" not in metadata:
            raise RinoError(f"{file} holds no recipe in its metadata: give a file that Encoder.save wrote")
        recipe = Recipe.from_json(metadata["recipe"], weights=True)
        if cls.kind not in ("", recipe.encoder.kind):
            raise RinoError(
                f"{file} holds an encoder of the kind {recipe.encoder.kind!r}, not {cls.kind!r}: read it with "
                "pyrino.load"
            )
        encoder = encoder_of(recipe, seed=0)
        encoder.load_weights(tensors, file)
        return encoder.eval()

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights (safetensors) and recipe (in its metadata), whole or not at all."""
        save_weights(
            path,
            self.state_dict(),
            {
                "recipe": self.recipe.to_json(),
                "toml": self.recipe.toml_of_weights(),
                "kind": "encoder",
                "encoder": self.recipe.encoder.kind,
            },
        )

    def load_weights(self, tensors: dict[str, torch.Tensor], source: object) -> None:
        """`load_state_dict` that takes the tensors' type on, with an error that says what does not fit."""
        mine = self.state_dict()
        for name, tensor in mine.items():
            if name not in tensors:
                raise RinoError(f"{source} has no {name!r}: it is of another architecture than its recipe says")
            if tensors[name].shape != tensor.shape:
                raise RinoError(
                    f"{name!r} in {source} has shape {list(tensors[name].shape)}, not {list(tensor.shape)}: "
                    "it is of another architecture than its recipe says"
                )
        self.to(tensors[next(iter(mine))].dtype).load_state_dict({name: tensors[name] for name in mine})

    @property
    def width(self) -> int:
        """Size D of a jet's embedding; of a transformer its ``encoder.width``, twice that with ``pooling = "both"``."""
        return self._core.outputs

    if TYPE_CHECKING:  # torch's own says nothing

        def __call__(self, tokens: Tokens | _core.Batch, constituents: bool = True) -> Embeddings: ...

    @checked
    def forward(self, tokens: Tokens | _core.Batch, constituents: bool = True) -> Embeddings:
        """Embeddings of tokens, in their order: views, then jets.

        Parameters
        ----------
        tokens
            Of `tokenize` or `Tokens.from_padded`, or a `Batch`; they are moved to the encoder's device and type.
        constituents
            False: the jets' embeddings alone, which saves most of the last block where they are the class tokens'; the
            other entry is None.
        """
        side = self._bound()
        core, weight = side.core, side.held[0]
        batch = tokens if isinstance(tokens, _core.Batch) else _core.Batch(tokens)
        batch = batch.to(weight.device, str(weight.dtype).removeprefix("torch."))
        return Embeddings(*core.forward(batch)) if constituents else Embeddings(core.embed_jets(batch), None)

    @checked
    def embed(
        self,
        jets: Jets,
        *,
        resolution: int | str = "all",
        batch_tokens: int = 65536,
        batch_size: int | None = None,
        threads: int = 1,
    ) -> np.ndarray:
        """Embeddings of jets, in evaluation mode, without gradients.

        Jets are packed one behind the other; nothing is padded.

        Parameters
        ----------
        jets
            n jets.
        resolution
            The view that is embedded; the paper embeds all constituents.
        batch_tokens
            Constituents and class tokens at a time, which bounds the memory: as many jets as have them, at least one.
        batch_size
            Jets at a time at most; None: `batch_tokens` alone decides.
        threads
            For clustering and features.

        Returns
        -------
        numpy.ndarray
            (n, D) of the encoder's dtype.

        Raises
        ------
        RinoError
            If `batch_tokens` or `batch_size` is below 1, or for a resolution that is none.

        Notes
        -----
        The C++ encoder is called without `forward` around it, so that its hooks do not fire.
        Several threads may call it with one encoder.
        """
        jets_core = _core_of(jets)
        # None of torch's own modes is touched: one jet alone takes less time than a walk through the tree.
        side = self._bound(training=False)
        core, weight = side.core, side.held[0]
        where = (str(resolution), weight.device, str(weight.dtype).removeprefix("torch."), threads)
        bounds = _core.embedding_batches(jets_core, batch_tokens, batch_size or 0)
        if len(bounds) == 2:
            return core.embed_batch(jets_core, *where).cpu().numpy()
        parts = [np.empty((0, self.width), dtype=where[2])]
        for first, last in itertools.pairwise(bounds):
            parts.append(core.embed_batch(jets_core.slice(first, last), *where).cpu().numpy())
        return np.concatenate(parts)

    @checked
    def inputs(self, jets: Jets, resolutions: Sequence[int | str] = ("all",), threads: int = 1) -> _core.Batch:
        """What it sees of jets at some resolutions, a `Batch` as `forward` takes it; of each kind what it needs."""
        dtype = str(self.dtype).removeprefix("torch.")
        return self._core.inputs(_core_of(jets), [str(resolution) for resolution in resolutions], dtype, threads)

    @checked
    def depth(self, tensor: str) -> int:
        """How many layers there are from a tensor of this name to the embedding, its own included; 0: none.

        Layer-wise learning rates fall with it: ``optimizer.layer_decay`` to this power.

        Raises
        ------
        RinoError
            If it has no tensor of that name.
        """
        if tensor not in (names := [name for name, _ in self.named_parameters()]):
            raise RinoError(f"there is no tensor {tensor!r} in this encoder; it has {', '.join(names[:8])} ...")
        return self._core.depth(tensor)

    @checked
    def tokenize(self, jets: Jets, resolutions: Sequence[int | str] = ("all",), threads: int = 1) -> Tokens:
        """Tokens of jets at some resolutions, as this encoder's recipe makes them."""
        return tokenize(jets, resolutions, self.recipe, str(self.dtype).removeprefix("torch."), threads)


class JetEncoder(Encoder):
    """The paper's transformer encoder and its successor's (``encoder.kind = "transformer"``).

    As every `Encoder`; the recipe's ``encoder`` section gives sizes and parts.

    Notes
    -----
    Source: arXiv:2509.07486, section 3.
    """

    kind = "transformer"
    _kernels = "auto"

    def _make_core(self) -> Any:
        core = super()._make_core()
        core.kernels = self._kernels
        return core

    @property
    def kernels(self) -> str:
        """What computes the forward and backward pass.

        "auto": fused kernels wherever they can (on a CPU; float32, float64, or bfloat16 by autocast where the processor
        is fast in it), else the modules one by one. "fused": those kernels, or a `RinoError` that says why not.
        "reference": the modules, which every device, type and derivative (the second, too) is served by.
        """
        return self._kernels

    @kernels.setter
    def kernels(self, name: str) -> None:
        with self._binding.lock:
            for training in (True, False):
                self._side(training).core.kernels = name  # refuses a name that is none
            self._kernels = name


class DeepSetsEncoder(Encoder):
    """A particle flow network without its last layer (``encoder.kind = "deep-sets"``).

    F(sum over constituents of Phi(features)), with Phi and F linear maps, a ReLU behind each. Constituents meet in the
    sum alone: small, fast, and what larger encoders have to beat.

    As every `Encoder`; the recipe's ``encoder`` section gives the widths.

    Notes
    -----
    Source: Komiske, Metodiev, Thaler, arXiv:1810.05165.
    """

    kind = "deep-sets"


def encoder_of(recipe: Recipe, seed: int | None = None, *, core: Any = None) -> Encoder:
    """An encoder of the kind that the recipe says."""
    kinds = {cls.kind: cls for cls in Encoder.__subclasses__()}
    return kinds.get(recipe.encoder.kind, Encoder)(recipe, seed, _from=core)


class ProjectionHead(CppModule):
    """The head that self-distillation puts on an encoder: scores [.., K] of embeddings [.., D] against K prototypes.

    Parameters
    ----------
    recipe
        Its ``head`` section gives the sizes.
    seed
        Of the initial values; None draws one from torch's generator.
    """

    @checked
    def __init__(self, recipe: Recipe | None = None, seed: int | None = None) -> None:
        super().__init__(recipe or Recipe.preset("nano"), seed)

    def _make_core(self) -> Any:
        return self.recipe._core.make_head()

    @checked
    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """[.., D] -> [.., K], cosines in [-1, 1]."""
        return self._bound().core.forward(embeddings)


class TaggerHead(CppModule):
    """From embeddings to a logit: a linear layer, or two hidden layers with GELU and dropout before it.

    ``head[0]``, ``head[-1]`` are its linear layers, which hold ``weight`` and ``bias``; the tensors are called as those
    of ``torch.nn.Sequential(Linear, GELU, Dropout, ..., Linear)``.

    Parameters
    ----------
    recipe
        Its ``finetune`` section gives widths, dropout and whether the last layer is normalised (the logit is a cosine
        then, without a bias); its encoder the size D of an embedding.
    kind
        "linear" or "mlp".
    seed
        Of the initial values; None draws one from torch's generator.

    Notes
    -----
    Source: arXiv:2509.07486, section 3.
    """

    @checked
    def __init__(self, recipe: Recipe, kind: str = "linear", seed: int | None = None) -> None:
        self.kind = kind
        super().__init__(recipe, seed)

    def _make_core(self) -> Any:
        return self.recipe._core.make_tagger_head(self.kind)

    @checked
    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """[.., D] -> [.., 1]."""
        return self._bound().core.forward(embeddings)

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, place: int) -> torch.nn.Module:
        return cast(torch.nn.Module, list(self._modules.values())[place])


@checked
def tokenize(
    jets: Jets,
    resolutions: Sequence[int | str] = ("all",),
    recipe: Recipe | None = None,
    dtype: str = "float32",
    threads: int = 1,
    momenta: bool = False,
) -> Tokens:
    """Jets to the network's tokens: selection, boost, clustering and features as the recipe's ``jets`` section says.

    Parameters
    ----------
    jets
        n jets.
    resolutions
        One view each: numbers of subjets, "all", "kt:5" (GeV), "fraction:0.05".
    recipe
        None: the paper's.
    dtype
        "float32" or "float64".
    threads
        For clustering and features.
    momenta
        Whether ``tokens.momenta`` are there: float64 [T, 4], pT, rapidity, phi and mass of every token. They are where
        the recipe's encoder looks at them (``encoder.pairs``).

    Returns
    -------
    Tokens
        ``len(resolutions) * n`` sequences: view by view, in each the jets in their order; ``tokens.rows(v)`` are those
        of view v.

    Raises
    ------
    RinoError
        For a resolution that is none, and if the jets lack a column that is a feature of the recipe (``jets.features``,
        ``jets.jet_features``), or a feature does not say what it is of a subjet.
    """
    tokenizer = (recipe or Recipe.preset("nano"))._core.tokenizer(momenta)
    return tokenizer(_core_of(jets), [str(resolution) for resolution in resolutions], dtype, threads)


@checked
def draw_masks(
    tokens: Tokens, fraction: float = 0.25, *, seed: int = 0, step: int = 0, first: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which constituents to hide from a student: of each sequence's n tokens a share, at least one and at most n - 1.

    Every choice is equally likely. Nothing is masked of a sequence of one token.

    Parameters
    ----------
    tokens
        Of one view.
    fraction
        Above 0 and below 1; of the number of tokens it gives, the integer part.
    seed, step
        The choice depends on these and the number of the jet alone.
    first
        Added to the numbers of the jets: the place of the first one in the batch of all processes.

    Returns
    -------
    rows : torch.Tensor
        int64 [M], the masked tokens, rising; ``tokens.hide(mask)`` takes a bool per token.
    counts : torch.Tensor
        int64 [J], how many of each sequence that has some, as `ibot_loss` takes it.

    Raises
    ------
    RinoError
        For another fraction.

    Notes
    -----
    iBOT, arXiv:2111.07832; the share is the production recipe's.
    """
    return _core.draw_masks(tokens, fraction, seed, step, first)


def save_weights(path: str | os.PathLike[str], tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    from safetensors.torch import save

    with whole_file(path) as partial:
        partial.write_bytes(
            save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
        )


def load_weights(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise RinoError(f"there are no weights at {path}: give a .safetensors file or the folder of a finished run")
    try:
        # Not by its name, which safetensors takes only if it is UTF-8.
        with open(path, "rb") as opened, safe_open(f"/dev/fd/{opened.fileno()}", framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise RinoError(f"{path} cannot be read as safetensors ({error}): it is damaged or of another kind") from error
