#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/random.hpp>
#include <rino/core/version.hpp>

#include "bindings.hpp"

namespace py = pybind11;

namespace {

using Bits = py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast>;

/// The first bits of the random numbers of keys, whose parts are one number for all or have one for each.
Bits random_bits(const std::vector<Bits>& parts) {
  py::ssize_t count = 1;
  for (const Bits& part : parts) {
    count = part.ndim() > 0 ? part.size() : count;
  }
  for (const Bits& part : parts) {
    rino::require(part.ndim() == 0 || part.size() == count, "a part of ", count, " keys has ", part.size(),
                  " numbers: give one, or one for each");
  }
  Bits bits(count);
  std::uint64_t* const first = bits.mutable_data();
  const py::gil_scoped_release unlocked;
  std::vector<std::uint64_t> key(parts.size());
  for (py::ssize_t i = 0; i < count; ++i) {
    for (std::size_t p = 0; p < parts.size(); ++p) {
      key[p] = parts[p].data()[parts[p].ndim() == 0 ? 0 : i];
    }
    first[i] = rino::Random(std::span<const std::uint64_t>(key)).bits();
  }
  return bits;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ side of pyrino. Use the classes and functions of pyrino itself.";
  module.attr("__version__") = rino::kVersion;
  module.attr("own_choice") = rino::kOwnChoice;
  module.attr("built_with_torch") = RINO_TORCH_VERSION;
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) {
        std::rethrow_exception(pointer);
      }
    } catch (const rino::Error& error) {
      py::set_error(py::module_::import("pyrino.errors").attr("RinoError"), text_of(error.what()));
    }
  });
  module.def("random_bits", &random_bits, py::arg("parts"));
  bind_jets(module);
  bind_pool(module);
  bind_views(module);
  bind_clustering(module);
  bind_transforms(module);
  bind_nn(module);
  bind_losses(module);
  bind_method(module);
  bind_train(module);
}
