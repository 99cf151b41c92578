// All of rino without FastJet: methods train, of transforms and of clustered views.
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <string>

#include <rino/rino.hpp>

#if defined(RINO_FASTJET) || defined(FASTJET_PACKAGE_VERSION) || defined(__FASTJET_CLUSTERSEQUENCE_HH__)
#error "FastJet is here, where none was asked for"
#endif

namespace {

/// Whether a method learns: its mean loss of the last epoch is below that of the first.
bool learns(const std::string& preset) {
  rino::Recipe recipe = rino::Recipe::preset(preset);
  recipe.training().epochs = 4;
  recipe.training().batch_size = 32;
  rino::Trainer trainer(recipe.make_method(), rino::toy_shower<double>({.jets = 256}, /*seed=*/1), recipe.optimizer(),
                        recipe.training());
  double first = 0.0;
  double last = 0.0;
  while (!trainer.done()) {
    const rino::StepReport step = trainer.step();
    first += step.epoch < 1.0 ? step.loss : 0.0;
    last += step.epoch >= 3.0 ? step.loss : 0.0;
  }
  std::cout << preset << ": sum of the losses " << first << ", then " << last << "\n";
  return std::isfinite(first) && last < first;
}

/// Whether who asks for FastJet is told what is missing.
bool asks_for_the_target() {
  try {
    rino::ViewGenerator<double>({rino::subjets(2)}, {.backend = rino::ViewBackend::fastjet});
  } catch (const rino::Error& error) {
    std::cout << error.what() << "\n";
    return std::string(error.what()).find("rino::fastjet") != std::string::npos;
  }
  return false;
}

}  // namespace

int main() {
  return learns("contrastive") && learns("nano") && asks_for_the_target() ? EXIT_SUCCESS : EXIT_FAILURE;
}
