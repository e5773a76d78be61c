// One input, the tally, and the count of memory, which AddressSanitizer's allocator reports.
#include <algorithm>

#include "fuzz.hpp"

// Of sanitizer/allocator_interface.h, which GCC does not install.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, std::size_t),
                                                         void (*on_free)(const volatile void*));
extern "C" std::size_t __sanitizer_get_allocated_size(const volatile void* memory);

namespace hasten::fuzz {
namespace {

bool counting = false;
long long live = 0, most = 0;
std::size_t allowed = 0;

void on_malloc(const volatile void*, std::size_t size) {
    if (!counting) return;
    live += static_cast<long long>(size);
    most = std::max(most, live);
    if (live <= static_cast<long long>(allowed)) return;
    counting = false;
    std::fprintf(stderr, "fuzz: %lld bytes at a time for an input that may take %zu\n", live, allowed);
    std::abort();
}

void on_free(const volatile void* memory) {
    if (counting && memory) live -= static_cast<long long>(__sanitizer_get_allocated_size(memory));
}

}  // namespace

Tally& tally() {
    static Tally all;
    return all;
}

void count(const char* reason) {
    Tally& all = tally();
    all.last = reason;
    if (reason) {
        ++all.refused[reason];
    } else {
        ++all.ok;
    }
}

Allowance::Allowance(std::size_t bytes) {
    static const bool installed = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) != 0;
    require(installed, "the allocator reports nothing");
    require(!counting, "an allowance within another");
    live = most = 0;
    allowed = bytes;
    counting = true;
}

Allowance::~Allowance() {
    counting = false;
    Tally& all = tally();
    all.most_bytes = std::max(all.most_bytes, static_cast<std::size_t>(most));
    if (allowed) all.thousandths = std::max(all.thousandths, 1000 * static_cast<std::size_t>(most) / allowed);
}

}  // namespace hasten::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
    hasten::fuzz::count(hasten::fuzz::run({data, size}));
    return 0;
}
