// Sums from planes of codes, a template over a vector of bytes V and tables T (avx2.cpp, avx512.hpp, neon.cpp):
//   V::kBytes, load, zero, store_sums, store_bytes; average (a + b + 1) >> 1, add16 and high (words of two bytes);
//   T::kLeaves, T::kServes (neighbouring codebooks whose entries one T holds), T::load, lookup, and for how many
//   outputs and lanes (vectors of rows that share a table once it is loaded) registers have room: kOutputs, kLanes.
#pragma once

#include <type_traits>

#include "finish_impl.hpp"
#include "inline.hpp"
#include "kernels.hpp"

namespace hasten::maddness {
namespace {

// A pointer of which a compiler knows nothing, so that it adds to it where that is free, not beforehand for each use.
template <typename Byte>
INLINE Byte* opaque(Byte* pointer) {
#if defined(__GNUC__)
    asm volatile("" : "+r"(pointer));
#endif
    return pointer;
}

// How far the tables of two outputs, and the codes of two blocks, are from each other.
struct Strides {
    std::size_t luts, block;
};

// Where the next codes of each lane and the next tables of each output stand.
template <typename V, std::size_t outputs, std::size_t lanes>
struct Places {
    static constexpr std::size_t kParts = kRows / V::kBytes;  // lanes of a block
    const uint8_t *codes[lanes], *luts[outputs];

    INLINE Places(const uint8_t* first_codes, const uint8_t* first_luts, const Strides& by) {
        for (std::size_t k = 0; k < lanes; ++k) {
            const std::size_t part = k % kParts * V::kBytes;
            const uint8_t* const block = first_codes + k / kParts * by.block;
            codes[k] = part ? codes[k - k % kParts] + part : kParts == 1 ? opaque(block) : block;
        }
        for (std::size_t m = 0; m < outputs; ++m) luts[m] = first_luts + m * by.luts;
    }
    INLINE void advance(std::size_t code_bytes, std::size_t lut_bytes) {
        for (const uint8_t*& lane : codes) lane += code_bytes;
        for (const uint8_t*& output : luts) output += lut_bytes;
    }
    INLINE static uint16_t* sums(uint16_t* first, std::size_t m, std::size_t k) {
        return first + m * kRows + k / kParts * kTile * kRows + k % kParts * V::kBytes / 2;
    }
};

// The average of `group` codebooks from `c` on, for each output and lane: neighbours first.
template <typename V, typename T, std::size_t group, std::size_t outputs, std::size_t lanes>
INLINE void averages(const Places<V, outputs, lanes>& at, std::size_t c, T* tables, V* result) {
    const auto load = [&](std::size_t m) { tables[m] = T::load(at.luts[m] + c * T::kLeaves); };
    if constexpr (group > 1) {
        if constexpr (group == T::kServes) {
            for (std::size_t m = 0; m < outputs; ++m) load(m);
        }
        V left[outputs * lanes];
        averages<V, T, group / 2, outputs, lanes>(at, c, tables, left);
        averages<V, T, group / 2, outputs, lanes>(at, c + group / 2, tables, result);
        for (std::size_t i = 0; i < outputs * lanes; ++i) result[i] = average(result[i], left[i]);
    } else {
        V x[lanes];
        for (std::size_t k = 0; k < lanes; ++k) {
            x[k] = V::load(at.codes[k] + c * kRows);
            if (outputs > 1) x[k].hold();  // loaded once, not again for each output
        }
        for (std::size_t m = 0; m < outputs; ++m) {
            if constexpr (T::kServes == 1) load(m);
            for (std::size_t k = 0; k < lanes; ++k) result[m * lanes + k] = tables[m].lookup(x[k]);
        }
    }
}

template <typename V, typename T, std::size_t group, bool single, std::size_t outputs, std::size_t lanes>
INLINE void plane_sums(Places<V, outputs, lanes> at, std::size_t codebooks, uint16_t* sums) {
    T tables[outputs];
    V bytes[outputs * lanes];
    const auto place = [&](std::size_t i) { return at.sums(sums, i / lanes, i % lanes); };
    if constexpr (single) {  // the averages are the sums
        averages<V, T, group, outputs, lanes>(at, 0, tables, bytes);
        for (std::size_t i = 0; i < outputs * lanes; ++i) V::store_bytes(bytes[i], place(i));
        return;
    }
    V all[outputs * lanes], odd[outputs * lanes];  // words of two rows: both together, modulo 2^16, and the upper one
    for (std::size_t i = 0; i < outputs * lanes; ++i) all[i] = odd[i] = V::zero();
    for (std::size_t c = 0; c < codebooks; c += group, at.advance(group * kRows, group * T::kLeaves)) {
        averages<V, T, group, outputs, lanes>(at, 0, tables, bytes);
        for (std::size_t i = 0; i < outputs * lanes; ++i) {
            all[i] = add16(all[i], bytes[i]);
            odd[i] = add16(odd[i], high(bytes[i]));
        }
    }
    for (std::size_t i = 0; i < outputs * lanes; ++i) V::store_sums(all[i], odd[i], place(i));
}

template <typename V, typename T, std::size_t group, bool single, std::size_t lanes>
INLINE void plane_tile(const uint8_t* codes, const uint8_t* luts, const Range& range, const Strides& by,
                       uint16_t* sums) {
    constexpr std::size_t outputs = T::kOutputs;
    const std::size_t last = range.last, codebooks = range.to - range.from;
    std::size_t m = range.first;
    codes += range.from * kRows;
    luts += m * by.luts + range.from * T::kLeaves;
    for (; m + outputs <= last; m += outputs, luts += outputs * by.luts, sums += outputs * kRows) {
        plane_sums<V, T, group, single, outputs, lanes>(Places<V, outputs, lanes>(codes, luts, by), codebooks, sums);
    }
    if constexpr (outputs > 1) {
        for (; m < last; ++m, luts += by.luts, sums += kRows) {
            plane_sums<V, T, group, single, 1, lanes>(Places<V, 1, lanes>(codes, luts, by), codebooks, sums);
        }
    }
}

template <typename V, typename T, std::size_t group, bool single, std::size_t lanes = T::kLanes>
void plane_blocks(const uint8_t* codes, std::size_t blocks, const Tables& tables, const Range& range, uint16_t* sums) {
    constexpr std::size_t together = lanes * V::kBytes / kRows;
    const Strides by = {tables.codebooks * T::kLeaves, tables.codebooks * kRows};
    for (; blocks >= together; blocks -= together, codes += together * by.block, sums += together * kTile * kRows) {
        plane_tile<V, T, group, single, lanes>(codes, tables.luts, range, by, sums);
    }
    if constexpr (together > 1) plane_blocks<V, T, group, single, lanes / 2>(codes, blocks, tables, range, sums);
}

template <typename V, typename T>
void plane_groups(const uint8_t* codes, std::size_t blocks, const Tables& tables, const Range& range, uint16_t* sums) {
    const auto run = [&](auto group) {
        constexpr std::size_t size = decltype(group)::value;
        if constexpr (size >= T::kServes) {
            if (size > 1 && range.to - range.from == size) {
                plane_blocks<V, T, size, true>(codes, blocks, tables, range, sums);
            } else {
                plane_blocks<V, T, size, false>(codes, blocks, tables, range, sums);
            }
        }
    };
    switch (tables.group) {
        case 2: return run(std::integral_constant<std::size_t, 2>{});
        case 4: return run(std::integral_constant<std::size_t, 4>{});
        case 8: return run(std::integral_constant<std::size_t, 8>{});
        case 16: return run(std::integral_constant<std::size_t, 16>{});
        default: return run(std::integral_constant<std::size_t, 1>{});
    }
}

template <typename V>
void sums_of_planes(const uint8_t* codes, std::size_t blocks, const Tables& tables, const Range& range,
                    uint16_t* sums) {
    if (tables.leaves == 16) return plane_groups<V, typename V::template Table<16>>(codes, blocks, tables, range, sums);
    if (tables.leaves == 32) return plane_groups<V, typename V::template Table<32>>(codes, blocks, tables, range, sums);
    return plane_groups<V, typename V::template Table<64>>(codes, blocks, tables, range, sums);
}

// Look-ups that do not wait for each other, and of which a compiler can leave none out.
template <typename V>
std::size_t shuffles_of(std::size_t count) {
    alignas(64) uint8_t entries[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3}, codes[64] = {};
    const auto table = V::template Table<16>::load(entries);
    V a = V::load(codes), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
    for (std::size_t i = 0; i < count; i += 8) {
        a = table.lookup(a), b = table.lookup(b), c = table.lookup(c), d = table.lookup(d);
        e = table.lookup(e), f = table.lookup(f), g = table.lookup(g), h = table.lookup(h);
        a.hold(), b.hold(), c.hold(), d.hold(), e.hold(), f.hold(), g.hold(), h.hold();
    }
    return (count + 7) / 8 * 8 * V::kBytes;
}

}  // namespace
}  // namespace hasten::maddness
