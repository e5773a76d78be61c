// Which of a kernel's variants runs: named instruction sets, the ones this machine has, and the choice among them.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <optional>

#include "cpu_features.hpp"

namespace hasten {

// Ordered: on one processor family a later instruction set contains the earlier ones.
enum class Isa : std::size_t { scalar, avx2, avx512, avx512vnni, neon };

constexpr std::array<const char*, 5> kIsaNames = {"scalar", "avx2", "avx512", "avx512vnni", "neon"};

inline std::optional<Isa> isa_from_name(const char* name) {
    for (std::size_t i = 0; i < kIsaNames.size(); ++i) {
        if (std::strcmp(name, kIsaNames[i]) == 0) return static_cast<Isa>(i);
    }
    return std::nullopt;
}

// avx2 and avx512 are the x86-64-v3 and -v4 levels as far as kernels use them; every CPU that has the one feature in
// the name has the others, but a hypervisor may hide any of them. avx512vnni stands for Ice Lake, Zen 4 and later, which
// also permute bytes (VBMI).
inline bool isa_available(Isa isa) {
    const auto all = [](auto... names) { return (has_feature(names) && ...); };
    switch (isa) {
        case Isa::scalar: return true;
        case Isa::avx2: return all("avx", "fma", "f16c", "bmi1", "bmi2", "avx2");
        case Isa::avx512:
            return isa_available(Isa::avx2) && all("avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl");
        case Isa::avx512vnni: return isa_available(Isa::avx512) && all("avx512vnni", "avx512vbmi", "avx512vbmi2");
        case Isa::neon: return all("neon");
    }
    return false;
}

// The variants of one kernel. A missing one (nullptr) falls back to the next smaller instruction set of its family,
// so a kernel that gains nothing from VNNI simply leaves that entry out.
template <typename Function>
struct Kernel {
    Function scalar, avx2 = nullptr, avx512 = nullptr, avx512vnni = nullptr, neon = nullptr;

    constexpr Function pick(Isa isa) const {
        if (isa == Isa::neon) return neon ? neon : scalar;
        if (isa >= Isa::avx512vnni && avx512vnni) return avx512vnni;
        if (isa >= Isa::avx512 && avx512) return avx512;
        if (isa >= Isa::avx2 && avx2) return avx2;
        return scalar;
    }
};

}  // namespace hasten
