// What this CPU and this operating system can run.
#pragma once

#include <array>

// One macro per processor family we write kernels for. Function-level target attributes need GCC or Clang; any other
// compiler builds the scalar kernels only.
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define HASTEN_X86 1
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__) && !defined(__AARCH64EB__)
#define HASTEN_ARM 1
#endif

namespace hasten {

struct Feature {
    const char* name;
    bool present;
};

// CPUID bits that the kernels' instruction sets are made of. A bit counts only where the operating system saves the
// registers that go with it (XCR0), since the CPU alone may promise what the kernel has not switched on.
const std::array<Feature, 17>& cpu_features();  // asked once: CPUID is slow in a virtual machine

bool has_feature(const char* name);

}  // namespace hasten
