#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>

#include <rino/core/threads.hpp>
#include <rino/methods/finetuning.hpp>
#include <rino/recipe/recipe.hpp>
#include <rino/train/process_group.hpp>
#include <rino/train/trainer.hpp>

#include "bindings.hpp"
#include "keep_alive.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using Release = py::call_guard<py::gil_scoped_release>;

namespace {

using Trainer = rino::Trainer;
using Jets = rino::Jets<double>;
using Position = std::vector<std::int64_t>;

/// A stream that Python makes: an object with `_size()`, `_next(count)` -> (Jets of C++, position), `_position()`,
/// `_seek(position)`, `_seek_others(positions)` and `_fingerprint()`. Called from the loader's threads, which hold the
/// interpreter's lock meanwhile.
class PythonSource final : public rino::JetSource<double> {
 public:
  explicit PythonSource(py::object source)
      : source_(std::static_pointer_cast<const py::object>(keep(std::move(source)))) {}

  std::int64_t size() const override { return ask<std::int64_t>("_size"); }
  Position position() const override { return ask<Position>("_position"); }
  Position fingerprint() const override { return ask<Position>("_fingerprint"); }

  rino::JetBatch<double> next(std::int64_t count) override {
    const py::gil_scoped_acquire lock;
    const auto batch = source_->attr("_next")(count).cast<py::tuple>();
    return {batch[0].cast<Jets>(), batch[1].cast<Position>()};
  }

  void seek(const Position& position) override {
    const py::gil_scoped_acquire lock;
    source_->attr("_seek")(position);
  }

  void seek_others(const std::vector<Position>& positions) override {
    const py::gil_scoped_acquire lock;
    source_->attr("_seek_others")(positions);
  }

 private:
  template <typename Answer>
  Answer ask(const char* name) const {
    const py::gil_scoped_acquire lock;
    return source_->attr(name)().template cast<Answer>();
  }

  std::shared_ptr<const py::object> source_;
};

py::dict as_dict(const rino::StepReport& report) {
  py::dict dict("step"_a = report.step, "skipped"_a = report.skipped ? 1.0 : 0.0, "epoch"_a = report.epoch,
                "loss"_a = report.loss, "lr"_a = report.lr, "gradient_norm"_a = report.gradient_norm,
                "waited"_a = report.waited, "seconds"_a = report.seconds);
  for (const auto& [name, value] : report.metrics) {
    dict[py::str(name)] = value;
  }
  return dict;
}

/// A group of torch.distributed, found by the name under which it is registered: its Python class is that of torch's
/// pybind11, which need not be ours.
rino::Ranks ranks_of(const py::object& group) {
  return group.is_none() ? rino::Ranks()
                         : rino::make_ranks(c10d::resolve_process_group(group.attr("group_name").cast<std::string>()));
}

/// `rino::OneThread` as Python's `with` has it.
class OneThreadScope {
 public:
  OneThreadScope(std::int64_t parameters, std::int64_t jets) : wanted_(rino::OneThread::pays(parameters, jets)) {}
  void enter() { guard_.emplace(wanted_); }
  void exit(const py::args& /*error*/) { guard_.reset(); }

 private:
  bool wanted_;
  std::optional<rino::OneThread> guard_;
};

py::dict as_dict(const rino::Metrics& tensors) {
  py::dict dict;
  for (const auto& [name, tensor] : tensors) {
    dict[py::str(name)] = tensor;
  }
  return dict;
}

/// `source`: jets, or a stream (see PythonSource); `group`: a process group of torch.distributed or None;
/// `augmentation`: a function of jets and draws, or None.
std::shared_ptr<Trainer> make_trainer(const rino::Recipe& recipe, const py::object& source, const at::Device& device,
                                      const std::string& dtype, const py::object& group,
                                      std::shared_ptr<rino::Method> method, const py::object& augmentation) {
  rino::require(dtype == "float32" || dtype == "float64", "dtype is '", dtype, "': choose float32 or float64");
  const at::ScalarType type = dtype == "float64" ? at::kDouble : at::kFloat;
  const rino::Ranks ranks = ranks_of(group);
  if (!method) {
    const py::gil_scoped_release release;
    method = recipe.make_method();
  }
  std::shared_ptr<rino::JetSource<double>> jets;
  if (py::isinstance<Jets>(source)) {
    if (!recipe.training().weight.empty()) {
      rino::jet_weights(source.cast<const Jets&>(), recipe.training().weight);  // now, not in the middle of a run
    }
    jets = Trainer::shuffled(source.cast<Jets>(), recipe.training(), ranks, method->takes_all());
  } else {
    jets = std::make_shared<PythonSource>(source);
  }
  rino::Augment augment;
  if (!augmentation.is_none()) {
    augment = [held = std::static_pointer_cast<const py::object>(keep(augmentation))](const Jets& some,
                                                                                      const rino::Draws& draws) {
      const py::gil_scoped_acquire lock;
      return (*held)(some, draws).cast<Jets>();
    };
  }
  const py::gil_scoped_release release;
  // Its threads may be waiting for the interpreter's lock when it ends.
  return {new Trainer(std::move(method), std::move(jets), recipe.optimizer(), recipe.training(), device, type, ranks,
                      std::move(augment)),
          [](Trainer* trainer) {
            if (PyGILState_Check() == 0) {
              delete trainer;
              return;
            }
            const py::gil_scoped_release unlocked;
            delete trainer;
          }};
}

}  // namespace

void bind_train(py::module_& module) {
  using rino::Recipe;

  py::class_<Recipe>(module, "Recipe")
      .def(py::init<std::string_view>(), "method"_a = "self-distillation")
      .def_static("preset", &Recipe::preset, "name"_a)
      .def_static("presets",
                  [] {
                    std::vector<std::array<std::string, 4>> presets;
                    for (const rino::MethodEntry& method : rino::Registry::methods()) {
                      for (const rino::Preset& preset : method.presets) {
                        presets.push_back({preset.name, preset.summary, preset.source, method.name});
                      }
                    }
                    return presets;
                  })
      .def_static("methods",
                  [] {
                    std::vector<std::array<std::string, 3>> methods;
                    for (const rino::MethodEntry& method : rino::Registry::methods()) {
                      methods.push_back({method.name, method.summary, method.source});
                    }
                    return methods;
                  })
      .def_property_readonly("method", &Recipe::method)
      .def_property_readonly_static("format", [](const py::object&) { return Recipe::kFormat; })
      .def(
          "meant_before",
          [](const Recipe& self, const std::string& section, const std::set<std::string>& named) {
            return self.meant_before(section, [&](const std::string& name) { return named.contains(name); });
          },
          "section"_a, "named"_a)
      .def("entries", &Recipe::entries)
      .def("set", &Recipe::set, "section"_a, "name"_a, "value"_a)
      .def("copy", [](const Recipe& self) { return self; })
      .def("__eq__", [](const Recipe& self, const Recipe& other) { return self == other; })
      .def(
          "tokenizer",
          [](const Recipe& self, bool momenta) {
            return rino::ViewTokenizer(self.jets(), momenta || rino::encoder_takes_momenta(self.sections()));
          },
          "momenta"_a = false)
      .def(
          "require_no_frame",
          [](const Recipe& self, const std::string& what) {
            rino::ViewTokenizer(self.jets()).tokenizer().features().require_no_frame(what);
          },
          "what"_a)
      .def("columns", [](const Recipe& self) { return rino::ViewTokenizer(self.jets()).column_names(); })
      .def_static("encoders",
                  [] {
                    std::vector<std::array<std::string, 3>> kinds;
                    for (const rino::EncoderKind& kind : rino::EncoderKinds::all()) {
                      kinds.push_back({kind.name, kind.summary, kind.source});
                    }
                    return kinds;
                  })
      .def("make_encoder", &Recipe::make_encoder)
      .def("encoder_outputs", [](const Recipe& self) { return rino::encoder_outputs(self.sections()); })
      .def("make_head",
           [](const Recipe& self) { return rino::ProjectionHead(self.get<rino::ProjectionHeadOptions>("head")).ptr(); })
      .def(
          "make_tagger_head",
          [](const Recipe& self, const std::string& kind) {
            const auto& options = self.get<rino::FinetuningOptions>("finetune");
            const rino::TaskPlan plan = options.plan();
            plan.check();
            return rino::make_tagger_head(options, rino::parse_enum<rino::HeadKind>(kind, "head"),
                                          rino::encoder_outputs(self.sections()), plan.outputs())
                .ptr();
          },
          "kind"_a)
      .def("check_tasks",
           [](const Recipe& self) {
             self.get<rino::FinetuningOptions>("finetune").check();
             self.get<rino::SupervisedOptions>("supervised").check();
           })
      .def("for_tasks", [](const Recipe& self) {
        Recipe made = self;
        made.training() = rino::FineTuning::training(self.get<rino::FinetuningOptions>("finetune"), self.training());
        return made;
      });

  py::class_<rino::FineTuning, rino::Method, std::shared_ptr<rino::FineTuning>>(module, "FineTuning")
      .def(py::init([](const Recipe& recipe, std::shared_ptr<rino::Encoder> encoder,
                       const std::shared_ptr<rino::TaggerHeadImpl>& module, bool supervised,
                       const std::vector<double>& class_weights, int threads) {
             const auto& options = recipe.get<rino::FinetuningOptions>("finetune");
             const rino::TaggerHead head(module);
             if (!supervised) {
               return std::make_shared<rino::FineTuning>(std::move(encoder), head, options, options.plan(),
                                                         class_weights, threads);
             }
             return std::make_shared<rino::FineTuning>(std::move(encoder), head, options,
                                                       recipe.get<rino::SupervisedOptions>("supervised"),
                                                       options.plan(), class_weights, threads);
           }),
           "recipe"_a, "encoder"_a, "head"_a, "supervised"_a, "class_weights"_a, "threads"_a)
      .def_property_readonly("mean", &rino::FineTuning::mean)
      .def_property_readonly("deviation", &rino::FineTuning::deviation);

  py::class_<Trainer, std::shared_ptr<Trainer>>(module, "Trainer")
      .def(py::init(&make_trainer), "recipe"_a, "source"_a, "device"_a, "dtype"_a, "group"_a = py::none(),
           "method"_a = std::shared_ptr<rino::Method>(), "augmentation"_a = py::none())
      .def_property_readonly("step_number", &Trainer::step_number)
      .def_property_readonly("steps", &Trainer::steps)
      .def_property_readonly("steps_per_epoch", &Trainer::steps_per_epoch)
      .def_property_readonly("batch_size", &Trainer::batch_size)
      .def_property_readonly("done", &Trainer::done)
      .def_property_readonly("wants_labels", [](Trainer& self) { return self.method().wants_labels(); })
      .def_property_readonly("precision", [](const Trainer& self) { return rino::to_string(self.precision()); })
      .def_property_readonly("best_loss", &Trainer::best_loss)
      .def_property_readonly("best_epoch", &Trainer::best_epoch)
      .def_property_readonly("epochs", [](const Trainer& self) { return self.course().epochs(); })
      .def_property_readonly("phase", [](const Trainer& self) { return self.course().phase(self.phase()).name; })
      .def_property_readonly("epoch_loss", &Trainer::epoch_loss)
      .def_property_readonly("validation_loss", &Trainer::validation_loss)
      .def("validate_on", &Trainer::validate_on, "jets"_a)
      .def("learning_rate", &Trainer::learning_rate, "step"_a)
      .def("step",
           [](Trainer& self) {
             rino::StepReport report;
             {
               const py::gil_scoped_release release;
               report = self.step();
             }
             return as_dict(report);
           })
      .def(
          "save",
          [](Trainer& self, const std::filesystem::path& path, const std::map<std::string, std::string>& metadata) {
            self.save(path, metadata);
          },
          "path"_a, "metadata"_a, Release())
      .def(
          "restore",
          [](Trainer& self, const std::filesystem::path& path) { self.restore(rino::read_safetensors(path)); },
          "path"_a, Release())
      .def("encoders",
           [](Trainer& self) {
             std::vector<std::string> names;
             for (const auto& [name, module] : self.method().products()) {
               if (dynamic_cast<const rino::Encoder*>(module.get()) != nullptr) {
                 names.push_back(name);
               }
             }
             return names;
           })
      .def(
          "product",
          [](Trainer& self, const std::string& name) {
            for (const auto& [known, module] : self.method().products()) {
              auto encoder = std::dynamic_pointer_cast<rino::Encoder>(module);
              if (known == name && encoder) {
                return encoder;
              }
            }
            rino::fail("the method has no encoder '", name, "'");
          },
          "name"_a)
      .def("begin_average", &Trainer::begin_average)
      .def("average", [](const Trainer& self) { return as_dict(self.average()); })
      .def("snapshot",
           [](Trainer& self) {
             rino::Metrics tensors;
             {
               const py::gil_scoped_release release;
               for (const auto& [name, tensor] : self.method().snapshot()) {
                 tensors.emplace_back(name, tensor.cpu());
               }
             }
             return as_dict(tensors);
           })
      .def("batch", &Trainer::batch)
      .def_property_readonly("skipped", &Trainer::skipped)
      .def("finish", &Trainer::finish, Release());

  py::class_<OneThreadScope>(module, "OneThread")
      .def(py::init<std::int64_t, std::int64_t>(), "parameters"_a, "jets"_a)
      .def_property_static(
          "limit", [](const py::object&) { return rino::OneThread::limit.load(); },
          [](const py::object&, std::int64_t limit) { rino::OneThread::limit = limit; })
      .def("__enter__", &OneThreadScope::enter)
      .def("__exit__", &OneThreadScope::exit);

  module.def(
      "step_seed",
      [](std::uint64_t seed, std::int64_t number, const std::string& purpose) {
        return rino::Step{.number = number, .seed = seed}.draws(purpose).seed;
      },
      "seed"_a, "number"_a, "purpose"_a);
  module.def(
      "read_metadata", [](const std::filesystem::path& path) { return rino::read_safetensors(path).metadata; },
      "path"_a, Release());
}
