#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>

#include <pybind11/numpy.h>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/random.hpp>
#include <rino/core/version.hpp>

#include "bindings.hpp"

namespace py = pybind11;

namespace {

using Bits = py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast>;

/// The first bits of the random numbers of keys [n, parts].
Bits random_bits(const Bits& keys) {
  Bits bits(keys.shape(0));
  const py::gil_scoped_release unlocked;
  for (py::ssize_t i = 0; i < keys.shape(0); ++i) {
    bits.mutable_data()[i] = rino::Random(std::span(keys.data(i), static_cast<std::size_t>(keys.shape(1)))).bits();
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
  module.def("random_bits", &random_bits, py::arg("keys"));
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
