#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/device.hpp>
#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/core/placement.hpp>
#include <rino/core/ranks.hpp>
#include <rino/nn/attention.hpp>
#include <rino/nn/batch_norm.hpp>
#include <rino/nn/fused/pairs.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/norm.hpp>
#include <rino/nn/packing.hpp>
#include <rino/nn/pair_features.hpp>
#include <rino/nn/precision.hpp>
#include <rino/tokens/tokens.hpp>

namespace rino {

/// What attention is told of two constituents.
enum class PairBias {
  none,   ///< nothing
  batch,  ///< a bias per head from `pair_features` with batch norms, as published
  layer,  ///< the same with LayerNorms in their place, so that a jet does not depend on its batch
};

template <>
inline constexpr std::array enum_names<PairBias> = {
    std::pair{PairBias::none, std::string_view("none")},
    std::pair{PairBias::batch, std::string_view("batch")},
    std::pair{PairBias::layer, std::string_view("layer")},
};

/// The pairs (i, j) of tokens of each sequence with i <= j, one sequence behind the other, j slowest.
class TokenPairs {
 public:
  explicit TokenPairs(const Tokens& tokens) : tokens_(tokens) {
    for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
      starts_.push_back(starts_.back() + tokens.length(s) * (tokens.length(s) + 1) / 2);
    }
  }

  const std::vector<std::int64_t>& starts() const { return starts_; }  ///< [S+1] first pair of every sequence
  std::int64_t size() const { return starts_.back(); }

  /// Where pieces of whole sequences begin, in sequences, of at most so many pairs where one does not have more.
  std::vector<std::int64_t> pieces(std::int64_t most) const {
    std::vector<std::int64_t> bounds{0};
    for (std::int64_t s = 0; s < tokens_.sequences(); ++s) {
      if (starts_[index(s + 1)] - starts_[index(bounds.back())] > most && s > bounds.back()) {
        bounds.push_back(s);
      }
    }
    bounds.push_back(tokens_.sequences());
    return bounds;
  }

  /// The tokens i and j of the pairs of sequences first to last - 1: int64 [pairs] on the tokens' device.
  std::pair<at::Tensor, at::Tensor> rows(std::int64_t first, std::int64_t last) const {
    const std::int64_t count = starts_[index(last)] - starts_[index(first)];
    const at::Tensor both = at::empty({2, count}, at::kLong);
    auto* i = both.mutable_data_ptr<std::int64_t>();
    auto* j = i + count;
    for (std::int64_t s = first; s < last; ++s) {
      const std::int64_t end = tokens_.first(s) + tokens_.length(s);
      for (std::int64_t b = tokens_.first(s); b < end; ++b) {
        for (std::int64_t a = tokens_.first(s); a <= b; ++a) {
          *i++ = a;
          *j++ = b;
        }
      }
    }
    const at::Tensor there = to_device(both, tokens_.features.device());
    return {there[0], there[1]};
  }

 private:
  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

  const Tokens& tokens_;
  std::vector<std::int64_t> starts_{0};
};

namespace detail {

/// Linear layers on the features of pairs, a batch norm in front and one behind each, then GELU; a piece at a time, so
/// that what is needed for one piece stays in the cache. Of what the layers make, the backward pass finds little: the
/// outputs of the inner products, as far as a budget allows, and computes all else again.
///
/// A batch's statistics are those of all pieces and processes, so that every layer is a pass through all pieces, in
/// either direction.
class PairPass : public torch::CustomClassHolder {
 public:
  using Index = std::int64_t;

  /// @param features    [P, 4].
  /// @param bounds      [pieces + 1] where pieces begin, in pairs.
  /// @param parameters  of norm 0: weight, bias; then of every layer weight and bias, and those of its norm.
  /// @param kept_bytes  at most, of what need not be kept.
  PairPass(at::Tensor features, std::vector<Index> bounds, const std::vector<at::Tensor>& parameters, Index kept_bytes)
      : features_(std::move(features)), bounds_(std::move(bounds)), parameters_(parameters), kept_bytes_(kept_bytes) {
    levels_.resize(parameters.size() / 4 + 1);
  }

  /// @param norms     whose averages move in training.
  /// @param training  whether statistics are the batch's.
  /// @param keep      whether there will be a backward pass.
  at::Tensor forward(std::vector<BatchNorm> norms, bool training, bool keep) {
    training_ = training;
    ranks_ = norms.front()->ranks;
    const std::size_t top = levels_.size() - 1;
    const Index budget = kept_bytes_ / features_.element_size();
    Index inner = 0;
    for (std::size_t k = 1; k < top; ++k) {
      inner += outputs(k);
    }
    keeps_inner_ = keep && features_.size(0) * (inner + outputs(1)) <= budget;
    for (std::size_t k = 0; k <= top; ++k) {
      // The first layer has four inputs: what it makes is sooner computed than fetched.
      const bool kept = k == top ? keep : (k >= 2 && keeps_inner_);
      if (kept) {
        levels_[k].kept = at::empty({features_.size(0), outputs(k)}, features_.options());
      }
      ColumnMoments moments;
      if (training || kept) {
        each_piece([&](Index begin, Index size) {
          const at::Tensor z = kept     ? make(k, begin, size, levels_[k].kept.narrow(0, begin, size))
                               : k == 0 ? features_.narrow(0, begin, size)
                                        : make(k, begin, size);
          if (training) {
            moments.add(z);
          }
        });
      }
      set_statistics(k, *norms[k], moments);
    }
    at::Tensor out = at::empty({features_.size(0), outputs(top)}, features_.options());
    each_piece([&](Index begin, Index size) {
      at::Tensor place = out.narrow(0, begin, size);
      at::gelu_out(place, normalised(top, z(top, begin, size)));
    });
    return out;
  }

  /// Gradients of the constructor's parameters.
  std::vector<at::Tensor> backward(const at::Tensor& d_out) {
    const std::size_t top = levels_.size() - 1;
    std::vector<at::Tensor> gradients(parameters_.size());
    d_out_ = d_out;
    Sums sums = zeros(top);
    each_piece([&](Index begin, Index size) { sums.add(d_normalised(top, begin, size), z(top, begin, size)); });
    if (keeps_inner_) {
      d_kept_ = at::empty({features_.size(0), outputs(1)}, features_.options());
    }
    for (std::size_t k = top; k >= 1; --k) {
      put(k, sums, gradients);
      const std::size_t first = 4 * k - 2;
      gradients[first] = at::zeros_like(parameters_[first]);
      gradients[first + 1] = at::zeros_like(parameters_[first + 1]);
      sums = zeros(k - 1);
      each_piece([&](Index begin, Index size) {
        const at::Tensor d_z = d_made(k, begin, size);
        const at::Tensor below = z(k - 1, begin, size);
        const at::Tensor y = normalised(k - 1, below);
        gradients[first].addmm_(d_z.t(), k == 1 ? y : at::gelu(y));
        gradients[first + 1].add_(d_z.sum(0));
        at::Tensor d_y = d_z.mm(parameters_[first]);
        if (k > 1) {
          at::Tensor place = keeps_inner_ ? d_kept_.narrow(0, begin, size) : d_y;
          d_y = at::gelu_backward_out(place, d_y, y);
        }
        sums.add(d_y, below);
      });
      d_level_ = keeps_inner_ ? k - 1 : d_level_;
    }
    put(0, sums, gradients);
    d_kept_ = at::Tensor();
    return gradients;
  }

 private:
  /// What is known of the outputs z of a layer, or of the features (level 0), once their statistics are.
  struct Level {
    at::Tensor kept;     ///< [P, C] z; undefined where it is computed again
    at::Tensor mean;     ///< [C]
    at::Tensor inverse;  ///< [C] 1 / deviation
    at::Tensor factor;   ///< [C] inverse * weight
    at::Tensor offset;   ///< [C] bias - mean * factor
    at::Tensor d_slope;  ///< [C] the gradient of z is factor times that of what the norm makes + d_slope z + d_start
    at::Tensor d_start;
    double count = 0;
  };

  /// Sums over pairs that the gradients of a norm are made of: of that of what it makes, and of it times z.
  struct Sums {
    at::Tensor d_y, along;
    void add(const at::Tensor& d, const at::Tensor& z) {
      d_y.add_(d.sum(0));
      along.add_((d * z).sum(0));
    }
  };

  template <typename Work>
  void each_piece(const Work& work) const {
    for (std::size_t p = 0; p + 1 < bounds_.size(); ++p) {
      work(bounds_[p], bounds_[p + 1] - bounds_[p]);
    }
  }

  Index outputs(std::size_t k) const { return k == 0 ? features_.size(1) : parameters_[4 * k - 2].size(0); }
  /// Weight of the norm of level k; its bias is behind it.
  const at::Tensor* norm(std::size_t k) const { return &parameters_[4 * k]; }
  Sums zeros(std::size_t k) const {
    return {at::zeros({outputs(k)}, features_.options()), at::zeros({outputs(k)}, features_.options())};
  }

  void set_statistics(std::size_t k, BatchNormImpl& norm_module, const ColumnMoments& own) {
    Level& level = levels_[k];
    at::Tensor variance = norm_module.running_var;
    level.mean = norm_module.running_mean;
    if (training_) {
      const ColumnMoments all = own.over(ranks_, features_.options(), outputs(k));
      level.count = all.count();
      if (all.count() > 0) {
        level.mean = all.mean().to(features_.scalar_type());
        variance = all.variance();
        norm_module.average(level.mean, variance, all.count());
      }
    }
    level.inverse = (variance.to(at::kDouble) + norm_module.options.eps).rsqrt().to(features_.scalar_type());
    level.factor = level.inverse * norm(k)[0];
    level.offset = norm(k)[1] - level.mean * level.factor;
  }

  /// Layer k's outputs, into `to` where it is defined.
  at::Tensor make(std::size_t k, Index begin, Index size, at::Tensor to = {}) const {
    at::Tensor x = normalised(k - 1, z(k - 1, begin, size));
    x = k == 1 ? x : at::gelu_(x);
    const at::Tensor weight = parameters_[4 * k - 2].t();
    return to.defined() ? at::addmm_out(to, parameters_[4 * k - 1], x, weight)
                        : at::addmm(parameters_[4 * k - 1], x, weight);
  }

  at::Tensor z(std::size_t k, Index begin, Index size) const {
    if (k == 0) {
      return features_.narrow(0, begin, size);
    }
    return levels_[k].kept.defined() ? levels_[k].kept.narrow(0, begin, size) : make(k, begin, size);
  }

  at::Tensor normalised(std::size_t k, const at::Tensor& z) const {
    return at::addcmul(levels_[k].offset, z, levels_[k].factor);
  }

  /// The gradient of what norm k makes, for k >= 1.
  at::Tensor d_normalised(std::size_t k, Index begin, Index size) const {
    if (k + 1 == levels_.size()) {
      return at::gelu_backward(d_out_.narrow(0, begin, size), normalised(k, z(k, begin, size)));
    }
    if (d_kept_.defined() && d_level_ == k) {
      return d_kept_.narrow(0, begin, size);
    }
    return at::gelu_backward(d_made(k + 1, begin, size).mm(parameters_[4 * k + 2]), normalised(k, z(k, begin, size)));
  }

  /// The gradient of what layer k makes.
  at::Tensor d_made(std::size_t k, Index begin, Index size) const {
    const Level& level = levels_[k];
    const at::Tensor d = d_normalised(k, begin, size);
    return training_ ? at::addcmul(level.d_start, z(k, begin, size), level.d_slope).addcmul_(d, level.factor)
                     : d * level.factor;
  }

  /// The gradients of a norm, and what those of its inputs need.
  void put(std::size_t k, const Sums& sums, std::vector<at::Tensor>& gradients) {
    Level& level = levels_[k];
    const at::Tensor along = (sums.along - level.mean * sums.d_y) * level.inverse;
    gradients[4 * k] = along;
    gradients[4 * k + 1] = sums.d_y;
    if (training_ && level.count > 0) {
      // factor (d_y - mean of d_y - standardised z times the mean of d_y times that)
      level.d_slope = ranks_.sum(along) / -level.count * level.factor * level.inverse;
      level.d_start = ranks_.sum(sums.d_y) / -level.count * level.factor - level.mean * level.d_slope;
    }
  }

  at::Tensor features_;
  std::vector<Index> bounds_;
  std::vector<at::Tensor> parameters_;
  Index kept_bytes_;
  std::vector<Level> levels_;
  Ranks ranks_;
  bool training_ = false;
  bool keeps_inner_ = false;
  at::Tensor d_out_;
  at::Tensor d_kept_;  ///< [P, width] the gradient of what norm d_level_ makes
  std::size_t d_level_ = 0;
};

/// The pass as autograd sees it.
class PairPassFunction : public torch::autograd::Function<PairPassFunction> {
 public:
  using Context = torch::autograd::AutogradContext;

  static at::Tensor forward(Context* context, at::TensorList parameters, const c10::intrusive_ptr<PairPass>& pass,
                            const std::vector<BatchNorm>& norms, bool training) {
    context->save_for_backward(parameters.vec());  // so that a change before backward is noticed
    context->saved_data["pass"] = c10::IValue::make_capsule(pass);
    return pass->forward(norms, training, /*keep=*/true);
  }

  static torch::autograd::variable_list backward(Context* context, const torch::autograd::variable_list& gradients) {
    require(!at::GradMode::is_enabled(), "second derivatives of a bias of pairs with batch norms were asked for",
            ": choose encoder.pairs = 'layer' or 'none'");
    (void)context->get_saved_variables();
    const Autocast off(Precision::float32, gradients[0].device().type());
    const auto pass = c10::static_intrusive_pointer_cast<PairPass>(context->saved_data["pass"].toCapsule());
    torch::autograd::variable_list result = pass->backward(gradients[0].contiguous());
    result.resize(result.size() + 3);
    return result;
  }
};

/// The same with LayerNorms: nothing is kept, the backward pass computes it again. On the CPU by kernels.
class PairLayers : public torch::autograd::Function<PairLayers> {
 public:
  using Context = torch::autograd::AutogradContext;

  /// @param parameters  of every layer weight and bias, and those of its norm.
  static at::Tensor of(at::Tensor x, at::TensorList parameters, double eps) {
    for (std::size_t p = 0; p < parameters.size(); p += 4) {
      x = at::linear(x, parameters[p], parameters[p + 1]);
      x = at::gelu(at::layer_norm(x, {x.size(1)}, parameters[p + 2], parameters[p + 3], eps));
    }
    return x;
  }

  static at::Tensor forward(Context* context, at::TensorList parameters, const at::Tensor& features, double eps) {
    torch::autograd::variable_list saved = parameters.vec();
    saved.push_back(features);
    context->save_for_backward(std::move(saved));
    context->saved_data["eps"] = eps;
    return is_fused(features, parameters) ? by_kernels(features, parameters, eps, {}) : of(features, parameters, eps);
  }

  static torch::autograd::variable_list backward(Context* context, const torch::autograd::variable_list& gradients) {
    torch::autograd::variable_list parameters = context->get_saved_variables();
    const at::Tensor features = parameters.back();
    parameters.pop_back();
    const double eps = context->saved_data["eps"].toDouble();
    torch::autograd::variable_list result;
    const bool again = at::GradMode::is_enabled();  // whether second derivatives are wanted
    if (!again && is_fused(features, parameters) && gradients[0].scalar_type() == features.scalar_type()) {
      const at::Tensor flat = by_kernels(features, parameters, eps, gradients[0].contiguous());
      std::int64_t begin = 0;
      for (const at::Tensor& parameter : parameters) {
        result.push_back(flat.narrow(0, begin, parameter.numel()).view(parameter.sizes()));
        begin += parameter.numel();
      }
    } else {
      for (at::Tensor& parameter : parameters) {
        parameter = again ? parameter : parameter.detach().requires_grad_();
      }
      const at::AutoGradMode grad(true);
      const Autocast off(Precision::float32, features.device().type());
      result = torch::autograd::grad({of(features, parameters, eps)}, parameters, {gradients[0]}, {}, again);
    }
    result.resize(result.size() + 2);
    return result;
  }

  /// Whether the kernels of the CPU take them.
  static bool is_fused(const at::Tensor& features, at::TensorList parameters) {
    const at::ScalarType type = features.scalar_type();
    return (type == at::kFloat || type == at::kDouble) && features.device().is_cpu() && features.is_contiguous() &&
           std::all_of(parameters.begin(), parameters.end(), [&](const at::Tensor& parameter) {
             return parameter.device().is_cpu() && parameter.scalar_type() == type && parameter.is_contiguous();
           });
  }

 private:
  /// What the layers make, or with the gradient of that the gradients of all parameters.
  static at::Tensor by_kernels(const at::Tensor& features, at::TensorList parameters, double eps,
                               const at::Tensor& gradient) {
    const at::NoGradGuard no_grad;
    const auto run = [&](const auto& pass) { return gradient.defined() ? pass.backward(gradient) : pass.forward(); };
    return features.scalar_type() == at::kDouble ? run(fused::PairPass<double>(features, parameters, eps))
                                                 : run(fused::PairPass<float>(features, parameters, eps));
  }
};

}  // namespace detail

/// Options of `PairEmbedding`.
struct PairEmbeddingOptions {
  std::int64_t heads;
  std::int64_t width = 64;          ///< of the three inner layers
  PairBias kind = PairBias::batch;  ///< not `none`
  double norm_eps = 1e-5;
};

/// One bias per head of attention for every pair of constituents, from their `pair_features`: four linear layers, a
/// norm and GELU behind each. With batch norms there is one of the features, too; its statistics are those of the pairs
/// i <= j of all sequences on all processes. LayerNorms look at one pair alone, and not at the features, of which four
/// numbers would be left two.
///
/// Source: Qu, Li, Qian, arXiv:2202.03772, section 3 ("particle interactions"), and the authors' code.
class PairEmbeddingImpl : public torch::nn::Cloneable<PairEmbeddingImpl> {
 public:
  /// @throws rino::Error for a width below 1.
  explicit PairEmbeddingImpl(const PairEmbeddingOptions& options) : options(options) {
    require(options.width >= 1, "pair_width is ", options.width, ": choose 1 or more");
    reset();
  }

  void reset() override {
    constexpr std::int64_t inner_layers = 3;
    std::int64_t in = static_cast<std::int64_t>(kPairFeatures.size());
    layers = register_module("layers", torch::nn::ModuleList());
    norms = register_module("norms", torch::nn::ModuleList());
    if (batch()) {
      norms->push_back(BatchNorm(BatchNormOptions{.width = in, .eps = options.norm_eps}));
    }
    for (std::int64_t layer = 0; layer <= inner_layers; ++layer) {
      const std::int64_t out = layer < inner_layers ? options.width : options.heads;
      layers->push_back(Linear(LinearOptions{in, out}));
      if (batch()) {
        norms->push_back(BatchNorm(BatchNormOptions{.width = out, .eps = options.norm_eps}));
      } else {
        norms->push_back(Norm(NormOptions{.width = out, .eps = options.norm_eps}));
      }
      in = out;
    }
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::PairEmbedding(" << options.heads << " heads, width " << options.width << ", "
           << to_string(options.kind) << " norms)";
  }

  bool batch() const { return options.kind == PairBias::batch; }

  /// [pairs, heads], in the order of `TokenPairs`; 0 for pairs with a token that is masked. No gradient goes to
  /// momenta.
  /// @throws rino::Error for tokens without momenta.
  at::Tensor forward(const Tokens& tokens) {
    require(tokens.momenta.defined(), "the encoder looks at pairs of constituents and the tokens have no momenta",
            ": make them with Encoder.tokenize, or tokenize(..., momenta=True)");
    const TokenPairs pairs(tokens);
    const std::vector<std::int64_t> pieces = pairs.pieces(piece > 0                                      ? piece
                                                          : wants_much_at_once(tokens.features.device()) ? kGpuPiece
                                                                                                         : kCpuPiece);
    std::vector<std::int64_t> bounds;
    std::vector<at::Tensor> features;
    std::vector<at::Tensor> hidden;
    {
      const at::NoGradGuard no_grad;
      for (std::size_t p = 0; p + 1 < pieces.size(); ++p) {
        const auto [i, j] = pairs.rows(pieces[p], pieces[p + 1]);
        const at::Tensor momenta = tokens.momenta.detach();
        features.push_back(pair_features(momenta.index_select(0, i), momenta.index_select(0, j)).to(type()));
        bounds.push_back(pairs.starts()[static_cast<std::size_t>(pieces[p])]);
        if (tokens.masked.defined()) {
          hidden.push_back(tokens.masked.index_select(0, i).logical_or(tokens.masked.index_select(0, j)));
        }
      }
      bounds.push_back(pairs.size());
    }
    const Autocast off(Precision::float32, tokens.features.device().type());
    const at::Tensor bias = batch() ? by_batch(at::cat(features), std::move(bounds)) : by_layer(std::move(features));
    return hidden.empty() ? bias : bias.masked_fill(at::cat(hidden).unsqueeze(1), 0);
  }

  PairEmbeddingOptions options;
  std::int64_t kept_bytes = std::int64_t{1} << 30;  ///< that training keeps of pairs at most; the rest is found again
  std::int64_t piece = 0;                           ///< pairs at a time; 0: as suits the device
  torch::nn::ModuleList layers{nullptr};
  torch::nn::ModuleList norms{nullptr};

 private:
  at::ScalarType type() const { return layers->ptr(0)->as<LinearImpl>()->weight.scalar_type(); }

  /// Of every layer weight and bias, and those of its norm; of batch norms those in front first.
  std::vector<at::Tensor> parameters_in_order() const {
    std::vector<at::Tensor> parameters;
    const auto add = [&](const auto& layer) { parameters.insert(parameters.end(), {layer.weight, layer.bias}); };
    if (batch()) {
      add(*norms->ptr(0)->as<BatchNormImpl>());
    }
    for (std::size_t k = 0; k < layers->size(); ++k) {
      add(*layers->ptr(k)->as<LinearImpl>());
      if (batch()) {
        add(*norms->ptr(k + 1)->as<BatchNormImpl>());
      } else {
        add(*norms->ptr(k)->as<NormImpl>());
      }
    }
    return parameters;
  }

  at::Tensor by_batch(const at::Tensor& features, std::vector<std::int64_t> bounds) {
    const std::vector<at::Tensor> parameters = parameters_in_order();
    std::vector<at::Tensor> values;
    for (const at::Tensor& parameter : parameters) {
      values.push_back(parameter.detach());
    }
    std::vector<BatchNorm> all;
    for (const auto& norm : *norms) {
      all.emplace_back(std::dynamic_pointer_cast<BatchNormImpl>(norm));
    }
    const auto pass = c10::make_intrusive<detail::PairPass>(features, std::move(bounds), values, kept_bytes);
    const bool wanted = at::GradMode::is_enabled() && std::any_of(parameters.begin(), parameters.end(),
                                                                  [](const auto& p) { return p.requires_grad(); });
    return wanted ? detail::PairPassFunction::apply(at::TensorList(parameters), pass, all, is_training())
                  : pass->forward(all, is_training(), /*keep=*/false);
  }

  at::Tensor by_layer(std::vector<at::Tensor> features) {
    const std::vector<at::Tensor> parameters = parameters_in_order();
    if (!features.empty() && detail::PairLayers::is_fused(features.front(), parameters)) {
      features = {at::cat(features)};  // kernels have pieces of their own
    }
    std::vector<at::Tensor> parts{at::empty({0, options.heads}, parameters.front().options().requires_grad(false))};
    for (const at::Tensor& piece : features) {
      parts.push_back(detail::PairLayers::apply(at::TensorList(parameters), piece, options.norm_eps));
    }
    return at::cat(parts);
  }

  static constexpr std::int64_t kCpuPiece = std::int64_t{1} << 12;  ///< pairs whose 64 values fit a core's cache
  static constexpr std::int64_t kGpuPiece = std::int64_t{1} << 21;
};

TORCH_MODULE(PairEmbedding);

/// The bias of every run of a plan from that of pairs.
///
/// @param bias     [pairs, heads].
/// @param starts   [S] first pair of every sequence in packed order.
/// @param lengths  [S] rows of every sequence in packed order.
/// @param own      rows in front of a sequence's tokens that are no tokens: their bias is 0.
/// @param packing  of these sequences, without runs for kernels that take sequences of any lengths.
inline AttentionBias bias_of_runs(const at::Tensor& bias, const std::vector<std::int64_t>& starts,
                                  const std::vector<std::int64_t>& lengths, std::int64_t own, const Packing& packing) {
  AttentionBias of_runs;
  const at::Tensor rows = at::cat({bias, at::zeros({1, bias.size(1)}, bias.options())});
  std::size_t s = 0;
  for (const PackedRun& run : packing.runs) {
    const auto count = static_cast<std::size_t>(run.sequences);
    const auto column = [&](const std::vector<std::int64_t>& values) {
      return index_tensor(std::span(values).subspan(s, count), bias.device()).view({-1, 1, 1});
    };
    const at::Tensor place = at::arange(-own, run.length - own, at::TensorOptions(bias.device()).dtype(at::kLong));
    const at::Tensor low = at::minimum(place.unsqueeze(0), place.unsqueeze(1));
    const at::Tensor high = at::maximum(place.unsqueeze(0), place.unsqueeze(1));
    const at::Tensor pair = column(starts) + (at::floor_divide(high * (high + 1), 2) + low);
    const at::Tensor is_pair = low.ge(0).logical_and(high.lt(column(lengths) - own));
    const at::Tensor picked = at::where(is_pair, pair, bias.size(0)).view(-1);
    const at::Tensor expanded =
        rows.index_select(0, picked).view({run.sequences, run.length, run.length, -1}).permute({0, 3, 1, 2});
    of_runs.push_back(run.dense() ? expanded : expanded + run.bias);
    s += count;
  }
  return of_runs;
}

}  // namespace rino
