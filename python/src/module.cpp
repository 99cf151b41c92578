#include <exception>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/version.hpp>

#include "bindings.hpp"

namespace py = pybind11;

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
