#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <rino/methods/registry.hpp>
#include <rino/train/method.hpp>

#include "bindings.hpp"
#include "keep_alive.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

using rino::Batch;
using rino::NamedTensors;
using rino::Step;

/// A method that Python has: an object with the functions below, called with the interpreter's lock. What it raises
/// comes back to who called the trainer, with its traceback.
class PythonMethod final : public rino::Method {
 public:
  explicit PythonMethod(py::object method)
      : method_(std::static_pointer_cast<const py::object>(keep(std::move(method)))),
        labels_(method_->attr("wants_labels").cast<bool>()),
        weights_(method_->attr("wants_weights").cast<bool>()),
        parts_(method_->attr("accumulates").cast<bool>()) {}

  Batch prepare(const rino::Jets<double>& jets, const Step& step) const override {
    const py::gil_scoped_acquire lock;
    return method_->attr("_prepare")(jets, step).cast<Batch>();
  }

  rino::StepLoss loss(const Batch& batch, const Step& step) override {
    const py::gil_scoped_acquire lock;
    const auto [loss, metrics] = method_->attr("_loss")(batch, step).cast<std::pair<at::Tensor, NamedTensors>>();
    return {loss, metrics};
  }

  rino::Modules trained() const override { return {}; }
  NamedTensors parameters() const override { return ask("_parameters"); }
  NamedTensors buffers() const override { return ask("_buffers"); }

  rino::Depths depths() const override {
    const py::gil_scoped_acquire lock;
    const auto found = method_->attr("_depths")().cast<std::map<std::string, std::int64_t>>();
    return {found.begin(), found.end()};
  }

  NamedTensors state() override { return ask("_state"); }
  bool wants_labels() const override { return labels_; }
  bool wants_weights() const override { return weights_; }
  bool accumulates() const override { return parts_; }

  void to(const at::TensorOptions& options) override {
    Method::to(options);
    const py::gil_scoped_acquire lock;
    method_->attr("_to")(options.device(), type() == at::kDouble ? "float64" : "float32");
  }

  void connect(const rino::Ranks& ranks) override {
    const py::gil_scoped_acquire lock;
    method_->attr("_connect")(ranks);
  }

  void start() override {
    const py::gil_scoped_acquire lock;
    method_->attr("_start")();
    after_steps_ = method_->attr("_does_after_steps").cast<bool>();
  }

  void train(bool on) override {
    const py::gil_scoped_acquire lock;
    method_->attr("_train")(on);
  }

  void after_step(const rino::FlatParameters& /*trained*/, const Step& step) override {
    if (after_steps_) {
      const py::gil_scoped_acquire lock;
      method_->attr("_after_step")(step);
    }
  }

  rino::Metrics snapshot() const override { return ask("_snapshot"); }

 private:
  NamedTensors ask(const char* what) const {
    const py::gil_scoped_acquire lock;
    return method_->attr(what)().cast<NamedTensors>();
  }

  std::shared_ptr<const py::object> method_;
  bool labels_;
  bool weights_;
  bool parts_;
  bool after_steps_ = true;
};

}  // namespace

void bind_method(py::module_& module) {
  py::class_<rino::Method, std::shared_ptr<rino::Method>>(module, "Method");
  py::class_<PythonMethod, rino::Method, std::shared_ptr<PythonMethod>>(module, "PythonMethod")
      .def(py::init<py::object>(), "method"_a);

  py::class_<rino::Ranks>(module, "StepRanks", R"(The processes that train together, of which this is one.

`gather` and `sum` are collective: all processes call them in the same order with tensors of the same shapes.)")
      .def(py::init<>())
      .def_property_readonly("rank", &rino::Ranks::rank, "Number of this process.")
      .def_property_readonly("size", &rino::Ranks::size, "How many there are.")
      .def(
          "gather", [](const rino::Ranks& self, const at::Tensor& tensor) { return self.gather(tensor); }, "tensor"_a,
          py::call_guard<py::gil_scoped_release>(),
          "The tensors of all processes, one behind the other; gradients go back to where a row came from.")
      .def(
          "sum", [](const rino::Ranks& self, const at::Tensor& tensor) { return self.sum(tensor); }, "tensor"_a,
          py::call_guard<py::gil_scoped_release>(), "The sum over all processes, without a gradient.");

  py::class_<Step>(module, "Step", R"(Where a training run stands, and which part of the step's batch is looked at.)")
      .def(py::init([](std::int64_t number, std::int64_t steps_per_epoch, std::int64_t epochs, std::uint64_t seed,
                       std::int64_t first_jet) {
             return Step{.number = number,
                         .steps_per_epoch = steps_per_epoch,
                         .epochs = epochs,
                         .seed = seed,
                         .first_jet = first_jet};
           }),
           "number"_a = 0, "steps_per_epoch"_a = 1, "epochs"_a = 1, "seed"_a = 0, "first_jet"_a = 0)
      .def_readonly("number", &Step::number, "Of the step, from 0.")
      .def_readonly("seed", &Step::seed, "Of the run.")
      .def_readonly("first_jet", &Step::first_jet, "Place of the part's first jet in the batch of all processes.")
      .def_readonly("parts", &Step::parts, "In which the step's batch is computed, on all processes together.")
      .def_readonly("steps_per_epoch", &Step::steps_per_epoch, "Steps of a pass through the jets.")
      .def_property_readonly("steps", &Step::steps, "Of the whole run.")
      .def_property_readonly("epoch", &Step::epoch, "Epochs done when the step began.")
      .def(
          "draws",
          [](const Step& self, const std::string& purpose) {
            const rino::Draws draws = self.draws(purpose);
            return py::dict("seed"_a = draws.seed, "first_jet"_a = draws.first_jet);
          },
          "purpose"_a, R"(``seed`` and ``first_jet`` for a transform, by the run's seed, the step and the purpose.

Several processes draw with them what one alone would.)")
      .def("mean", &Step::mean, "sum"_a, "count"_a,
           R"(A mean over all parts of the step, which have unequal numbers of summands.

Parameters
----------
sum
    Over the summands of this part.
count
    Name of their number in `Batch.counts`.)")
      .def_property_readonly("_dropout_seed", [](const Step& self) { return self.dropout_seed() >> 1; });

  // A method of Python's: its own sections, and nothing to be made without Python.
  using Number = std::tuple<std::string, rino::FieldValue, std::string, std::string, std::string>;
  module.def(
      "register_method",
      [](const std::string& name, const std::string& summary,
         const std::map<std::string, std::vector<Number>>& sections,
         const std::map<std::string, std::map<std::string, rino::FieldValue>>& presets, const rino::Chart::Lines& parts,
         const std::vector<std::pair<std::string, rino::Chart::Lines>>& charts) {
        rino::MethodEntry entry;
        entry.name = name;
        entry.summary = summary;
        entry.source = rino::kOwnChoice;
        rino::Sections own;
        for (const auto& [section, numbers] : sections) {
          std::vector<rino::SectionEntry> entries;
          for (const auto& [number, value, unit, meaning, source] : numbers) {
            entries.push_back({section, number, unit, meaning, source, value});
          }
          own.add(section, std::move(entries));
        }
        entry.add_sections = [own](rino::Sections& all) { all.add(own); };
        entry.resolve = [](rino::Sections&) {};
        entry.make = [name](const rino::Sections&) -> std::shared_ptr<rino::Method> {
          rino::fail("the method '", name, "' is written in Python and not known here: import the module of its class ",
                     "(on the command line --method-module FILE) and train it with pyrino.Trainer or pyrino.pretrain");
        };
        for (const auto& [preset, values] : presets) {
          entry.presets.push_back({preset, "", summary, rino::kOwnChoice, {values.begin(), values.end()}});
        }
        entry.parts = parts;
        for (const auto& [title, lines] : charts) {
          entry.charts.push_back({title, lines});
        }
        rino::Registry::add(std::move(entry), /*replace=*/true);
      },
      "name"_a, "summary"_a, "sections"_a, "presets"_a, "parts"_a = rino::Chart::Lines(),
      "charts"_a = std::vector<std::pair<std::string, rino::Chart::Lines>>());

  // Parts of the loss; charts as title, lines, prototypes, schedule; what progress shows; signs as number, text,
  // bounds.
  module.def(
      "method_entry",
      [](const std::string& name) {
        const rino::MethodEntry& entry = rino::Registry::method(name);
        std::vector<std::tuple<std::string, rino::Chart::Lines, bool, bool>> charts;
        for (const rino::Chart& chart : entry.charts) {
          charts.emplace_back(chart.title, chart.lines, chart.prototypes, chart.schedule);
        }
        std::vector<std::tuple<std::string, std::string, double, double>> signs;
        for (const rino::Sign& sign : entry.signs) {
          signs.emplace_back(sign.metric, sign.text, sign.low, sign.high);
        }
        return py::dict("parts"_a = entry.parts, "charts"_a = charts, "shown"_a = entry.shown, "signs"_a = signs);
      },
      "name"_a);
}
