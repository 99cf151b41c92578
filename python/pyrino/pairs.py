"""Features of pairs of constituents."""

from __future__ import annotations

from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from pyrino import _core
from pyrino._arguments import called
from pyrino.jets import Jets

__all__ = ["pair_features"]


@overload
def pair_features(jets: Jets) -> NDArray[np.float64]: ...
@overload
def pair_features(jets: torch.Tensor) -> torch.Tensor: ...
def pair_features(jets: Jets | torch.Tensor) -> NDArray[np.float64] | torch.Tensor:
    """What ParT's attention knows of two constituents: ln kT, ln z, ln dR, ln m^2, in this order.

    dR = sqrt((y_i - y_j)^2 + (phi_i - phi_j)^2), kT = min(pT_i, pT_j) dR, z = min(pT_i, pT_j) / (pT_i + pT_j),
    m^2 = (p_i + p_j)^2, in GeV; what is below 1e-8 enters the logarithms as 1e-8. Computed in float64 without
    differences of large numbers, and with finite gradients everywhere.

    Parameters
    ----------
    jets
        n jets of up to N constituents; or momenta [.., N, 4], floating point: pT (GeV), rapidity, phi, mass (GeV), such
        as ``tokenize(jets, momenta=True).momenta`` has, whose gradients the result carries.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        (n, N, N, 4) float64, 0 where a jet has fewer constituents (`Jets.to_numpy` has the mask); of momenta
        [.., N, N, 4] float64 where they are.

    Raises
    ------
    RinoError
        If momenta are of another shape or type.

    Notes
    -----
    Qu, Li, Qian, arXiv:2202.03772, equation 3.
    """
    if not isinstance(jets, Jets):
        return called(_core.pair_features, jets)
    constituents = jets.constituents
    columns = (constituents.pt, constituents.rapidity, constituents.phi, constituents.mass)
    mask = np.arange(jets.multiplicity.max(initial=0)) < jets.multiplicity[:, None]
    momenta = np.zeros((*mask.shape, 4))
    momenta[mask] = np.stack(columns, axis=1)
    found = _core.pair_features(torch.from_numpy(momenta)).numpy()
    found[~(mask[:, :, None] & mask[:, None, :])] = 0
    return found
