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

#include <rino/jets/jet_pool.hpp>
#include <rino/jets/jets.hpp>

#include "bindings.hpp"
#include "keep_alive.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

using rino::JetPool;
using Index = JetPool::Index;
using Indices = py::array_t<Index, py::array::c_style | py::array::forcecast>;

/// Where a contiguous array of float32 or float64 lies; `length` numbers.
JetPool::Column column(const py::array& array, py::ssize_t length) {
  rino::require(array.ndim() == 1 && array.shape(0) == length && (array.flags() & py::array::c_style) != 0,
                "a column of a pool is no contiguous array of ", length, " numbers");
  if (py::isinstance<py::array_t<float>>(array)) {
    return static_cast<const float*>(array.data());
  }
  rino::require(py::isinstance<py::array_t<double>>(array), "a column of a pool is neither float32 nor float64");
  return static_cast<const double*>(array.data());
}

std::map<std::string, JetPool::Column> columns(const py::dict& arrays, py::ssize_t length) {
  std::map<std::string, JetPool::Column> found;
  for (const auto& [name, array] : arrays) {
    found.emplace(name.cast<std::string>(), column(py::reinterpret_borrow<py::array>(array), length));
  }
  return found;
}

JetPool::Piece piece(const std::array<py::array, 4>& momenta, const Indices& offsets, const py::object& labels,
                     const py::dict& extras, const py::dict& values, const py::sequence& files,
                     const py::array_t<std::int32_t, py::array::c_style | py::array::forcecast>& file,
                     const Indices& entry) {
  rino::require(offsets.ndim() == 1 && offsets.size() >= 1, "a pool's offsets are empty");
  const py::ssize_t jets = offsets.size() - 1;
  const py::ssize_t rows = offsets.data()[jets];
  JetPool::Piece made;
  for (std::size_t c = 0; c < 4; ++c) {
    made.momenta[c] = column(momenta[c], rows);
  }
  made.offsets.assign(offsets.data(), offsets.data() + offsets.size());
  if (!labels.is_none()) {
    const auto numbers = labels.cast<Indices>();
    rino::require(numbers.size() == jets, "a piece of ", jets, " jets has ", numbers.size(), " labels");
    made.labels.assign(numbers.data(), numbers.data() + numbers.size());
  }
  made.extras = columns(extras, rows);
  made.values = columns(values, jets);
  rino::require(file.size() == jets && entry.size() == jets, "a piece of ", jets, " jets has ", file.size(),
                " files and ", entry.size(), " entries");
  made.origins = std::make_shared<const rino::JetOrigins>(
      rino::JetOrigins{std::make_shared<const std::vector<std::string>>(bytes_of(files)),
                       {file.data(), file.data() + file.size()},
                       {entry.data(), entry.data() + entry.size()}});
  made.owner = keep(py::make_tuple(momenta[0], momenta[1], momenta[2], momenta[3], extras, values));
  return made;
}

}  // namespace

void bind_pool(py::module_& m) {
  py::class_<JetPool::Piece>(m, "JetPiece", "rino::JetPool::Piece: consecutive jets of a file.")
      .def(py::init(&piece), "momenta"_a, "offsets"_a, "labels"_a, "extras"_a, "values"_a, "files"_a, "file"_a,
           "entry"_a)
      .def("find_bad", [](const JetPool::Piece& self) {
        std::vector<Index> bad;
        {
          const py::gil_scoped_release unlocked;
          bad = JetPool::find_bad(self);
        }
        return py::array_t<Index>(static_cast<py::ssize_t>(bad.size()), bad.data());
      });

  py::class_<JetPool>(m, "JetPool", "rino::JetPool.")
      .def(py::init<>())
      .def("add", &JetPool::add, "piece"_a)
      .def("__len__", &JetPool::size)
      .def(
          "gather",
          [](const JetPool& self, const Indices& numbers) {
            const std::span<const Index> picks(numbers.data(), static_cast<std::size_t>(numbers.size()));
            const py::gil_scoped_release unlocked;
            return self.gather<double>(picks);
          },
          "numbers"_a);
}
