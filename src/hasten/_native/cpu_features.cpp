#include "cpu_features.hpp"

#include <cstdint>
#include <cstring>

#if defined(HASTEN_X86)
#include <cpuid.h>
#endif

namespace hasten {
namespace {

struct Registers {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

#if defined(HASTEN_X86)
Registers cpuid(uint32_t leaf, uint32_t subleaf) {
    Registers r;
    __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);  // leaves zeros where the leaf does not exist
    return r;
}

// XCR0: the register state that the operating system saves on a context switch. Only legal where OSXSAVE is set.
uint64_t saved_state() {
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t{high} << 32) | low;
}
#endif

constexpr bool bit(uint32_t word, int index) { return ((word >> index) & 1u) != 0; }

std::array<Feature, 17> detect() {
    Registers one, seven, seven_one;
    bool ymm = false, zmm = false, neon = false;
#if defined(HASTEN_X86)
    one = cpuid(1, 0);
    seven = cpuid(7, 0);
    seven_one = cpuid(7, 1);
    if (bit(one.ecx, 27)) {  // OSXSAVE
        constexpr uint64_t kYmm = 0x06, kZmm = 0xE6;  // XMM + YMM; plus opmask, upper ZMM0-15, ZMM16-31
        const uint64_t state = saved_state();
        ymm = (state & kYmm) == kYmm;
        zmm = (state & kZmm) == kZmm;
    }
#elif defined(HASTEN_ARM)
    neon = true;  // part of the base AArch64 instruction set
#endif
    // Bit positions: Intel SDM volume 2A, CPUID.
    return {{
        {"sse4.2", bit(one.ecx, 20)},
        {"avx", ymm && bit(one.ecx, 28)},
        {"fma", ymm && bit(one.ecx, 12)},
        {"f16c", ymm && bit(one.ecx, 29)},
        {"bmi1", bit(seven.ebx, 3)},
        {"bmi2", bit(seven.ebx, 8)},
        {"avx2", ymm && bit(seven.ebx, 5)},
        {"avx512f", zmm && bit(seven.ebx, 16)},
        {"avx512dq", zmm && bit(seven.ebx, 17)},
        {"avx512cd", zmm && bit(seven.ebx, 28)},
        {"avx512bw", zmm && bit(seven.ebx, 30)},
        {"avx512vl", zmm && bit(seven.ebx, 31)},
        {"avx512vbmi", zmm && bit(seven.ecx, 1)},
        {"avx512vbmi2", zmm && bit(seven.ecx, 6)},
        {"avx512vnni", zmm && bit(seven.ecx, 11)},
        {"avx512bf16", zmm && bit(seven_one.eax, 5)},
        {"neon", neon},
    }};
}

}  // namespace

const std::array<Feature, 17>& cpu_features() {
    static const std::array<Feature, 17> found = detect();
    return found;
}

bool has_feature(const char* name) {
    for (const Feature& feature : cpu_features()) {
        if (std::strcmp(feature.name, name) == 0) return feature.present;
    }
    return false;
}

}  // namespace hasten
