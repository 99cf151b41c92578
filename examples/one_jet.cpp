#include <iostream>

#include <rino/rino.hpp>

int main() {
  // Your own jets, in GeV: rino::Jets<double>::from_spans(px, py, pz, e, offsets).
  const auto jets = rino::toy_shower<double>({.jets = 1}, /*seed=*/7);

  const std::vector flow{rino::subjets(1), rino::subjets(2), rino::subjets(8), rino::particles()};
  const auto views = rino::ViewGenerator<double, rino::Kt>(flow, {.radius = 0.8})(jets);
  for (const auto& view : views) {
    std::cout << view.multiplicity(0) << " subjets: pT = " << rino::pt(view.four_momentum(0)) << " GeV, the hardest "
              << rino::pt(view.constituent(0)) << " GeV\n";
  }

  rino::JetEncoder encoder(rino::JetEncoderOptions::preset("nano"));
  rino::initialize(*encoder, /*seed=*/1);
  encoder->eval();
  const rino::Tokens tokens = rino::tokenize(jets, std::span(views), {});
  std::cout << encoder->embed_jets(tokens).slice(0, 3) << '\n';  // [1, 32]: of the jet with all its constituents
}
