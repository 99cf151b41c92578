"""What a network says of jets wherever they are: `Jets`, awkward arrays, dask-awkward collections."""

from __future__ import annotations

import copy
import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypedDict, overload

import numpy as np
import torch
from numpy.typing import NDArray

from pyrino._columns import offsets_of
from pyrino.data.chunk import chosen
from pyrino.data.stream import JetStream
from pyrino.errors import RinoError
from pyrino.jets import Jets
from pyrino.jets.awkward import constituents_of, momentum_fields
from pyrino.nn import Encoder

if TYPE_CHECKING:
    import awkward as ak
    import dask_awkward as dak
    from typing_extensions import Unpack

    Collection: TypeAlias = Jets | JetStream | ak.Array | dak.Array

__all__ = ["Call", "compute", "embed", "weights_digest"]


class Model(Protocol):
    """An encoder, or what has one."""

    #: What it is called in the folder of a run.
    _file: ClassVar[str]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Any: ...

    def cpu(self) -> Any: ...

    def state_dict(self) -> Mapping[str, torch.Tensor]: ...


#: Jets of a stream at a time.
_PIECE = 4096

#: What is computed of jets: (n, D) or (n,).
Compute = Callable[[Jets], NDArray[Any]]


class EmbedOptions(TypedDict, total=False):
    """What `embed` takes beside an encoder and jets."""

    resolution: int | str
    batch_tokens: int
    batch_size: int | None
    threads: int
    empty: str


@overload
def embed(encoder: Encoder | str | os.PathLike[str], jets: Jets, **options: Unpack[EmbedOptions]) -> NDArray[Any]: ...
@overload
def embed(
    encoder: Encoder | str | os.PathLike[str], jets: JetStream, **options: Unpack[EmbedOptions]
) -> Iterator[tuple[Jets, NDArray[Any]]]: ...
@overload
def embed(encoder: Encoder | str | os.PathLike[str], jets: Any, **options: Unpack[EmbedOptions]) -> Any: ...
def embed(
    encoder: Encoder | str | os.PathLike[str],
    jets: Collection,
    *,
    resolution: int | str = "all",
    batch_tokens: int = 65536,
    batch_size: int | None = None,
    threads: int = 1,
    empty: str = "raise",
) -> Any:
    """Embeddings of jets, of the kind that the jets are of: NumPy for `Jets`, awkward for awkward, lazy for dask.

    Parameters
    ----------
    encoder
        Of width D; or the path of one, or of the folder of a run, which every process reads once and keeps. For
        clusters, whose workers compute on the CPU: a path that all workers see is the cheapest; an encoder goes into
        dask's graph, once, and dask warns of graphs above 10 MB.
    jets
        `Jets`; or an awkward array jets x var x records whose fields `Jets.from_awkward` takes, in GeV and radians, or
        that is a momentum of the vector library or of coffea; or such a collection of dask-awkward (`uproot.dask`,
        ``dask_awkward.from_parquet``). Awkward arrays may have one or more levels more, such as events x var x jets x
        var x records; jets may be missing (None), and constituents that a cut masks (None as a whole) do not count.
        Other fields are not read.
    resolution, batch_tokens, batch_size, threads
        As `JetEncoder.embed` takes them.
    empty
        Jets without constituents: "raise" an error, or give them "nan".

    Returns
    -------
    numpy.ndarray or awkward.Array or dask_awkward.Array
        ... x D of the encoder's dtype; in the place of every jet its embedding, or None where the jet is missing.

    Raises
    ------
    RinoError
        As `Jets.from_awkward` and `JetEncoder.embed`; if a jet has no constituents; if there is no encoder in that
        path, or another when a worker reads it; if dask-awkward is absent or does not work with this dask.

    Notes
    -----
    With an encoder of the paper and the fused kernels (see `JetEncoder.kernels`), a jet's embedding has the same bits
    whatever jets are beside it, and so whatever the partitions are. The parts of the production recipe and the
    reference kernels agree to rounding (4e-6 in float32). Several threads may use one encoder; torch's number of
    threads is left as it is.

    Examples
    --------
    >>> z = embed("runs/nano", events.FatJet.constituents.pf)            # in a coffea processor: events x var x D
    >>> z = embed(encoder, dask_awkward.from_parquet("jets/*.parquet"))  # lazy; z.compute(), dask_awkward.to_parquet
    >>> futures = client.map(lambda name: embed("runs/nano", read_jets(name)), files)
    """
    options = {"resolution": resolution, "batch_tokens": batch_tokens, "batch_size": batch_size, "threads": threads}
    return compute(Call(Encoder, "embed", options, empty), encoder, jets)


@dataclass(frozen=True)
class _Weights:
    """A model by its path, to be read where it is used."""

    kind: type[Model]
    path: str
    digest: str

    def load(self) -> Model:
        """The model.

        Raises
        ------
        RinoError
            If it is not the one any more that the path led to before: half of the results would be of another.
        """
        model, digest = _read(self.kind, self.path)
        if digest != self.digest:
            raise RinoError(
                f"the weights in {self.path} are not those any more that the computation was made for: make it again"
            )
        return model


@dataclass(frozen=True)
class Call:
    """What is asked of a model, as workers get it."""

    kind: type[Model]
    method: str
    options: Mapping[str, Any]
    empty: str

    def __post_init__(self) -> None:
        if self.empty not in ("raise", "nan"):
            raise RinoError(f"empty = {self.empty!r}: choose 'raise' or 'nan'")

    def of(self, model: Model) -> Compute:
        """The method itself."""
        return functools.partial(getattr(model, self.method), **self.options)

    def __call__(self, model: Model | _Weights, array: ak.Array) -> ak.Array:
        """Results for an awkward array, or for the type tracer of one."""
        model = model.load() if isinstance(model, _Weights) else model
        return _on_awkward(array, self.of(model), self.empty, _encoder_of(model).recipe.columns)


def compute(call: Call, model: Model | str | os.PathLike[str], jets: Any) -> Any:
    """What a model, or the one in that path, says of jets of any kind."""
    given: Model | _Weights
    if isinstance(model, (str, os.PathLike)):
        given = _Weights(call.kind, os.path.abspath(model), _read(call.kind, model)[1])
    elif isinstance(model, call.kind):
        given = model
    else:
        name = call.kind.__name__
        raise RinoError(f"a {type(model).__name__} does not {call.method}: give a pyrino.{name} or the path of one")
    if hasattr(type(jets), "__dask_graph__"):
        return _lazy(call, given, jets)
    loaded = given.load() if isinstance(given, _Weights) else given
    if isinstance(jets, Jets):
        return call.of(loaded)(jets)
    if isinstance(jets, JetStream):
        jets._want_columns(_encoder_of(loaded).recipe.columns)
        return _of_stream(jets, call.of(loaded))
    import awkward as ak

    if isinstance(jets, ak.Array):
        return call(loaded, jets)
    raise RinoError(
        f"the jets are of type {type(jets).__name__}: give pyrino.Jets, a stream, an awkward array jets x var x "
        "records, or a collection of dask-awkward; of futures: "
        f"client.map(functools.partial(pyrino.{call.method}, path), futures)"
    )


def _of_stream(stream: JetStream, of: Compute) -> Iterator[tuple[Jets, NDArray[Any]]]:
    """Jets and what `of` says of them, as many as an epoch has."""
    left = len(stream)
    while left > 0:
        jets = stream.take(min(_PIECE, left))
        left -= len(jets)
        yield jets, of(jets)


# --- models ---

_READING = threading.Lock()


def _read(kind: type[Model], path: str | os.PathLike[str]) -> tuple[Model, str]:
    """A model and its digest; one that was read before is not read again unless its file has changed."""
    place = Path(os.path.abspath(path))
    file = place / kind._file if place.is_dir() else place
    stamp = (file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None
    with _READING:  # all threads of a worker ask at once, first of all
        return _read_once(kind, place, stamp)


@functools.lru_cache(maxsize=4)
def _read_once(kind: type[Model], place: Path, stamp: tuple[int, int] | None) -> tuple[Model, str]:
    model = kind.load(place).eval()
    return model, _digest(model)


def _encoder_of(model: Model) -> Any:
    return getattr(model, "encoder", model)


def _digest(model: Model) -> str:
    """Of everything that decides the results: two models that have the same give the same."""
    encoder = _encoder_of(model)
    return weights_digest(model, f"{encoder.recipe.to_json()} {getattr(encoder, 'kernels', '')}")


def weights_digest(model: Model | torch.nn.Module, words: str = "") -> str:
    """Of the names, types and values of all tensors, and of some words."""
    import xxhash

    state = xxhash.xxh3_128(words.encode())
    for name, tensor in model.state_dict().items():
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


# --- awkward arrays ---


def _on_awkward(array: ak.Array, of: Compute, empty: str, columns: Sequence[str]) -> ak.Array:
    """What `of` says of the jets of an array, in its structure; touches momenta and columns of a type tracer."""
    import awkward as ak

    names = _momenta(array)
    extras = [name for name in dict.fromkeys(chosen(columns, array.fields)) if name in array.fields]
    momenta = ak.typetracer.length_zero_if_typetracer(array[[*names, *(e for e in extras if e not in names)]])

    def of_lists(counts: NDArray[np.int64], constituents: ak.Array, fixed: bool) -> NDArray[Any]:
        columns, offsets, others = constituents_of(constituents, counts, names, fixed)
        return _of_jets(columns, offsets, others, of, empty)

    result = _in_place(ak.to_packed(momenta, highlevel=False), of_lists)
    if ak.backend(array) == "typetracer":
        result = result.to_typetracer(forget_length=True)
    return ak.Array(result)


def _momenta(array: ak.Array) -> dict[str, str]:
    """The fields that are components of momentum, as `momentum_fields` gives them."""
    import awkward as ak

    layout = ak.to_layout(array)
    if not array.fields or layout.purelist_depth < 2:
        raise RinoError(
            f"the awkward array is of type {array.type}: give jets x var x records with fields such as px, py, pz, E "
            "or pt, eta, phi, mass, which ak.zip makes of columns"
        )
    return momentum_fields(array.fields, layout.purelist_parameter("__record__"))


def _in_place(
    layout: ak.contents.Content, of_lists: Callable[[NDArray[np.int64], ak.Array, bool], NDArray[Any]]
) -> ak.contents.Content:
    """Results in the place of the jets, which are the innermost lists."""
    import awkward as ak

    if layout.is_option:
        missing = layout.mask_as_bool(valid_when=False)
        index = np.where(missing, -1, np.cumsum(~missing) - 1)
        return ak.contents.IndexedOptionArray(ak.index.Index64(index), _in_place(layout.project(), of_lists))
    if layout.is_indexed:
        return _in_place(layout.project(), of_lists)
    if not layout.is_list:
        raise RinoError(f"the awkward array has {layout.form.type} where lists of constituents were expected")
    lists = layout.to_ListOffsetArray64(True)
    offsets = np.asarray(lists.offsets)
    content = lists.content[: offsets[-1]]
    if layout.purelist_depth > 2:
        return ak.contents.ListOffsetArray(lists.offsets, _in_place(content, of_lists))
    values = of_lists(np.diff(offsets), ak.Array(content), layout.is_regular)
    flat = ak.contents.NumpyArray(values.reshape(-1))
    return flat if values.ndim == 1 else ak.contents.RegularArray(flat, values.shape[1], zeros_length=len(values))


def _of_jets(
    momenta: list[NDArray[Any]], offsets: NDArray[np.int64], extras: Mapping[str, Any], of: Compute, empty: str
) -> NDArray[Any]:
    """Results for jets of these constituents."""
    counts = np.diff(offsets)
    full = counts > 0
    if empty == "raise" and not full.all():
        raise RinoError(
            f"jet {np.argmin(full)} of {len(full)} has no constituents: leave such jets out, or give empty='nan' to "
            "get NaN for them"
        )
    px, py, pz, e = momenta
    found = of(Jets.from_columns(px, py, pz, e, offsets_of(counts[full]), extras=extras))
    if full.all():
        return found
    missing = False if found.dtype == bool else np.nan  # a jet without constituents passes no cut
    values = np.full((len(full), *found.shape[1:]), missing, dtype=found.dtype)
    values[full] = found
    return values


# --- dask ---


def _lazy(call: Call, model: Model | _Weights, jets: Any) -> dak.Array:
    """The collection of results, partition by partition."""
    try:
        import dask
        import dask_awkward as dak
        from packaging.version import Version
    except ImportError as error:
        raise RinoError(f"jets in a dask collection need dask-awkward ({error}): pip install 'pyrino[dask]'") from error
    if Version(dak.__version__) < Version("2025.5") and Version(dask.__version__) >= Version("2025.4"):
        # pip pairs them, as this dask-awkward did not yet know which dask it would not work with.
        raise RinoError(
            f"dask-awkward {dak.__version__} does not work with dask {dask.__version__}: pip install 'pyrino[dask]', "
            "which brings versions that work together"
        )
    if not isinstance(jets, dak.Array):
        raise RinoError(
            f"the jets are a {type(jets).__name__}: give a collection of dask-awkward, or call pyrino.{call.method} "
            f"on what it computes: dask.delayed(pyrino.{call.method})(path, jets)"
        )
    meta = call(model, jets._meta)
    if isinstance(model, _Weights):
        key = f"{model.path} {model.digest}"
    else:
        key = _digest(model)
        # As it is now, and a node of its own: it goes to each worker once.
        model = dask.delayed(copy.deepcopy(model).cpu(), name=f"{call.kind.__name__}-{key}", traverse=False)
    token = dask.base.tokenize(jets, key, call.method, sorted(call.options.items()), call.empty)
    return dak.map_partitions(call, model, jets, label=f"pyrino-{call.method}", token=token, meta=meta)
