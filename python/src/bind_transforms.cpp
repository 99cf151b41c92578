#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <rino/jets/jets.hpp>
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/boost_along_beam.hpp>
#include <rino/views/transforms/draws.hpp>
#include <rino/views/transforms/drop_soft.hpp>
#include <rino/views/transforms/hardest.hpp>
#include <rino/views/transforms/mask_constituents.hpp>
#include <rino/views/transforms/named.hpp>
#include <rino/views/transforms/rotate.hpp>
#include <rino/views/transforms/smear.hpp>
#include <rino/views/transforms/split_collinear.hpp>
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

  // The structs hold the defaults; pyrino.transforms reads them from here.
  py::class_<rino::SmearOptions>(m, "SmearOptions")
      .def(py::init<>())
      .def_readwrite("stochastic", &rino::SmearOptions::stochastic)
      .def_readwrite("constant", &rino::SmearOptions::constant)
      .def_readwrite("eta", &rino::SmearOptions::eta)
      .def_readwrite("phi", &rino::SmearOptions::phi)
      .def_readwrite("soft", &rino::SmearOptions::soft);
  py::class_<rino::TranslateOptions>(m, "TranslateOptions")
      .def(py::init<>())
      .def_readwrite("max_rapidity", &rino::TranslateOptions::max_rapidity)
      .def_readwrite("max_phi", &rino::TranslateOptions::max_phi);
  py::class_<rino::BoostJetOptions>(m, "BoostJetOptions")
      .def(py::init<>())
      .def_readwrite("min_factor", &rino::BoostJetOptions::min_factor)
      .def_readwrite("max_factor", &rino::BoostJetOptions::max_factor);
  py::class_<rino::SplitCollinearOptions>(m, "SplitCollinearOptions")
      .def(py::init<>())
      .def_readwrite("probability", &rino::SplitCollinearOptions::probability)
      .def_readwrite("min_fraction", &rino::SplitCollinearOptions::min_fraction);
  py::class_<rino::DropSoftOptions>(m, "DropSoftOptions")
      .def(py::init<>())
      .def_readwrite("scale", &rino::DropSoftOptions::scale)
      .def_readwrite("min_pt", &rino::DropSoftOptions::min_pt);

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
  m.def("hardest", &rino::hardest<double>, "jets"_a, "n"_a, "threads"_a, unlocked);
  m.def("boost_to_pt", &rino::boost_to_pt<double>, "jets"_a, "reference_pt"_a, "threads"_a, unlocked);
  m.def("smear", &rino::smear<double>, "jets"_a, "options"_a, "draws"_a, "threads"_a, unlocked);
  m.def("split_collinear", &rino::split_collinear<double>, "jets"_a, "options"_a, "draws"_a, "threads"_a, unlocked);
  m.def("drop_soft", &rino::drop_soft<double>, "jets"_a, "options"_a, "draws"_a, "threads"_a, unlocked);
  m.def("mask_constituents", &rino::mask_constituents<double>, "jets"_a, "fraction"_a, "draws"_a, "threads"_a,
        unlocked);

  m.def(
      "rotate",
      [](const Jets& jets, const PerJet& angles, int threads) {
        const std::span<const double> values = span(angles);
        const py::gil_scoped_release released;
        return rino::rotate(jets, values, threads);
      },
      "jets"_a, "angles"_a, "threads"_a);
  m.def(
      "rotate", [](const Jets& jets, const Draws& draws, int threads) { return rino::rotate(jets, draws, threads); },
      "jets"_a, "draws"_a, "threads"_a, unlocked);
  m.def(
      "translate",
      [](const Jets& jets, const PerJet& rapidities, const PerJet& phis, int threads) {
        const std::span<const double> y = span(rapidities);
        const std::span<const double> x = span(phis);
        const py::gil_scoped_release released;
        return rino::translate(jets, y, x, threads);
      },
      "jets"_a, "rapidities"_a, "phis"_a, "threads"_a);
  m.def(
      "translate",
      [](const Jets& jets, const rino::TranslateOptions& options, const Draws& draws, int threads) {
        return rino::translate(jets, options, draws, threads);
      },
      "jets"_a, "options"_a, "draws"_a, "threads"_a, unlocked);
  m.def(
      "boost_along_beam",
      [](const Jets& jets, const PerJet& rapidities, int threads) {
        const std::span<const double> values = span(rapidities);
        const py::gil_scoped_release released;
        return rino::boost_along_beam(jets, values, threads);
      },
      "jets"_a, "rapidities"_a, "threads"_a);
  m.def(
      "boost_along_beam",
      [](const Jets& jets, double max_rapidity, const Draws& draws, int threads) {
        return rino::boost_along_beam(jets, max_rapidity, draws, threads);
      },
      "jets"_a, "max_rapidity"_a, "draws"_a, "threads"_a, unlocked);
  m.def(
      "boost_jet",
      [](const Jets& jets, const PerJet& factors, int threads) {
        const std::span<const double> values = span(factors);
        const py::gil_scoped_release released;
        return rino::boost_jet(jets, values, threads);
      },
      "jets"_a, "factors"_a, "threads"_a);
  m.def(
      "boost_jet",
      [](const Jets& jets, const rino::BoostJetOptions& options, const Draws& draws, int threads) {
        return rino::boost_jet(jets, options, draws, threads);
      },
      "jets"_a, "options"_a, "draws"_a, "threads"_a, unlocked);
}
