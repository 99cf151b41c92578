#include <cstdint>
#include <string_view>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <rino/core/named_enum.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/splitting_scales.hpp>

#include "bindings.hpp"

namespace py = pybind11;

void bind_clustering(py::module_& m) {
  m.def(
      "splitting_scales",
      [](const rino::Jets<double>& jets, std::int64_t most, double radius, int threads, std::string_view backend) {
        const rino::ViewOptions options{
            .radius = radius, .threads = threads, .backend = rino::parse_enum<rino::ViewBackend>(backend, "backend")};
        std::vector<double> scales;
        {
          const py::gil_scoped_release unlocked;
          scales = rino::splitting_scales(jets, most, options);
        }
        return py::array_t<double>({static_cast<py::ssize_t>(jets.size()), static_cast<py::ssize_t>(most)},
                                   scales.data());
      },
      py::arg("jets"), py::arg("most"), py::arg("radius"), py::arg("threads"), py::arg("backend"),
      "rino::splitting_scales; pyrino.splitting_scales is its face.");
}
