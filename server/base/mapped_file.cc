#include "moescope/base/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"

namespace moescope {

struct MappedFile::Region {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  std::atomic<bool> damaged{false};
};

namespace {

// The regions, in blocks that are never given back: a signal handler walks them
// at any moment, without locks. Only lock-free atomics are touched there.
constexpr std::size_t kBlockSlots = 1024;
struct Block {
  std::array<std::atomic<MappedFile::Region*>, kBlockSlots> slots{};
  std::atomic<Block*> next{nullptr};
};
Block first_block;
// Handlers that walk the regions now. Whoever takes a region out waits for 0
// before it goes.
std::atomic<int> walkers{0};
struct sigaction previous_action;
// Constant once the handler is installed; a handler may not call sysconf.
std::uintptr_t page_bytes = 0;

MappedFile::Region* FindRegion(std::uintptr_t address) {
  for (Block* block = &first_block; block != nullptr;
       block = block->next.load(std::memory_order_acquire)) {
    for (const auto& slot : block->slots) {
      // Sequentially consistent, like `walkers`: a region that was taken out
      // before the walk began is not seen.
      MappedFile::Region* const region = slot.load();
      if (region != nullptr && address >= region->begin &&
          address < region->end) {
        return region;
      }
    }
  }
  return nullptr;
}

// Puts zeros behind `address` and all that follows in its region, for they will
// not be read either: a page at a time would cost a signal each.
bool CoverWithZeros(std::uintptr_t address) {
  MappedFile::Region* const region = FindRegion(address);
  if (region == nullptr) {
    return false;
  }
  const std::uintptr_t page = address / page_bytes * page_bytes;
  region->damaged.store(true, std::memory_order_release);
  return mmap(reinterpret_cast<void*>(page), region->end - page, PROT_READ,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
              0) != MAP_FAILED;
}

void OnBusError(int signal, siginfo_t* info, void* /*context*/) {
  const int saved_errno = errno;
  walkers.fetch_add(1);
  // A signal that another process sent has no address.
  const bool covered =
      info->si_code > 0 &&
      CoverWithZeros(reinterpret_cast<std::uintptr_t>(info->si_addr));
  walkers.fetch_sub(1);
  if (!covered) {
    // The access happens again, under whatever was there before.
    sigaction(signal, &previous_action, nullptr);
    if (info->si_code <= 0) {
      raise(signal);
    }
  }
  errno = saved_errno;
}

void InstallHandler() {
  static const bool installed = [] {
    page_bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction action = {};
    action.sa_sigaction = &OnBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &previous_action) == 0;
  }();
  (void)installed;
}

void AddRegion(MappedFile::Region* region) {
  for (Block* block = &first_block;;) {
    for (auto& slot : block->slots) {
      MappedFile::Region* expected = nullptr;
      if (slot.compare_exchange_strong(expected, region)) {
        return;
      }
    }
    Block* next = block->next.load();
    if (next == nullptr) {
      auto* const fresh = new Block;
      if (block->next.compare_exchange_strong(next, fresh)) {
        next = fresh;
      } else {
        delete fresh;
      }
    }
    block = next;
  }
}

void RemoveRegion(MappedFile::Region* region) {
  for (Block* block = &first_block; block != nullptr;
       block = block->next.load()) {
    for (auto& slot : block->slots) {
      MappedFile::Region* expected = region;
      if (slot.compare_exchange_strong(expected, nullptr)) {
        while (walkers.load() != 0) {
          std::this_thread::yield();
        }
        return;
      }
    }
  }
}

std::int64_t Nanoseconds(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

FileStamp StampOf(const std::string& path, const struct stat& info) {
  std::error_code error;
  const std::filesystem::path resolved =
      std::filesystem::canonical(path, error);
  FileStamp stamp;
  stamp.path = error ? path : resolved.string();
  stamp.size_bytes = info.st_size;
  stamp.mtime_ns = Nanoseconds(info.st_mtim);
  stamp.ctime_ns = Nanoseconds(info.st_ctim);
  stamp.inode = static_cast<std::int64_t>(info.st_ino);
  return stamp;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const MappedFile>> MappedFile::Open(
    const std::string& path) {
  InstallHandler();
  std::unique_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  file->name_ = std::filesystem::path(path).filename().string();
  // O_NONBLOCK: a named pipe must not hold us up before we see what it is.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return ErrnoStatus(errno, file->name_);
  }
  const absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat info = {};
  if (fstat(fd, &info) != 0) {
    return ErrnoStatus(errno, file->name_);
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::DataLossError(
        absl::StrCat(file->name_, ": not a regular file"));
  }
  file->stamp_ = StampOf(path, info);
  file->region_ = std::make_unique<Region>();
  if (info.st_size > 0) {
    const auto size = static_cast<std::size_t>(info.st_size);
    void* const mapping =
        mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED) {
      return ErrnoStatus(errno, file->name_);
    }
    file->bytes_ = absl::string_view(static_cast<const char*>(mapping), size);
    file->region_->begin = reinterpret_cast<std::uintptr_t>(mapping);
    file->region_->end = file->region_->begin + size;
    AddRegion(file->region_.get());
  }
  return std::unique_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  if (bytes_.empty()) {
    return;
  }
  // First, so that no handler covers what this address space is used for next.
  RemoveRegion(region_.get());
  munmap(reinterpret_cast<void*>(region_->begin), bytes_.size());
}

absl::Status MappedFile::Damaged(absl::string_view how) const {
  ErrorDetails details;
  details.reason = "FILE_CHANGED";
  details.metadata["file"] = name_;
  return MakeError(absl::StatusCode::kDataLoss, absl::StrCat(name_, ": ", how),
                   details);
}

absl::Status MappedFile::CheckIntact() const {
  if (region_->damaged.load(std::memory_order_acquire)) {
    return Damaged("was cut short or could not be read while it was in use");
  }
  struct stat info = {};
  if (stat(path_.c_str(), &info) != 0 ||
      static_cast<std::int64_t>(info.st_ino) != stamp_.inode) {
    return absl::OkStatus();  // The mapping keeps the file that it was made of.
  }
  if (info.st_size != stamp_.size_bytes) {
    return Damaged(absl::StrCat("has ", info.st_size, " bytes, and had ",
                                stamp_.size_bytes, " when it was opened"));
  }
  if (Nanoseconds(info.st_mtim) != stamp_.mtime_ns) {
    return Damaged("was written to while it was in use");
  }
  return absl::OkStatus();
}

}  // namespace moescope
