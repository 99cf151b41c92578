// What clang has to understand: all headers in one include, the README's example, and a Trainer. `make lint` checks it.
#include "../../examples/one_jet.cpp"

rino::StepReport first_step(const rino::Jets<double>& jets) {
  const rino::Recipe recipe = rino::Recipe::preset("nano");
  rino::Trainer trainer(recipe.make_method(), jets, recipe.optimizer(), recipe.training());
  return trainer.step();
}
