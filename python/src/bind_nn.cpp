#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <rino/nn/jet_encoder.hpp>
#include <rino/nn/projection_head.hpp>
#include <rino/nn/tokens.hpp>
#include <rino/nn/view_tokenizer.hpp>

#include "bindings.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using Release = py::call_guard<py::gil_scoped_release>;

namespace {

at::ScalarType scalar_type(const std::string& name) {
  if (name == "float64") {
    return at::kDouble;
  }
  rino::require(name == "float32", "dtype is '", name, "': choose float32 or float64");
  return at::kFloat;
}

at::Tensor as_tensor(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

/// What Python's torch.nn.Module shell needs of a C++ module: its tensors by name, and a way to exchange them.
template <typename Impl>
py::class_<Impl, std::shared_ptr<Impl>> bind_module(py::module_& module, const char* name) {
  // torch registers its own torch::nn::Module with pybind11 already, so ours stay local to this module.
  return py::class_<Impl, std::shared_ptr<Impl>>(module, name, py::module_local())
      .def("tensors",
           [](const Impl& self) {
             std::vector<std::pair<std::string, at::Tensor>> tensors;
             for (const rino::TensorSlot& slot : rino::tensor_slots(self)) {
               tensors.emplace_back(slot.name, slot.tensor());
             }
             return tensors;
           })
      .def("rebind",
           [](const Impl& self, const std::vector<at::Tensor>& tensors) {
             const std::vector<rino::TensorSlot> slots = rino::tensor_slots(self);
             rino::require(slots.size() == tensors.size(), tensors.size(), " tensors were given for ", slots.size());
             for (std::size_t i = 0; i < slots.size(); ++i) {
               slots[i].rebind(tensors[i]);
             }
           })
      .def("initialize", [](const Impl& self, std::uint64_t seed) { rino::initialize(self, seed); })
      .def("train", [](Impl& self, bool on) { self.train(on); })
      .def("__repr__", [](const Impl& self) {
        std::ostringstream text;
        text << self;
        return text.str();
      });
}

}  // namespace

void bind_nn(py::module_& module) {
  using rino::Tokens;

  py::class_<Tokens>(module, "Tokens")
      .def_readonly("features", &Tokens::features)
      .def_readonly("jet_features", &Tokens::jet_features)
      .def_property_readonly("offsets", [](const Tokens& self) { return as_tensor(self.offsets); })
      .def_property_readonly("view", [](const Tokens& self) { return as_tensor(self.view); })
      .def_property_readonly("jet", [](const Tokens& self) { return as_tensor(self.jet); })
      .def("__len__", &Tokens::sequences)
      .def("rows", &Tokens::rows, "view"_a)
      .def("padded", &Tokens::padded, Release())
      .def_static("from_padded", &Tokens::from_padded, "features"_a, "mask"_a, "jet_features"_a, Release())
      .def(
          "to",
          [](const Tokens& self, const at::Device& device, const std::string& dtype) {
            return self.to(at::TensorOptions(device).dtype(scalar_type(dtype)));
          },
          "device"_a, "dtype"_a, Release());

  py::class_<rino::ViewTokenizer>(module, "ViewTokenizer")
      .def_property_readonly("width", &rino::ViewTokenizer::width)
      .def(
          "__call__",
          [](const rino::ViewTokenizer& self, const rino::Jets<double>& jets,
             const std::vector<std::string>& resolutions, const std::string& dtype, int threads) {
            std::vector<rino::Resolution> parsed;
            for (const std::string& text : resolutions) {
              parsed.push_back(rino::Resolution::parse(text));
            }
            return scalar_type(dtype) == at::kDouble ? self.operator()<double>(jets, parsed, threads)
                                                     : self.operator()<float>(jets, parsed, threads);
          },
          "jets"_a, "resolutions"_a, "dtype"_a = "float32", "threads"_a = 1, Release());

  bind_module<rino::JetEncoderImpl>(module, "JetEncoder")
      .def(
          "forward",
          [](rino::JetEncoderImpl& self, const Tokens& tokens) {
            rino::Embeddings out = self.forward(tokens);
            return std::pair{out.jets, out.constituents};
          },
          "tokens"_a, Release());

  bind_module<rino::ProjectionHeadImpl>(module, "ProjectionHead")
      .def("forward", &rino::ProjectionHeadImpl::forward, "embeddings"_a, Release());
}
