#include "server/model/tensor_pickle_internal.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

constexpr std::size_t kMaxPickleBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxObjects = std::size_t{1} << 20;
constexpr std::uint32_t kMaxMemo = std::uint32_t{1} << 20;
constexpr std::size_t kMaxDimensions = 8;

enum class Kind {
  kMark, kNone, kBool, kInt, kText, kTuple, kDict, kGlobal, kStorage,
  kTensor
};

const char* KindName(Kind kind) {
  constexpr std::array<const char*, 10> kNames = {
      "a mark",  "None",         "a bool", "an integer", "a text",
      "a tuple", "a dictionary", "a name", "a storage",  "a tensor"};
  return kNames[static_cast<std::size_t>(kind)];
}

enum class Callable { kOrderedDict, kRebuildTensor, kStorageType };

// One object of the pickle. Objects refer to each other, perhaps in circles, so
// that all belong to the machine.
struct Object {
  Kind kind = Kind::kNone;
  std::int64_t number = 0;           // kInt
  absl::string_view text;            // kText; kStorage: the data
  std::vector<const Object*> items;  // kTuple; kDict: keys and values by turns
  Callable callable = Callable::kOrderedDict;  // kGlobal
  TensorDtype dtype = TensorDtype::kF32;  // kStorage, kTensor, storage types
  // kTensor
  const Object* storage = nullptr;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
};

struct StorageType {
  const char* name;
  TensorDtype dtype;
};

constexpr std::array<StorageType, 10> kStorageTypes = {{
    {"FloatStorage", TensorDtype::kF32},
    {"HalfStorage", TensorDtype::kF16},
    {"BFloat16Storage", TensorDtype::kBF16},
    {"DoubleStorage", TensorDtype::kF64},
    {"ByteStorage", TensorDtype::kU8},
    {"CharStorage", TensorDtype::kI8},
    {"ShortStorage", TensorDtype::kI16},
    {"IntStorage", TensorDtype::kI32},
    {"LongStorage", TensorDtype::kI64},
    {"BoolStorage", TensorDtype::kBool},
}};

absl::Status Bad(absl::string_view cause) {
  return absl::DataLossError(absl::StrCat("pickle: ", cause));
}

absl::StatusOr<std::vector<std::int64_t>> Numbers(const Object& tuple,
                                                  const char* what) {
  std::vector<std::int64_t> numbers;
  if (tuple.kind != Kind::kTuple || tuple.items.size() > kMaxDimensions) {
    return Bad(absl::StrCat("a tensor's ", what, " is no tuple of at most ",
                            kMaxDimensions, " integers"));
  }
  for (const Object* item : tuple.items) {
    if (item->kind != Kind::kInt || item->number < 0) {
      return Bad(absl::StrCat("a tensor's ", what,
                              " holds something else than integers from 0 on"));
    }
    numbers.push_back(item->number);
  }
  return numbers;
}

// Whether all elements lie in a storage of `bytes` bytes.
bool Fits(const Object& tensor, std::size_t bytes) {
  if (std::find(tensor.shape.begin(), tensor.shape.end(), 0) !=
      tensor.shape.end()) {
    return true;
  }
  std::int64_t last = tensor.offset;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    std::int64_t reach = 0;
    if (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i],
                               &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      return false;
    }
  }
  return last < static_cast<std::int64_t>(bytes) / DtypeSize(tensor.dtype);
}

// Product of the extents where the elements follow each other in memory.
absl::StatusOr<std::int64_t> ContiguousElements(const std::string& name,
                                                const Object& tensor) {
  std::int64_t elements = 1;
  const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) !=
                     tensor.shape.end();
  if (empty) return 0;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] > 1 && tensor.strides[i] != elements) {
      return absl::UnimplementedError(absl::StrCat(
          "tensor ", QuoteName(name), ": shape [",
          absl::StrJoin(tensor.shape, ", "), "] with strides [",
          absl::StrJoin(tensor.strides, ", "),
          "] is not contiguous, which is not supported"));
    }
    if (__builtin_mul_overflow(elements, tensor.shape[i], &elements)) {
      return Bad("a tensor has more than 2^63 - 1 elements");
    }
  }
  return elements;
}

// Runs the opcodes on a stack of objects.
class Machine {
 public:
  Machine(absl::string_view pickle,
          const std::map<std::string, absl::string_view>& storages)
      : pickle_(pickle), storages_(storages) {}

  absl::StatusOr<const Object*> Run() {
    if (pickle_.size() > kMaxPickleBytes) {
      return Bad(absl::StrCat("has ", pickle_.size(), " bytes, at most ",
                              kMaxPickleBytes, " are read"));
    }
    while (true) {
      const std::size_t at = at_;
      MOESCOPE_ASSIGN_OR_RETURN(const std::uint32_t op, Take(1));
      if (op == '.') break;
      const absl::Status status = Step(static_cast<unsigned char>(op));
      if (!status.ok()) {
        return absl::Status(status.code(), absl::StrCat(status.message(),
                                                        ", at offset ", at));
      }
    }
    MOESCOPE_ASSIGN_OR_RETURN(const Object* result, Pop());
    if (!stack_.empty()) return Bad("leaves objects behind");
    return result;
  }

 private:
  absl::Status Step(unsigned char op) {
    switch (op) {
      case 0x80: return Protocol();
      case '(': return Push(Kind::kMark);
      case 'N': return Push(Kind::kNone);
      case 0x88: return Push(Kind::kBool);
      case 0x89: return Push(Kind::kBool);
      case '}': return Push(Kind::kDict);
      case ')': return Push(Kind::kTuple);
      case 'K': return PushInteger(1);
      case 'M': return PushInteger(2);
      case 'J': return PushInteger(4);
      case 0x8a: return PushLong();
      case 'X': return PushText();
      case 'c': return PushGlobal();
      case 0x85: return MakeTuple(1);
      case 0x86: return MakeTuple(2);
      case 0x87: return MakeTuple(3);
      case 't': return MakeTupleToMark();
      case 'q': return Memorise(1);
      case 'r': return Memorise(4);
      case 'h': return Recall(1);
      case 'j': return Recall(4);
      case 's': return SetItem();
      case 'u': return SetItems();
      case 'b': return Build();
      case 'Q': return LoadStorage();
      case 'R': return Call();
      default:
        return Bad(absl::StrCat("opcode 0x", absl::Hex(op, absl::kZeroPad2),
                                " is none that tensors need"));
    }
  }

  // A little-endian number.
  absl::StatusOr<std::uint32_t> Take(std::size_t bytes) {
    MOESCOPE_ASSIGN_OR_RETURN(const absl::string_view taken, TakeBytes(bytes));
    std::uint32_t value = 0;
    for (std::size_t i = bytes; i-- > 0;) {
      value = value << 8 | static_cast<unsigned char>(taken[i]);
    }
    return value;
  }

  absl::StatusOr<absl::string_view> TakeBytes(std::size_t bytes) {
    if (bytes > pickle_.size() - at_) return Bad("ends too early");
    at_ += bytes;
    return pickle_.substr(at_ - bytes, bytes);
  }

  absl::StatusOr<absl::string_view> TakeLine() {
    const std::size_t end = pickle_.find('\n', at_);
    if (end == absl::string_view::npos) return Bad("ends too early");
    const absl::string_view line = pickle_.substr(at_, end - at_);
    at_ = end + 1;
    return line;
  }

  absl::StatusOr<Object*> New(Kind kind) {
    if (objects_.size() >= kMaxObjects) {
      return Bad(absl::StrCat("has more than ", kMaxObjects, " objects"));
    }
    objects_.emplace_back();
    objects_.back().kind = kind;
    stack_.push_back(&objects_.back());
    return &objects_.back();
  }

  absl::Status Push(Kind kind) { return New(kind).status(); }

  absl::StatusOr<Object*> Pop() {
    if (stack_.empty() || stack_.back()->kind == Kind::kMark) {
      return Bad("takes more from its stack than there is");
    }
    Object* const top = stack_.back();
    stack_.pop_back();
    return top;
  }

  absl::StatusOr<Object*> Pop(Kind kind) {
    MOESCOPE_ASSIGN_OR_RETURN(Object* const top, Pop());
    if (top->kind != kind) {
      return Bad(absl::StrCat("has ", KindName(top->kind), " instead of ",
                              KindName(kind)));
    }
    return top;
  }

  absl::StatusOr<std::vector<const Object*>> PopToMark() {
    std::size_t mark = stack_.size();
    while (mark > 0 && stack_[mark - 1]->kind != Kind::kMark) --mark;
    if (mark == 0) return Bad("has no mark");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(mark);
    std::vector<const Object*> items(first, stack_.end());
    stack_.erase(first - 1, stack_.end());
    return items;
  }

  absl::Status Protocol() {
    MOESCOPE_ASSIGN_OR_RETURN(const std::uint32_t version, Take(1));
    return version == 2 ? absl::OkStatus()
                        : Bad(absl::StrCat("protocol ", version,
                                           " instead of 2"));
  }

  absl::Status PushInteger(std::size_t bytes) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::uint32_t value, Take(bytes));
    MOESCOPE_ASSIGN_OR_RETURN(Object* const object, New(Kind::kInt));
    object->number = bytes == 4 ? static_cast<std::int32_t>(value)
                                : static_cast<std::int64_t>(value);
    return absl::OkStatus();
  }

  absl::Status PushLong() {
    MOESCOPE_ASSIGN_OR_RETURN(const std::uint32_t size, Take(1));
    if (size > 8) return Bad("an integer has more than 64 bits");
    MOESCOPE_ASSIGN_OR_RETURN(const absl::string_view bytes, TakeBytes(size));
    const bool negative =
        !bytes.empty() && (static_cast<unsigned char>(bytes.back()) & 128) != 0;
    std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
    for (std::size_t i = bytes.size(); i-- > 0;) {
      value = value << 8 | static_cast<unsigned char>(bytes[i]);
    }
    MOESCOPE_ASSIGN_OR_RETURN(Object* const object, New(Kind::kInt));
    object->number = static_cast<std::int64_t>(value);
    return absl::OkStatus();
  }

  absl::Status PushText() {
    MOESCOPE_ASSIGN_OR_RETURN(const std::uint32_t size, Take(4));
    MOESCOPE_ASSIGN_OR_RETURN(const absl::string_view text, TakeBytes(size));
    MOESCOPE_ASSIGN_OR_RETURN(Object* const object, New(Kind::kText));
    object->text = text;
    return absl::OkStatus();
  }

  absl::Status PushGlobal() {
    MOESCOPE_ASSIGN_OR_RETURN(const absl::string_view module, TakeLine());
    MOESCOPE_ASSIGN_OR_RETURN(const absl::string_view name, TakeLine());
    MOESCOPE_ASSIGN_OR_RETURN(Object* const object, New(Kind::kGlobal));
    if (module == "collections" && name == "OrderedDict") {
      object->callable = Callable::kOrderedDict;
      return absl::OkStatus();
    }
    if (module == "torch._utils" && name == "_rebuild_tensor_v2") {
      object->callable = Callable::kRebuildTensor;
      return absl::OkStatus();
    }
    const auto* const type =
        std::find_if(kStorageTypes.begin(), kStorageTypes.end(),
                     [&](const StorageType& known) { return name == known.name; });
    if (module == "torch" && type != kStorageTypes.end()) {
      object->callable = Callable::kStorageType;
      object->dtype = type->dtype;
      return absl::OkStatus();
    }
    return Bad(absl::StrCat("name ",
                            QuoteName(absl::StrCat(module, ".", name)),
                            " is none that tensors need"));
  }

  absl::Status MakeTuple(std::size_t size) {
    std::vector<const Object*> items(size);
    for (std::size_t i = size; i-- > 0;) {
      MOESCOPE_ASSIGN_OR_RETURN(items[i], Pop());
    }
    MOESCOPE_ASSIGN_OR_RETURN(Object* const tuple, New(Kind::kTuple));
    tuple->items = std::move(items);
    return absl::OkStatus();
  }

  absl::Status MakeTupleToMark() {
    MOESCOPE_ASSIGN_OR_RETURN(std::vector<const Object*> items, PopToMark());
    MOESCOPE_ASSIGN_OR_RETURN(Object* const tuple, New(Kind::kTuple));
    tuple->items = std::move(items);
    return absl::OkStatus();
  }

  absl::Status Memorise(std::size_t bytes) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::uint32_t key, Take(bytes));
    if (stack_.empty() || stack_.back()->kind == Kind::kMark) {
      return Bad("remembers what is not there");
    }
    if (key >= kMaxMemo) {
      return Bad(absl::StrCat("remembers object ", key, ", at most ", kMaxMemo,
                              " are allowed"));
    }
    memo_[key] = stack_.back();
    return absl::OkStatus();
  }

  absl::Status Recall(std::size_t bytes) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::uint32_t key, Take(bytes));
    const auto found = memo_.find(key);
    if (found == memo_.end()) {
      return Bad(absl::StrCat("recalls object ", key, ", which is not there"));
    }
    stack_.push_back(found->second);
    return absl::OkStatus();
  }

  absl::Status SetItem() {
    MOESCOPE_ASSIGN_OR_RETURN(const Object* const value, Pop());
    MOESCOPE_ASSIGN_OR_RETURN(const Object* const key, Pop());
    return AddItems({key, value});
  }

  absl::Status SetItems() {
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<const Object*> items,
                              PopToMark());
    return items.size() % 2 == 0 ? AddItems(items)
                                 : Bad("a key has no value");
  }

  absl::Status AddItems(const std::vector<const Object*>& items) {
    MOESCOPE_ASSIGN_OR_RETURN(Object* const dict, Pop(Kind::kDict));
    dict->items.insert(dict->items.end(), items.begin(), items.end());
    stack_.push_back(dict);
    return absl::OkStatus();
  }

  // Attributes of a state dict (_metadata: versions of its modules) say nothing
  // about tensors.
  absl::Status Build() {
    MOESCOPE_RETURN_IF_ERROR(Pop(Kind::kDict).status());
    MOESCOPE_ASSIGN_OR_RETURN(Object* const owner, Pop(Kind::kDict));
    stack_.push_back(owner);
    return absl::OkStatus();
  }

  // ("storage", type, key, where it was, number of elements)
  absl::Status LoadStorage() {
    MOESCOPE_ASSIGN_OR_RETURN(const Object* const id, Pop(Kind::kTuple));
    const std::vector<const Object*>& items = id->items;
    if (items.size() != 5 || items[0]->kind != Kind::kText ||
        items[0]->text != "storage" || items[1]->kind != Kind::kGlobal ||
        items[1]->callable != Callable::kStorageType ||
        items[2]->kind != Kind::kText || items[4]->kind != Kind::kInt) {
      return Bad("a persistent id is none of a storage");
    }
    const std::string key(items[2]->text);
    const auto found = storages_.find(key);
    if (found == storages_.end()) {
      return Bad(absl::StrCat("storage ", QuoteName(key), " is missing"));
    }
    std::int64_t bytes = 0;
    if (items[4]->number < 0 ||
        __builtin_mul_overflow(items[4]->number, DtypeSize(items[1]->dtype),
                               &bytes) ||
        static_cast<std::uint64_t>(bytes) != found->second.size()) {
      return Bad(absl::StrCat("storage ", QuoteName(key), " has ",
                              found->second.size(), " bytes, not ",
                              items[4]->number, " elements of ",
                              DtypeName(items[1]->dtype)));
    }
    MOESCOPE_ASSIGN_OR_RETURN(Object* const storage, New(Kind::kStorage));
    storage->text = found->second;
    storage->dtype = items[1]->dtype;
    return absl::OkStatus();
  }

  absl::Status Call() {
    MOESCOPE_ASSIGN_OR_RETURN(const Object* const arguments, Pop(Kind::kTuple));
    MOESCOPE_ASSIGN_OR_RETURN(const Object* const callable, Pop(Kind::kGlobal));
    switch (callable->callable) {
      case Callable::kOrderedDict:
        return arguments->items.empty() ? Push(Kind::kDict)
                                        : Bad("OrderedDict has arguments");
      case Callable::kRebuildTensor:
        return RebuildTensor(arguments->items);
      case Callable::kStorageType:
        break;
    }
    return Bad("a storage type is called");
  }

  // (storage, offset, size, stride, requires_grad, backward hooks)
  absl::Status RebuildTensor(const std::vector<const Object*>& arguments) {
    if (arguments.size() != 6 || arguments[0]->kind != Kind::kStorage ||
        arguments[1]->kind != Kind::kInt || arguments[1]->number < 0) {
      return Bad("_rebuild_tensor_v2 has other arguments than a storage, an "
                 "offset, size, stride, a flag and hooks");
    }
    MOESCOPE_ASSIGN_OR_RETURN(std::vector<std::int64_t> shape,
                              Numbers(*arguments[2], "size"));
    MOESCOPE_ASSIGN_OR_RETURN(std::vector<std::int64_t> strides,
                              Numbers(*arguments[3], "stride"));
    MOESCOPE_ASSIGN_OR_RETURN(Object* const tensor, New(Kind::kTensor));
    tensor->storage = arguments[0];
    tensor->dtype = arguments[0]->dtype;
    tensor->offset = arguments[1]->number;
    tensor->shape = std::move(shape);
    tensor->strides = std::move(strides);
    if (tensor->shape.size() != tensor->strides.size() ||
        !Fits(*tensor, tensor->storage->text.size())) {
      return Bad(absl::StrCat(
          "a tensor of shape [", absl::StrJoin(tensor->shape, ", "),
          "] with strides [", absl::StrJoin(tensor->strides, ", "),
          "] from element ", tensor->offset, " on does not fit its storage of ",
          tensor->storage->text.size(), " bytes"));
    }
    return absl::OkStatus();
  }

  const absl::string_view pickle_;
  const std::map<std::string, absl::string_view>& storages_;
  std::size_t at_ = 0;
  std::deque<Object> objects_;
  std::vector<Object*> stack_;
  std::map<std::uint32_t, Object*> memo_;
};

absl::StatusOr<TensorEntry> ToEntry(const std::string& name,
                                    const Object& tensor) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t elements,
                            ContiguousElements(name, tensor));
  const std::int64_t size = DtypeSize(tensor.dtype);
  TensorEntry entry;
  entry.name = name;
  entry.dtype = tensor.dtype;
  entry.shape = tensor.shape;
  // An empty tensor's offset was not held against its storage.
  const std::int64_t offset = elements == 0 ? 0 : tensor.offset;
  entry.data =
      reinterpret_cast<const std::byte*>(tensor.storage->text.data()) +
      offset * size;
  entry.size_bytes = elements * size;
  return entry;
}

}  // namespace

absl::StatusOr<std::map<std::string, TensorEntry>> ReadTensorPickle(
    absl::string_view pickle,
    const std::map<std::string, absl::string_view>& storages) {
  Machine machine(pickle, storages);
  MOESCOPE_ASSIGN_OR_RETURN(const Object* const dict, machine.Run());
  if (dict->kind != Kind::kDict) {
    return Bad(absl::StrCat("is ", KindName(dict->kind),
                            ", not a dictionary of tensors"));
  }
  std::map<std::string, TensorEntry> tensors;
  for (std::size_t i = 0; i < dict->items.size(); i += 2) {
    const Object& key = *dict->items[i];
    const Object& value = *dict->items[i + 1];
    if (key.kind != Kind::kText) {
      return Bad(absl::StrCat("a key is ", KindName(key.kind),
                              ", not a text"));
    }
    const std::string name(key.text);
    if (value.kind != Kind::kTensor) {
      return Bad(absl::StrCat("value of ", QuoteName(name), " is ",
                              KindName(value.kind), ", not a tensor"));
    }
    MOESCOPE_ASSIGN_OR_RETURN(TensorEntry entry, ToEntry(name, value));
    if (!tensors.emplace(name, std::move(entry)).second) {
      return Bad(absl::StrCat("name ", QuoteName(name), " stands twice"));
    }
  }
  return tensors;
}

}  // namespace moescope::model::internal
