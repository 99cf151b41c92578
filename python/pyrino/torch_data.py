"""Jets for loops of one's own: a dataset of torch, whose batches are tokens and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike

from pyrino._arguments import checked
from pyrino.errors import RinoError
from pyrino.jets import Jets
from pyrino.nn import Tokens, tokenize
from pyrino.recipe import Recipe

__all__ = ["TokenBatch", "TorchDataset", "torch_dataset"]


class TokenBatch(NamedTuple):
    """What `TorchDataset.collate_fn` makes of some jets."""

    tokens: Tokens  #: S sequences, one per jet and resolution
    labels: torch.Tensor | None  #: [S] int64, the label of the jet that each sequence shows; None without labels


class TorchDataset(torch.utils.data.Dataset[Jets]):
    """Jets as `torch.utils.data.DataLoader` takes them; `torch_dataset` makes it."""

    def __init__(
        self, jets: Jets, resolutions: Sequence[int | str], recipe: Recipe | None, dtype: str, threads: int
    ) -> None:
        self.jets, self.resolutions = jets, tuple(resolutions)
        self.recipe = (recipe or Recipe.preset("nano")).copy()
        self.dtype, self.threads = dtype, threads

    def __len__(self) -> int:
        return len(self.jets)

    def __getitem__(self, index: int) -> Jets:
        """One jet, a `Jets` of length 1."""
        return self.jets[index]

    def __getitems__(self, indices: Sequence[int]) -> Jets:
        """Some jets at once, as a DataLoader asks for them."""
        return self.jets[list(indices)]

    def collate_fn(self, jets: Jets | Sequence[Jets]) -> TokenBatch:
        """Tokens and labels of some jets, in their order: the DataLoader's ``collate_fn``."""
        batch = jets if isinstance(jets, Jets) else Jets.concatenate(jets)
        tokens = tokenize(batch, self.resolutions, self.recipe, self.dtype, self.threads)
        labels = None if batch.labels is None else torch.tensor(batch.labels)[tokens.jet]
        return TokenBatch(tokens, labels)


@checked
def torch_dataset(
    jets: Jets,
    labels: ArrayLike | None = None,
    *,
    resolutions: Sequence[int | str] = ("all",),
    recipe: Recipe | None = None,
    dtype: str = "float32",
    threads: int = 1,
) -> TorchDataset:
    """Jets for a `torch.utils.data.DataLoader`, which shuffles them and has workers make their tokens.

    Parameters
    ----------
    jets
        n jets; the dataset's items.
    labels
        (n,) integers, 0 or more; None: those that the jets carry, if they do.
    resolutions
        One view of every jet each, as `tokenize` takes them.
    recipe
        How jets become tokens: ``encoder.recipe`` of the encoder that will see them; None: the paper's.
    dtype
        "float32" or "float64".
    threads
        For clustering and features, of every worker.

    Returns
    -------
    TorchDataset
        Its `collate_fn` gives `TokenBatch`, (tokens, labels): label s is that of the jet that sequence s shows.

    Raises
    ------
    RinoError
        If `jets` are no `Jets`, there is not one label per jet, or a resolution, type or number of threads is none.

    Examples
    --------
    >>> encoder = rino.JetEncoder.load("runs/nano")
    >>> tagger = rino.Tagger(encoder, "mlp")
    >>> dataset = rino.torch_dataset(jets, labels, recipe=encoder.recipe)
    >>> loader = torch.utils.data.DataLoader(
    ...     dataset, batch_size=256, shuffle=True, num_workers=2, collate_fn=dataset.collate_fn
    ... )
    >>> optimizer = torch.optim.AdamW(tagger.parameters(), lr=1e-3)
    >>> for epoch in range(10):
    ...     for tokens, truth in loader:
    ...         loss = torch.nn.functional.binary_cross_entropy_with_logits(tagger(tokens), truth.float())
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    """
    if not isinstance(jets, Jets):
        raise RinoError(f"the jets are of type {type(jets).__name__}: give pyrino.Jets (read_jets, Jets.from_awkward)")
    dataset = TorchDataset(jets if labels is None else jets.with_labels(labels), resolutions, recipe, dtype, threads)
    dataset.collate_fn(jets[:1])  # what is wrong is told here, not by a worker
    return dataset
