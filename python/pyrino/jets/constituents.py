"""`Constituents`: what `Jets.constituents` gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyrino import _core

__all__ = ["Constituents"]

Floats = NDArray[np.float64]


class Constituents:
    """Kinematics of all constituents of a `Jets`, (T,) each; momenta, energies and masses in GeV."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.Jets) -> None:
        self._core = core

    def __len__(self) -> int:
        return self._core.n_constituents

    def __repr__(self) -> str:
        return f"Constituents({len(self)} of {len(self._core)} jets)"

    @property
    def px(self) -> Floats:
        """px; not a copy, as py, pz and e."""
        return self._core.px()

    @property
    def py(self) -> Floats:
        """py."""
        return self._core.py()

    @property
    def pz(self) -> Floats:
        """pz, along the beam."""
        return self._core.pz()

    @property
    def e(self) -> Floats:
        """Energy."""
        return self._core.e()

    @property
    def pt(self) -> Floats:
        """Transverse momentum."""
        return self._core.constituent_pt()

    @property
    def eta(self) -> Floats:
        """Pseudorapidity; infinite along the beam."""
        return self._core.constituent_eta()

    @property
    def phi(self) -> Floats:
        """Azimuth in (-pi, pi]."""
        return self._core.constituent_phi()

    @property
    def mass(self) -> Floats:
        """Invariant mass; 0 where rounding made its square negative."""
        return self._core.constituent_mass()

    @property
    def rapidity(self) -> Floats:
        """Rapidity; infinite for massless ones along the beam."""
        return self._core.constituent_rapidity()
