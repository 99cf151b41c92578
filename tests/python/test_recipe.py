"""Recipes: the numbers of the presets, ways to set them, files."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle

import numpy as np
import pytest

import pyrino as rino
from pyrino import Recipe, RinoError

# ../shared/recipes.md section 1, arXiv:2509.07486
WORKSHOP = {
    "jets": {
        "algorithm": "kt",
        "radius": 0.8,
        "max_constituents": 0,
        "relative_to": "jet",
        "boost_to_pt": 0.0,
        "features": "full",
        "normalization": "workshop",
    },
    "views": {"teacher": [1, 2, 3, 4], "student": [8, 16, 32, 64, "all"], "student_drawn": 0},
    "encoder": {"dropout": 0.1, "class_token": "jet"},
    "head": {"hidden_layers": 1, "hidden_width": 0, "bottleneck": 0},
    "loss": {
        "student_temperature": 0.10,
        "teacher_temperature_start": 0.04,
        "teacher_temperature_end": 0.07,
        "teacher_temperature_rise": 20 / 100,
        "assignment": "sinkhorn",
        "sinkhorn_iterations": 3,
        "koleo": 1.0,
        "momentum_start": 0.992,
        "momentum_end": 1.0,
    },
    "optimizer": {"lr": 1e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.01, "clip": 3.0},
    "training": {"epochs": 100, "batch_size": 1000, "warmup": 10 / 100, "warmup_start": 0.0, "final_lr": 1e-2},
    "finetune": {
        "head": "linear",
        "head_dropout": 0.1,
        "normalized_head": False,
        "probe_epochs": 40,
        "epochs": 10 + 90,
        "head_lr": 1e-3,
        "eps": 1e-6,
        "weight_decay": 0.01,
        "clip": 1.0,
        "warmup": 10 / 100,
        "warmup_shape": "cosine",
        "warmup_start": 1e-4,
        "final_lr": 1e-3,
        "positive_weight": 2.0,
        "batch_size": 1000,
    },
    "supervised": {"lr": 1e-4},
}
SIZES = {
    # width, heads, layers, feedforward; prototypes; hidden widths of the MLP head; learning rate of the encoder
    "nano": ((32, 4, 4, 128), 16, (8, 4), 1e-5),
    "lite": ((64, 4, 4, 256), 32, (16, 8), 1e-5),
    "mini": ((128, 8, 6, 512), 64, (32, 16), 1e-6),
    "base": ((256, 8, 6, 1024), 128, (64, 32), 1e-6),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_papers_presets_have_the_papers_numbers(name):
    recipe = Recipe.preset(name)
    for section, numbers in WORKSHOP.items():
        for key, value in numbers.items():
            assert getattr(getattr(recipe, section), key) == value, f"{section}.{key}"
    encoder, prototypes, hidden, lr = SIZES[name]
    mine = recipe.encoder
    assert (mine.width, mine.heads, mine.layers, mine.feedforward) == encoder
    assert recipe.head.prototypes == prototypes
    assert (recipe.finetune.hidden1, recipe.finetune.hidden2) == hidden
    assert recipe.finetune.encoder_lr == lr


def test_the_presets_of_the_demonstration_use_what_carries_over():
    for name in ("demo", "study"):
        recipe = Recipe.preset(name)
        assert recipe.jets.boost_to_pt == 750
        assert recipe.encoder.class_token == "learned"
        assert recipe.views.teacher == [4, 8, 16] and recipe.views.student == [2, 3, "all"]
        assert recipe.views.student_drawn == 2
    assert Recipe.preset("study").training.epochs > Recipe.preset("demo").training.epochs


# ../shared/recipes.md section 2
PRODUCTION = {
    "jets": {
        "algorithm": "kt",
        "radius": 0.8,
        "max_constituents": 90,
        "relative_to": "jet",
        "boost_to_pt": 0.0,
        "features": "logarithmic",
        "normalization": "production",
    },
    "views": {"teacher": [6, 8, 16], "student": [2, 3, 4, "all"], "student_drawn": 3},
    "encoder": {
        "width": 256,
        "heads": 16,
        "layers": 8,
        "feedforward": 1024,
        "dropout": 0.0,
        "class_token": "learned",
        "registers": 4,
        "norm": "rms",
        "norm_eps": 1e-5,
        "embedding_norm": True,
        "feedforward_kind": "swiglu",
        "layer_scale": 0.01,
        "positions": "polar",
        "radial_bins": 100,
        "angular_bins": 100,
        "radial_knee": 0.96,
        "radial_range": 5.60,
        "bins": "round",
        "pooling": "token",
    },
    "head": {"prototypes": 2048, "hidden_layers": 2, "hidden_width": 1024, "bottleneck": 256},
    "loss": {
        "dino": 1.0,
        "ibot": 1.0,
        "mask_fraction": 0.25,
        "gram": 0.0,
        "koleo": 0.1,
        "student_temperature": 0.10,
        "teacher_temperature_start": 0.04,
        "teacher_temperature_end": 0.04,
        "assignment": "sinkhorn",
        "sinkhorn_iterations": 3,
        "momentum_start": 0.995,
        "momentum_end": 0.997,
    },
    "optimizer": {
        "lr": 3e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-6,
        "weight_decay": 0.05,
        "layer_decay": 0.9,
        "clip": 3.0,
    },
    "training": {
        "epochs": 100,
        "batch_size": 3000,
        "warmup": 20 / 100,
        "warmup_start": 1e-6,
        "warmup_shape": "cosine",
        "final_lr": 0.05,
        "precision": "bf16",
    },
}
VARIANTS = {
    "rino-mixed": {"views.teacher": [2, 4, 8, 16], "views.student": [3, 6, "all"]},
    "rino-swapped": {"views.teacher": [2, 3, 4], "views.student": [6, 8, 16, "all"]},
    "rino-no-positions": {"encoder.positions": "none"},
    "rino-dino": {"loss.ibot": 0.0},
    "rino-ibot": {
        "loss.dino": 0.0,
        "loss.koleo": 0.0,
        "encoder.class_token": "none",
        "encoder.pooling": "all",
    },
    "rino-cambridge": {"jets.algorithm": "cambridge"},
    "rino-antikt": {"jets.algorithm": "antikt"},
    "rino-slow-teacher": {"loss.teacher_temperature_end": 0.07, "loss.momentum_end": 0.999},
}


def test_the_production_preset_has_its_numbers():
    recipe = Recipe.preset("rino")
    for section, numbers in PRODUCTION.items():
        for key, value in numbers.items():
            assert getattr(getattr(recipe, section), key) == value, f"{section}.{key}"
    assert recipe.encoder_parameters == 8_427_264 + 2_560_000
    assert recipe.head_parameters == 2_099_456


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_one_setting_away_and_differs_in_what_it_says_alone(tmp_path, name):
    (tmp_path / "r.toml").write_text(f'preset = "{name}"\n')
    mine = Recipe.load(tmp_path / "r.toml")
    assert mine.name == name
    variant, original = mine.sections(), Recipe.preset("rino").sections()
    found = {
        f"{section}.{key}": value
        for section, numbers in variant.items()
        for key, value in numbers.items()
        if original[section][key] != value
    }
    assert found == VARIANTS[name]


def test_every_preset_makes_its_networks():
    mine = [preset.name for preset in Recipe.catalogue() if preset.method == "self-distillation"]
    assert mine == [*SIZES, "part", "part-nano", "rino", *VARIANTS, "demo", "study"]
    for name in mine:
        recipe = Recipe.preset(name)
        assert recipe.name == name
        if not name.startswith("rino-"):
            rino.JetEncoder(recipe, seed=0)
            rino.ProjectionHead(recipe, seed=0)


def test_parameters_are_counted_without_initial_values():
    for name in ("nano", "base", "rino-ibot"):
        recipe = Recipe.preset(name)
        assert recipe.encoder_parameters == sum(p.numel() for p in rino.JetEncoder(recipe, seed=0).parameters())
        assert recipe.head_parameters == sum(p.numel() for p in rino.ProjectionHead(recipe, seed=0).parameters())
    assert Recipe.preset("rino-ibot").encoder_parameters == 8_427_264 + 2_560_000 - 256  # no class token
    assert Recipe.preset("nano").encoder_parameters == 51_424
    assert Recipe.preset("nano").head_parameters == 6_272


# --- where numbers come from ---

WORKSHOP_PAPER, SUCCESSOR = "arXiv:2509.07486", "public configuration of RINO's successor"


def sources(recipe: Recipe) -> dict[str, str]:
    return {number.key: number.source for number in recipe.describe()}


def test_the_catalogue_says_what_each_preset_is_and_where_it_is_from():
    known = {preset.name: preset for preset in Recipe.catalogue()}
    assert list(known) == Recipe.presets()
    assert all(preset.summary for preset in known.values())
    assert {known[name].source for name in SIZES} == {WORKSHOP_PAPER}
    assert {known[name].source for name in ("rino", *VARIANTS)} == {SUCCESSOR}
    assert {known[name].source for name in ("demo", "study")} == {"own choice"}


def test_a_number_comes_from_the_publication_of_its_preset():
    nano = sources(Recipe.preset("nano"))
    assert nano["views.teacher"] == nano["optimizer.lr"] == nano["finetune.epochs"] == WORKSHOP_PAPER
    rino = sources(Recipe.preset("rino"))
    assert rino["views.teacher"] == rino["optimizer.lr"] == rino["jets.radius"] == SUCCESSOR
    assert rino["finetune.epochs"] == rino["supervised.lr"] == WORKSHOP_PAPER
    assert nano["training.seed"] == rino["training.seed"] == "own choice"
    assert sources(Recipe.preset("rino-swapped")) == rino


def test_a_number_of_the_demonstration_is_the_papers_unless_it_differs():
    demo, nano = Recipe.preset("demo").to_dict(), Recipe.preset("nano").to_dict()
    from_nano = sources(Recipe.preset("nano"))
    for key, source in sources(Recipe.preset("demo")).items():
        section, name = key.split(".")
        assert source == (from_nano[key] if demo[section][name] == nano[section][name] else "own choice")


def test_a_method_has_sections_of_its_own_and_defaults_of_its_publication():
    recipe = Recipe("contrastive", temperature=0.2)
    assert list(recipe.sections()) == [
        "jets",
        "encoder",
        "views",
        "head",
        "loss",
        "optimizer",
        "training",
        "finetune",
        "supervised",
    ]
    assert recipe.method == "contrastive" and recipe.name == "" and "preset" not in recipe.to_dict()
    found = {number.key: number for number in recipe.describe()}
    assert found["loss.temperature"].changed and found["loss.temperature"].published == 0.1
    assert found["head.layers"].source == "arXiv:2108.04253" and found["views.first"].source == "own choice"
    assert found["finetune.epochs"].source == WORKSHOP_PAPER
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert {method.name for method in Recipe.methods()} >= {"self-distillation", "contrastive"}
    assert Recipe.preset("supcon").loss.labels and Recipe.preset("supcon").method == "contrastive"


def test_a_changed_number_says_so_with_what_was_published(tmp_path):
    file = tmp_path / "r.toml"
    file.write_text('preset = "rino"\n[training]\nepochs = 7\nseed = 3\n[views]\nteacher = [6, 8, 16]\n')
    changed = [number for number in Recipe.load(file).describe() if number.changed]
    assert [(n.key, n.published, n.value, n.source) for n in changed] == [
        ("training.epochs", 100, 7, "changed"),
        ("training.seed", 1, 3, "changed"),
    ]
    assert changed[0].meaning == "passes through the jets"
    assert not [number for name in Recipe.presets() for number in Recipe.preset(name).describe() if number.changed]


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(RinoError, match=r"no preset 'nan0' \(did you mean 'nano'\?\): choose one of nano, lite"):
        Recipe.preset("nan0")
    with pytest.raises(RinoError, match="no preset 'xyz': choose"):
        Recipe.preset("xyz")


# --- setting numbers ---


def test_bare_names_mean_the_first_section_that_has_them():
    recipe = Recipe.preset("nano", epochs=5, lr=2e-3, dropout=0.0, teacher=[2, "kt:5"])
    assert recipe.training.epochs == 5 and recipe.finetune.epochs == 100
    assert recipe.optimizer.lr == 2e-3 and recipe.supervised.lr == 1e-4
    assert recipe.encoder.dropout == 0 and recipe.views.teacher == [2, "kt:5"]


def test_dotted_names_sections_and_attributes_set_numbers():
    recipe = Recipe(**{"finetune.epochs": 3}, supervised={"lr": 0.5, "patience": 2})
    recipe.training.batch_size = 7
    recipe.update({"head.prototypes": 9, "jets": {"radius": 1.0}})
    assert (recipe.finetune.epochs, recipe.training.epochs) == (3, 100)
    assert (recipe.supervised.lr, recipe.supervised.patience, recipe.training.batch_size) == (0.5, 2, 7)
    assert (recipe.head.prototypes, recipe.jets.radius) == (9, 1.0)


def test_numpy_and_whole_numbers_are_numbers():
    recipe = Recipe(
        epochs=np.int64(4), lr=np.float32(0.5), koleo=2, normalized_head=np.bool_(True), teacher=np.array([2, 4])
    )
    assert type(recipe.training.epochs) is int and recipe.training.epochs == 4
    assert type(recipe.loss.koleo) is float and recipe.loss.koleo == 2.0
    assert recipe.optimizer.lr == 0.5 and recipe.finetune.normalized_head is True and recipe.views.teacher == [2, 4]


def test_weights_are_read_with_numbers_that_their_method_has_no_more():
    data = rino.Recipe("contrastive", width=48).to_dict()
    data["views"] = {"rotate": True, "translate_phi": 1.0}
    assert rino.Recipe.from_dict(data, weights=True) == rino.Recipe("contrastive", width=48)
    with pytest.raises(rino.RinoError, match=r"no 'views\.rotate'"):
        rino.Recipe.from_dict(data)
    with pytest.raises(rino.RinoError, match=r"no 'encoder\.nonsense'"):
        rino.Recipe.from_dict({"method": "contrastive", "encoder": {"nonsense": 1}}, weights=True)


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"epoch": 5}, r"no 'epoch' \(did you mean 'epochs'\?\)"),
        ({"training.batchsize": 5}, r"no 'training\.batchsize' \(did you mean 'batch_size'\?\)"),
        ({"trainig.epochs": 5}, r"no section 'trainig' \(did you mean 'training'\?\)"),
        ({"training": {"lr": 5}}, r"no 'training\.lr'"),
        ({"qqqq": 1}, "no 'qqqq': print"),
        ({"epochs": 2.5}, r"training\.epochs has the wrong type: give a whole number"),
        ({"epochs": "many"}, "give a whole number"),
        ({"epochs": True}, "give a whole number"),
        ({"epochs": None}, r"'training\.epochs' is None: give a number"),
        ({"normalized_head": None}, r"'finetune\.normalized_head' is None"),
        ({"normalized_head": {"a": 1}}, r"'finetune\.normalized_head' is \{'a': 1\}"),
        ({"lr": np.ones(2)}, "give a number"),
        ({"epochs": {"a": 1}}, r"'training\.epochs' is \{'a': 1\}"),
        ({"epochs": [3]}, "give a whole number"),
        ({"lr": "fast"}, r"optimizer\.lr has the wrong type: give a number"),
        ({"normalized_head": 1}, "give true or false"),
        ({"teacher": 4}, r"views\.teacher is not a list"),
        ({"teacher": "all"}, r"views\.teacher is not a list"),
        ({"teacher": [0]}, "0"),
        ({"teacher": ["kt:-3"]}, "kt:-3|-3"),
        ({"teacher": ["few"]}, "few"),
        ({"class_token": "cls"}, r"encoder\.class_token is 'cls': choose one of 'jet', 'learned'"),
        ({"features": 11}, r"jets\.features is no list of features"),
        ({"assignment": "sinkhorm"}, "choose one of 'sinkhorn', 'centering'"),
    ],
)
def test_wrong_names_and_values_are_named(numbers, match):
    recipe = Recipe()
    with pytest.raises(RinoError, match=match):
        recipe.update(numbers)
    assert recipe == Recipe()


def test_unknown_attributes_are_attribute_errors_with_the_nearest():
    recipe = Recipe()
    with pytest.raises(AttributeError, match=r"no section 'trainin' \(did you mean 'training'\?\)"):
        recipe.trainin  # noqa: B018
    with pytest.raises(AttributeError, match=r"no 'training\.epoch' \(did you mean 'epochs'\?\)"):
        recipe.training.epoch  # noqa: B018
    with pytest.raises(RinoError, match=r"no 'training\.epoch'"):
        recipe.training.epoch = 3
    with pytest.raises(AttributeError):
        recipe.epochs = 3
    assert not hasattr(recipe, "nothing")
    assert "training" in dir(recipe) and "epochs" in dir(recipe.training)


# --- equality and copies ---


def test_equality_is_of_all_numbers():
    assert Recipe() == Recipe.preset("nano")
    assert Recipe(epochs=5) != Recipe()
    assert Recipe(**{"supervised.lr": 1.0}) != Recipe()
    assert Recipe(teacher=[1, 2]) != Recipe(teacher=[2, 1])
    assert Recipe() != "nano"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Recipe())


@pytest.mark.parametrize(
    "duplicate",
    [
        Recipe.copy,
        copy.copy,
        copy.deepcopy,
        lambda r: pickle.loads(pickle.dumps(r)),
        Recipe.replace,
        lambda r: Recipe.from_dict(r.to_dict()),
        lambda r: Recipe.from_json(r.to_json()),
    ],
)
def test_copies_are_equal_and_share_nothing(duplicate):
    recipe = Recipe.preset("mini", epochs=3, teacher=["kt:2.5", 4], student_temperature=1 / 3)
    other = duplicate(recipe)
    assert other == recipe and other.name == "mini"
    other.training.epochs = 4
    other.views.teacher = [1]
    assert recipe.training.epochs == 3 and recipe.views.teacher == ["kt:2.5", 4]


def test_replace_leaves_the_original_alone():
    recipe = Recipe()
    assert recipe.replace(epochs=2).training.epochs == 2
    assert recipe.training.epochs == 100


def test_changing_a_list_in_place_changes_nothing():
    recipe = Recipe()
    recipe.views.teacher.append(5)
    assert recipe.views.teacher == [1, 2, 3, 4]


# --- files ---

AWKWARD = {
    "lr": 0.1 + 0.2,
    "eps": 5e-324,
    "clip": 1.7976931348623157e308,
    "weight_decay": 1e-05,
    "koleo": 1 / 3,
    "boost_to_pt": 12345678901234567.0,
    "teacher": ["kt:0.1", "fraction:0.05", 3],
    "seed": 2**63 - 1,
    "normalized_head": True,
    "class_token": "learned",
}


@pytest.mark.parametrize("name", ["nano", "base", "study"])
def test_toml_holds_every_number_exactly(tmp_path, name):
    recipe = Recipe.preset(name, **AWKWARD)
    recipe.save(tmp_path / "recipe.toml")
    again = Recipe.load(tmp_path / "recipe.toml")
    assert again == recipe and again.name == name
    assert again.to_dict() == recipe.to_dict()
    assert again.to_toml() == recipe.to_toml()
    assert os.listdir(tmp_path) == ["recipe.toml"]


def test_toml_says_what_each_number_means():
    text = Recipe().to_toml()
    assert text.startswith('format = 2\nmethod = "self-distillation"\npreset = "nano"\n\n[jets]\n')
    assert "batch_size = 1000  # jets of a step [jets]" in text
    assert 'student = [8, 16, 32, 64, "all"]  # ' in text


def test_a_file_names_only_what_differs(tmp_path):
    file = tmp_path / "r.toml"
    file.write_text('preset = "lite"\n[training]\nepochs = 7\n[finetune]\nencoder_lr = 1\n')
    recipe = Recipe.load(str(file))
    assert recipe == Recipe.preset("lite", epochs=7, encoder_lr=1.0)
    file.write_text("")
    assert Recipe.load(file) == Recipe()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[training]\nepochs = x", "is no TOML: .*line 2"),
        (b"\xff", "is no TOML"),
        (
            '[training]\nepochs = 5\npreset = "lite"',
            r"'preset' stands in \[training\]: write it above the first section",
        ),
        ("epochs = 5", r"'epochs' stands above all sections: write it below \[training\]"),
        ("training = 5", r"'training' is 5: it is a section, write \[training\]"),
        ("[training]\nepochz = 5", "no 'training.epochz' .did you mean 'epochs'"),
        ("[training]\nepochs = 5.5", "give a whole number"),
        ("[training]\nepochs = 1979-05-27", "datetime.date"),
        ("[views]\nteacher = [[1]]", "1"),
        ('preset = "huge"', "no preset 'huge'"),
        ("preset = 3", "no preset '3'"),
        ('method = "distillation"', r"no method 'distillation' \(did you mean 'self-distillation'\?\): choose one of"),
        ('method = "contrastive"\npreset = "nano"', "method is 'contrastive' but its preset 'nano' is one of 'self-di"),
        ("format = 3", "format is 3: this version of pyrino knows up to 2; update it"),
        ('[training]\nmethod = "contrastive"', r"'method' stands in \[training\]: write it above"),
    ],
)
def test_faulty_files_are_named(tmp_path, text, match):
    file = tmp_path / "faulty.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RinoError, match=rf"faulty\.toml[\s\S]*{match}"):
        Recipe.load(file)


def test_files_that_cannot_be_read_or_written_are_named(tmp_path):
    with pytest.raises(RinoError, match=r"none\.toml cannot be read \(No such file"):
        Recipe.load(tmp_path / "none.toml")
    with pytest.raises(RinoError, match="Is a directory"):
        Recipe.load(tmp_path)
    Recipe().save(tmp_path / "new" / "r.toml")
    assert Recipe.load(tmp_path / "new" / "r.toml") == Recipe()
    (tmp_path / "file").touch()
    with pytest.raises(RinoError, match=r"file/r\.toml cannot be written: .*another place"):
        Recipe().save(tmp_path / "file" / "r.toml")


def test_a_full_disk_leaves_the_earlier_recipe_whole(tmp_path, monkeypatch):
    file = tmp_path / "r.toml"
    Recipe().save(file)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(RinoError, match="No space left"):
        patch.setattr(os, "replace", full)
        Recipe(epochs=3).save(file)
    assert Recipe.load(file) == Recipe() and os.listdir(tmp_path) == ["r.toml"]


def test_json_is_a_dictionary_of_sections():
    data = json.loads(Recipe(epochs=3).to_json())
    assert data["preset"] == "nano" and data["training"]["epochs"] == 3
    assert data == Recipe(epochs=3).to_dict()
    assert data["method"] == "self-distillation" and data["format"] == 2
    for text in ("{", "[1]", "3", '{"training": 3}'):
        with pytest.raises(RinoError):
            Recipe.from_json(text)


def test_a_recipe_shows_all_its_numbers():
    recipe = Recipe.preset("lite")
    for text in (repr(recipe), recipe._repr_html_()):
        for section, values in recipe.sections().items():
            assert section in text and all(name in text for name in values)
    assert "boost_to_pt               0.0 GeV" in repr(recipe)
    assert "epochs = 100" in repr(recipe.training)


def test_a_bare_name_says_once_what_it_does_not_change(caplog, monkeypatch):
    monkeypatch.setattr("pyrino.recipe._SAID", set())
    every = {"finetune.epochs": 3, "supervised.epochs": 4}
    recipe = Recipe.preset("nano", epochs=3, width=8, **every)
    assert caplog.messages == [] and (recipe.finetune.epochs, recipe.supervised.epochs) == (3, 4)
    for _ in range(2):
        recipe = Recipe.preset("nano", epochs=3)
        assert (recipe.training.epochs, recipe.finetune.epochs, recipe.supervised.epochs) == (3, 100, 100)
    (said,) = caplog.messages
    assert said.startswith("epochs is training.epochs; as before: finetune.epochs = 100, supervised.epochs = 100")
    Recipe.preset("demo", batch_size=3, **{"training.epochs": 2})
    assert caplog.messages[1:] == [
        "batch_size is training.batch_size; as before: finetune.batch_size = 256 (set them by these names)"
    ]
