#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/operators.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/algorithm.hpp>
#include <rino/views/resolution.hpp>
#include <rino/views/view_generator.hpp>

#include "bindings.hpp"

namespace py = pybind11;

namespace {

using Jets = rino::Jets<double>;
using Index = Jets::Index;
using rino::Resolution;

/// A view generator whose algorithm and backend were chosen by name.
class AnyViewGenerator {
 public:
  AnyViewGenerator(std::vector<Resolution> resolutions, double radius, std::string_view algorithm, int threads,
                   std::string_view backend)
      : generator_(make(
            std::move(resolutions),
            {.radius = radius, .threads = threads, .backend = rino::parse_enum<rino::ViewBackend>(backend, "backend")},
            algorithm)) {}

  std::vector<Jets> operator()(const Jets& jets) const {
    return std::visit([&](const auto& generator) { return generator(jets); }, generator_);
  }

  std::vector<Index> subjet_of_constituent(const Jets& jets, Index j, const Resolution& resolution) const {
    return std::visit([&](const auto& generator) { return generator.subjet_of_constituent(jets, j, resolution); },
                      generator_);
  }

 private:
  using Generator =
      std::variant<rino::ViewGenerator<double, rino::Kt>, rino::ViewGenerator<double, rino::CambridgeAachen>,
                   rino::ViewGenerator<double, rino::AntiKt>>;

  static Generator make(std::vector<Resolution> resolutions, const rino::ViewOptions& options,
                        std::string_view algorithm) {
    if (algorithm == rino::Kt::name) {
      return rino::ViewGenerator<double, rino::Kt>(std::move(resolutions), options);
    }
    if (algorithm == rino::CambridgeAachen::name) {
      return rino::ViewGenerator<double, rino::CambridgeAachen>(std::move(resolutions), options);
    }
    if (algorithm == rino::AntiKt::name) {
      return rino::ViewGenerator<double, rino::AntiKt>(std::move(resolutions), options);
    }
    rino::fail("algorithm is '", algorithm, "': choose one of '", rino::Kt::name, "', '", rino::CambridgeAachen::name,
               "', '", rino::AntiKt::name, "'");
  }

  Generator generator_;
};

std::string kind(const Resolution& resolution) {
  switch (resolution.kind()) {
    case Resolution::Kind::subjets:
      return "subjets";
    case Resolution::Kind::kt:
      return "kt";
    case Resolution::Kind::fraction:
      return "fraction";
    default:
      return "particles";
  }
}

}  // namespace

void bind_views(py::module_& m) {
  py::class_<Resolution>(m, "Resolution", R"(A point on the renormalisation-group flow of a jet.

How far its constituents are merged into subjets. Made by `Resolution.subjets`, `kt`, `fraction`, `particles`, or from
its name by `Resolution.parse`; its name is its ``str``. Resolutions compare equal by kind and value.)")
      .def_static("subjets", &rino::subjets, py::arg("n"),
                  "The exclusive clustering to n >= 1 subjets; jets of fewer constituents show all of them.")
      .def_static("kt", &rino::kt, py::arg("q"), "The exclusive clustering that stops at d_ij = q^2, q > 0 in GeV.")
      .def_static("fraction", &rino::fraction, py::arg("y"),
                  "The exclusive clustering that stops at d_ij = (y pT)^2, pT that of the jet, y > 0.")
      .def_static("particles", &rino::particles, "The jet as it is: all constituents.")
      .def_static("parse", &Resolution::parse, py::arg("name"),
                  "The resolution of a name: '8', 'kt:5', 'fraction:0.05' or 'all'.")
      .def_property_readonly("kind", &kind, "'subjets', 'kt', 'fraction' or 'particles'.")
      .def_property_readonly("value", &Resolution::value,
                             "The number of subjets, the scale in GeV, the fraction of pT; 0 for particles.")
      .def(py::self == py::self)
      .def("__hash__", [](const Resolution& r) { return std::hash<std::string>()(r.name()); })
      .def("__str__", &Resolution::name)
      .def("__repr__", [](const Resolution& r) { return "Resolution('" + r.name() + "')"; })
      .def(py::pickle([](const Resolution& r) { return py::make_tuple(r.name()); },
                      [](const py::tuple& state) { return Resolution::parse(state[0].cast<std::string>()); }));

  py::class_<AnyViewGenerator>(m, "ViewGenerator", "rino::ViewGenerator; pyrino.ViewGenerator is its face.")
      .def(py::init<std::vector<Resolution>, double, std::string_view, int, std::string_view>(), py::arg("resolutions"),
           py::arg("radius"), py::arg("algorithm"), py::arg("threads"), py::arg("backend"))
      .def("__call__", &AnyViewGenerator::operator(), py::arg("jets"), py::call_guard<py::gil_scoped_release>())
      .def(
          "subjet_of_constituent",
          [](const AnyViewGenerator& generator, const Jets& jets, Index j, const Resolution& resolution) {
            std::vector<Index> subjets;
            {
              const py::gil_scoped_release unlocked;
              subjets = generator.subjet_of_constituent(jets, j, resolution);
            }
            return py::array_t<Index>(static_cast<py::ssize_t>(subjets.size()), subjets.data());
          },
          py::arg("jets"), py::arg("j"), py::arg("resolution"));
}
