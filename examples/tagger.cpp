// Runs a tagger that was trained with pyrino: tagger FILE [JETS]
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <string>

#include <rino/recipe/weights.hpp>
#include <rino/rino.hpp>

int main(int count, char** arguments) {
  if (count < 2) {
    std::cerr << "tagger FILE [JETS]: runs/tagger/tagger.safetensors, for example\n";
    return EXIT_FAILURE;
  }
  try {
    const rino::Tagger tagger = rino::read_tagger(arguments[1]);
    // Your own jets, in GeV: rino::Jets<double>::from_spans(px, py, pz, e, offsets).
    const auto jets = rino::toy_shower<double>({.jets = count > 2 ? std::stoll(arguments[2]) : 5}, /*seed=*/1);
    // A score each, or one number per class or target.
    const at::Tensor scores = tagger.scores(jets).view({jets.size(), -1});
    std::cout << std::setprecision(17);
    for (std::int64_t j = 0; j < jets.size(); ++j) {
      for (std::int64_t output = 0; output < scores.size(1); ++output) {
        std::cout << (output > 0 ? " " : "") << scores[j][output].item<double>();
      }
      std::cout << '\n';
    }
  } catch (const rino::Error& error) {
    std::cerr << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
