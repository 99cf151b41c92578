#include <torch/csrc/utils/pybind.h>

#include <rino/losses/centering.hpp>
#include <rino/losses/dino.hpp>
#include <rino/losses/koleo.hpp>
#include <rino/losses/sinkhorn.hpp>

#include "bindings.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using Release = py::call_guard<py::gil_scoped_release>;

void bind_losses(py::module_& module) {
  module.def("sinkhorn", &rino::sinkhorn, "scores"_a, "temperature"_a, "iterations"_a = 3, Release());
  module.def("centered_assignment", &rino::centered_assignment, "scores"_a, "center"_a, "temperature"_a, Release());
  module.def("dino_loss", &rino::dino_loss, "assignments"_a, "scores"_a, "temperature"_a, Release());
  module.def("koleo_loss", &rino::koleo_loss, "embeddings"_a, "eps"_a = 1e-8, Release());
}
