// The kernels of a type by name, so that templates can ask for them.
#pragma once

#include <type_traits>

#include "kernels.hpp"

namespace hasten::sprintz {

template <typename T>
const LaneKernels<T>& lanes_of(const Kernels& k) {
    if constexpr (sizeof(T) == 2) return k.lanes16;
    else if constexpr (sizeof(T) == 4) return k.lanes32;
    else return k.lanes64;
}

template <typename T>
const CodeKernels<T>& codes_of(const Kernels& k) {
    if constexpr (sizeof(T) == 2) return k.codes->codes16;
    else if constexpr (sizeof(T) == 4) return k.codes->codes32;
    else return k.codes->codes64;
}

template <typename T>
const PlanarKernels<T>& planar_of(const Kernels& k) {
    if constexpr (sizeof(T) == 1) return k.planar8;
    else if constexpr (sizeof(T) == 2) return k.planar16;
    else if constexpr (sizeof(T) == 4) return k.planar32;
    else return k.planar64;
}

template <typename X>
const RangeKernels<X>& range_of(const Kernels& k) {
    if constexpr (sizeof(X) == 1) return k.range8;
    else if constexpr (sizeof(X) == 2) return k.range16;
    else if constexpr (sizeof(X) == 4) return k.range32;
    else return k.range64;
}

template <typename X, typename T>
const MoveKernels<X, T>& move_of(const Kernels& k) {
    if constexpr (sizeof(X) == 1) return k.move8_16;
    else if constexpr (sizeof(X) == 2) return k.move16_16;
    else if constexpr (sizeof(X) == 4 && sizeof(T) == 2) return k.move32_16;
    else if constexpr (sizeof(X) == 4) return k.move32_32;
    else if constexpr (sizeof(T) == 2) return k.move64_16;
    else if constexpr (sizeof(T) == 4) return k.move64_32;
    else return k.move64_64;
}

// Calls f with a value of the unsigned type of so many bytes.
template <typename F>
void with_type(std::size_t itemsize, F&& f) {
    switch (itemsize) {
        case 1: return f(uint8_t{});
        case 2: return f(uint16_t{});
        case 4: return f(uint32_t{});
        default: return f(uint64_t{});
    }
}

inline std::size_t steps_of(std::size_t rows) { return (rows + kLanes - 1) / kLanes; }
inline std::size_t blocks_of(std::size_t values) { return (values + kBlock - 1) / kBlock; }

}  // namespace hasten::sprintz
