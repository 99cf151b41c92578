#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <rino/jets/concatenate.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/toy_shower.hpp>

#include "bindings.hpp"
#include "keep_alive.hpp"

namespace py = pybind11;

namespace {

using Jets = rino::Jets<double>;
using Index = Jets::Index;
using Indices = py::array_t<Index, py::array::c_style | py::array::forcecast>;
using Values = py::array_t<double, py::array::c_style | py::array::forcecast>;

constexpr auto kItem = static_cast<py::ssize_t>(sizeof(double));

template <typename T>
std::vector<T> to_vector(const py::array_t<T, py::array::c_style | py::array::forcecast>& array, const char* name) {
  rino::require(array.ndim() == 1, name, " has ", array.ndim(), " dimensions: give one");
  return {array.data(), array.data() + array.size()};
}

/// A read-only array over memory that `base` keeps alive.
template <typename T>
py::array_t<T> view(std::vector<py::ssize_t> shape, std::vector<py::ssize_t> strides, const T* data, py::handle base) {
  py::array_t<T> array(std::move(shape), std::move(strides), data, base);
  array.attr("flags").attr("writeable") = false;
  return array;
}

template <typename T>
py::array_t<T> view(const std::vector<T>& values, py::handle base) {
  return view<T>({static_cast<py::ssize_t>(values.size())}, {static_cast<py::ssize_t>(sizeof(T))}, values.data(), base);
}

/// Jets over Python's memory; `owner` keeps it alive.
Jets borrow(const std::array<Jets::Column, 4>& columns, Index rows, const Indices& offsets, py::object owner) {
  std::vector<Index> bounds = to_vector<Index>(offsets, "offsets");
  rino::require(!bounds.empty() && bounds.back() == rows, "the last offset is ",
                bounds.empty() ? Index{0} : bounds.back(), " but there are ", rows,
                " constituents: offsets are n+1 numbers from 0 to the number of constituents");
  std::shared_ptr<const void> held = keep(std::move(owner));
  const py::gil_scoped_release unlocked;
  return Jets::borrow(columns, std::move(bounds), std::move(held));
}

bool is_aligned(const py::array& array, py::ssize_t dimensions) {
  bool aligned = py::isinstance<py::array_t<double>>(array) && array.ndim() == dimensions &&
                 reinterpret_cast<std::uintptr_t>(array.data()) % alignof(double) == 0;
  for (py::ssize_t d = 0; aligned && d < dimensions; ++d) {
    aligned = array.strides(d) % kItem == 0;
  }
  return aligned;
}

Jets from_p4(const py::array& p4, const Indices& offsets) {
  rino::require(is_aligned(p4, 2) && p4.shape(1) == 4, "p4 is no aligned float64 array of shape (T, 4)");
  const auto* first = static_cast<const double*>(p4.data());
  std::array<Jets::Column, 4> columns;
  for (std::size_t c = 0; c < 4; ++c) {
    columns[c] = {first + static_cast<py::ssize_t>(c) * (p4.strides(1) / kItem), p4.strides(0) / kItem};
  }
  return borrow(columns, p4.shape(0), offsets, p4);
}

Jets from_columns(const std::array<py::array, 4>& components, const Indices& offsets) {
  std::array<Jets::Column, 4> columns;
  for (std::size_t c = 0; c < 4; ++c) {
    const py::array& component = components[c];
    rino::require(is_aligned(component, 1) && component.shape(0) == components[0].shape(0),
                  "px, py, pz and E are no aligned float64 arrays of one length");
    columns[c] = {static_cast<const double*>(component.data()), component.strides(0) / kItem};
  }
  return borrow(columns, components[0].shape(0), offsets,
                py::make_tuple(components[0], components[1], components[2], components[3]));
}

/// The four components in one new block [T, 4] of column order.
py::array_t<double> p4(const Jets& jets) {
  const auto rows = static_cast<py::ssize_t>(jets.constituents());
  py::array_t<double> block({rows, py::ssize_t{4}}, {kItem, kItem * rows});
  double* const values = block.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    using Target = Eigen::Map<Eigen::ArrayXd>;
    Target(values, rows) = jets.px();
    Target(values + rows, rows) = jets.py();
    Target(values + 2 * rows, rows) = jets.pz();
    Target(values + 3 * rows, rows) = jets.e();
  }
  block.attr("flags").attr("writeable") = false;
  return block;
}

py::array_t<double> component(const py::object& self, std::size_t c) {
  const auto& jets = self.cast<const Jets&>();
  return view<double>({static_cast<py::ssize_t>(jets.constituents())}, {jets.columns()[c].stride * kItem},
                      jets.columns()[c].data, self);
}

/// `function(four-momentum)` of every jet, [n].
template <typename Function>
auto per_jet(Function function) {
  return [function](const Jets& jets) {
    py::array_t<double> values(jets.size());
    double* const out = values.mutable_data();
    {
      const py::gil_scoped_release unlocked;
      for (Index j = 0; j < jets.size(); ++j) {
        out[j] = function(jets.four_momentum(j));
      }
    }
    return values;
  };
}

/// `function(four-momentum)` of every constituent, [T].
template <typename Function>
auto per_constituent(Function function) {
  return [function](const Jets& jets) {
    py::array_t<double> values(jets.constituents());
    double* const out = values.mutable_data();
    {
      const py::gil_scoped_release unlocked;
      for (Index i = 0; i < jets.constituents(); ++i) {
        out[i] = function(jets.constituent(i));
      }
    }
    return values;
  };
}

py::array_t<double> four_momenta(const Jets& jets) {
  py::array_t<double> sums({static_cast<py::ssize_t>(jets.size()), py::ssize_t{4}});
  double* const out = sums.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    for (Index j = 0; j < jets.size(); ++j) {
      Eigen::Map<rino::FourMomentum<double>>(out + 4 * j) = jets.four_momentum(j);
    }
  }
  return sums;
}

py::object labels(const py::object& self) {
  const auto& jets = self.cast<const Jets&>();
  return jets.labels() ? view(*jets.labels(), self) : py::object(py::none());
}

/// Columns by name, kept alive by the jets they belong to.
py::dict columns(const std::map<std::string, Jets::Extra>& named, const py::object& self) {
  py::dict columns;
  for (const auto& [name, values] : named) {
    columns[py::str(name)] = view(*values, self);
  }
  return columns;
}

/// (names of files, file [n], entry [n]), or None.
py::object origins(const py::object& self) {
  const auto& origins = self.cast<const Jets&>().origins();
  if (!origins) {
    return py::none();
  }
  py::list files;
  for (const std::string& name : *origins->files) {
    files.append(text_of(name));
  }
  return py::make_tuple(files, view(origins->file, self), view(origins->entry, self));
}

Jets with_origins(const Jets& jets, const py::sequence& files,
                  const py::array_t<std::int32_t, py::array::c_style | py::array::forcecast>& file,
                  const Indices& entry) {
  return jets.with_origins({std::make_shared<const std::vector<std::string>>(bytes_of(files)),
                            to_vector<std::int32_t>(file, "the file"), to_vector<Index>(entry, "the entry")});
}

py::tuple state(const py::object& self) {
  const auto& jets = self.cast<const Jets&>();
  return py::make_tuple(p4(jets), view(jets.offsets(), self), labels(self), columns(jets.extras(), self),
                        columns(jets.values(), self), origins(self));
}

Jets restore(const py::tuple& state) {
  rino::require(state.size() == 6, "the state of Jets has ", state.size(), " parts of 6: it is of another version");
  const auto momenta = state[0].cast<py::array_t<double, py::array::f_style | py::array::forcecast>>();
  std::vector<Index> offsets = to_vector<Index>(state[1].cast<Indices>(), "offsets");
  rino::require(momenta.ndim() == 2 && momenta.shape(1) == 4 && !offsets.empty() && offsets.front() == 0 &&
                    offsets.back() == momenta.shape(0) && std::is_sorted(offsets.begin(), offsets.end()),
                "the state of Jets is damaged: its offsets do not fit its four-momenta");
  std::array<std::vector<double>, 4> columns;
  for (std::size_t c = 0; c < 4; ++c) {
    const double* const first = momenta.data() + static_cast<py::ssize_t>(c) * momenta.shape(0);
    columns[c].assign(first, first + momenta.shape(0));
  }
  Jets jets = Jets::from_columns_unchecked(std::move(columns), std::move(offsets));
  if (!state[2].is_none()) {
    jets = jets.with_labels(to_vector<Index>(state[2].cast<Indices>(), "labels"));
  }
  for (const auto& [name, values] : state[3].cast<py::dict>()) {
    jets = jets.with_extra(name.cast<std::string>(), to_vector<double>(values.cast<Values>(), "an extra"));
  }
  for (const auto& [name, values] : state[4].cast<py::dict>()) {
    jets = jets.with_value(name.cast<std::string>(), to_vector<double>(values.cast<Values>(), "a value"));
  }
  if (!state[5].is_none()) {
    const auto origins = state[5].cast<py::tuple>();
    jets =
        with_origins(jets, origins[0].cast<py::sequence>(), py::array_t<std::int32_t>(origins[1]), Indices(origins[2]));
  }
  return jets;
}

}  // namespace

void bind_jets(py::module_& m) {
  using rino::FourMomentum;
  const auto pt = [](const FourMomentum<double>& p) { return rino::pt(p); };
  const auto eta = [](const FourMomentum<double>& p) { return rino::eta(p); };
  const auto phi = [](const FourMomentum<double>& p) { return rino::phi(p); };
  const auto mass = [](const FourMomentum<double>& p) { return rino::mass(p); };
  const auto rapidity = [](const FourMomentum<double>& p) { return rino::rapidity(p); };

  py::class_<Jets>(m, "Jets", "rino::Jets<double>; pyrino.Jets is its face.")
      .def(py::init<>())
      .def_static("from_p4", &from_p4, py::arg("p4"), py::arg("offsets"))
      .def_static("from_columns", &from_columns, py::arg("columns"), py::arg("offsets"))
      .def_static(
          "concatenate", [](const std::vector<Jets>& parts) { return rino::concatenate(std::span<const Jets>(parts)); },
          py::arg("parts"), py::call_guard<py::gil_scoped_release>())
      .def_readonly_static("energy_tolerance", &Jets::kEnergyTolerance)
      .def_readonly_static("mass_tolerance", &Jets::kMassTolerance)
      .def("__len__", &Jets::size)
      .def_property_readonly("n_constituents", &Jets::constituents)
      .def("p4", &p4)
      .def("offsets", [](const py::object& self) { return view(self.cast<const Jets&>().offsets(), self); })
      .def("px", [](const py::object& self) { return component(self, 0); })
      .def("py", [](const py::object& self) { return component(self, 1); })
      .def("pz", [](const py::object& self) { return component(self, 2); })
      .def("e", [](const py::object& self) { return component(self, 3); })
      .def("labels", &labels)
      .def("extras", [](const py::object& self) { return columns(self.cast<const Jets&>().extras(), self); })
      .def("values", [](const py::object& self) { return columns(self.cast<const Jets&>().values(), self); })
      .def("origins", &origins)
      .def("with_labels",
           [](const Jets& jets, const Indices& values) { return jets.with_labels(to_vector<Index>(values, "labels")); })
      .def("with_extra",
           [](const Jets& jets, const std::string& name, const Values& values) {
             return jets.with_extra(name, to_vector<double>(values, "an extra"));
           })
      .def("with_value",
           [](const Jets& jets, const std::string& name, const Values& values) {
             return jets.with_value(name, to_vector<double>(values, "a value"));
           })
      .def("with_origins", &with_origins)
      .def("slice", &Jets::slice, py::arg("first"), py::arg("last"), py::call_guard<py::gil_scoped_release>())
      .def("select",
           [](const Jets& jets, const Indices& numbers) {
             const std::vector<Index> chosen = to_vector<Index>(numbers, "the index");
             const py::gil_scoped_release unlocked;
             return jets.select(chosen);
           })
      .def("check", &Jets::check, py::call_guard<py::gil_scoped_release>())
      .def("four_momenta", &four_momenta)
      .def("pt", per_jet(pt))
      .def("eta", per_jet(eta))
      .def("phi", per_jet(phi))
      .def("mass", per_jet(mass))
      .def("rapidity", per_jet(rapidity))
      .def("constituent_pt", per_constituent(pt))
      .def("constituent_eta", per_constituent(eta))
      .def("constituent_phi", per_constituent(phi))
      .def("constituent_mass", per_constituent(mass))
      .def("constituent_rapidity", per_constituent(rapidity))
      .def(py::pickle(&state, &restore));

  m.def(
      "toy_shower",
      [](Index jets, std::uint64_t seed, double top_fraction, double pt_min, double pt_max, double eta_max,
         double radius, double multiplicity_mean, double multiplicity_std, Index multiplicity_min,
         Index multiplicity_max, double cutoff) {
        return rino::toy_shower<double>({.jets = jets,
                                         .top_fraction = top_fraction,
                                         .pt_min = pt_min,
                                         .pt_max = pt_max,
                                         .eta_max = eta_max,
                                         .radius = radius,
                                         .multiplicity_mean = multiplicity_mean,
                                         .multiplicity_std = multiplicity_std,
                                         .multiplicity_min = multiplicity_min,
                                         .multiplicity_max = multiplicity_max,
                                         .cutoff = cutoff},
                                        seed);
      },
      py::arg("jets"), py::arg("seed"), py::kw_only(), py::arg("top_fraction"), py::arg("pt_min"), py::arg("pt_max"),
      py::arg("eta_max"), py::arg("radius"), py::arg("multiplicity_mean"), py::arg("multiplicity_std"),
      py::arg("multiplicity_min"), py::arg("multiplicity_max"), py::arg("cutoff"),
      py::call_guard<py::gil_scoped_release>());
}
