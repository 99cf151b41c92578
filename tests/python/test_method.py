"""Methods written in Python train as the library's own: the same numbers, resume, TOML, the command line, errors."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import small_jets, tiny

import pyrino as rino
from pyrino import Recipe, RinoError, _core, bench
from pyrino.methods import Chart, about

SMALL = {"encoder.width": 8, "encoder.heads": 2, "encoder.layers": 1, "encoder.feedforward": 12}


@pytest.fixture(scope="module")
def jets() -> rino.Jets:
    return small_jets(24)


@dataclass
class AlignmentOptions:
    uniformity: float = field(default=1.0, metadata={"meaning": "weight of the spread", "source": "arXiv:2005.10242"})
    soft: float = field(default=0.1, metadata={"unit": "GeV", "meaning": "of the smearing"})
    layers: int = 1
    rotated: bool = True
    words: list[str] = field(default_factory=lambda: ["a", "b"])


class Alignment(rino.Method):
    """Two views of a jet lie near each other, all jets far from each other."""

    name = "test-alignment"
    Options = AlignmentOptions
    charts = {"loss": ["alignment"], "spread": ["uniformity"]}
    presets = {"test-wide": {"encoder.width": 48, "test_alignment.soft": 0.3}}

    def networks(self):
        return {"encoder": rino.JetEncoder(self.recipe), "head": torch.nn.Linear(self.recipe.encoder.width, 4)}

    def views(self, jets, step):
        turned = rino.rotate(jets, **step.draws("a")) if self.options.rotated else jets
        return [turned, rino.smear(jets, soft=self.options.soft, **step.draws("b"))]

    def loss(self, batch, step):
        a, b = self.head(self.encoder(batch.tokens, constituents=False).jets).chunk(2)
        near, spread = rino.alignment(a, b), (rino.uniformity(a) + rino.uniformity(b)) / 2
        return near + self.options.uniformity * spread, {"alignment": near, "uniformity": spread}


def short(method: str = "test-alignment", **numbers: object) -> Recipe:
    return Recipe(method, **{**SMALL, "epochs": 4, "batch_size": 8, "lr": 3e-3, "seed": 3, **numbers})


# --- the numbers ---


class Dino(rino.Method):
    """The DINO loss with Sinkhorn and KoLeo, on tokens of clustered views, said again in Python."""

    name = "test-dino"

    def networks(self):
        network = torch.nn.ModuleDict(
            {"encoder": rino.JetEncoder(self.recipe), "head": rino.ProjectionHead(tiny(prototypes=6))}
        )
        self.teacher = rino.Teacher(network, momentum=(0.9, 1.0))
        return {"encoder": network["encoder"], "head": network["head"]}

    def products(self):
        return {"encoder": self.teacher.module["encoder"], "student": self.encoder}

    def prepare(self, jets, step):
        return rino.Batch(rino.tokenize(jets, [1, 2, 4, "all"], self.recipe, "float64"))

    def loss(self, batch, step):
        tokens = batch.tokens
        n = len(tokens) // 4
        z = self.encoder(tokens).jets
        scores = self.head(z).view(4, n, -1)
        with torch.no_grad():
            seen = self.teacher.module["encoder"](tokens).jets[: 2 * n]
            assigned = rino.sinkhorn(self.teacher.module["head"](seen), 0.05).view(2, n, -1)
        koleo = (rino.koleo_loss(z[:n]) + rino.koleo_loss(z[n : 2 * n])) / 2
        return rino.dino_loss(assigned, scores, 0.1) + 0.2 * koleo


def test_a_method_in_python_has_the_losses_of_the_same_in_cpp(jets, tmp_path):
    numbers = {"epochs": 10, "batch_size": 8, "lr": 3e-3, "seed": 3, "encoder.dropout": 0.0, "precision": "float64"}
    views = {"views.teacher": [1, 2], "views.student": [4, "all"], "head.prototypes": 6}
    loss = {"teacher_temperature_start": 0.05, "teacher_temperature_end": 0.05, "koleo": 0.2, "momentum_start": 0.9}
    theirs = rino.Trainer(tiny(**numbers, **views, **loss), jets)
    size = {name: value for name, value in tiny().sections()["encoder"].items() if name != "dropout"}
    mine = rino.Trainer(Recipe("test-dino", **numbers, **{f"encoder.{n}": v for n, v in size.items()}), jets)
    theirs.save(tmp_path / "start.safetensors")
    state = safetensors.torch.load_file(tmp_path / "start.safetensors")
    for name in ("encoder", "head"):
        weights = {k.removeprefix(f"trained.{name}."): v for k, v in state.items() if k.startswith(f"trained.{name}.")}
        for network in (getattr(mine.method, name), mine.method.teacher.module[name]):
            network.load_state_dict(weights)
    for _ in range(20):
        one, other = mine.step(), theirs.step()
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-6)
    for which in ("encoder", "student"):
        np.testing.assert_allclose(mine.encoder(which).embed(jets), theirs.encoder(which).embed(jets), atol=1e-8)


class Odd(rino.Method):
    """Dropout, a batch norm, tied weights, a frozen layer, numbers of torch's own generator."""

    name = "test-odd"

    def networks(self):
        width = self.recipe.encoder.width
        head = torch.nn.Sequential(
            torch.nn.Linear(width, width),
            torch.nn.BatchNorm1d(width),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(width, width),
        )
        head[3].weight = head[0].weight
        head.register_buffer("scratch", torch.zeros(2), persistent=False)
        frozen = torch.nn.Linear(width, 3).requires_grad_(False)
        self.teacher = rino.Teacher(head, momentum=0.8)
        return {"encoder": rino.JetEncoder(self.recipe), "head": head, "frozen": frozen}

    def views(self, jets, step):
        return [jets]

    def loss(self, batch, step):
        z = self.head(self.encoder(batch.tokens).jets)
        noise = torch.randn_like(z)
        return (self.frozen(z + 0.1 * noise) - 1).square().mean() + (z - self.teacher(z)).square().mean()


def test_a_run_that_was_stopped_goes_on_bit_by_bit(jets, tmp_path):
    recipe = short("test-odd", **{"encoder.dropout": 0.2})
    straight = rino.Trainer(recipe, jets)
    frozen = straight.method.frozen.weight.clone()
    losses = [straight.step()["loss"] for _ in range(9)]
    torch.manual_seed(99)  # whatever the generator was
    first = rino.Trainer(recipe, jets)
    assert [first.step()["loss"] for _ in range(4)] == losses[:4]
    first.save(tmp_path / "run.safetensors")
    state = safetensors.torch.load_file(tmp_path / "run.safetensors")
    assert {"trained.head.0.weight", "trained.head.1.running_mean", "teacher.0.weight"} <= set(state)
    assert "trained.head.3.weight" not in state and not any("frozen" in name or "scratch" in name for name in state)
    second = rino.Trainer(recipe, jets)
    second.restore(tmp_path / "run.safetensors")
    assert [second.step()["loss"] for _ in range(5)] == losses[4:]
    head = second.method.head
    assert head[3].weight is head[0].weight and int(head[1].num_batches_tracked) == 9
    assert torch.equal(second.method.frozen.weight, frozen)
    assert torch.equal(second.method.teacher.module[1].running_mean, head[1].running_mean)


def test_training_leaves_torchs_own_generator_alone(jets):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    trainer = rino.Trainer(short("test-odd"), jets)
    trainer.step()
    assert torch.equal(torch.rand(3), wanted)


def test_the_networks_are_ordinary_tensors_again_when_training_has_ended(jets):
    trainer = rino.Trainer(short(), jets)
    method, weight = trainer.method, trainer.method.head.weight
    before = weight.detach().clone()
    trainer.step()
    trainer.step()
    assert method.head.weight is weight and not torch.equal(weight, before)
    trainer._core.finish()
    assert weight.grad is None and weight.untyped_storage().nbytes() == weight.nbytes and weight.requires_grad


# --- recipes, files, the command line ---


def test_its_numbers_are_a_section_of_the_recipe(tmp_path):
    recipe = short(soft=0.25, words=["x"])
    assert recipe.method == "test-alignment" and recipe.test_alignment.soft == 0.25
    assert recipe.test_alignment.words == ["x"] and recipe.test_alignment.layers == 1
    recipe.save(tmp_path / "r.toml")
    text = (tmp_path / "r.toml").read_text()
    assert 'method = "test-alignment"' in text and "soft = 0.25  # of the smearing [GeV]" in text
    again = Recipe.load(tmp_path / "r.toml")
    assert again == recipe and again.to_dict() == recipe.to_dict()
    sources = {number.key: number.source for number in recipe.describe()}
    assert (
        sources["test_alignment.uniformity"] == "arXiv:2005.10242" and sources["test_alignment.layers"] == "own choice"
    )
    with pytest.raises(RinoError, match=r"test_alignment.layers has the wrong type: give a whole number"):
        recipe.update({"test_alignment.layers": 1.5})
    wide = Recipe.preset("test-wide")
    assert (wide.encoder.width, wide.test_alignment.soft) == (48, 0.3)
    assert ("test-wide", "test-alignment") in [(preset.name, preset.method) for preset in Recipe.catalogue()]


def test_what_a_class_says_of_a_run_is_told_shown_and_counted(jets, tmp_path, capfd):
    def warned(self, report):
        return [f"the encoder has width {self.recipe.encoder.width}"] if report["step"] == 2 else []

    broken(
        "test-says",
        warnings=warned,
        shown=lambda self, report: [f"step is {report['step']}"],
        operations=lambda self, jets, batch: 1e3 * len(jets) * (batch or self.recipe.training.batch_size),
    )
    with pytest.warns(rino.RinoWarning, match="the encoder has width 8") as caught:
        rino.pretrain(short("test-says"), jets, tmp_path / "run", tensorboard=False)
    assert len(caught) == 1
    assert "step is 11" in capfd.readouterr().err
    assert bench.step_flops(short("test-says"), jets).total == 24e3 * 8
    assert bench.step_flops(short("test-says"), jets, batch=5).total == 24e3 * 5
    with pytest.raises(RinoError, match="'test-alignment' does not say how many operations"):
        bench.step_flops(short(), jets)


def test_a_class_that_is_defined_again_replaces_the_first(jets):
    def define(value: float) -> None:
        class Again(rino.Method):
            name = "test-again"

            def networks(self):
                return {"encoder": rino.JetEncoder(self.recipe)}

            def views(self, jets, step):
                return [jets]

            def loss(self, batch, step):
                return self.encoder(batch.tokens).jets.sum() * 0 + value

    for value in (2.0, 3.0):
        define(value)
        assert rino.Trainer(short("test-again"), jets).step()["loss"] == value
    with pytest.raises(RinoError, match="method 'self-distillation' already"):

        class Taken(rino.Method):
            name = "self-distillation"


MODULE = '''
import torch
import pyrino as rino

class Mine(rino.Method):
    """Embeddings near the origin."""
    name = "of-a-file"
    def networks(self):
        return {"encoder": rino.JetEncoder(self.recipe)}
    def views(self, jets, step):
        return [jets]
    def loss(self, batch, step):
        return self.encoder(batch.tokens).jets.square().mean()
'''


def test_the_command_line_trains_it_and_its_encoder_loads_without_it(jets, tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    numbers = "\n".join(f"{key.split('.')[1]} = {value}" for key, value in SMALL.items())
    (tmp_path / "mine.toml").write_text(
        f'method = "of-a-file"\n[training]\nepochs = 2\nbatch_size = 8\n[encoder]\n{numbers}\n'
    )
    rino.training.watch.save_batch(jets, tmp_path / "jets.parquet")
    command = [sys.executable, "-m", "pyrino", "pretrain", "mine.toml", "--train", "jets.parquet", "--out", "run"]
    done = subprocess.run(
        [*command, "--method-module", "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    without = subprocess.run([*command[:-1], "other"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert without.returncode == 2 and "no method 'of-a-file'" in without.stderr and "--method-module" in without.stderr
    encoder = rino.JetEncoder.load(tmp_path / "run")
    assert encoder.recipe.method == "of-a-file" and encoder.embed(jets).shape == (24, 8)
    with pytest.raises(RinoError, match=r"'of-a-file' is written in Python and not known here"):
        rino.Trainer(encoder.recipe, jets)


@pytest.mark.parametrize(
    ("text", "match"),
    [(None, "no file"), ("x = 1\n", "defines no method"), ("import nothing_of_the_kind\n", "nothing_of")],
)
def test_files_without_a_method_are_refused(tmp_path, text, match):
    from pyrino.methods.method import import_file

    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises((RinoError, ImportError), match=match):
        import_file(file)


def test_a_run_shows_its_charts_and_is_read_from_a_stream(jets, tmp_path):
    for part in range(2):
        rino.training.watch.save_batch(small_jets(40, seed=part), tmp_path / f"{part}.parquet")
    with rino.open_dataset(tmp_path, window=40, labelled=False) as stream:
        run = rino.pretrain(short(), stream, tmp_path / "run", progress=False)
    titles = [axes.get_title() for axes in run.plot().axes]
    assert titles == ["loss", "spread", "learning rate", "gradient norm before clipping"]
    labels = [text.get_text() for text in run.plot().axes[0].get_legend().get_texts()]
    assert labels == ["loss", "alignment"]
    assert rino.JetEncoder.load(tmp_path / "run").recipe.method == "test-alignment"


def test_a_method_that_is_not_described_here_shows_the_charts_of_its_entry():
    _core.register_method("test-entry", "", {}, {}, [("part", "a part")], [("a chart", [("number", "a number")])])
    shown = about(Recipe("test-entry"))
    assert shown.parts == (("part", "a part"),)
    assert shown.charts == (Chart("a chart", (("number", "a number"),)),)


# --- what is wrong is told where it is ---


def broken(name: str, **parts: object) -> type[rino.Method]:
    functions = {
        "networks": lambda self: {"encoder": rino.JetEncoder(self.recipe)},
        "views": lambda self, jets, step: [jets],
        "loss": lambda self, batch, step: self.encoder(batch.tokens).jets.mean(),
    }
    return type("Broken", (rino.Method,), {"name": name, **functions, **parts})


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        (
            {"networks": lambda self: {"head": torch.nn.Linear(2, 2)}},
            r"Broken.networks has \['head'\]: one of them, 'enc",
        ),
        (
            {"networks": lambda self: {"encoder": rino.JetEncoder(self.recipe), "head": 3}},
            "'head' is of type int: give a torch.nn.Module",
        ),
        (
            {"networks": lambda self: {"encoder": rino.JetEncoder(self.recipe), "views": torch.nn.Linear(2, 2)}},
            "'views' is something else here",
        ),
        ({"networks": rino.Method.networks}, r"Broken has no networks: define networks\(self\)"),
        ({"views": rino.Method.views}, "Broken has no views: define views"),
        ({"loss": rino.Method.loss}, "Broken has no loss: define loss"),
        ({"views": lambda self, jets, step: []}, "Broken.views returned no view: give a list of Jets"),
        ({"views": lambda self, jets, step: [3]}, "returned a view of type int"),
        ({"views": lambda self, jets, step: [jets, jets[:2]]}, "views of 8 and of 2 jets"),
        ({"prepare": lambda self, jets, step: 3}, "Broken.prepare returned int: give a Batch"),
        ({"loss": lambda self, batch, step: 1.0}, "Broken.loss returned float: give a torch.Tensor"),
        ({"loss": lambda self, batch, step: self.encoder(batch.tokens).jets}, r"loss has shape \[8, 8\]: return one"),
        ({"loss": lambda self, batch, step: torch.ones(())}, "return one number with the gradient"),
        (
            {"loss": lambda self, batch, step: (self.encoder(batch.tokens).jets.mean(), {"x": torch.ones(2)})},
            "Broken.loss: 'x' is not one number",
        ),
        ({"loss": lambda self, batch, step: self.encoder(batch.of("subjets")).jets.mean()}, "no tokens 'subjets'"),
    ],
)
def test_what_is_no_method_is_told(jets, parts, match):
    broken("test-broken", **parts)
    with pytest.raises(RinoError, match=match):
        rino.Trainer(short("test-broken", loader_threads=0), jets).step()


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("where", ["views", "loss"])
def test_an_error_of_the_users_names_file_and_line(jets, where, threads):
    def faulty(self, *arguments):
        return {}["missing"]

    broken("test-faulty", **{where: faulty})
    trainer = rino.Trainer(short("test-faulty", loader_threads=threads), jets)
    with pytest.raises(KeyError, match="missing") as error:
        trainer.step()
    last = error.traceback[-1]
    assert Path(str(last.path)) == Path(__file__) and "missing" in str(last.statement)


def test_labels_come_where_they_are_wanted(jets):
    seen = []

    def loss(self, batch, step):
        seen.append(batch.labels)
        return self.encoder(batch.tokens).jets.mean()

    broken("test-labels", loss=loss, wants_labels=True)
    trainer = rino.Trainer(short("test-labels"), jets)
    trainer.step()
    np.testing.assert_array_equal(seen[-1], rino.Jets._wrap(trainer._core.batch()).labels)
    bare = rino.Jets.from_columns(jets.px, jets.py, jets.pz, jets.e, jets.offsets)
    with pytest.raises(RinoError, match="'test-labels' needs labels and the jets have none"):
        rino.Trainer(short("test-labels", loader_threads=0), bare).step()
    broken("test-labels", loss=loss)
    rino.Trainer(short("test-labels"), jets).step()
    assert seen[-1] is None


def test_weights_come_where_they_are_wanted_and_named(jets):
    seen = []

    def loss(self, batch, step):
        seen.append(batch.weights)
        rows = self.encoder(batch.tokens).jets.square().mean(1)
        if batch.weights is None:
            return rows.mean()
        return step.mean((batch.weights * rows).sum(), "weights")

    jets = jets.with_value("w", np.arange(24) / 3)
    broken("test-weights", loss=loss, wants_weights=True)
    numbers = {"batch_size": 12, "precision": "float64", "encoder.dropout": 0.0, "training.weight": "w"}
    losses = {}
    for parts in (1, 3):
        trainer = rino.Trainer(short("test-weights", accumulate=parts, **numbers), jets)
        method = trainer.method
        state = {name: value.clone() for name, value in method.encoder.state_dict().items()}
        losses[parts] = [trainer.step()["loss"] for _ in range(4)]
        first = rino.Jets._wrap(trainer._core.batch())
        np.testing.assert_array_equal(torch.cat(seen[-parts:]), first.values["w"])
    np.testing.assert_allclose(losses[3], losses[1], rtol=1e-10)
    fresh = rino.Trainer(short("test-weights", **numbers), jets)
    fresh.step()
    batch = rino.Jets._wrap(fresh._core.batch())
    encoder = rino.JetEncoder(fresh.recipe).double()
    encoder.load_state_dict(state)
    with torch.no_grad():
        rows = encoder(encoder.tokenize(batch)).jets.square().mean(1).numpy()
    assert losses[1][0] == pytest.approx(np.average(rows, weights=batch.values["w"]), rel=1e-10)
    rino.Trainer(short("test-weights", **numbers | {"training.weight": ""}), jets).step()
    assert seen[-1] is None
    broken("test-weights", loss=loss)
    with pytest.raises(RinoError, match=r"training.weight is 'w', but this method weighs no jets"):
        rino.Trainer(short("test-weights", **numbers), jets)
    assert rino.Batch(fresh.method.tokens(batch), weights=torch.ones(12)).weights.tolist() == [1.0] * 12


@pytest.mark.parametrize("momentum", [-0.1, 1.5, (0.5, 2.0), (0.5, 0.6, 0.7)])
def test_a_momentum_that_is_none_is_refused(momentum):
    with pytest.raises(RinoError, match="momentum is"):
        rino.Teacher(torch.nn.Linear(2, 2), momentum)


def test_options_that_no_recipe_can_hold_are_refused():
    @dataclass
    class Numbers:
        network: object = None

    with pytest.raises(RinoError, match=r"Unfit.Options.network has no default that a recipe can hold"):

        class Unfit(rino.Method):
            name = "test-unfit"
            Options = Numbers

    with pytest.raises(RinoError, match=r"Unfit\.Options is of type type: give a dataclass"):

        class Unfit(rino.Method):
            name = "test-unfit"
            Options = int


def test_draws_are_those_of_one_process_whatever_the_part(jets):
    first, second = (rino.Step(number=3, seed=7, first_jet=n).draws("a") for n in (0, 10))
    assert first["seed"] == second["seed"] and second["first_jet"] == 10
    whole = rino.smear(jets, **first)
    np.testing.assert_array_equal(rino.smear(jets[10:], **second).px, whole[10:].px)
    assert rino.Step(number=3, seed=7).draws("b")["seed"] != first["seed"]
    assert rino.Step(number=4, seed=7).draws("a")["seed"] != first["seed"]


def test_the_docstring_says_how(jets, tmp_path):
    text = re.findall(r"^ {4}(?:>>>|\.\.\.) ?(.*)$", rino.Method.__doc__, re.M)
    code = "\n".join(line for line in text if "pretrain" not in line)
    scope: dict[str, object] = {"rino": rino, "dataclass": dataclass}
    exec(code, scope)
    run = rino.pretrain(
        Recipe("alignment", epochs=1, batch_size=8, **SMALL), jets, tmp_path / "run", progress=False, tensorboard=False
    )
    assert np.isfinite(run.history["uniformity"]).all()
