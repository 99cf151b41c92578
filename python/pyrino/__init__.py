"""rino: pretraining on jets without labels, along the renormalisation-group flow.

The usual import is ``import pyrino as rino``.
"""

from __future__ import annotations

import torch

from pyrino import _core

if torch.__version__.split(".")[:2] != _core.built_with_torch.split("."):
    raise ImportError(
        f"pyrino was built with torch {_core.built_with_torch} and runs with {torch.__version__}: "
        "rebuild it with 'pip install --no-build-isolation --force-reinstall --no-deps .'"
    )

__version__: str = _core.__version__

from pyrino import data
from pyrino import ranks as ranks
from pyrino import report as report
from pyrino.data import open_dataset, pack, read_jets
from pyrino.errors import RinoError, RinoWarning
from pyrino.evaluate.domains import DomainComparison, compare
from pyrino.evaluate.evaluation import Evaluation
from pyrino.evaluate.working_point import WorkingPoint
from pyrino.generate import generate
from pyrino.inference import embed
from pyrino.jets import Jets
from pyrino.losses import (
    alignment,
    centered_assignment,
    dino_loss,
    gram_loss,
    ibot_loss,
    koleo_loss,
    nt_xent_loss,
    sinkhorn,
    supcon_loss,
    uniformity,
)
from pyrino.methods import Batch, Method, Step, Teacher
from pyrino.nn import (
    DeepSetsEncoder,
    Embeddings,
    Encoder,
    JetEncoder,
    ProjectionHead,
    Tokens,
    draw_masks,
    tokenize,
)
from pyrino.outputs import embed_files, predict_files
from pyrino.pairs import pair_features
from pyrino.recipe import Recipe
from pyrino.torch_data import torch_dataset
from pyrino.training.finetune import finetune, train_supervised
from pyrino.training.history import History
from pyrino.training.load import load
from pyrino.training.pretrain import PretrainingRun, pretrain
from pyrino.training.tagger import Tagger, predict
from pyrino.training.trainer import Trainer
from pyrino.transforms import (
    Augmentation,
    boost_along_beam,
    boost_jet,
    boost_to_pt,
    drop_soft,
    hardest,
    mask_constituents,
    rotate,
    smear,
    split_collinear,
    translate,
)
from pyrino.views import ViewGenerator, splitting_scales, toy_jets

__all__ = [
    "Augmentation",
    "Batch",
    "DeepSetsEncoder",
    "DomainComparison",
    "Embeddings",
    "Encoder",
    "Evaluation",
    "History",
    "JetEncoder",
    "Jets",
    "Method",
    "PretrainingRun",
    "ProjectionHead",
    "Recipe",
    "RinoError",
    "RinoWarning",
    "Step",
    "Tagger",
    "Teacher",
    "Tokens",
    "Trainer",
    "ViewGenerator",
    "WorkingPoint",
    "alignment",
    "boost_along_beam",
    "boost_jet",
    "boost_to_pt",
    "centered_assignment",
    "compare",
    "data",
    "dino_loss",
    "draw_masks",
    "drop_soft",
    "embed",
    "embed_files",
    "finetune",
    "generate",
    "gram_loss",
    "hardest",
    "ibot_loss",
    "koleo_loss",
    "load",
    "mask_constituents",
    "nt_xent_loss",
    "open_dataset",
    "pack",
    "pair_features",
    "predict",
    "predict_files",
    "pretrain",
    "read_jets",
    "rotate",
    "sinkhorn",
    "smear",
    "split_collinear",
    "splitting_scales",
    "supcon_loss",
    "tokenize",
    "torch_dataset",
    "toy_jets",
    "train_supervised",
    "translate",
    "uniformity",
]
