#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <rino/core/fields.hpp>
#include <rino/core/sections.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/boost_along_beam.hpp>
#include <rino/views/transforms/draws.hpp>
#include <rino/views/transforms/named.hpp>
#include <rino/views/transforms/rotate.hpp>
#include <rino/views/transforms/translate.hpp>

#include "bindings.hpp"

namespace py = pybind11;

namespace {

using Jets = rino::Jets<double>;
using rino::Draws;
/// One number per jet; taken before the interpreter's lock is released.
using PerJet = py::array_t<double, py::array::c_style | py::array::forcecast>;

std::span<const double> span(const PerJet& values) {
  return {values.data(), static_cast<std::size_t>(values.size())};
}

/// Binds a transform by numbers of the jets' own.
void def_per_jet(py::module_& m, const char* name, const char* numbers,
                 Jets (*transform)(const Jets&, std::span<const double>, int)) {
  using namespace py::literals;
  m.def(
      name,
      [transform](const Jets& jets, const PerJet& values, int threads) {
        const std::span<const double> each = span(values);
        const py::gil_scoped_release released;
        return transform(jets, each, threads);
      },
      "jets"_a, py::arg(numbers), "threads"_a);
}

/// An augmentation in words.
struct NamedAugmentation {
  explicit NamedAugmentation(std::vector<std::string> words)
      : texts(std::move(words)), augmentation(rino::named_augmentation<double>(texts)) {}

  Jets operator()(const Jets& jets, const Draws& draws, int threads) const {
    return augmentation(jets, draws, threads);
  }

  std::vector<std::string> texts;
  rino::Augmentation<double> augmentation;
};

}  // namespace

void bind_transforms(py::module_& m) {
  using namespace py::literals;
  const py::call_guard<py::gil_scoped_release> unlocked;

  py::class_<Draws>(m, "Draws")
      .def(py::init([](std::uint64_t seed, std::int64_t first_jet) { return Draws{seed, first_jet}; }), "seed"_a,
           "first_jet"_a)
      .def("step", &Draws::step, "k"_a)
      .def_readonly("seed", &Draws::seed)
      .def_readonly("first_jet", &Draws::first_jet);

  m.def("changes_frame", &rino::changes_frame, "text"_a);
  m.def(
      "named",
      [](const Jets& jets, const std::string& text, const Draws& draws, int threads) {
        return rino::named_transform<double>(text)(jets, draws, threads);
      },
      "jets"_a, "text"_a, "draws"_a, "threads"_a, unlocked);
  py::class_<NamedAugmentation>(m, "NamedAugmentation")
      .def(py::init<std::vector<std::string>>(), "texts"_a)
      .def("__call__", &NamedAugmentation::operator(), "jets"_a, "draws"_a, "threads"_a, unlocked)
      .def(py::pickle([](const NamedAugmentation& self) { return self.texts; },
                      [](const std::vector<std::string>& texts) { return NamedAugmentation(texts); }));
  // Of recipes, too, which are bound later.
  py::class_<rino::SectionEntry>(m, "RecipeEntry")
      .def_readonly("section", &rino::SectionEntry::section)
      .def_readonly("name", &rino::SectionEntry::name)
      .def_readonly("unit", &rino::SectionEntry::unit)
      .def_readonly("meaning", &rino::SectionEntry::meaning)
      .def_readonly("source", &rino::SectionEntry::source)
      .def_readonly("value", &rino::SectionEntry::value);
  m.def("transform_numbers", &rino::transform_numbers, "name"_a);
  m.def(
      "transform",
      [](const Jets& jets, const std::string& name, const std::map<std::string, rino::FieldValue>& numbers,
         const Draws& draws,
         int threads) { return rino::named_transform<double>(name, numbers, name)(jets, draws, threads); },
      "jets"_a, "name"_a, "numbers"_a, "draws"_a, "threads"_a, unlocked);

  def_per_jet(m, "rotate", "angles", rino::rotate);
  def_per_jet(m, "boost_along_beam", "rapidities", rino::boost_along_beam);
  def_per_jet(m, "boost_jet", "factors", rino::boost_jet);
  m.def(
      "translate",
      [](const Jets& jets, const PerJet& rapidities, const PerJet& phis, int threads) {
        const std::span<const double> y = span(rapidities);
        const std::span<const double> x = span(phis);
        const py::gil_scoped_release released;
        return rino::translate(jets, y, x, threads);
      },
      "jets"_a, "rapidities"_a, "phis"_a, "threads"_a);
}
