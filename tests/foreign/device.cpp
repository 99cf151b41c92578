/// A device for tests, PyTorch's PrivateUse1 by the name "foreign": two of them, whose memory host code cannot touch.
///
/// Every address of a tensor there is `kShift` behind the memory that holds its values, in a range of addresses that
/// nobody may read or write: whoever takes it for memory of the host ends with SIGSEGV. Kernels are the CPU's, by way
/// of a fallback for all operators, which counts them and refuses what a GPU refuses: tensors of several devices
/// (numbers apart). New memory is full of NaN.
///
/// What else it restates of CUDA: the two operators of attention for packed sequences with the limits of their kernels,
/// autocast's lists, generators of its own, pinned memory, and which operators make the host wait.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

using torch::jit::Stack;

constexpr c10::DeviceType kForeign = c10::DeviceType::PrivateUse1;
constexpr c10::DeviceIndex kDevices = 2;

// --- what happened ---

struct Log {
  std::mutex mutex;
  std::map<std::string, std::int64_t> kernels;  ///< by operator
  std::map<std::string, std::int64_t> waits;    ///< of the host for the device, by what it waited for
  std::int64_t unseeded = 0;                    ///< draws from the default generator
};

Log& log() {
  static Log instance;
  return instance;
}

void note(std::map<std::string, std::int64_t> Log::* counts, const std::string& name) {
  const std::scoped_lock lock(log().mutex);
  ++(log().*counts)[name];
}

/// After an error of a kernel all calls of CUDA fail, until the process ends.
std::atomic<bool> failed = false;

/// A kernel begins.
void started(const std::string& name) {
  TORCH_CHECK(!failed, "foreign error: an illegal memory access was encountered");
  note(&Log::kernels, name);
}

/// CUDA's kernels of these wait to know how large the result is, or whether there is an error.
bool waits_for_size(const std::string& name) {
  static const std::set<std::string> names{"aten::nonzero",        "aten::masked_select", "aten::_unique2",
                                           "aten::unique_dim",     "aten::equal",         "aten::bincount",
                                           "aten::linalg_eigh",    "aten::_linalg_eigh",  "aten::_linalg_svd",
                                           "aten::linalg_svd",     "aten::_linalg_solve", "aten::unique_consecutive",
                                           "aten::linalg_cholesky"};
  return names.contains(name);
}

// --- memory ---

/// Addresses: first what holds the values, then, as many, what tensors say where they lie. A half for each device.
class Arena {
 public:
  static Arena& get() {
    static auto* const arena = new Arena;  // tensors may outlive everything
    return *arena;
  }

  void* allocate(std::size_t bytes, c10::DeviceIndex device) {
    std::size_t size = 512;  // as CUDA aligns
    while (size < bytes) {
      size *= 2;
    }
    const std::scoped_lock lock(mutex_);
    std::size_t place = 0;
    std::vector<std::size_t>& free = free_[static_cast<std::size_t>(device)][size];
    if (free.empty()) {
      std::size_t& end = end_[static_cast<std::size_t>(device)];
      TORCH_CHECK_WITH(OutOfMemoryError, end + size <= kHalf, "the foreign device is out of memory");
      place = static_cast<std::size_t>(device) * kHalf + end;
      end += size;
    } else {
      place = free.back();
      free.pop_back();
    }
    std::memset(begin_ + place, 0xff, bytes);
    sizes_[place] = {size, device};
    const auto at = static_cast<std::size_t>(device);
    used_[at] += size;
    most_[at] = std::max(most_[at], used_[at]);
    return begin_ + kShift + place;
  }

  void release(void* pointer) {
    const std::scoped_lock lock(mutex_);
    const std::size_t place = static_cast<std::size_t>(static_cast<char*>(pointer) - begin_) - kShift;
    const auto [size, device] = sizes_.at(place);
    used_[static_cast<std::size_t>(device)] -= size;
    free_[static_cast<std::size_t>(device)][size].push_back(place);
  }

  /// Most bytes in use at once on each device, since it was last asked.
  std::vector<std::int64_t> most() {
    const std::scoped_lock lock(mutex_);
    std::vector<std::int64_t> found(most_.begin(), most_.end());
    most_ = used_;
    return found;
  }

  /// Where the values are of what lies at an address of the device.
  static void* values_of(const void* pointer) {
    return pointer == nullptr ? nullptr : static_cast<char*>(const_cast<void*>(pointer)) - kShift;
  }

  c10::DeviceIndex device_of(const void* pointer) const {
    return static_cast<const char*>(pointer) - begin_ < static_cast<std::ptrdiff_t>(kShift + kHalf) ? 0 : 1;
  }

 private:
  static constexpr std::size_t kHalf = std::size_t{1} << 34;
  static constexpr std::size_t kShift = kDevices * kHalf;

  Arena() {
    void* const all = mmap(nullptr, 2 * kShift, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(all != MAP_FAILED && mprotect(all, kShift, PROT_READ | PROT_WRITE) == 0,
                "no addresses are left for the foreign device: raise the limit of virtual memory (ulimit -v)");
    begin_ = static_cast<char*>(all);
  }

  char* begin_ = nullptr;
  std::mutex mutex_;
  std::array<std::size_t, kDevices> end_{};
  std::array<std::map<std::size_t, std::vector<std::size_t>>, kDevices> free_;
  std::map<std::size_t, std::pair<std::size_t, c10::DeviceIndex>> sizes_;
  std::array<std::size_t, kDevices> used_{};
  std::array<std::size_t, kDevices> most_{};
};

thread_local c10::DeviceIndex current_device = 0;

class Memory final : public at::Allocator {
 public:
  at::DataPtr allocate(std::size_t bytes) override {
    void* const pointer = bytes == 0 ? nullptr : Arena::get().allocate(bytes, current_device);
    return {pointer, pointer, &release, c10::Device(kForeign, current_device)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(Arena::values_of(to), Arena::values_of(from), bytes);
  }

 private:
  static void release(void* pointer) {
    if (pointer != nullptr) {
      Arena::get().release(pointer);
    }
  }
};

Memory& memory() {
  static Memory instance;
  return instance;
}
REGISTER_ALLOCATOR(kForeign, &memory())

/// Memory of the host that counts as pinned.
class Pinned final : public at::HostAllocator {
 public:
  bool record_event(void* /*pointer*/, void* /*context*/, c10::Stream /*stream*/) override { return true; }
  void empty_cache() override {}
  at::HostStats get_stats() override { return {}; }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
  at::DataPtr allocate(std::size_t bytes) override {
    void* const pointer = std::aligned_alloc(64, (std::max<std::size_t>(bytes, 1) + 63) / 64 * 64);
    const std::scoped_lock lock(mutex());
    ranges()[static_cast<char*>(pointer)] = bytes;
    return {pointer, pointer, &release, at::kCPU};
  }
  at::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }

  static bool has(const void* pointer) {
    const std::scoped_lock lock(mutex());
    auto place = ranges().upper_bound(static_cast<char*>(const_cast<void*>(pointer)));
    if (place == ranges().begin()) {
      return false;
    }
    --place;
    return static_cast<const char*>(pointer) < place->first + std::max<std::size_t>(place->second, 1);
  }

 private:
  static void release(void* pointer) {
    {
      const std::scoped_lock lock(mutex());
      ranges().erase(static_cast<char*>(pointer));
    }
    std::free(pointer);
  }
  static std::mutex& mutex() {
    static auto* const instance = new std::mutex;
    return *instance;
  }
  static std::map<char*, std::size_t>& ranges() {
    static auto* const instance = new std::map<char*, std::size_t>;
    return *instance;
  }
};

Pinned& pinned() {
  static auto* const instance = new Pinned;
  return *instance;
}
REGISTER_HOST_ALLOCATOR(kForeign, &pinned())

// --- devices, generators ---

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return kForeign; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return {kForeign, current_device}; }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.type() == kForeign && device.index() < kDevices, "there is no ", device);
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) {
      current_device = device.index();
    }
  }
  c10::Stream getStream(c10::Device device) const override { return stream(device); }
  c10::Stream getDefaultStream(c10::Device device) const override { return stream(device); }
  c10::Stream exchangeStream(c10::Stream other) const override { return stream(other.device()); }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }
  void record(void** /*event*/, const c10::Stream& /*stream*/, const c10::DeviceIndex /*index*/,
              const c10::EventFlag /*flag*/) const override {}
  void block(void* /*event*/, const c10::Stream& /*stream*/) const override {}
  bool queryEvent(void* /*event*/) const override { return true; }
  bool queryStream(const c10::Stream& /*stream*/) const override { return true; }
  void synchronizeStream(const c10::Stream& /*stream*/) const override { note(&Log::waits, "a stream"); }
  void synchronizeDevice(const c10::DeviceIndex /*index*/) const override { note(&Log::waits, "all streams"); }

 private:
  static c10::Stream stream(c10::Device device) { return c10::Stream(c10::Stream::DEFAULT, device); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

/// A generator of the device that draws what one of the CPU draws.
class ForeignGenerator final : public c10::GeneratorImpl {
 public:
  ForeignGenerator(c10::DeviceIndex device, at::Generator drawing)
      : GeneratorImpl(c10::Device(kForeign, device), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        drawing(std::move(drawing)) {}

  void set_current_seed(std::uint64_t seed) override { drawing.set_current_seed(seed); }
  void set_offset(std::uint64_t offset) override { drawing.set_offset(offset); }
  std::uint64_t get_offset() const override { return drawing.get_offset(); }
  std::uint64_t current_seed() const override { return drawing.current_seed(); }
  std::uint64_t seed() override { return drawing.seed(); }
  void set_state(const c10::TensorImpl& state) override { drawing.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return drawing.unsafeGetGeneratorImpl()->get_state();
  }

  at::Generator drawing;

 private:
  ForeignGenerator* clone_impl() const override { return new ForeignGenerator(device().index(), drawing.clone()); }
};

at::Generator new_generator(c10::DeviceIndex device, std::uint64_t seed) {
  return at::Generator(c10::make_intrusive<ForeignGenerator>(device, at::detail::createCPUGenerator(seed)));
}

const at::Generator& default_generator(c10::DeviceIndex device) {
  static std::array<at::Generator, kDevices> generators{new_generator(0, 11), new_generator(1, 12)};
  return generators[static_cast<std::size_t>(device < 0 ? current_device : device)];
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  void init() const override {}
  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override { return default_generator(device); }
  at::Generator getNewGenerator(c10::DeviceIndex device) const override {
    return new_generator(device < 0 ? current_device : device, c10::default_rng_seed_val);
  }
  c10::DeviceIndex deviceCount() const override { return kDevices; }
  void setCurrentDevice(c10::DeviceIndex device) const override { Guard().setDevice({kForeign, device}); }
  c10::DeviceIndex getCurrentDevice() const override { return current_device; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return device < 0 ? current_device : std::exchange(current_device, device);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override { return exchangeDevice(device); }
  at::Device getDeviceFromPtr(void* pointer) const override { return {kForeign, Arena::get().device_of(pointer)}; }
  bool isPinnedPtr(const void* pointer) const override { return Pinned::has(pointer); }
  at::Allocator* getPinnedMemoryAllocator() const override { return &pinned(); }
};

// --- tensors ---

/// The same values as a tensor of the CPU.
at::Tensor on_cpu(const at::Tensor& tensor) {
  return at::from_blob(Arena::values_of(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(),
                       tensor.options().device(at::kCPU));
}

bool is_foreign(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kForeign;
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> /*layout*/,
                 std::optional<at::Device> device, std::optional<bool> /*pin*/,
                 std::optional<at::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(size, &memory(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout> /*layout*/, std::optional<at::Device> device,
                         std::optional<bool> /*pin*/) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(size, stride, &memory(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

at::Tensor to_foreign(const at::Tensor& values, c10::DeviceIndex device) {
  at::Tensor tensor = empty_strided(values.sizes(), values.strides(), values.scalar_type(), std::nullopt,
                                    c10::Device(kForeign, device), std::nullopt);
  on_cpu(tensor).copy_(values);
  return tensor;
}

const at::Tensor& resize_(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> /*format*/) {
  auto* const impl = self.unsafeGetTensorImpl();
  const auto bytes = static_cast<std::size_t>(c10::multiply_integers(size)) * self.itemsize() +
                     static_cast<std::size_t>(self.storage_offset()) * self.itemsize();
  if (bytes > self.storage().nbytes()) {
    const c10::OptionalDeviceGuard guard(self.device());
    at::DataPtr bigger = memory().allocate(bytes);
    memory().copy_data(bigger.get(), self.storage().data(), self.storage().nbytes());
    self.storage().set_data_ptr_noswap(std::move(bigger));
    self.storage().set_nbytes(bytes);
  }
  impl->set_sizes_contiguous(size);
  return self;
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool non_blocking) {
  const bool from_foreign = is_foreign(self);
  if (from_foreign != is_foreign(to)) {
    const at::Tensor& host = from_foreign ? to : self;
    const std::string where = from_foreign ? "copy to the host" : "copy from the host";
    if (!non_blocking) {
      note(&Log::waits, where);
    } else if (!host.is_pinned()) {
      note(&Log::waits, where + ", of memory that is not pinned");
    } else if (from_foreign) {
      note(&Log::waits, where + ", which is read without waiting");  // nobody here should
    }
  }
  started("copy");
  (is_foreign(to) ? on_cpu(to) : to).copy_(from_foreign ? on_cpu(self) : self);
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  to.resize_(self.sizes());
  return copy_from(self, to, false);
}

at::Scalar local_scalar(const at::Tensor& self) {
  note(&Log::waits, "item");
  return at::_local_scalar_dense(on_cpu(self));
}

void record_stream(at::Tensor& /*self*/, c10::Stream /*stream*/) {}

/// The generator of the CPU that draws for one of the device's.
at::Generator drawing(const std::optional<at::Generator>& given, c10::Device device, const std::string& name) {
  if (!given) {
    const std::scoped_lock lock(log().mutex);
    ++log().unseeded;
  }
  const at::Generator generator = given ? *given : default_generator(device.index());
  auto* const ours = dynamic_cast<ForeignGenerator*>(generator.unsafeGetGeneratorImpl());
  TORCH_CHECK(ours != nullptr && ours->device() == device, name,
              ": the generator is of another device than the tensors");
  return ours->drawing;
}

std::tuple<at::Tensor, at::Tensor> fused_dropout(const at::Tensor& self, double keep,
                                                 std::optional<at::Generator> generator) {
  started("aten::_fused_dropout");
  const at::Tensor mask = at::empty_like(self, self.options().dtype(at::kByte), at::MemoryFormat::Contiguous);
  const at::Tensor out = at::empty_like(self, at::MemoryFormat::Contiguous);
  on_cpu(mask).bernoulli_(keep, drawing(generator, self.device(), "aten::_fused_dropout"));
  on_cpu(out).copy_(on_cpu(self).to(at::kDouble) * on_cpu(mask) / keep);
  return {out, mask};
}

at::Tensor masked_scale(const at::Tensor& self, const at::Tensor& mask, double scale) {
  started("aten::_masked_scale");
  at::Tensor out = at::empty_like(self, at::MemoryFormat::Contiguous);
  on_cpu(out).copy_(on_cpu(self).to(at::kDouble) * on_cpu(mask) * scale);
  return out;
}

// --- everything else ---

/// Runs an operator's CPU kernel on what lies on the device.
class Fallback {
 public:
  Fallback(const c10::OperatorHandle& op, Stack* stack)
      : schema_(op.schema()),
        name_(schema_.overload_name().empty() ? schema_.name() : schema_.name() + "." + schema_.overload_name()),
        stack_(stack),
        begin_(stack->size() - schema_.arguments().size()) {
    for (std::size_t i = 0; i < schema_.arguments().size(); ++i) {
      find_device((*stack_)[begin_ + i]);
    }
    for (std::size_t i = 0; i < schema_.arguments().size(); ++i) {
      replace((*stack_)[begin_ + i], schema_.arguments()[i]);
    }
    started(name_);
    // Before aten::index.Tensor_out all devices count what is true, by aten::nonzero.
    const bool unsized =
        name_ == "aten::repeat_interleave.Tensor" && (*stack_)[begin_ + 1].isNone();  // its output_size
    if (unsized || (masked_ && name_ != "aten::index.Tensor_out") || waits_for_size(schema_.name())) {
      note(&Log::waits, name_);
    }
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack_);
    for (std::size_t i = stack_->size() - schema_.returns().size(); i < stack_->size(); ++i) {
      put_back((*stack_)[i]);
    }
  }

 private:
  void find_device(const c10::IValue& value) {
    const auto see = [this](const at::Tensor& tensor) {
      if (is_foreign(tensor)) {
        TORCH_CHECK(!device_ || *device_ == tensor.device(), name_, ": expected all tensors on the same device, but ",
                    "found ", *device_, " and ", tensor.device());
        device_ = tensor.device();
      }
    };
    for_each_tensor(value, see);
    if (value.isDevice() && value.toDevice().type() == kForeign) {
      device_ = c10::Device(kForeign, value.toDevice().has_index() ? value.toDevice().index() : current_device);
    }
  }

  template <typename Visit>
  static void for_each_tensor(const c10::IValue& value, const Visit& visit) {
    if (value.isTensor()) {
      visit(value.toTensor());
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) {
        visit(tensor);
      }
    } else if (value.isOptionalTensorList()) {
      for (const auto& tensor : value.toOptionalTensorVector()) {
        if (tensor) {
          visit(*tensor);
        }
      }
    }
  }

  at::Tensor replaced(const at::Tensor& tensor) {
    if (!is_foreign(tensor)) {
      TORCH_CHECK(!tensor.defined() || tensor.dim() == 0, name_,
                  ": expected all tensors on the same device, but found ", tensor.device(), " and ",
                  device_.value_or(kForeign));
      return tensor;
    }
    for (const auto& [theirs, ours] : pairs_) {
      if (theirs.is_same(tensor)) {
        return ours;
      }
    }
    // What is empty may be a result that gets its size from the kernel.
    return pairs_
        .emplace_back(
            tensor, tensor.numel() == 0 ? at::empty(tensor.sizes(), tensor.options().device(at::kCPU)) : on_cpu(tensor))
        .second;
  }

  void replace(c10::IValue& value, const c10::Argument& argument) {
    if (value.isTensor()) {
      value = replaced(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) {
        list.push_back(replaced(tensor));
      }
      value = list;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const auto& tensor : value.toOptionalTensorVector()) {
        masked_ = masked_ || (tensor && (tensor->scalar_type() == at::kBool || tensor->scalar_type() == at::kByte));
        list.push_back(tensor ? std::optional(replaced(*tensor)) : std::nullopt);
      }
      value = list;
    } else if (value.isDevice() && value.toDevice().type() == kForeign) {
      value = c10::Device(at::kCPU);
    } else if (value.isGenerator() || (value.isNone() && argument.name() == "generator")) {
      value = drawing(value.isNone() ? std::nullopt : std::optional(value.toGenerator()), *device_, name_);
    }
  }

  at::Tensor given_back(const at::Tensor& tensor) {
    if (!tensor.defined()) {
      return tensor;
    }
    for (const auto& [theirs, ours] : pairs_) {
      if (ours.is_same(tensor)) {
        if (theirs.sizes() != ours.sizes()) {
          resize_(theirs, ours.sizes(), std::nullopt);
          on_cpu(theirs).copy_(ours);
        }
        return theirs;
      }
      TORCH_CHECK(!tensor.is_alias_of(ours), name_, " gives a view: the foreign device needs a kernel of its own");
    }
    return to_foreign(tensor, device_->index());
  }

  void put_back(c10::IValue& value) {
    if (value.isTensor()) {
      value = given_back(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) {
        list.push_back(given_back(tensor));
      }
      value = list;
    }
  }

  const c10::FunctionSchema& schema_;
  std::string name_;
  Stack* stack_;
  std::size_t begin_;
  std::optional<c10::Device> device_;
  bool masked_ = false;  ///< it takes or puts values where a mask is true
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;
};

void fallback(const c10::OperatorHandle& op, Stack* stack) {
  Fallback(op, stack);
}

// --- attention of packed sequences ---

/// An operator's arguments by name, whatever this version of PyTorch has between them.
class Arguments {
 public:
  Arguments(const c10::OperatorHandle& op, const Stack& stack)
      : schema_(op.schema()), stack_(stack), begin_(stack.size() - schema_.arguments().size()) {}

  const c10::IValue& operator[](const std::string& name) const {
    const auto place = schema_.argumentIndexWithName(name);
    TORCH_CHECK(place, schema_.name(), " has no argument ", name);
    return stack_[begin_ + static_cast<std::size_t>(*place)];
  }
  at::Tensor tensor(const std::string& name) const {
    const c10::IValue& value = (*this)[name];
    return value.isNone() ? at::Tensor() : value.toTensor();
  }

 private:
  const c10::FunctionSchema& schema_;
  const Stack& stack_;
  std::size_t begin_;
};

void finish(const c10::OperatorHandle& op, Stack* stack, const std::vector<c10::IValue>& results) {
  torch::jit::drop(*stack, op.schema().arguments().size());
  TORCH_CHECK(results.size() == op.schema().returns().size(), op.schema().name(), " has ", op.schema().returns().size(),
              " results in this PyTorch");
  for (const c10::IValue& result : results) {
    torch::jit::push(*stack, result);
  }
}

/// Attention of sequences that lie in the rows of q [Rq, heads, d], k and v, with what CUDA's kernels refuse.
struct PackedAttention {
  std::string name;
  at::Tensor q;
  at::Tensor k;
  at::Tensor v;
  at::Tensor begins_q;
  at::Tensor begins_k;
  std::int64_t longest_q;
  std::int64_t longest_k;
  double scale;

  void refuse(bool flash) const {
    const auto device = q.device();
    for (const at::Tensor& x : {q, k, v}) {
      TORCH_CHECK(x.device() == device && x.scalar_type() == q.scalar_type(), name,
                  ": query, key and value must be of one device and type");
      TORCH_CHECK(x.dim() == 3, name, ": query, key and value must be packed");
      TORCH_CHECK(x.stride(2) == 1, name, ": query, key and value must have a contiguous last dimension");
      TORCH_CHECK(x.size(2) == q.size(2) && x.size(1) == q.size(1), name, ": head sizes or numbers differ");
      const std::int64_t multiple = flash || x.scalar_type() != at::kFloat ? 8 : 4;
      TORCH_CHECK(x.size(2) % multiple == 0, name, ": head_size ", x.size(2), " is no multiple of ", multiple);
      for (const std::int64_t stride : {x.stride(0), x.stride(1)}) {
        TORCH_CHECK(x.numel() == 0 || stride % multiple == 0, name, ": a stride of ", stride, " is not aligned");
      }
      TORCH_CHECK(reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % 16 == 0, name, ": memory is not aligned");
    }
    if (flash) {
      TORCH_CHECK(q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16, name,
                  " only supports fp16 and bf16, not ", q.scalar_type());
      TORCH_CHECK(q.size(2) <= 256, name, " only supports head dimension at most 256, not ", q.size(2));
    } else {
      TORCH_CHECK(q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kFloat,
                  name, " has no kernel for ", q.scalar_type());
    }
    for (const at::Tensor& begins : {begins_q, begins_k}) {
      TORCH_CHECK(begins.defined() && begins.device() == device && begins.scalar_type() == at::kInt &&
                      begins.dim() == 1 && begins.is_contiguous(),
                  name, ": cumulative lengths must be int32, contiguous and on the device");
      TORCH_CHECK(begins.size(0) >= 2, name, ": batch size must be positive");
      TORCH_CHECK(begins.size(0) <= 65536, name, ": the grid has no room for ", begins.size(0) - 1, " sequences");
    }
    TORCH_CHECK(begins_q.size(0) == begins_k.size(0), name, ": as many sequences of queries as of keys are needed");
    for (const auto& [begins, rows, longest] :
         {std::tuple(begins_q, q.size(0), longest_q), std::tuple(begins_k, k.size(0), longest_k)}) {
      const at::Tensor all = on_cpu(begins).to(at::kLong);  // what the kernels take for granted
      TORCH_CHECK(all[0].item<std::int64_t>() == 0 && all[-1].item<std::int64_t>() == rows &&
                      all.diff().max().item<std::int64_t>() <= longest,
                  name, ": cumulative lengths do not fit the rows");
    }
  }

  /// Calls for every group of sequences of equal lengths with the rows of queries and of keys, [n, L].
  template <typename Visit>
  void for_each(const Visit& visit) const {
    const at::Tensor begins = on_cpu(begins_q);
    const at::Tensor others = on_cpu(begins_k);
    const auto* const first_q = begins.const_data_ptr<std::int32_t>();
    const auto* const first_k = others.const_data_ptr<std::int32_t>();
    std::map<std::pair<std::int64_t, std::int64_t>, std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>>>
        all;
    for (std::int64_t s = 0; s + 1 < begins.size(0); ++s) {
      auto& [of_q, of_k] = all[{first_q[s + 1] - first_q[s], first_k[s + 1] - first_k[s]}];
      of_q.push_back(first_q[s]);
      of_k.push_back(first_k[s]);
    }
    for (const auto& [lengths, firsts] : all) {
      visit(at::tensor(firsts.first).unsqueeze(1) + at::arange(lengths.first),
            at::tensor(firsts.second).unsqueeze(1) + at::arange(lengths.second));
    }
  }

  /// Of rows [n, L]: [n, heads, L, d], in float.
  static at::Tensor rows_of(const at::Tensor& x, const at::Tensor& rows) {
    return on_cpu(x)
        .index_select(0, rows.flatten())
        .view({rows.size(0), rows.size(1), x.size(1), x.size(2)})
        .transpose(1, 2)
        .to(at::kFloat);
  }

  static void put_rows(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& values) {
    on_cpu(x).index_copy_(0, rows.flatten(), values.transpose(1, 2).flatten(0, 1).to(x.scalar_type()));
  }

  at::Tensor forward() const {
    const at::Tensor out = at::empty_like(q, at::MemoryFormat::Contiguous);
    for_each([&](const at::Tensor& of_q, const at::Tensor& of_k) {
      const at::Tensor weights = at::matmul(rows_of(q, of_q) * scale, rows_of(k, of_k).transpose(2, 3)).softmax(3);
      put_rows(out, of_q, at::matmul(weights, rows_of(v, of_k)));
    });
    return out;
  }

  std::array<at::Tensor, 3> backward(const at::Tensor& gradient) const {
    TORCH_CHECK(gradient.device() == q.device() && gradient.scalar_type() == q.scalar_type() &&
                    gradient.sizes() == q.sizes() && gradient.stride(-1) == 1,
                name, ": the gradient is of another type, place or shape than the queries, or has gaps");
    std::array<at::Tensor, 3> all{at::empty_like(q, at::MemoryFormat::Contiguous),
                                  at::empty_like(k, at::MemoryFormat::Contiguous),
                                  at::empty_like(v, at::MemoryFormat::Contiguous)};
    for_each([&](const at::Tensor& of_q, const at::Tensor& of_k) {
      const at::Tensor a = rows_of(q, of_q);
      const at::Tensor b = rows_of(k, of_k);
      const at::Tensor of_out = rows_of(gradient, of_q);
      const at::Tensor weights = at::matmul(a * scale, b.transpose(2, 3)).softmax(3);
      const at::Tensor of_weights = at::matmul(of_out, rows_of(v, of_k).transpose(2, 3));
      const at::Tensor of_scores = weights * (of_weights - (of_weights * weights).sum(3, true)) * scale;
      put_rows(all[0], of_q, at::matmul(of_scores, b));
      put_rows(all[1], of_k, at::matmul(of_scores.transpose(2, 3), a));
      put_rows(all[2], of_k, at::matmul(weights.transpose(2, 3), of_out));
    });
    return all;
  }
};

double scale_of(const Arguments& arguments, const at::Tensor& q) {
  return arguments["scale"].isNone() ? 1.0 / std::sqrt(static_cast<double>(q.size(-1))) : arguments["scale"].toDouble();
}

/// What belongs to both kernels' passes. CUDA's draw other masks in the backward pass than in the forward pass where
/// they drop attention weights of packed sequences (pytorch#115590).
PackedAttention flash_call(const c10::OperatorHandle& op, const Arguments& arguments) {
  TORCH_CHECK(arguments["dropout_p"].toDouble() == 0 && !arguments["is_causal"].toBool(), op.schema().name(),
              ": neither dropout nor causal masks are wanted here");
  PackedAttention call{
      op.schema().name(),         arguments.tensor("query"),     arguments.tensor("key"),
      arguments.tensor("value"),  arguments.tensor("cum_seq_q"), arguments.tensor("cum_seq_k"),
      arguments["max_q"].toInt(), arguments["max_k"].toInt(),    scale_of(arguments, arguments.tensor("query"))};
  call.refuse(/*flash=*/true);
  started(call.name);
  return call;
}

void flash_forward(const c10::OperatorHandle& op, Stack* stack) {
  const at::NoGradGuard no_grad;
  const PackedAttention call = flash_call(op, Arguments(op, *stack));
  const at::Tensor sums = at::zeros({call.q.size(1), call.q.size(0)}, call.q.options().dtype(at::kFloat));
  const at::Tensor none = at::empty({0}, call.q.options().dtype(at::kLong));
  finish(op, stack, {call.forward(), sums, none, none, at::empty({0}, call.q.options())});
}

void flash_backward(const c10::OperatorHandle& op, Stack* stack) {
  const at::NoGradGuard no_grad;
  const Arguments arguments(op, *stack);
  const PackedAttention call = flash_call(op, arguments);
  const auto gradients = call.backward(arguments.tensor("grad_out"));
  finish(op, stack, {gradients[0], gradients[1], gradients[2]});
}

at::Tensor without_batch(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 4 && x.size(0) == 1, "_efficient_attention: packed sequences are one batch");
  return x.squeeze(0);
}

PackedAttention efficient_call(const c10::OperatorHandle& op, const Arguments& arguments, const std::string& begins,
                               const std::string& longest) {
  TORCH_CHECK(arguments["dropout_p"].toDouble() == 0 && arguments["custom_mask_type"].toInt() == 0 &&
                  !arguments.tensor("bias").defined(),
              op.schema().name(), ": neither dropout nor masks nor a bias are wanted here");
  PackedAttention call{op.schema().name(),
                       without_batch(arguments.tensor("query")),
                       without_batch(arguments.tensor("key")),
                       without_batch(arguments.tensor("value")),
                       arguments.tensor(begins + "_q"),
                       arguments.tensor(begins + "_k"),
                       arguments[longest + "_q"].toInt(),
                       arguments[longest + "_k"].toInt(),
                       scale_of(arguments, arguments.tensor("query"))};
  call.refuse(/*flash=*/false);
  return call;
}

void efficient_forward(const c10::OperatorHandle& op, Stack* stack) {
  const at::NoGradGuard no_grad;
  const Arguments arguments(op, *stack);
  const PackedAttention call = efficient_call(op, arguments, "cu_seqlens", "max_seqlen");
  const bool summed = arguments["compute_log_sumexp"].toBool();
  started(summed ? call.name : call.name + ", not for a backward pass");
  const std::int64_t padded = summed ? (call.longest_q + 31) / 32 * 32 : 0;
  const at::Tensor sums =
      at::zeros({call.begins_q.size(0) - 1, call.q.size(1), padded}, call.q.options().dtype(at::kFloat));
  const at::Tensor none = at::empty({}, at::TensorOptions(at::kLong));
  finish(op, stack, {call.forward().unsqueeze(0), sums, none, none, call.longest_q, call.longest_k});
}

void efficient_backward(const c10::OperatorHandle& op, Stack* stack) {
  const at::NoGradGuard no_grad;
  const Arguments arguments(op, *stack);
  const PackedAttention call = efficient_call(op, arguments, "cu_seqlens", "max_seqlen");
  started(call.name);
  TORCH_CHECK(arguments.tensor("logsumexp").numel() > 0, call.name, ": the forward pass made no sums of exponentials");
  const auto gradients = call.backward(without_batch(arguments.tensor("grad_out_")));
  finish(op, stack, {gradients[0].unsqueeze(0), gradients[1].unsqueeze(0), gradients[2].unsqueeze(0), at::Tensor()});
}

// --- autocast: CUDA's lists ---

/// "op" or "op.overload" of what ATen's macros list as (op) or (op, overload).
std::string listed(std::string text) {
  text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
  std::replace(text.begin(), text.end(), ',', '.');
  return text;
}

void cast_arguments(const c10::OperatorHandle& op, Stack* stack, at::ScalarType type) {
  for (std::size_t i = stack->size() - op.schema().arguments().size(); i < stack->size(); ++i) {
    c10::IValue& value = (*stack)[i];
    if (value.isTensor()) {
      value = at::autocast::cached_cast(type, value.toTensor(), kForeign);
    } else if (value.isTensorList()) {
      value = c10::List<at::Tensor>(at::autocast::cached_cast(type, value.toTensorVector(), kForeign));
    }
  }
  const c10::impl::ExcludeDispatchKeyGuard outside(c10::DispatchKey::AutocastPrivateUse1);
  op.callBoxed(stack);
}

void in_low_precision(const c10::OperatorHandle& op, Stack* stack) {
  cast_arguments(op, stack, at::autocast::get_autocast_dtype(kForeign));
}

void in_float32(const c10::OperatorHandle& op, Stack* stack) {
  cast_arguments(op, stack, at::kFloat);
}

/// Sums give float32, and products of it.
void with_dtype(const c10::OperatorHandle& op, Stack* stack) {
  const auto place = op.schema().argumentIndexWithName("dtype");
  const std::size_t begin = stack->size() - op.schema().arguments().size();
  const c10::IValue& first = (*stack)[begin];
  if (place && first.isTensor() && first.toTensor().is_floating_point()) {
    c10::IValue& dtype = (*stack)[begin + static_cast<std::size_t>(*place)];
    if (dtype.isNone()) {
      dtype = static_cast<std::int64_t>(at::kFloat);
    }
  }
  const c10::impl::ExcludeDispatchKeyGuard outside(c10::DispatchKey::AutocastPrivateUse1);
  op.callBoxed(stack);
}

void in_widest_type(const c10::OperatorHandle& op, Stack* stack) {
  at::ScalarType widest = at::autocast::get_autocast_dtype(kForeign);
  for (std::size_t i = stack->size() - op.schema().arguments().size(); i < stack->size(); ++i) {
    const c10::IValue& value = (*stack)[i];
    if (value.isTensor() && is_foreign(value.toTensor()) && value.toTensor().is_floating_point()) {
      widest = at::promote_types(widest, value.toTensor().scalar_type());
    }
  }
  cast_arguments(op, stack, widest);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided",
         [](const at::Tensor& self, at::IntArrayRef size, at::IntArrayRef stride, std::optional<std::int64_t> offset) {
           return at::native::as_strided_tensorimpl(self, size, stride, offset);
         });
  m.impl("view", [](const at::Tensor& self, at::IntArrayRef size) { return at::native::view(self, size); });
  m.impl("_reshape_alias", [](const at::Tensor& self, at::IntArrayRef size, at::IntArrayRef stride) {
    return at::native::_reshape_alias(self, size, stride);
  });
  m.impl("unfold", [](const at::Tensor& self, std::int64_t dimension, std::int64_t size, std::int64_t step) {
    return at::native::unfold(self, dimension, size, step);
  });
  m.impl("resize_", &resize_);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar);
  m.impl("record_stream", &record_stream);
  m.impl("_fused_dropout", &fused_dropout);
  m.impl("_masked_scale", &masked_scale);
  // A tensor may become one of another device, as `module.to(device)` has it.
  m.impl("_has_compatible_shallow_copy_type", [](const at::Tensor& self, const at::Tensor& from) {
    return self.layout() == at::kStrided && from.layout() == at::kStrided;
  });
  // Kernels that CUDA has of its own where other devices are given several others.
  for (const char* name : {"native_layer_norm", "silu_backward"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fallback>());
  }
  m.impl("_flash_attention_forward", torch::CppFunction::makeFromBoxedFunction<&flash_forward>());
  m.impl("_flash_attention_backward", torch::CppFunction::makeFromBoxedFunction<&flash_backward>());
  m.impl("_efficient_attention_forward", torch::CppFunction::makeFromBoxedFunction<&efficient_forward>());
  m.impl("_efficient_attention_backward", torch::CppFunction::makeFromBoxedFunction<&efficient_backward>());
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

#define LOW(...) m.impl(listed(#__VA_ARGS__).c_str(), torch::CppFunction::makeFromBoxedFunction<&in_low_precision>());
#define FLOAT(...) m.impl(listed(#__VA_ARGS__).c_str(), torch::CppFunction::makeFromBoxedFunction<&in_float32>());
#define SUM(...) m.impl(listed(#__VA_ARGS__).c_str(), torch::CppFunction::makeFromBoxedFunction<&with_dtype>());
#define WIDEST(...) m.impl(listed(#__VA_ARGS__).c_str(), torch::CppFunction::makeFromBoxedFunction<&in_widest_type>());

namespace at::autocast {  // whose names the last macro has

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  AT_FORALL_LOWER_PRECISION_FP(LOW)
  AT_FORALL_FP32(FLOAT)
  AT_FORALL_FP32_SET_OPT_DTYPE(SUM)
  AT_FORALL_PROMOTE(WIDEST)
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_PRIVATEUSEONE)
}

}  // namespace at::autocast

/// What Python asks for, by torch.ops.foreign.
TORCH_LIBRARY(foreign, m) {
  m.def("begin() -> ()", [] { at::RegisterPrivateUse1HooksInterface(new Hooks); });
  m.def("reset() -> ()", [] {
    const std::scoped_lock lock(log().mutex);
    log().kernels.clear();
    log().waits.clear();
    log().unseeded = 0;
    Arena::get().most();
  });
  const auto counts = [](std::map<std::string, std::int64_t> Log::* which) {
    const std::scoped_lock lock(log().mutex);
    c10::Dict<std::string, std::int64_t> dict;
    for (const auto& [name, count] : log().*which) {
      dict.insert(name, count);
    }
    return dict;
  };
  m.def("kernels() -> Dict(str, int)", [counts] { return counts(&Log::kernels); });
  m.def("waits() -> Dict(str, int)", [counts] { return counts(&Log::waits); });
  m.def("unseeded() -> int", [] { return log().unseeded; });
  m.def("most_bytes() -> int[]", [] { return Arena::get().most(); });
  m.def("fail() -> ()", [] { failed = true; });
  m.def("default_generator(int device) -> Generator?",
        [](std::int64_t device) { return default_generator(static_cast<c10::DeviceIndex>(device)); });
  m.def("current_device() -> int", []() -> std::int64_t { return current_device; });
  m.def("set_device(int device) -> ()",
        [](std::int64_t device) { Guard().setDevice({kForeign, static_cast<c10::DeviceIndex>(device)}); });
}
