"""Loops of one's own: Tokens that travel between processes, and the dataset that a DataLoader takes."""

from __future__ import annotations

import copy
import inspect
import pickle
import signal
from collections.abc import Iterator

import pytest
import torch
from helpers import small_jets, tiny
from torch.utils.data import ConcatDataset, DataLoader, random_split

import pyrino as rino
from pyrino import Jets, RinoError, Tokens
from pyrino.training.watch import save_batch as write

# Python 3.12 warns of what DataLoader does with workers.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


@pytest.fixture(autouse=True)
def in_a_minute_or_two() -> Iterator[None]:
    """What waits for a worker for ever is a failure, not the end of the tests."""

    def late(*_: object) -> None:
        raise TimeoutError("a worker never answered")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(150)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(40, seed=3)


def some(jets: Jets, kind: str) -> Tokens:
    tokens = rino.tokenize(jets, [2, "all"], dtype="float64" if kind == "float64" else "float32")
    if kind == "hidden":
        return tokens.hide(torch.arange(len(tokens.features)) % 3 == 0)
    if kind == "none":
        return rino.tokenize(jets[:0])
    return tokens


def assert_same(one: Tokens, other: Tokens) -> None:
    for name in ("features", "jet_features", "offsets", "view", "jet", "masked"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None) == (theirs is None) and (mine is None or mine.dtype == theirs.dtype), name
        assert mine is None or torch.equal(mine, theirs), name
    assert repr(one) == repr(other) and len(one) == len(other)


@pytest.mark.parametrize("kind", ["float32", "float64", "hidden", "none"])
@pytest.mark.parametrize(
    "travel", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy, copy.copy], ids=["pickle", "deepcopy", "copy"]
)
def test_tokens_are_pickled_and_copied(jets, kind, travel):
    tokens = some(jets, kind)
    other = travel(tokens)
    assert_same(other, tokens)
    if travel is not copy.copy and kind == "float32":
        other.features.zero_()
        assert tokens.features.abs().sum() > 0


def test_an_encoder_makes_the_same_of_tokens_that_travelled(jets):
    encoder = rino.JetEncoder(tiny(), seed=1).eval()
    tokens = encoder.tokenize(jets, [3, "all"])
    with torch.no_grad():
        assert torch.equal(encoder(pickle.loads(pickle.dumps(tokens))).jets, encoder(tokens).jets)


def test_tokens_of_a_network_with_gradients_travel_without_them():
    """torch refuses to send such tensors, in a thread whose error nobody hears."""
    learned = torch.ones(2, 3, 11, requires_grad=True) * 2
    tokens = Tokens.from_padded(learned, torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 4))
    queue = torch.multiprocessing.SimpleQueue()
    queue.put(tokens)
    assert_same(queue.get(), tokens)


def test_a_pickle_of_something_else_is_an_error():
    with pytest.raises(RinoError, match="2 parts: they are of another version"):
        Tokens.__new__(Tokens).__setstate__((torch.zeros(1), torch.zeros(1)))


@pytest.mark.parametrize(
    ("part", "value", "match"),
    [
        (0, torch.zeros(3, 11), r"features have shape \[3, 11\] and offsets end with 5"),
        (1, torch.zeros(1, 4), r"jet_features have shape \[1, 4\] for 2 sequences"),
        (2, torch.tensor([0, 0, 5]), "offsets go from 0 to 0 at sequence 0"),
        (2, torch.tensor([1, 2, 5]), "offsets end with 5"),
        (2, torch.tensor([0, 5]), "2 offsets, views of 2 sequences"),
        (3, torch.tensor([1, 0]), "sequence 1 is view 0 of jet 1, behind one that should follow it"),
        (4, torch.tensor([1, 1]), "sequence 1 is view 0 of jet 1"),
        (5, torch.zeros(4, dtype=torch.bool), r"mask of 5 tokens is .* of shape \[4\]"),
        (6, torch.zeros(5, 3, dtype=torch.float64), r"momenta of 5 tokens are .* of shape \[5, 3\]"),
    ],
)
def test_a_pickle_whose_parts_do_not_fit_is_an_error(part, value, match):
    state = [torch.zeros(5, 11), torch.zeros(2, 4), torch.tensor([0, 2, 5]), torch.zeros(2, dtype=torch.int64)]
    state += [torch.tensor([0, 1]), None, None]
    made = Tokens.__new__(Tokens)
    made.__setstate__(tuple(state))
    assert len(made) == 2
    state[part] = value
    with pytest.raises(RinoError, match=match):
        Tokens.__new__(Tokens).__setstate__(tuple(state))


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_tokens_that_were_resized_are_refused_not_read_beyond_their_end(jets, kernels):
    encoder = rino.JetEncoder(tiny(), seed=1)
    encoder.kernels = kernels
    for part in ("features", "jet_features"):
        tokens = encoder.tokenize(jets)
        getattr(tokens, part).resize_(1, getattr(tokens, part).shape[1])
        with pytest.raises(RinoError, match=f"{part} have shape"):
            encoder(tokens)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("resolutions", [("all",), (2, "all")])
def test_a_loader_gives_every_jet_once_with_its_label(jets, workers, resolutions):
    dataset = rino.torch_dataset(jets, resolutions=resolutions, recipe=tiny())
    loader = DataLoader(dataset, 16, shuffle=True, num_workers=workers, collate_fn=dataset.collate_fn)
    whole = rino.tokenize(jets, resolutions, tiny())
    label = {tuple(f.tolist()): int(jets.labels[j]) for f, j in zip(whole.jet_features, whole.jet, strict=True)}
    seen = []
    for tokens, labels in loader:
        assert labels.dtype == torch.int64 and len(labels) == len(tokens)
        for features, truth in zip(tokens.jet_features, labels, strict=True):
            assert label[tuple(features.tolist())] == int(truth)
            seen.append(tuple(features.tolist()))
    assert sorted(seen) == sorted(tuple(f.tolist()) for f in whole.jet_features)


def test_batches_are_those_of_tokenize(jets):
    dataset = rino.torch_dataset(jets, recipe=tiny(), dtype="float64", threads=2)
    batches = list(DataLoader(dataset, 16, collate_fn=dataset.collate_fn))
    for batch, first in zip(batches, (0, 16, 32), strict=True):
        assert_same(batch.tokens, rino.tokenize(jets[first : first + 16], ("all",), tiny(), "float64"))
    assert len(dataset) == 40 and dataset[3] == jets[3]


def test_labels_may_come_beside_the_jets_or_not_at_all(jets):
    bare = Jets(jets.p4, jets.offsets)
    dataset = rino.torch_dataset(bare, 1 - jets.labels)
    assert torch.equal(dataset.collate_fn(dataset.jets).labels.sort()[0], torch.tensor(1 - jets.labels).sort()[0])
    assert rino.torch_dataset(bare).collate_fn(bare).labels is None


def test_parts_and_sums_of_datasets_are_loaded_too(jets):
    dataset = rino.torch_dataset(jets)
    train, test = random_split(dataset, [30, 10])
    both = ConcatDataset([train, test])
    for part, n in ((train, 30), (test, 10), (both, 40)):
        loader = DataLoader(part, 8, num_workers=2, collate_fn=dataset.collate_fn)
        assert sum(len(tokens) for tokens, _ in loader) == n


def test_the_loop_of_the_docstring_learns(jets):
    """As it stands there, with the names that it takes as given."""
    jets = small_jets(300, seed=5)
    text = inspect.getdoc(rino.torch_dataset).partition("Examples\n--------\n")[2]
    code = "\n".join(line[4:] for line in text.splitlines() if line.startswith((">>> ", "... ")))
    code = code.replace('rino.JetEncoder.load("runs/nano")', "encoder")
    code = code.replace("batch_size=256", "batch_size=16").replace("lr=1e-3", "lr=3e-2")
    names = {"rino": rino, "torch": torch, "jets": jets, "labels": jets.labels}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        names["encoder"] = rino.JetEncoder(tiny(), seed=1)
        exec(code, names)
    p = names["tagger"].predict(jets)
    assert rino.evaluate.roc_auc(p, jets.labels) > 0.7


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"jets": [1, 2]}, "jets = .1, 2.: give pyrino.Jets"),
        ({"labels": [0, 1]}, "labels"),
        ({"resolutions": ["x"]}, "x"),
        ({"dtype": "float16"}, "choose float32 or float64"),
    ],
)
def test_what_is_wrong_is_told_before_a_worker_starts(jets, change, match):
    with pytest.raises(RinoError, match=match):
        rino.torch_dataset(**{"jets": jets, **change})


def test_the_dataset_itself_travels_to_workers_that_are_spawned(jets):
    dataset = pickle.loads(pickle.dumps(rino.torch_dataset(jets, resolutions=[4], recipe=tiny())))
    assert_same(dataset.collate_fn(jets).tokens, rino.tokenize(jets, [4], tiny()))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_pickled_raises_also_in_a_worker(jets, workers):
    """There a thread pickles whose errors nobody hears: the loop would wait for ever."""
    trainer = rino.Trainer(tiny(batch_size=10), jets)
    match = r"a trainer has threads and cannot be pickled or copied: save\(\) it"
    with pytest.raises(RinoError, match=match):
        pickle.dumps(trainer)
    with pytest.raises(RinoError, match=match):
        copy.deepcopy(trainer)
    loader = DataLoader(range(4), num_workers=workers, collate_fn=lambda _: trainer)
    if workers:
        with pytest.raises(RinoError, match=match):
            next(iter(loader))
    else:
        assert next(iter(loader)) is trainer


def test_a_stream_in_a_batch_raises(jets, tmp_path):
    write(jets, tmp_path / "jets.parquet")
    with rino.open_dataset(tmp_path / "jets.parquet") as stream:
        with pytest.raises(RinoError, match="open it in every process"):
            next(iter(DataLoader(range(4), num_workers=1, collate_fn=lambda _: stream)))


def test_a_section_of_a_recipe_is_copied_and_pickled():
    recipe = tiny(epochs=7)
    for section in (copy.deepcopy(recipe.training), pickle.loads(pickle.dumps(recipe.training))):
        assert section.epochs == 7
        section.epochs = 8
    assert recipe.training.epochs == 7
