#include <cstdint>
#include <optional>
#include <vector>

#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <rino/losses/alignment.hpp>
#include <rino/losses/centering.hpp>
#include <rino/losses/dino.hpp>
#include <rino/losses/gram.hpp>
#include <rino/losses/ibot.hpp>
#include <rino/losses/koleo.hpp>
#include <rino/losses/nt_xent.hpp>
#include <rino/losses/sinkhorn.hpp>
#include <rino/losses/supcon.hpp>
#include <rino/losses/uniformity.hpp>
#include <rino/nn/pair_features.hpp>

#include "bindings.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using Release = py::call_guard<py::gil_scoped_release>;

void bind_losses(py::module_& module) {
  module.def(
      "sinkhorn",
      [](const at::Tensor& scores, double temperature, std::int64_t iterations) {
        return rino::sinkhorn(scores, temperature, iterations);
      },
      "scores"_a, "temperature"_a, "iterations"_a = 3, Release());
  module.def("centered_assignment", &rino::centered_assignment, "scores"_a, "center"_a, "temperature"_a, Release());
  module.def("dino_loss", &rino::dino_loss, "assignments"_a, "scores"_a, "temperature"_a, Release());
  module.def(
      "koleo_loss", [](const at::Tensor& embeddings, double eps) { return rino::koleo_loss(embeddings, eps); },
      "embeddings"_a, "eps"_a = 1e-8, Release());
  module.def(
      "ibot_loss",
      [](const at::Tensor& assignments, const at::Tensor& scores, const at::Tensor& counts, double temperature) {
        return rino::ibot_loss(assignments, scores, counts, temperature);
      },
      "assignments"_a, "scores"_a, "counts"_a, "temperature"_a, Release());
  module.def(
      "gram_loss",
      [](const at::Tensor& student, const at::Tensor& teacher, const std::vector<std::int64_t>& lengths) {
        return rino::gram_loss(student, teacher, lengths);
      },
      "student"_a, "teacher"_a, "lengths"_a, Release());
  module.def(
      "pair_features", [](const at::Tensor& momenta) { return rino::pair_features(momenta); }, "momenta"_a, Release());
  module.def(
      "nt_xent_loss",
      [](const at::Tensor& a, const at::Tensor& b, double temperature, const std::optional<at::Tensor>& weights) {
        return rino::nt_xent_loss(a, b, temperature, {}, weights.value_or(at::Tensor()));
      },
      "a"_a, "b"_a, "temperature"_a, "weights"_a, Release());
  module.def(
      "supcon_loss",
      [](const at::Tensor& z, const at::Tensor& labels, double temperature, const std::optional<at::Tensor>& weights) {
        return rino::supcon_loss(z, labels, temperature, {}, weights.value_or(at::Tensor()));
      },
      "z"_a, "labels"_a, "temperature"_a, "weights"_a, Release());
  module.def("alignment", &rino::alignment, "a"_a, "b"_a, Release());
  module.def("uniformity", &rino::uniformity, "x"_a, Release());
}
