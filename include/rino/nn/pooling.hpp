#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/named_enum.hpp>
#include <rino/core/placement.hpp>
#include <rino/nn/module.hpp>
#include <rino/tokens/tokens.hpp>

namespace rino {

/// What of a sequence is the jet's embedding.
enum class Pooling {
  token,      ///< the class token: [S, width]
  mean,       ///< the mean over the constituents: [S, width]
  attention,  ///< their mean with learned weights: [S, width]
  both,       ///< class token and mean side by side: [S, 2 width]
  all,        ///< the mean over registers and constituents: [S, width]
};

template <>
inline constexpr std::array enum_names<Pooling> = {
    std::pair{Pooling::token, std::string_view("token")},
    std::pair{Pooling::mean, std::string_view("mean")},
    std::pair{Pooling::attention, std::string_view("attention")},
    std::pair{Pooling::both, std::string_view("both")},
    std::pair{Pooling::all, std::string_view("all")},
};

/// Options of `Pool`.
struct PoolOptions {
  std::int64_t width;
  Pooling kind = Pooling::token;
};

/// The sum of each sequence's rows: [T, width] -> [S, width].
inline at::Tensor sum_by_sequence(const at::Tensor& x, const Tokens& tokens) {
  std::vector<std::int64_t> sequence;
  sequence.reserve(static_cast<std::size_t>(tokens.offsets.back()));
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    sequence.insert(sequence.end(), static_cast<std::size_t>(tokens.length(s)), s);
  }
  const at::Tensor of = index_tensor(std::span<const std::int64_t>(sequence), x.device());
  return at::zeros({tokens.sequences(), x.size(1)}, x.options()).index_add(0, of, x);
}

/// The jets' embeddings from the rows that an encoder ends with.
///
/// The weights of `Pooling::attention` are softmax(query . x / sqrt(width)) within each sequence, of one learned query
/// (Vaswani et al., arXiv:1706.03762, with the rows themselves as keys and values); initial values from N(0, 0.02).
class PoolImpl : public Leaf<PoolImpl> {
 public:
  explicit PoolImpl(const PoolOptions& options) : options(options) { reset(); }

  void reset() override {
    if (options.kind == Pooling::attention) {
      own("query", &PoolImpl::query, torch::zeros({options.width}));
    }
  }

  void initialize(const at::Generator& generator) override {
    torch::NoGradGuard no_grad;
    if (query.defined()) {
      query.normal_(0.0, 0.02, generator);
    }
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::Pool(" << to_string(options.kind) << " of " << options.width << ")";
  }

  /// @param class_rows    [S, width]; not looked at, and may be undefined, but with `Pooling::token` and `both`.
  /// @param registers     [S, R, width], or undefined for none.
  /// @param constituents  [T, width], of the tokens in their order.
  /// @param tokens        whose sequences they are.
  /// @returns             [S, width], or [S, 2 width] with `Pooling::both`.
  at::Tensor forward(const at::Tensor& class_rows, const at::Tensor& registers, const at::Tensor& constituents,
                     const Tokens& tokens) const {
    switch (options.kind) {
      case Pooling::all:
        return mean(constituents, tokens, registers);
      case Pooling::mean:
        return mean(constituents, tokens);
      case Pooling::attention:
        return weighted_mean(constituents, tokens);
      case Pooling::both:
        return at::cat({class_rows, mean(constituents, tokens)}, 1);
      default:
        return class_rows;
    }
  }

  PoolOptions options;
  at::Tensor query;  ///< [width]; undefined unless `Pooling::attention`

 private:
  static at::Tensor index(const std::vector<std::int64_t>& values, const at::Tensor& x) {
    return index_tensor(std::span<const std::int64_t>(values), x.device());
  }

  /// Of each sequence's rows, and of what all sequences have `more` [S, M, width] of.
  static at::Tensor mean(const at::Tensor& x, const Tokens& tokens, const at::Tensor& more = {}) {
    std::vector<std::int64_t> counts;
    for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
      counts.push_back(tokens.length(s) + (more.defined() ? more.size(1) : 0));
    }
    const at::Tensor own = sum_by_sequence(x, tokens);
    return (more.defined() ? own + more.sum(1) : own) / index(counts, x).unsqueeze(1);
  }

  at::Tensor weighted_mean(const at::Tensor& x, const Tokens& tokens) const {
    std::int64_t longest = 0;
    for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
      longest = std::max(longest, tokens.length(s));
    }
    // One number per token: padding these costs little and makes it an ordinary softmax.
    std::vector<std::int64_t> slots;
    slots.reserve(static_cast<std::size_t>(tokens.offsets.back()));
    for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
      for (std::int64_t i = 0; i < tokens.length(s); ++i) {
        slots.push_back(s * longest + i);
      }
    }
    const at::Tensor slot = index(slots, x);
    const at::Tensor scores = (x * query).sum(1) / std::sqrt(static_cast<double>(options.width));
    const at::Tensor weights =
        at::full({tokens.sequences() * longest}, -std::numeric_limits<double>::infinity(), scores.options())
            .index_copy(0, slot, scores)
            .view({tokens.sequences(), longest})
            .softmax(1)
            .view(-1)
            .index_select(0, slot);
    return sum_by_sequence(x * weights.unsqueeze(1), tokens);
  }
};

TORCH_MODULE(Pool);

}  // namespace rino
