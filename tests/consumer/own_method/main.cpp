// Trains the method that a recipe names, and shows its charts: consumer RECIPE.toml
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

#include <rino/recipe/toml.hpp>
#include <rino/rino.hpp>

#include "my_method.hpp"

int main(int count, char** arguments) {
  add_hardness();
  const rino::Recipe recipe = count > 1 ? rino::read_recipe(arguments[1]) : rino::Recipe("hardness");
  std::cout << recipe.method() << " with an encoder of width " << recipe.encoder().width << "\n";

  rino::Trainer trainer(recipe.make_method(), rino::toy_shower<double>({.jets = 256}, /*seed=*/1), recipe.optimizer(),
                        recipe.training());
  std::map<std::string, double> first;
  std::map<std::string, double> last;
  while (!trainer.done()) {
    for (const auto& [name, value] : trainer.step().metrics) {
      first.try_emplace(name, value);
      last[name] = value;
    }
  }
  for (const rino::Chart& chart : rino::Registry::method(recipe.method()).charts) {
    std::cout << "chart '" << chart.title << "'\n";
    for (const auto& [name, words] : chart.lines) {
      std::cout << "  " << words << ": " << first.at(name) << " to " << last.at(name) << "\n";
    }
  }
  return last.at("error") < first.at("error") ? EXIT_SUCCESS : EXIT_FAILURE;
}
