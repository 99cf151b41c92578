#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/module.h>

#include <rino/core/error.hpp>
#include <rino/core/ranks.hpp>

namespace rino {

/// A new random generator of a device, independent of LibTorch's global one.
inline at::Generator make_generator(at::Device device, std::uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(seed);
  return generator;
}

/// What every module that holds tensors of its own lets others do with them.
///
/// LibTorch's own leaves keep copies of their tensor handles where nobody can reach them. Ours can be given other
/// tensors at any time: the Trainer puts them into one flat buffer, Python's `torch.nn.Module` shell shares its own.
class TensorOwner {
 public:
  virtual ~TensorOwner() = default;
  /// The names of the module's own tensors, in the order of their registration.
  virtual std::vector<std::string> tensor_names() const = 0;
  /// The tensor of a name. @throws rino::Error if there is none.
  virtual const at::Tensor& tensor(const std::string& name) const = 0;
  /// The shape that the tensor of a name was made with. @throws rino::Error if there is none.
  virtual at::IntArrayRef sizes(const std::string& name) const = 0;
  /// From now on `name` is this tensor: no copy. @throws rino::Error if there is none or the shape differs.
  virtual void rebind(const std::string& name, const at::Tensor& tensor) = 0;
  /// Draws new initial values from `generator` (of the CPU).
  virtual void initialize(const at::Generator& generator) = 0;
  /// Where random decisions of the forward pass come from; nothing: LibTorch's global generator.
  virtual void set_generator(const std::optional<at::Generator>& /*generator*/) {}
  /// With which processes the batch is shared, for what depends on all of it.
  virtual void connect(const Ranks& /*ranks*/) {}
  /// Whether the result for one sequence depends, in training, on the others of its batch.
  virtual bool mixes_batch() const { return false; }
  /// Whether a tensor is no parameter but kept beside them, as a moving average: it has no gradient.
  virtual bool is_buffer(const std::string& name) const = 0;
};

/// Base of our leaf modules: `torch::nn::Cloneable` and `TensorOwner` in one.
template <typename Derived>
class Leaf : public torch::nn::Cloneable<Derived>, public TensorOwner {
 public:
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const Owned& owned : owned_) {
      names.push_back(owned.name);
    }
    return names;
  }

  const at::Tensor& tensor(const std::string& name) const override { return derived().*find(name).member; }

  at::IntArrayRef sizes(const std::string& name) const override { return find(name).sizes; }

  void rebind(const std::string& name, const at::Tensor& tensor) override {
    const Owned& owned = find(name);
    require(tensor.sizes() == owned.sizes, "'", name, "' has shape ", at::IntArrayRef(owned.sizes), " and was given ",
            tensor.sizes(), ": give a tensor of the same shape");
    at::Tensor& mine = static_cast<Derived&>(*this).*owned.member;
    if (owned.buffer) {  // LibTorch lets nobody exchange a module's buffer
      mine.set_data(tensor);
    } else {
      mine = tensor;
      this->parameters_[name] = tensor;
    }
  }

  bool is_buffer(const std::string& name) const override { return find(name).buffer; }

  /// Whether `holds` is true of every tensor and the shape that it was made with.
  template <typename Predicate>
  bool all_tensors(const Predicate& holds) const {
    return std::all_of(owned_.begin(), owned_.end(), [&](const Owned& owned) {
      return holds(derived().*owned.member, at::IntArrayRef(owned.sizes));
    });
  }

 protected:
  using Member = at::Tensor Derived::*;

  /// Registers `value` as the trainable tensor `name` and keeps it in `member`. Called from reset(), again on clones;
  /// pointers to members stay right when LibTorch clones a module by assignment.
  void own(const std::string& name, Member member, const at::Tensor& value) {
    static_cast<Derived&>(*this).*member = this->register_parameter(name, value);
    remember({name, member, value.sizes().vec(), /*buffer=*/false});
  }

  /// The same of a tensor that is no parameter: saved, moved and copied with them.
  void own_buffer(const std::string& name, Member member, const at::Tensor& value) {
    static_cast<Derived&>(*this).*member = this->register_buffer(name, value);
    remember({name, member, value.sizes().vec(), /*buffer=*/true});
  }

 private:
  /// A tensor of this module: its name, where it is kept and the shape it was made with.
  struct Owned {
    std::string name;
    Member member;
    std::vector<std::int64_t> sizes;
    bool buffer;
  };

  void remember(Owned owned) {
    if (std::none_of(owned_.begin(), owned_.end(), [&](const Owned& known) { return known.name == owned.name; })) {
      owned_.push_back(std::move(owned));
    }
  }

  const Derived& derived() const { return static_cast<const Derived&>(*this); }

  const Owned& find(const std::string& name) const {
    for (const Owned& owned : owned_) {
      if (owned.name == name) {
        return owned;
      }
    }
    fail("there is no tensor '", name, "' in ", this->name(), ": see tensor_names()");
  }

  std::vector<Owned> owned_;
};

/// One tensor of a tree of modules: its dotted name, as in state_dict, and the leaf that holds it.
struct TensorSlot {
  std::string name;
  TensorOwner* owner;
  std::string leaf_name;

  const at::Tensor& tensor() const { return owner->tensor(leaf_name); }
  bool is_buffer() const { return owner->is_buffer(leaf_name); }
  void rebind(const at::Tensor& tensor) const { owner->rebind(leaf_name, tensor); }
  /// @throws rino::Error unless `tensor` is of the shape that this one was made with.
  void require_shape(const at::Tensor& tensor) const {
    require(tensor.sizes() == owner->sizes(leaf_name), "'", name, "' has shape ", tensor.sizes(),
            " but it was made with ", owner->sizes(leaf_name), ": give it a tensor of that shape");
  }
};

/// All tensors below `module`, in the order of their registration. The module must outlive them.
inline std::vector<TensorSlot> tensor_slots(const torch::nn::Module& module) {
  std::vector<TensorSlot> slots;
  for (const auto& item : module.named_modules()) {
    if (auto* owner = dynamic_cast<TensorOwner*>(item.value().get())) {
      for (const std::string& name : owner->tensor_names()) {
        slots.push_back({item.key().empty() ? name : item.key() + "." + name, owner, name});
      }
    }
  }
  return slots;
}

/// From now on the tensors below `module` are these, in the order of `tensor_slots`.
/// @throws rino::Error naming the first that is of another shape; nothing was changed then.
inline void rebind(const torch::nn::Module& module, const std::vector<at::Tensor>& tensors) {
  const std::vector<TensorSlot> slots = tensor_slots(module);
  require(slots.size() == tensors.size(), tensors.size(), " tensors were given for ", slots.size());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    slots[i].require_shape(tensors[i]);
  }
  for (std::size_t i = 0; i < slots.size(); ++i) {
    slots[i].rebind(tensors[i]);
  }
}

namespace detail {

template <typename Visit>
void for_each_owner(const torch::nn::Module& module, const Visit& visit) {
  for (const auto& child : module.modules()) {
    if (auto* owner = dynamic_cast<TensorOwner*>(child.get())) {
      visit(*owner);
    }
  }
}

}  // namespace detail

/// Draws the initial values of all tensors below `module`, which lie on the CPU, from `seed` alone.
inline void initialize(const torch::nn::Module& module, std::uint64_t seed) {
  const at::Generator generator = make_generator(at::kCPU, seed);
  detail::for_each_owner(module, [&](TensorOwner& owner) { owner.initialize(generator); });
}

/// Makes every random decision of later forward passes (dropout) come from `generator`.
inline void set_generator(const torch::nn::Module& module, const std::optional<at::Generator>& generator) {
  detail::for_each_owner(module, [&](TensorOwner& owner) { owner.set_generator(generator); });
}

/// Tells all modules below `module` with which processes a batch is shared.
inline void connect(const torch::nn::Module& module, const Ranks& ranks) {
  detail::for_each_owner(module, [&](TensorOwner& owner) { owner.connect(ranks); });
}

/// Whether, in training, what becomes of a sequence depends on the others of its batch.
inline bool mixes_batch(const torch::nn::Module& module) {
  bool mixes = false;
  detail::for_each_owner(module, [&](const TensorOwner& owner) { mixes = mixes || owner.mixes_batch(); });
  return mixes;
}

/// Number of trainable values.
inline std::int64_t parameter_count(const torch::nn::Module& module) {
  std::int64_t count = 0;
  for (const TensorSlot& slot : tensor_slots(module)) {
    count += slot.is_buffer() ? 0 : slot.tensor().numel();
  }
  return count;
}

}  // namespace rino
