"""Files of earlier versions load, and mean what they meant when they were written.

tests/data/format-1 was written by the version whose checkpoints call the trained networks "student": a checkpoint
after 4 of 9 steps on `jets()` and the losses of the other 5, the teacher's encoder at the end and its embedding of two
jets, a tagger and its scores, the recipe.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

import pyrino as rino

OLD = ROOT / "tests" / "data" / "format-1"


@pytest.fixture(scope="module")
def jets() -> rino.Jets:
    return rino.toy_jets(24, seed=1, top_fraction=0.5)


def numbers(name: str) -> dict[str, Any]:
    return json.loads((OLD / name).read_text())


def test_a_checkpoint_goes_on_as_it_would_have(jets, tmp_path):
    assert any(name.startswith("student.") for name in load_file(OLD / "checkpoint.safetensors"))
    trainer = rino.Trainer(rino.Recipe.load(OLD / "recipe.toml"), jets, dtype="float64")
    trainer.restore(OLD / "checkpoint.safetensors")
    assert trainer.step_number == 4
    losses = [step["loss"] for step in trainer]
    assert losses == pytest.approx(numbers("losses.json")["losses"], rel=1e-9)
    trainer.save(tmp_path / "new.safetensors")
    assert not any(name.startswith("student.") for name in load_file(tmp_path / "new.safetensors"))


def test_an_encoder_embeds_as_it_did(jets):
    encoder = rino.JetEncoder.load(OLD / "encoder.safetensors")
    assert encoder.dtype == torch.float64
    np.testing.assert_allclose(encoder.embed(jets[:2]), numbers("scores.json")["embedding"], rtol=0, atol=1e-10)


def test_a_tagger_scores_as_it_did(jets):
    tagger = rino.Tagger.load(OLD / "tagger.safetensors")
    np.testing.assert_allclose(tagger.predict(jets), numbers("scores.json")["scores"], rtol=0, atol=1e-10)
