"""Pictures, each a matplotlib Figure: of jets along the flow, distributions, taggers, embeddings, training.

All use matplotlib's object interface: no pyplot, no global setting is touched, and a notebook shows the
figure as it is returned. The colours are those of Okabe and Ito and viridis, safe for the colour-blind.
"""

from __future__ import annotations

from pyrino.drawing.flow import draw_flow
from pyrino.drawing.style import figure_to_data_uri, figure_to_png, figure_to_svg
from pyrino.plots.distributions import compare_distributions, distributions
from pyrino.plots.embeddings import embedding_pca, similarity_matrix
from pyrino.plots.taggers import roc_curves, score_distributions
from pyrino.plots.tasks import confusion, regression_residuals
from pyrino.plots.training import training_curves

__all__ = [
    "compare_distributions",
    "confusion",
    "distributions",
    "draw_flow",
    "embedding_pca",
    "figure_to_data_uri",
    "figure_to_png",
    "figure_to_svg",
    "regression_residuals",
    "roc_curves",
    "score_distributions",
    "similarity_matrix",
    "training_curves",
]
