"""Contrastive learning: whole steps against plain PyTorch in float64, labels, ranks' draws, what it says to people."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch

import pyrino as rino
from pyrino import Recipe, RinoError, bench, study
from pyrino.methods import about

SMALL = {"encoder.width": 8, "encoder.heads": 2, "encoder.layers": 1, "encoder.feedforward": 12, "encoder.dropout": 0.0}
VIEWS = {
    "views.first": ["rotate", "translate max_phi=0.5", "split_collinear probability=0.2", "smear soft=0.2 phi=0.02"],
    "views.second": ["smear constant=0.1", "drop_soft scale=2"],
}


def recipe_of(preset: str = "contrastive", **numbers: object) -> Recipe:
    short = {"epochs": 3, "batch_size": 12, "lr": 3e-3, "seed": 5, "precision": "float64"}
    return Recipe.preset(preset, **{**SMALL, **VIEWS, **short, **numbers})


@pytest.fixture(scope="module")
def jets() -> rino.Jets:
    return rino.toy_jets(40, seed=3, top_fraction=0.5)


def view_of(jets: rino.Jets, recipe: Recipe, step: int, name: str) -> rino.Jets:
    """As the recipe's [views] say, by the transforms of Python."""
    said = {
        "first": [
            rino.rotate,
            partial(rino.translate, max_phi=0.5),
            partial(rino.split_collinear, probability=0.2),
            partial(rino.smear, soft=0.2, phi=0.02),
        ],
        "second": [partial(rino.smear, constant=0.1), partial(rino.drop_soft, scale=2.0)],
    }
    seed = rino._core.step_seed(recipe.training.seed, step, f"{name} view")
    return rino.Augmentation(said[name])(jets, seed=seed)


def mean_of(rows: list[torch.Tensor], weights: np.ndarray | None) -> torch.Tensor:
    """Of the rows of two views, whose jets may have weights."""
    terms = torch.stack(rows)
    w = torch.ones_like(terms) if weights is None else torch.tensor(weights, dtype=terms.dtype).repeat(2)
    return (w * terms).sum() / w.sum()


def nt_xent(z: torch.Tensor, temperature: float, weights: np.ndarray | None = None) -> torch.Tensor:
    """Row by row, as the formula stands."""
    z = z / z.norm(dim=1, keepdim=True)
    n = len(z) // 2
    rows = []
    for i in range(2 * n):
        s = z @ z[i] / temperature
        others = torch.cat([s[:i], s[i + 1 :]])
        rows.append(torch.logsumexp(others, 0) - s[(i + n) % (2 * n)])
    return mean_of(rows, weights)


def supcon(z: torch.Tensor, labels: list[int], temperature: float, weights: np.ndarray | None = None) -> torch.Tensor:
    z = z / z.norm(dim=1, keepdim=True)
    rows = []
    for i in range(len(z)):
        s = z @ z[i] / temperature
        rest = torch.logsumexp(torch.cat([s[:i], s[i + 1 :]]), 0)
        positives = [j for j in range(len(z)) if j != i and labels[j] == labels[i]]
        rows.append(-torch.stack([s[p] - rest for p in positives]).mean())
    return mean_of(rows, weights)


@pytest.mark.parametrize("column", ["", "w"])
@pytest.mark.parametrize("preset", ["contrastive", "supcon"])
def test_steps_are_those_of_plain_pytorch(jets, tmp_path, preset, column):
    recipe = recipe_of(preset, **{"head.width": 6, "training.weight": column})
    trainer = rino.Trainer(recipe, jets.with_value("w", np.arange(40) % 7))
    trainer.save(tmp_path / "start.safetensors")
    state = safetensors.torch.load_file(tmp_path / "start.safetensors")
    encoder = rino.JetEncoder(recipe, seed=0).double()
    encoder.load_state_dict({k[16:]: v for k, v in state.items() if k.startswith("trained.encoder.")})
    head = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 6)).double()
    head.load_state_dict(
        {
            f"{2 * layer + 1}.{kind}": state[f"trained.head.layers.{layer}.{kind}"]
            for layer in (0, 1)
            for kind in ("weight", "bias")
        }
    )
    parameters = [*encoder.parameters(), *head.parameters()]
    o = recipe.optimizer
    optimizer = torch.optim.AdamW(parameters, o.lr, (o.beta1, o.beta2), o.eps, o.weight_decay)
    for number in range(5):
        report = trainer.step()
        batch = rino.Jets._wrap(trainer._core.batch())
        views = [view_of(batch, recipe, number, name) for name in ("first", "second")]
        z = head(torch.cat([encoder(encoder.tokenize(view)).jets for view in views]))
        w = batch.values["w"] if column else None
        loss = nt_xent(z, 0.1, w) if preset == "contrastive" else supcon(z, batch.labels.tolist() * 2, 0.1, w)
        for group in optimizer.param_groups:
            group["lr"] = trainer.learning_rate(number)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, o.clip)
        optimizer.step()
        assert report["loss"] == pytest.approx(loss.item(), rel=1e-10)
        assert report["gradient_norm"] == pytest.approx(norm.item(), rel=1e-8)
        assert report["alignment"] == pytest.approx(rino.alignment(*z.chunk(2)).item(), rel=1e-9)
        mean = np.mean([rino.uniformity(half).item() for half in z.chunk(2)])
        assert report["uniformity"] == pytest.approx(mean, rel=1e-9)


def test_the_default_views_are_jetclrs(jets):
    recipe = Recipe("contrastive")
    wanted = rino.Augmentation(
        [
            rino.rotate,
            partial(rino.translate, max_rapidity=1.0, max_phi=1.0),
            partial(rino.split_collinear, probability=0.1),
            partial(rino.smear, stochastic=0, constant=0, eta=0, phi=0, soft=0.1),
        ]
    )(jets, seed=7)
    for texts in (recipe.views.first, recipe.views.second):
        assert rino.Augmentation(texts)(jets, seed=7) == wanted


def test_weights_come_from_files_and_streams_without_being_asked_for(files, tmp_path):
    numbers = [f"--set={name}={value}" for name, value in SMALL.items()]
    from pyrino.cli import main

    recipe = recipe_of(precision="float32", **{"training.weight": "jet_weight"})
    with rino.open_dataset(files, window=20) as stream:
        trainer = rino.Trainer(recipe, stream)
        trainer.step()
        batch = rino.Jets._wrap(trainer._core.batch())
        np.testing.assert_allclose(batch.values["jet_weight"], np.sqrt(batch.pt), rtol=1e-12)
        del trainer
    with rino.open_dataset({files / "0.parquet": 0.5, files / "1.parquet": 0.5}, window=20) as mixture:
        assert np.isfinite(rino.Trainer(recipe, mixture).step()["loss"])
    run = rino.pretrain(recipe, files, tmp_path / "run", progress=False, tensorboard=False)
    plain = rino.pretrain(
        recipe.replace(**{"training.weight": ""}), files, tmp_path / "plain", progress=False, tensorboard=False
    )
    assert np.isfinite(run.history["loss"]).all() and run.history["loss"][0] != plain.history["loss"][0]
    for more in (["--stream", "yes"], ["--max-jets", "20"]):
        arguments = ["--train", str(files), "--epochs", "1", "--batch-size", "8", "--set=training.weight=jet_weight"]
        assert main(["pretrain", "contrastive", *arguments, *more, *numbers, "--out", str(tmp_path / more[0])]) == 0
    assert rino.Recipe.load(tmp_path / "run" / "recipe.toml").training.weight == "jet_weight"


def test_a_column_of_weights_that_is_not_there_is_named_with_its_file(jets, files, tmp_path):
    recipe = recipe_of(**{"training.weight": "mc_weight"})
    with pytest.raises(RinoError, match=r"0\.parquet lacks the columns mc_weight; it has"):
        rino.pretrain(recipe, files, tmp_path / "run", progress=False)
    with (
        rino.open_dataset(files, window=20) as stream,
        pytest.raises(RinoError, match=r"0\.parquet lacks the columns mc_weight"),
    ):
        rino.Trainer(recipe, stream)
    with pytest.raises(RinoError, match=r"training.weight is 'mc_weight', but the jets have no such column"):
        rino.Trainer(recipe, jets)
    with pytest.raises(RinoError, match=r"training.weight: 'mc_weight' of jet 3 is nan; weights are finite numbers"):
        rino.Trainer(recipe, jets.with_value("mc_weight", [1.0] * 3 + [np.nan] * 37))
    with pytest.raises(RinoError, match=r"'mc_weight' of all jets of step 0 is 0"):
        rino.Trainer(recipe, jets.with_value("mc_weight", np.zeros(40))).step()


def test_a_method_that_weighs_no_jets_refuses_a_column_of_weights(jets):
    with pytest.raises(RinoError, match=r"training.weight is 'w', but this method weighs no jets"):
        rino.Trainer(Recipe(**{"training.weight": "w"}), jets.with_value("w", np.ones(40)))


def test_labels_are_asked_for_only_where_they_are_used(jets):
    bare = rino.Jets.from_columns(jets.px, jets.py, jets.pz, jets.e, jets.offsets)
    assert np.isfinite(rino.Trainer(recipe_of(), bare).step()["loss"])
    with pytest.raises(RinoError, match=r"loss.labels is on but the jets have no labels: give labelled jets"):
        rino.Trainer(recipe_of("supcon", loader_threads=0), bare).step()


@pytest.fixture
def files(jets, tmp_path):
    """Two files with labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("part_px", "part_py", "part_pz", "part_energy")
    columns = zip(names, (jets.px, jets.py, jets.pz, jets.e), strict=True)
    table = pa.table({n: np.split(np.asarray(c), jets.offsets[1:-1]) for n, c in columns} | {"jet_label": jets.labels})
    table = table.append_column("jet_weight", pa.array(np.sqrt(jets.pt)))
    (tmp_path / "files").mkdir()
    for number in range(2):
        pq.write_table(table.slice(20 * number, 20), tmp_path / "files" / f"{number}.parquet")
    return tmp_path / "files"


def test_labels_come_from_a_stream(files, jets):
    with rino.open_dataset(files, window=20) as stream:
        trainer = rino.Trainer(recipe_of("supcon"), stream)
        assert np.isfinite(trainer.step()["loss"])
        batch = rino.Jets._wrap(trainer._core.batch())
        labels = {float(pt): label for pt, label in zip(jets.pt, jets.labels, strict=True)}
        assert [labels[float(pt)] for pt in batch.pt] == batch.labels.tolist()
        del trainer


@pytest.mark.parametrize("stream", ["yes", "no"])
def test_files_that_are_named_are_read_with_their_labels(files, tmp_path, stream):
    from pyrino.cli import main

    numbers = [f"--set={name}={value}" for name, value in SMALL.items()]
    arguments = ["--train", str(files), "--epochs", "1", "--batch-size", "8", "--stream", stream, *numbers]
    assert main(["pretrain", "supcon", *arguments, "--out", str(tmp_path / "run")]) == 0
    assert rino.JetEncoder.load(tmp_path / "run").recipe.name == "supcon"
    run = rino.pretrain(
        recipe_of("supcon", precision="float32"), files, tmp_path / "other", progress=False, tensorboard=False
    )
    assert np.isfinite(run.history["loss"]).all()


def test_a_run_trains_shows_its_charts_and_leaves_an_encoder(jets, tmp_path, capsys):
    run = rino.pretrain(recipe_of(precision="float32", epochs=12), jets, tmp_path / "run")
    assert "loss" in capsys.readouterr().err
    losses = run.history["loss"]
    assert losses[-6:].mean() < losses[:6].mean()
    again = rino.JetEncoder.load(tmp_path / "run" / "encoder.safetensors")
    assert again.recipe.method == "contrastive" and again.recipe == run.recipe
    np.testing.assert_array_equal(again.embed(jets), run.encoder.embed(jets))
    titles = [axes.get_title() for axes in run.plot().axes]
    assert {"loss", "alignment", "uniformity"} <= set(titles) and not any("teacher" in title for title in titles)


def test_the_registry_says_what_progress_shows_and_what_a_run_warns_of():
    recipe = rino.Recipe("contrastive", lr=1e-4)
    said = about(recipe)
    assert said.shown({"uniformity": -1.234, "alignment": 0.5}) == [("uniformity -1.23", "uniformity -1.23")]

    def told(alarm, value, steps):
        return [text for _ in range(steps) for text in alarm.step({"lr": 1e-4, "uniformity": value})]

    assert told(said.alarm(0.0), -0.001, 248) == []  # 200 steps at the peak, then a mean over 50
    alarm = said.alarm(0.0)
    (text,) = told(alarm, -0.001, 1000)
    assert text.startswith("training collapses: uniformity is -0.001: all jets have next to the same embedding")
    assert told(said.alarm(500.0), -0.001, 50) == [text]
    assert told(said.alarm(500.0), -2.0, 1000) == []


def test_a_run_that_was_stopped_goes_on_bit_by_bit(jets, tmp_path):
    recipe = recipe_of(precision="float32", **{"encoder.dropout": 0.2})
    straight = rino.Trainer(recipe, jets)
    losses = [straight.step()["loss"] for _ in range(6)]
    first = rino.Trainer(recipe, jets)
    assert [first.step()["loss"] for _ in range(3)] == losses[:3]
    first.save(tmp_path / "run.safetensors")
    second = rino.Trainer(recipe, jets)
    second.restore(tmp_path / "run.safetensors")
    assert [second.step()["loss"] for _ in range(3)] == losses[3:]


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"temperature": 0.0}, "temperature is 0"),
        ({"views.first": ["split_collinear probability=1.5"]}, "probability of a splitting is 1.5"),
        ({"views.second": ["rotate", "smear sof=1"]}, "'smear sof=1': smear has no sof, only: stochastic"),
        ({"views.first": ["turn"]}, "no transform 'turn': choose one of rotate, translate"),
        ({"accumulate": 2}, r"accumulate is 2, but this method compares the jets of a batch with each other: choose 1"),
        ({"views.first": [], "views.second": []}, "views.first and views.second have no transform"),
        ({"head.layers": -1}, "layers and width are 8, -1 and 0"),
    ],
)
def test_numbers_that_make_no_method_are_refused(jets, numbers, match):
    with pytest.raises(RinoError, match=match):
        rino.Trainer(recipe_of(**numbers), jets)


def test_an_encoder_of_another_name_is_refused(jets):
    trainer = rino.Trainer(recipe_of(), jets)
    assert trainer.encoder().recipe.method == "contrastive"
    with pytest.raises(RinoError, match="no encoder 'teacher': choose 'encoder' or 'average'"):
        trainer.encoder("teacher")


@pytest.mark.parametrize("preset", ["contrastive", "supcon"])
def test_the_bench_measures_it_without_clustered_views(preset, tmp_path, capsys):
    recipe = recipe_of(preset, precision="float32", **{"training.weight": "w"})
    result = bench.bench(recipe, threads=[1], jets=16, repetitions=2)
    (rates,) = result["rates"]
    assert {"step", "step_gflops", "embed", "pretraining_seconds"} <= set(rates) and "views" not in rates
    assert rates["step_gflops"] / rates["step"] == pytest.approx(
        bench.step_flops(recipe, rino.toy_jets(16, seed=1)[:12], batch=12).total / 1e9, rel=1e-9
    )
    from pyrino.cli import main

    recipe.save(tmp_path / "r.toml")
    assert main(["bench", str(tmp_path / "r.toml"), "--threads", "1", "--jets", "16", "--repetitions", "1"]) == 0
    text = capsys.readouterr().out
    assert "training step, jets/s" in text and "FastJet" not in text


def test_the_study_refuses_a_recipe_that_needs_the_targets_labels(tmp_path):
    with pytest.raises(RinoError, match="pretrains without labels, and the recipe 'supcon' needs them"):
        study.run_study("demo", tmp_path / "study", recipe=recipe_of("supcon"))
    assert not (tmp_path / "study").exists()


def test_operations_of_a_step_are_those_that_torch_counts(jets):
    from torch.utils.flop_counter import FlopCounterMode

    recipe = recipe_of(precision="float32", batch_size=40, **{"encoder.class_token": "learned"})
    views = [rino.Augmentation(texts)(jets, seed=0) for texts in (recipe.views.first, recipe.views.second)]
    tokens = [rino.tokenize(view, ["all"], recipe) for view in views]
    features = tokens[0].features.shape[1]
    head = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    with FlopCounterMode(display=False) as counter:
        z = head(torch.zeros(80, 8))
        (z @ z.T).sum().backward()
    # In training the head's input has a gradient, too. The encoder's operations have a test of their own.
    heads = counter.get_total_flops() + 2 * 80 * 8 * 8
    forward = sum(bench.encoder_flops(recipe, np.diff(view.offsets), features) for view in tokens)
    inputs = 2 * 8 * features * sum(len(view.features) for view in tokens)
    wanted = (3 * forward - inputs + heads) / 40
    assert bench.step_flops(recipe, jets).total == pytest.approx(wanted, rel=1e-9)
