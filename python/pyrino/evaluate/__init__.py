"""Figures of merit of taggers (`metrics`, `tasks`) and of frozen embeddings (`embeddings`): NumPy in, numbers out."""

from __future__ import annotations

from pyrino.evaluate.embeddings import (
    boosted_trees,
    effective_rank,
    kinematics_explained,
    knn,
    linear_probe,
    principal_components,
    similarity_along_flow,
)
from pyrino.evaluate.metrics import (
    RocCurve,
    accuracy,
    accuracy_at_median,
    background_efficiency,
    bootstrap,
    combine_seeds,
    rejection,
    roc_auc,
    roc_curve,
    score_histogram,
    tagger_metrics,
    thin_roc,
)
from pyrino.evaluate.tasks import class_metrics, confusion_matrix, regression_metrics

__all__ = [
    "RocCurve",
    "accuracy",
    "accuracy_at_median",
    "background_efficiency",
    "boosted_trees",
    "bootstrap",
    "class_metrics",
    "combine_seeds",
    "confusion_matrix",
    "effective_rank",
    "kinematics_explained",
    "knn",
    "linear_probe",
    "principal_components",
    "regression_metrics",
    "rejection",
    "roc_auc",
    "roc_curve",
    "score_histogram",
    "similarity_along_flow",
    "tagger_metrics",
    "thin_roc",
]
