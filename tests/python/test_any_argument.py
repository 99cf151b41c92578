"""No public function answers None, text, a list or a negative number in any argument with a library's exception."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small_jets, tiny

import pyrino as rino
from pyrino import Jets, Recipe, RinoError, bench, data, evaluate, views
from pyrino.evaluate import domains

WRONG: dict[str, Any] = {"None": None, "text": "a", "a list": ["a", [1]], "a negative number": -7}

JETS = small_jets(6)
RECIPE = tiny(finetune__epochs=1, finetune__probe_epochs=1, supervised__epochs=1, training__epochs=1)
ENCODER = rino.JetEncoder(RECIPE, seed=1)
TAGGER = rino.Tagger(ENCODER)
TOKENS = ENCODER.tokenize(JETS)
SCORES, LABELS = np.array([0.1, 0.9, 0.3, 0.7]), np.array([0, 1, 0, 1])
POINTS, CLASSES = np.random.default_rng(0).normal(size=(20, 3)), np.array([0, 1] * 10)
VARIABLES = {"pt": POINTS[:, 0], "eta": POINTS[:, 1]}
PADDED, MASK = JETS.to_numpy()
HISTORY = rino.History()
HISTORY.append({"step": 0.0, "loss": 1.0})
P4 = (JETS.px, JETS.py, JETS.pz, JETS.e)
QUIET = {"progress": False}
OF_CLASSES = {"probabilities": np.eye(3)[[0, 1, 2, 1]], "outputs": np.array([0, 1, 2, 2])}
TESTED = {"scores": SCORES, "labels": LABELS}
PROBED = {"embeddings": POINTS, "labels": CLASSES, "folds": 2}
SEEDED = {"jets": JETS, "seed": 1}


class OfTheTable(rino.Method):
    """A method that makes its networks."""

    def networks(self) -> dict[str, torch.nn.Module]:
        return {"encoder": rino.JetEncoder(self.recipe)}


Case = tuple[Callable[..., Any], dict[str, Any]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of everything that is read."""
    folder = tmp_path_factory.mktemp("files")
    RECIPE.save(folder / "recipe.toml")
    ENCODER.save(folder / "encoder.safetensors")
    TAGGER.save(folder / "tagger.safetensors")
    HISTORY.save(folder / "history.parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("part_px", "part_py", "part_pz", "part_energy")
    lists = {name: np.split(np.asarray(c), JETS.offsets[1:-1]) for name, c in zip(names, P4, strict=True)}
    pq.write_table(pa.table(lists | {"jet_label": JETS.labels}), folder / "jets.parquet")
    return folder


def cases(files: Path) -> dict[str, Case]:
    """Every public function and method with sound arguments; those of methods have an object of their own."""
    jets = str(files / "jets.parquet")
    generator = rino.ViewGenerator([1, 2])
    trainer = rino.Trainer(RECIPE, JETS)
    selection = {"columns": "jet_label", "pt": (0, 1e6), "eta": (-9, 9), "mass": (0, 1e6), "label": [0, 1]}
    selection |= {"constituent_pt": 0.0, "hardest": 9, "fraction": 1.0, "seed": 1, "drop_empty": False, "scale": 1.0}
    selection |= {"labelled": True}
    written = {"path": jets, "out": "z.parquet", "overwrite": True, **QUIET}
    return {
        "Augmentation": (rino.Augmentation, {"transforms": [rino.rotate]}),
        "Augmentation.__call__": (rino.Augmentation([rino.rotate]).__call__, SEEDED),
        "Embeddings": (rino.Embeddings, {"jets": torch.ones(2, 3), "constituents": None}),
        "History": (rino.History, {}),
        "History.append": (rino.History().append, {"row": {"loss": 1.0}}),
        "History.truncate": (rino.History().truncate, {"rows": 0}),
        "History.save": (HISTORY.save, {"path": "h.parquet"}),
        "History.load": (rino.History.load, {"path": files / "history.parquet"}),
        "DeepSetsEncoder": (
            rino.DeepSetsEncoder,
            {"recipe": RECIPE.replace(**{"encoder.kind": "deep-sets"}), "seed": 1},
        ),
        "Encoder": (rino.Encoder, {"recipe": RECIPE, "seed": 1}),
        "Encoder.load": (rino.Encoder.load, {"path": files}),
        "Encoder.inputs": (ENCODER.inputs, {"jets": JETS}),
        "Encoder.depth": (ENCODER.depth, {"tensor": "norm.weight"}),
        "JetEncoder": (rino.JetEncoder, {"recipe": RECIPE, "seed": 1}),
        "JetEncoder.preset": (rino.JetEncoder.preset, {"name": "nano", "seed": 1}),
        "JetEncoder.load": (rino.JetEncoder.load, {"path": files}),
        "JetEncoder.save": (ENCODER.save, {"path": "e.safetensors"}),
        "JetEncoder.forward": (ENCODER.forward, {"tokens": TOKENS}),
        "JetEncoder.embed": (ENCODER.embed, {"jets": JETS}),
        "JetEncoder.tokenize": (ENCODER.tokenize, {"jets": JETS}),
        "Jets": (Jets, {"p4": JETS.p4, "offsets": JETS.offsets}),
        "Jets.from_columns": (
            Jets.from_columns,
            dict(zip(("px", "py", "pz", "e"), P4, strict=True)) | {"offsets": JETS.offsets},
        ),
        "Jets.from_awkward": (Jets.from_awkward, {"array": JETS.to_awkward()}),
        "Jets.from_numpy": (Jets.from_numpy, {"padded": PADDED, "mask": MASK}),
        "Jets.from_pseudojets": (Jets.from_pseudojets, {"jets": []}),
        "Jets.concatenate": (Jets.concatenate, {"parts": [JETS, JETS]}),
        "Jets.with_labels": (JETS.with_labels, {"labels": JETS.labels}),
        "Jets.with_extra": (JETS.with_extra, {"name": "x", "values": JETS.px}),
        "Jets.with_value": (JETS.with_value, {"name": "x", "values": JETS.pt}),
        "Jets.with_origins": (JETS.with_origins, {"files": ["f"], "file": [0] * 6, "entry": range(6)}),
        "Jets.draw": (JETS[0].draw, {}),
        "ProjectionHead": (rino.ProjectionHead, {"recipe": RECIPE, "seed": 1}),
        "ProjectionHead.forward": (rino.ProjectionHead(RECIPE).forward, {"embeddings": torch.ones(2, 8)}),
        "Recipe.preset": (Recipe.preset, {"name": "nano"}),
        "Recipe.load": (Recipe.load, {"path": files / "recipe.toml"}),
        "Recipe.from_dict": (Recipe.from_dict, {"data": RECIPE.to_dict()}),
        "Recipe.from_json": (Recipe.from_json, {"text": RECIPE.to_json()}),
        "Recipe.update": (RECIPE.copy().update, {"values": {"epochs": 1}}),
        "Recipe.save": (RECIPE.save, {"path": "r.toml"}),
        "Recipe.replace": (lambda epochs: RECIPE.replace(epochs=epochs), {"epochs": 1}),
        "Tagger": (rino.Tagger, {"encoder": ENCODER}),
        "Tagger.forward": (TAGGER.forward, {"tokens": TOKENS}),
        "Tagger.predict": (TAGGER.predict, {"jets": JETS}),
        "Tagger.save": (TAGGER.save, {"path": "t.safetensors"}),
        "Tagger.load": (rino.Tagger.load, {"path": files}),
        "load": (rino.load, {"path": files}),
        "Trainer": (rino.Trainer, {"recipe": RECIPE, "jets": JETS}),
        "Trainer.learning_rate": (trainer.learning_rate, {"step": 0}),
        "Trainer.encoder": (trainer.encoder, {}),
        "Trainer.save": (trainer.save, {"path": "c.safetensors"}),
        "Trainer.restore": (trainer.restore, {"path": "c.safetensors"}),
        "ViewGenerator": (rino.ViewGenerator, {"resolutions": [1, 2]}),
        "ViewGenerator.__call__": (generator.__call__, {"jets": JETS}),
        "ViewGenerator.subjet_of_constituent": (generator.subjet_of_constituent, {"jets": JETS, "jet": 0, "point": 2}),
        "Batch": (rino.Batch, {"tokens": TOKENS, "labels": None, "tensors": {}, "counts": {}}),
        "Method": (OfTheTable, {"recipe": RECIPE}),
        "Step": (rino.Step, {"number": 1, "steps_per_epoch": 1, "epochs": 1, "seed": 1, "first_jet": 0}),
        "Teacher": (rino.Teacher, {"student": torch.nn.Linear(2, 2), "momentum": 0.5}),
        "alignment": (rino.alignment, {"a": torch.rand(4, 3), "b": torch.rand(4, 3)}),
        "boost_along_beam": (rino.boost_along_beam, SEEDED),
        "boost_jet": (rino.boost_jet, SEEDED),
        "boost_to_pt": (rino.boost_to_pt, {"jets": JETS, "reference_pt": 500}),
        "centered_assignment": (
            rino.centered_assignment,
            {"scores": torch.rand(4, 3), "center": torch.rand(3), "temperature": 0.1},
        ),
        "compare": (rino.compare, {"jets_a": JETS, "jets_b": JETS, "classifier": False}),
        "dino_loss": (
            rino.dino_loss,
            {"assignments": torch.rand(1, 4, 3), "scores": torch.rand(2, 4, 3), "temperature": 0.1},
        ),
        "draw_masks": (rino.draw_masks, {"tokens": TOKENS}),
        "drop_soft": (rino.drop_soft, SEEDED),
        "embed": (rino.embed, {"encoder": ENCODER, "jets": JETS}),
        "embed_files": (rino.embed_files, {"encoder": ENCODER, **written}),
        "finetune": (rino.finetune, {"encoder": ENCODER, "train": JETS, "overwrite": True, **QUIET}),
        "generate": (
            rino.generate,
            {"domain": "collisions", "process": "qcd", "jets": 1, "seed": 1, "out": "a", "workers": 1, **QUIET},
        ),
        "gram_loss": (rino.gram_loss, {"student": torch.rand(4, 3), "teacher": torch.rand(4, 3), "lengths": [2, 2]}),
        "hardest": (rino.hardest, {"jets": JETS, "n": 3}),
        "ibot_loss": (
            rino.ibot_loss,
            {
                "assignments": torch.rand(4, 3),
                "scores": torch.rand(4, 3),
                "counts": torch.tensor([4]),
                "temperature": 0.1,
            },
        ),
        "koleo_loss": (rino.koleo_loss, {"embeddings": torch.rand(4, 3)}),
        "mask_constituents": (rino.mask_constituents, SEEDED | {"fraction": 0.5}),
        "nt_xent_loss": (rino.nt_xent_loss, {"a": torch.rand(4, 3), "b": torch.rand(4, 3), "temperature": 0.1}),
        "supcon_loss": (
            rino.supcon_loss,
            {"z": torch.rand(4, 3), "labels": torch.tensor([0, 0, 1, 1]), "temperature": 0.1},
        ),
        "uniformity": (rino.uniformity, {"x": torch.rand(4, 3)}),
        "open_dataset": (rino.open_dataset, {"path": jets, **selection}),
        "pack": (rino.pack, {"paths": jets, "out": "p.arrow", "overwrite": True, **QUIET}),
        "predict": (rino.predict, {"tagger": TAGGER, "jets": JETS}),
        "predict_files": (
            rino.predict_files,
            {"tagger": TAGGER, **{k: v for k, v in written.items() if k != "encoder"}},
        ),
        "pretrain": (
            rino.pretrain,
            {"recipe": RECIPE, "train": JETS, "out": "run", "overwrite": True, "tensorboard": False, **QUIET},
        ),
        "read_jets": (rino.read_jets, {"path": jets, **selection}),
        "rotate": (rino.rotate, SEEDED),
        "sinkhorn": (rino.sinkhorn, {"scores": torch.rand(4, 3), "temperature": 0.1}),
        "smear": (rino.smear, SEEDED),
        "split_collinear": (rino.split_collinear, SEEDED),
        "splitting_scales": (rino.splitting_scales, {"jets": JETS, "n_max": 2}),
        "tokenize": (rino.tokenize, {"jets": JETS}),
        "torch_dataset": (rino.torch_dataset, {"jets": JETS}),
        "toy_jets": (rino.toy_jets, {"n": 2, "seed": 1}),
        "train_supervised": (rino.train_supervised, {"recipe": RECIPE, "train": JETS, "overwrite": True, **QUIET}),
        "translate": (rino.translate, SEEDED),
        "Tokens.rows": (TOKENS.rows, {"view": 0}),
        "Tokens.to": (TOKENS.to, {"device": torch.device("cpu"), "dtype": "float32"}),
        "Tokens.hide": (TOKENS.hide, {"masked": torch.zeros(JETS.n_constituents, dtype=torch.bool)}),
        "Tokens.from_padded": (
            rino.Tokens.from_padded,
            {
                "features": torch.rand(2, 3, 3),
                "mask": torch.ones(2, 3, dtype=torch.bool),
                "jet_features": torch.rand(2, 4),
            },
        ),
        "data.Source": (data.Source, {"url": jets}),
        "data.layout_of": (data.layout_of, {"source": data.Source(jets)}),
        "data.register": (data.register, {"layout": "a"}),
        "views.resolution": (views.resolution, {"point": 2}),
        "views.Resolution.subjets": (views.Resolution.subjets, {"n": 2}),
        "views.Resolution.kt": (views.Resolution.kt, {"q": 2.0}),
        "views.Resolution.fraction": (views.Resolution.fraction, {"y": 0.1}),
        "views.Resolution.parse": (views.Resolution.parse, {"name": "all"}),
        "domains.jet_variables": (domains.jet_variables, {"jets": JETS}),
        "domains.compare_variables": (
            domains.compare_variables,
            {"first": VARIABLES, "second": VARIABLES, "classifier": False},
        ),
        "pair_features": (rino.pair_features, {"jets": JETS}),
        "evaluate.accuracy": (evaluate.accuracy, TESTED),
        "evaluate.accuracy_at_median": (evaluate.accuracy_at_median, TESTED),
        "evaluate.background_efficiency": (evaluate.background_efficiency, TESTED),
        "evaluate.boosted_trees": (evaluate.boosted_trees, PROBED),
        "evaluate.bootstrap": (evaluate.bootstrap, TESTED | {"metric": evaluate.roc_auc, "n": 3}),
        "evaluate.combine_seeds": (evaluate.combine_seeds, {"per_seed": [{}]}),
        "evaluate.effective_rank": (evaluate.effective_rank, {"embeddings": POINTS}),
        "evaluate.kinematics_explained": (
            evaluate.kinematics_explained,
            {"embeddings": POINTS, "jet_kinematics": {k: np.arange(1.0, 21.0) for k in ("pt", "eta", "mass")}},
        ),
        "evaluate.knn": (evaluate.knn, PROBED | {"k": 2}),
        "evaluate.linear_probe": (evaluate.linear_probe, PROBED),
        "evaluate.principal_components": (evaluate.principal_components, {"samples": [POINTS]}),
        "evaluate.rejection": (evaluate.rejection, TESTED),
        "evaluate.class_metrics": (evaluate.class_metrics, OF_CLASSES | {"n": 3}),
        "evaluate.confusion_matrix": (evaluate.confusion_matrix, OF_CLASSES),
        "evaluate.regression_metrics": (
            evaluate.regression_metrics,
            {"predicted": [1.0, 2.0], "truth": [1.5, 2.0], "n": 3},
        ),
        "evaluate.roc_auc": (evaluate.roc_auc, TESTED),
        "evaluate.roc_curve": (evaluate.roc_curve, TESTED),
        "evaluate.score_histogram": (evaluate.score_histogram, TESTED),
        "evaluate.similarity_along_flow": (evaluate.similarity_along_flow, {"embeddings": [POINTS, POINTS]}),
        "evaluate.tagger_metrics": (evaluate.tagger_metrics, TESTED | {"n": 3}),
        "evaluate.thin_roc": (evaluate.thin_roc, TESTED),
        "bench.bench": (bench.bench, {"preset": RECIPE, "threads": [1], "jets": 8, "repetitions": 1}),
    }


def parameters(call: Callable[..., Any], sound: dict[str, Any]) -> list[str]:
    """Arguments that may be of many types: not switches, nor those for pyrino's own use."""
    try:
        known = inspect.signature(call).parameters
    except ValueError:  # of C++
        return list(sound)
    named = [
        n for n, p in known.items() if p.annotation != "bool" and not n.startswith("_") and p.kind != p.VAR_KEYWORD
    ]
    return list(dict.fromkeys([*named, *sound]))


NAMES = list(cases(Path()))


@pytest.mark.parametrize("name", NAMES)
def test_no_argument_of_a_public_function_raises_a_foreign_exception(name, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a").touch()  # no folder, so that what takes time ends early
    call, sound = cases(files)[name]
    if name == "Trainer.restore":
        rino.Trainer(RECIPE, JETS).save("c.safetensors")
    foreign = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name not in ("data.register", "generate"):
            call(**sound)
        for argument in parameters(call, sound):
            for what, wrong in WRONG.items():
                try:
                    call(**sound | {argument: wrong})
                except RinoError:
                    pass
                except Exception as error:
                    foreign.append(f"{argument} = {what}: {type(error).__name__}: {str(error)[:80]!r}")
    assert not foreign, "\n".join(foreign)


def test_the_table_has_every_public_function():
    public = {name for name in rino.__all__ if callable(getattr(rino, name))}
    public -= {
        "RinoError",
        "RinoWarning",
        "Recipe",
        "Tokens",
        "DomainComparison",
        "Evaluation",
        "PretrainingRun",
        "WorkingPoint",
    }
    public |= {f"evaluate.{n}" for n in evaluate.__all__ if inspect.isfunction(getattr(evaluate, n))}
    assert public <= set(NAMES)
