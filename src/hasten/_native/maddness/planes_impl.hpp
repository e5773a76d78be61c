// Sums from planes of codes, a template over a vector of bytes V (avx2.cpp, avx512.hpp):
//   V::kBytes, V::kOutputs (that registers have room for), V::load, V::zero, V::store_sums, V::store_bytes,
//   V::Table<leaves> with lookup; average (a + b + 1) >> 1, add16 and high (words of two bytes).
#pragma once

#include "finish_impl.hpp"
#include "inline.hpp"
#include "kernels.hpp"

namespace hasten::maddness {
namespace {

// Where the tables of some outputs begin, and how far two lanes (vectors of rows that share a table once it is loaded) are
// from each other.
struct Places {
    const uint8_t* luts;
    std::size_t stride;      // of luts, from output to output
    std::size_t code_lane, sum_lane;
};

// The average of `group` codebooks from `c` on, for each output and lane: neighbours first.
template <typename V, std::size_t leaves, std::size_t group, std::size_t outputs, std::size_t lanes>
INLINE void averages(const uint8_t* codes, const Places& at, std::size_t c, V* result) {
    if constexpr (group == 1) {
        V x[lanes];
        for (std::size_t k = 0; k < lanes; ++k) {
            x[k] = V::load(codes + k * at.code_lane + c * kRows);
            if (outputs > 1) x[k].hold();  // loaded once, not again for each output
        }
        for (std::size_t m = 0; m < outputs; ++m) {
            const typename V::template Table<leaves> table(at.luts + m * at.stride + c * leaves);
            for (std::size_t k = 0; k < lanes; ++k) result[m * lanes + k] = table.lookup(x[k]);
        }
    } else {
        V right[outputs * lanes];
        averages<V, leaves, group / 2, outputs, lanes>(codes, at, c, result);
        averages<V, leaves, group / 2, outputs, lanes>(codes, at, c + group / 2, right);
        for (std::size_t i = 0; i < outputs * lanes; ++i) result[i] = average(result[i], right[i]);
    }
}

template <typename V, std::size_t leaves, std::size_t group, std::size_t outputs, std::size_t lanes>
INLINE void plane_sums(const uint8_t* codes, const Places& at, std::size_t from, std::size_t to, uint16_t* sums) {
    if (group > 1 && to - from == group) {  // the averages are the sums
        V bytes[outputs * lanes];
        averages<V, leaves, group, outputs, lanes>(codes, at, from, bytes);
        for (std::size_t i = 0; i < outputs * lanes; ++i) V::store_bytes(bytes[i], sums + i / lanes * kRows + i % lanes * at.sum_lane);
        return;
    }
    V all[outputs * lanes], odd[outputs * lanes];  // words of two rows: what both add up to, modulo 2^16, and the upper one
    for (std::size_t i = 0; i < outputs * lanes; ++i) all[i] = odd[i] = V::zero();
    for (std::size_t c = from; c < to; c += group) {
        V bytes[outputs * lanes];
        averages<V, leaves, group, outputs, lanes>(codes, at, c, bytes);
        for (std::size_t i = 0; i < outputs * lanes; ++i) {
            all[i] = add16(all[i], bytes[i]);
            odd[i] = add16(odd[i], high(bytes[i]));
        }
    }
    for (std::size_t m = 0; m < outputs; ++m) {
        for (std::size_t k = 0; k < lanes; ++k) {
            V::store_sums(all[m * lanes + k], odd[m * lanes + k], sums + m * kRows + k * at.sum_lane);
        }
    }
}

template <typename V, std::size_t leaves, std::size_t group, std::size_t lanes>
INLINE void plane_tile(const uint8_t* codes, const Tables& tables, const Range& range, const Places& place, uint16_t* sums) {
    constexpr std::size_t outputs = V::kOutputs;
    Places at = place;
    std::size_t m = range.first;
    at.luts += m * at.stride;
    for (; m + outputs <= range.last; m += outputs, at.luts += outputs * at.stride, sums += outputs * kRows) {
        plane_sums<V, leaves, group, outputs, lanes>(codes, at, range.from, range.to, sums);
    }
    for (; m < range.last; ++m, at.luts += at.stride, sums += kRows) {
        plane_sums<V, leaves, group, 1, lanes>(codes, at, range.from, range.to, sums);
    }
    static_cast<void>(tables);
}

// Blocks one after the other, or two at a time: a vector that has all rows of a block has no neighbour in it.
template <typename V, std::size_t leaves, std::size_t group>
void plane_blocks(const uint8_t* codes, std::size_t blocks, const Tables& tables, const Range& range, uint16_t* sums) {
    const std::size_t block = kRows * tables.codebooks, stride = tables.codebooks * leaves;
    if constexpr (V::kBytes == kRows) {
        for (; blocks >= 2; blocks -= 2, codes += 2 * block, sums += 2 * kTile * kRows) {
            plane_tile<V, leaves, group, 2>(codes, tables, range, {tables.luts, stride, block, kTile * kRows}, sums);
        }
        if (blocks) plane_tile<V, leaves, group, 1>(codes, tables, range, {tables.luts, stride, 0, 0}, sums);
    } else {
        for (; blocks > 0; --blocks, codes += block, sums += kTile * kRows) {
            for (std::size_t row = 0; row < kRows; row += 2 * V::kBytes) {
                const Places at = {tables.luts, stride, V::kBytes, V::kBytes};
                plane_tile<V, leaves, group, 2>(codes + row, tables, range, at, sums + row);
            }
        }
    }
}

template <typename V, std::size_t leaves>
void plane_groups(const uint8_t* codes, std::size_t blocks, const Tables& tables, const Range& range, uint16_t* sums) {
    switch (tables.group) {
        case 2: return plane_blocks<V, leaves, 2>(codes, blocks, tables, range, sums);
        case 4: return plane_blocks<V, leaves, 4>(codes, blocks, tables, range, sums);
        case 8: return plane_blocks<V, leaves, 8>(codes, blocks, tables, range, sums);
        case 16: return plane_blocks<V, leaves, 16>(codes, blocks, tables, range, sums);
        default: return plane_blocks<V, leaves, 1>(codes, blocks, tables, range, sums);
    }
}

template <typename V>
void sums_of_planes(const uint8_t* codes, std::size_t blocks, const Tables& tables, const Range& range, uint16_t* sums) {
    if (tables.leaves == 16) return plane_groups<V, 16>(codes, blocks, tables, range, sums);
    if (tables.leaves == 32) return plane_groups<V, 32>(codes, blocks, tables, range, sums);
    return plane_groups<V, 64>(codes, blocks, tables, range, sums);
}

// Look-ups that do not wait for each other, and of which a compiler can leave none out.
template <typename V>
std::size_t shuffles_of(std::size_t count) {
    alignas(64) uint8_t entries[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3}, codes[64] = {};
    const typename V::template Table<16> table(entries);
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
