"""What contrastive learning says of itself to people."""

from __future__ import annotations

from pyrino.methods.description import About, Chart

__all__ = ["AboutContrastive"]


class AboutContrastive(About):
    """NT-Xent and SupCon: how near views of a jet lie, how evenly all fill the sphere (arXiv:2005.10242)."""

    charts = (
        Chart("alignment", (("alignment", "mean squared distance of two views"),)),
        Chart("uniformity", (("uniformity", "ln of the mean Gaussian potential"),)),
    )
