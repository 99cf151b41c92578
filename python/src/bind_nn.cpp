#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <rino/nn/embed.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/nn/projection_head.hpp>
#include <rino/nn/tagger_head.hpp>
#include <rino/tokens/batch.hpp>
#include <rino/tokens/constituent_masks.hpp>
#include <rino/tokens/tokens.hpp>
#include <rino/tokens/view_tokenizer.hpp>

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

std::vector<rino::Resolution> parsed(const std::vector<std::string>& names) {
  std::vector<rino::Resolution> resolutions;
  for (const std::string& name : names) {
    resolutions.push_back(rino::Resolution::parse(name));
  }
  return resolutions;
}

/// The encoder, which others than transformers are not. @throws rino::Error for them.
rino::JetEncoderImpl& transformer(rino::Encoder& encoder) {
  auto* const found = dynamic_cast<rino::JetEncoderImpl*>(&encoder);
  rino::require(found != nullptr, "this encoder has no kernels to choose from: a transformer has");
  return *found;
}

at::Tensor as_tensor(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

/// Tokens as pickle, copy and DataLoader's workers take them apart; tensors, so that processes share their memory.
py::tuple packed_state(const rino::Tokens& self) {
  const auto plain = [](const at::Tensor& tensor) { return tensor.defined() ? py::cast(tensor.detach()) : py::none(); };
  return py::make_tuple(plain(self.features), plain(self.jet_features), as_tensor(self.offsets), as_tensor(self.view),
                        as_tensor(self.jet), plain(self.masked), plain(self.momenta));
}

rino::Tokens unpacked_state(const py::tuple& state) {
  rino::require(state.size() == 7, "the pickled Tokens have ", state.size(), " parts: they are of another version");
  const auto numbers = [&](std::size_t i) {
    const auto tensor = state[i].cast<at::Tensor>();
    const std::int64_t* data = tensor.const_data_ptr<std::int64_t>();
    return std::vector<std::int64_t>(data, data + tensor.numel());
  };
  rino::Tokens tokens;
  tokens.features = state[0].cast<at::Tensor>();
  tokens.jet_features = state[1].cast<at::Tensor>();
  tokens.offsets = numbers(2);
  tokens.view = numbers(3);
  tokens.jet = numbers(4);
  if (!state[5].is_none()) {
    tokens.masked = state[5].cast<at::Tensor>();
  }
  if (!state[6].is_none()) {
    tokens.momenta = state[6].cast<at::Tensor>();
  }
  tokens.check();
  return tokens;
}

/// None where a tensor is undefined.
py::object tensor_or_none(const at::Tensor& tensor) {
  return tensor.defined() ? py::cast(tensor) : py::none();
}

torch::nn::Module& module_of(torch::nn::Module& module) {
  return module;
}

torch::nn::Module& module_of(rino::Encoder& encoder) {
  return *encoder.module();
}

/// What Python's torch.nn.Module shell needs of a C++ module: its tensors by name, and a way to exchange them.
template <typename Impl>
py::class_<Impl, std::shared_ptr<Impl>> bind_module(py::module_& module, const char* name) {
  // torch registers its own torch::nn::Module with pybind11 already, so ours stay local to this module.
  return py::class_<Impl, std::shared_ptr<Impl>>(module, name, py::module_local())
      .def("tensors",
           [](Impl& self) {
             std::vector<std::tuple<std::string, at::Tensor, bool>> tensors;  // with whether it is a buffer
             for (const rino::TensorSlot& slot : rino::tensor_slots(module_of(self))) {
               tensors.emplace_back(slot.name, slot.tensor(), slot.is_buffer());
             }
             return tensors;
           })
      .def("rebind", [](Impl& self, const std::vector<at::Tensor>& tensors) { rino::rebind(module_of(self), tensors); })
      .def("initialize", [](Impl& self, std::uint64_t seed) { rino::initialize(module_of(self), seed); })
      .def("train", [](Impl& self, bool on) { module_of(self).train(on); })
      .def("__repr__", [](Impl& self) {
        std::ostringstream text;
        text << module_of(self);
        return text.str();
      });
}

}  // namespace

void bind_nn(py::module_& module) {
  using rino::Batch;
  using rino::Tokens;

  py::class_<Tokens>(module, "Tokens",
                     R"(The network's only input: sequences of any lengths, packed one behind the other.

A sequence is one view of one jet. Views stand one behind the other, and in each the jets in their order: the sequences of
one view alone are in the order of the jets. There is no padding.
Made by `tokenize`, `JetEncoder.tokenize` or `Tokens.from_padded`.)")
      .def_readonly("features", &Tokens::features, "[T, F] floating point: the tokens of all sequences")
      .def_readonly(
          "jet_features", &Tokens::jet_features,
          "[S, J] floating point: features of the jet, log E, log pT, eta and phi unless the recipe has others")
      .def_property_readonly(
          "offsets", [](const Tokens& self) { return as_tensor(self.offsets); },
          "[S + 1] int64: tokens of sequence s are rows offsets[s] to offsets[s + 1] - 1")
      .def_property_readonly(
          "view", [](const Tokens& self) { return as_tensor(self.view); }, "[S] int64: which view a sequence is")
      .def_property_readonly(
          "jet", [](const Tokens& self) { return as_tensor(self.jet); }, "[S] int64: which jet a sequence shows")
      .def_readonly("masked", &Tokens::masked, "[T] bool: whose features are hidden from the encoder; None: no one's")
      .def_property_readonly(
          "momenta", [](const Tokens& self) { return tensor_or_none(self.momenta); },
          "[T, 4] float64: pT (GeV), rapidity, phi, mass (GeV) of all tokens, whatever the features' type; None unless "
          "asked for")
      .def("__len__", &Tokens::sequences, "Number S of sequences.")
      .def("rows", &Tokens::rows, "view"_a, R"([n] int64: the sequences of a view, in the order of its jets.

Raises RinoError if there is no such view.)")
      .def("padded", &Tokens::padded, Release(),
           "Features padded with 0 to [S, N, F] and a bool mask [S, N], true where a token is.")
      .def_static(
          "from_padded",
          [](const at::Tensor& features, const at::Tensor& mask, const at::Tensor& jet_features,
             const std::optional<at::Tensor>& momenta) {
            return Tokens::from_padded(features, mask, jet_features, momenta.value_or(at::Tensor()));
          },
          "features"_a, "mask"_a, "jet_features"_a, "momenta"_a = py::none(), Release(),
          R"(Tokens of one view from features [S, N, F], a bool mask [S, N], jet features [S, J] and momenta [S, N, 4].

Raises RinoError if the shapes do not fit or a sequence has no token.)")
      .def(
          "to",
          [](const Tokens& self, const at::Device& device, const std::string& dtype) {
            return self.to(at::TensorOptions(device).dtype(scalar_type(dtype)));
          },
          "device"_a, "dtype"_a, Release(), "The same tokens on a device, as \"float32\" or \"float64\".")
      .def(
          "hide",
          [](const Tokens& self, const at::Tensor& masked) {
            rino::require(
                masked.scalar_type() == at::kBool && masked.dim() == 1 && masked.size(0) == self.offsets.back(),
                "the mask of ", self.offsets.back(), " tokens is ", masked.toString(), " of shape ", masked.sizes(),
                ": give one bool per token, true where it is hidden");
            Tokens hidden = self;
            hidden.masked = masked.to(self.features.device());
            return hidden;
          },
          "masked"_a, Release(),
          R"(The same tokens, of which an encoder sees the positions but not the features where `masked` [T] bool is true.

Raises RinoError for a mask of another shape or type.)")
      .def("pin_memory", &Tokens::pin_memory, Release(),
           "The same tokens in pinned memory, as DataLoader(pin_memory=True) asks for.")
      .def(py::pickle(&packed_state, &unpacked_state))
      .def("__repr__", [](const Tokens& self) {
        std::ostringstream text;
        text << "Tokens(" << self.sequences() << " sequences, " << self.offsets.back() << " tokens, "
             << self.features.size(1) << " features)";
        return text.str();
      });

  py::class_<rino::ViewTokenizer>(module, "ViewTokenizer")
      .def_property_readonly("width", &rino::ViewTokenizer::width)
      .def(
          "of_views",
          [](const rino::ViewTokenizer& self, const std::vector<rino::Jets<double>>& views, const std::string& dtype,
             int threads) {
            const std::span<const rino::Jets<double>> all(views);
            return dtype == "float64" ? self.of_views<double>(all, threads) : self.of_views<float>(all, threads);
          },
          "views"_a, "dtype"_a, "threads"_a, Release())
      .def(
          "__call__",
          [](const rino::ViewTokenizer& self, const rino::Jets<double>& jets,
             const std::vector<std::string>& resolutions, const std::string& dtype, int threads) {
            return scalar_type(dtype) == at::kDouble ? self.operator()<double>(jets, parsed(resolutions), threads)
                                                     : self.operator()<float>(jets, parsed(resolutions), threads);
          },
          "jets"_a, "resolutions"_a, "dtype"_a = "float32", "threads"_a = 1, Release());

  py::class_<Batch>(module, "Batch", R"(What a method prepared of a batch of jets.

Made by `Method.prepare`; it goes to the device as one.

Parameters
----------
tokens
    `Tokens` of the views, or a dictionary of several by name.
labels
    [B] int64, or None.
tensors
    Further tensors by name.
counts
    How many summands a mean has, by the mean's name, where the number differs from batch to batch: `Step.mean`.
weights
    [B] float64, or None: the trainer sets those of the column that the recipe names, and the count "weights".)")
      .def(py::init([](const std::variant<rino::Tokens, std::map<std::string, rino::Tokens>>& tokens,
                       const std::optional<at::Tensor>& labels, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, double>& counts, const std::optional<at::Tensor>& weights) {
             Batch batch;
             if (const auto* const some = std::get_if<rino::Tokens>(&tokens)) {
               batch.tokens["constituents"] = *some;
             } else {
               const auto& several = std::get<1>(tokens);
               batch.tokens = {several.begin(), several.end()};
             }
             batch.labels = labels.value_or(at::Tensor());
             batch.tensors = {tensors.begin(), tensors.end()};
             batch.counts = {counts.begin(), counts.end()};
             batch.weights = weights.value_or(at::Tensor());
             return batch;
           }),
           "tokens"_a, "labels"_a = py::none(), "tensors"_a = py::dict(), "counts"_a = py::dict(),
           "weights"_a = py::none())
      .def_property_readonly(
          "tokens", [](const Batch& self) { return self.of("constituents"); },
          "`Tokens` of the views of the jets: those named \"constituents\".")
      .def(
          "of", [](const Batch& self, const std::string& name) { return self.of(name); }, "name"_a,
          "`Tokens` of a name.")
      .def(
          "to",
          [](const Batch& self, const at::Device& device, const std::string& dtype) {
            return self.to(at::TensorOptions(device).dtype(scalar_type(dtype)));
          },
          "device"_a, "dtype"_a, Release(), "Everything on a device, tokens as \"float32\" or \"float64\".")
      .def_property(
          "labels", [](const Batch& self) { return tensor_or_none(self.labels); },
          [](Batch& self, const std::optional<at::Tensor>& labels) { self.labels = labels.value_or(at::Tensor()); },
          "[B] int64 class numbers; None unless the method asks for them.")
      .def_property_readonly(
          "weights", [](const Batch& self) { return tensor_or_none(self.weights); },
          "[B] float64 weights of the jets; None unless the recipe names a column of them, `training.weight`.")
      .def(
          "__getitem__", [](const Batch& self, const std::string& name) { return self.tensor(name); }, "name"_a,
          "One of the further tensors.");

  bind_module<rino::Encoder>(module, "Encoder")
      .def(
          "forward",
          [](rino::Encoder& self, const rino::Batch& batch) {
            rino::Embeddings out = self.forward(batch);
            return std::pair{out.jets, out.constituents};
          },
          "batch"_a, Release())
      .def(
          "embed_jets", [](rino::Encoder& self, const rino::Batch& batch) { return self.embed_jets(batch); }, "batch"_a,
          Release())
      .def_property_readonly("outputs", &rino::Encoder::outputs)
      .def_property_readonly("width", &rino::Encoder::width)
      .def(
          "depth", [](const rino::Encoder& self, const std::string& tensor) { return self.depth(tensor); }, "tensor"_a)
      .def(
          "inputs",
          [](const rino::Encoder& self, const rino::Jets<double>& jets, const std::vector<std::string>& resolutions,
             const std::string& dtype,
             int threads) { return self.inputs(jets, parsed(resolutions), scalar_type(dtype), threads); },
          "jets"_a, "resolutions"_a, "dtype"_a, "threads"_a, Release())
      .def(
          "inputs_of_views",
          [](const rino::Encoder& self, const std::vector<rino::Jets<double>>& views, const std::string& dtype,
             int threads) {
            return self.inputs_of_views(std::span<const rino::Jets<double>>(views), scalar_type(dtype), threads);
          },
          "views"_a, "dtype"_a, "threads"_a, Release())
      .def_property(
          "kernels", [](rino::Encoder& self) { return rino::to_string(transformer(self).kernels); },
          [](rino::Encoder& self, const std::string& name) {
            transformer(self).kernels = rino::parse_enum<rino::EncoderKernels>(name, "kernels");
          })
      .def(
          "embed_batch",
          [](rino::Encoder& self, const rino::Jets<double>& jets, const std::string& resolution,
             const at::Device& device, const std::string& dtype, int threads) {
            return rino::embed_batch(self, jets, rino::Resolution::parse(resolution),
                                     at::TensorOptions(device).dtype(scalar_type(dtype)), threads);
          },
          "jets"_a, "resolution"_a, "device"_a, "dtype"_a, "threads"_a, Release());

  module.def(
      "embedding_batches",
      [](const rino::Jets<double>& jets, std::int64_t batch_tokens, std::int64_t batch_size) {
        return rino::embedding_batches(jets, {.tokens = batch_tokens, .jets = batch_size});
      },
      "jets"_a, "batch_tokens"_a, "batch_size"_a, Release());

  module.def(
      "draw_masks",
      [](const Tokens& tokens, double fraction, std::uint64_t seed, std::uint64_t step, std::int64_t first) {
        const rino::ConstituentMasks masks = rino::draw_masks(tokens, fraction, seed, step, first);
        return std::pair{as_tensor(masks.rows), as_tensor(masks.counts)};
      },
      "tokens"_a, "fraction"_a, "seed"_a, "step"_a, "first"_a, Release());

  bind_module<rino::ProjectionHeadImpl>(module, "ProjectionHead")
      .def("forward", &rino::ProjectionHeadImpl::forward, "embeddings"_a, Release());

  bind_module<rino::TaggerHeadImpl>(module, "TaggerHead")
      .def("forward", &rino::TaggerHeadImpl::forward, "embeddings"_a, Release());
}
