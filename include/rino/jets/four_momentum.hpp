#pragma once

#include <Eigen/Core>

namespace rino {

/// (px, py, pz, E) in GeV, metric (-, -, -, +).
template <typename Scalar>
using FourMomentum = Eigen::Matrix<Scalar, 4, 1>;

}  // namespace rino
