#include <cstdlib>
#include <iostream>

#include <rino/jets/toy_shower.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/tokens/view_tokenizer.hpp>

int main() {
  const auto jets = rino::toy_shower<float>({.jets = 1}, /*seed=*/1);
  rino::JetEncoder encoder(rino::JetEncoderOptions::preset("nano"));
  rino::initialize(*encoder, /*seed=*/1);
  encoder->eval();
  const at::Tensor embedding = encoder(rino::ViewTokenizer()(jets, {rino::subjets(8)})).jets;
  std::cout << "rino " << RINO_VERSION << "\n" << embedding << "\n";
  return embedding.size(1) == 32 && embedding.isfinite().all().item<bool>() ? EXIT_SUCCESS : EXIT_FAILURE;
}
