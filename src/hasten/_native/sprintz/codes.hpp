// Canonical Huffman codes of limited length for tokens.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels.hpp"

namespace hasten::sprintz {

using Counts = std::array<uint32_t, kMaxTokens>;
using Lengths = std::array<uint8_t, kMaxTokens>;  // 0: the token does not occur
using Depths = std::array<uint16_t, 2 * kMaxTokens>;

// Logarithms in units of 2^-kLogBits. Bytes follow from them, so they are the same on every machine; those of the
// standard library need not be.
constexpr unsigned kLogBits = 24, kLogIndex = 8;  // of a number's bits below the highest, kLogIndex choose the line

struct LogTable {
    uint32_t log2[(1u << kLogIndex) + 1];  // of 1 to 2
};

constexpr LogTable make_log_table() {
    LogTable table{};
    for (uint32_t i = 0; i < 1u << kLogIndex; ++i) {
        uint64_t x = uint64_t{(1u << kLogIndex) + i} << (31 - kLogIndex);  // in units of 2^-31
        for (unsigned bit = kLogBits; bit-- > 0;) {
            x = x * x >> 31;
            if (x >> 32 == 0) continue;
            x >>= 1;
            table.log2[i] |= 1u << bit;
        }
    }
    table.log2[1u << kLogIndex] = 1u << kLogBits;
    return table;
}

constexpr LogTable kLogTable = make_log_table();

// Of a number above 0: lines between the entries of the table, at most 3e-6 too low.
constexpr uint64_t log2_of(uint32_t number) {
    constexpr unsigned kRest = 31 - kLogIndex;
#if defined(__GNUC__)
    const unsigned whole = 31 - static_cast<unsigned>(__builtin_clz(number));
#else
    unsigned whole = 31;
    while (number >> whole == 0) --whole;
#endif
    number <<= 31 - whole;
    const uint32_t i = (number >> kRest) - (1u << kLogIndex);
    const uint64_t low = kLogTable.log2[i], high = kLogTable.log2[i + 1], rest = number & ((1u << kRest) - 1);
    return (uint64_t{whole} << kLogBits) + low + ((high - low) * rest >> kRest);
}

// Bits that an ideal code would take, in the same units. The counts add up to less than 2^32.
constexpr uint64_t entropy_bits(const uint32_t* counts, std::size_t tokens) {
    uint32_t total = 0;
    uint64_t bits = 0;
    for (std::size_t s = 0; s < tokens; ++s) {
        if (counts[s] == 0) continue;
        total += counts[s];
        bits += counts[s] * log2_of(counts[s]);
    }
    return total ? total * log2_of(total) - bits : 0;
}

static_assert(log2_of(1) == 0 && log2_of(3) == 26591258 && log2_of(1000) == 167198115 && log2_of(~0u) == 536870911);

// Depths in Huffman's tree of `n` tokens, two or more, whose weights do not fall. Two queues: the tokens, and the pairs in
// the order in which they were made, which is that of their weights.
inline Depths huffman_depths(const Counts& weights, std::size_t n) {
    std::array<uint64_t, 2 * kMaxTokens> weight;
    std::array<uint16_t, 2 * kMaxTokens> parent{};
    std::copy_n(weights.begin(), n, weight.begin());
    std::size_t leaf = 0, pair = n;
    for (std::size_t made = n; made < 2 * n - 1; ++made) {
        weight[made] = 0;
        for (int k = 0; k < 2; ++k) {
            const bool take_leaf = leaf < n && (pair >= made || weight[leaf] <= weight[pair]);
            const std::size_t taken = take_leaf ? leaf++ : pair++;
            weight[made] += weight[taken];
            parent[taken] = static_cast<uint16_t>(made);
        }
    }
    Depths depth{};
    for (std::size_t i = 2 * n - 2; i-- > 0;) depth[i] = static_cast<uint16_t>(depth[parent[i]] + 1);
    return depth;
}

// Cuts depths at the limit, of tokens from the rarest to the most frequent; the shortest codes that can pay for it become
// longer.
inline void limit_depths(Depths& depth, std::size_t n, unsigned limit) {
    uint32_t room = 0;  // what the codes take of 2^limit, which is all there is
    for (std::size_t i = 0; i < n; ++i) {
        depth[i] = std::min<uint16_t>(depth[i], static_cast<uint16_t>(limit));
        room += 1u << (limit - depth[i]);
    }
    const uint32_t all = 1u << limit;
    while (room > all) {  // lengthen the longest that is not at the limit, the rarest of these
        std::size_t best = n;
        for (std::size_t i = 0; i < n; ++i) {
            if (depth[i] < limit && (best == n || depth[i] > depth[best])) best = i;
        }
        room -= 1u << (limit - depth[best] - 1);
        ++depth[best];
    }
    while (room < all) {  // give back, to the most frequent for which there is room
        for (std::size_t i = n; i-- > 0;) {
            if (room + (1u << (limit - depth[i])) > all) continue;
            room += 1u << (limit - depth[i]);
            --depth[i];
            break;
        }
    }
}

// Lengths of Huffman's codes, at most `limit`. One token alone has length 1, and takes no bits (docs/formats.md).
inline Lengths code_lengths(const uint32_t* counts, std::size_t tokens, unsigned limit) {
    Lengths lengths{};
    std::array<uint16_t, kMaxTokens> order;
    std::size_t n = 0;
    for (std::size_t s = 0; s < tokens; ++s) {
        if (counts[s]) order[n++] = static_cast<uint16_t>(s);
    }
    if (n < 2) {
        if (n) lengths[order[0]] = 1;
        return lengths;
    }
    std::sort(order.begin(), order.begin() + n, [&](uint16_t a, uint16_t b) {
        return counts[a] != counts[b] ? counts[a] < counts[b] : a < b;
    });
    Counts weights;
    for (std::size_t i = 0; i < n; ++i) weights[i] = counts[order[i]];
    Depths depth = huffman_depths(weights, n);
    limit_depths(depth, n, limit);
    for (std::size_t i = 0; i < n; ++i) lengths[order[i]] = static_cast<uint8_t>(depth[i]);
    return lengths;
}

// Shorter codes first, then by token, counted up from 0; the highest bit first in the stream.
inline void canonical_codes(const Lengths& lengths, Code* codes) {
    unsigned code = 0;
    for (unsigned length = 1; length <= kMaxCode; ++length, code <<= 1) {
        for (std::size_t s = 0; s < kMaxTokens; ++s) {
            if (lengths[s] != length) continue;
            unsigned turned = 0;
            for (unsigned bit = 0; bit < length; ++bit) turned |= (code >> bit & 1) << (length - 1 - bit);
            codes[s] = {static_cast<uint16_t>(turned), static_cast<uint8_t>(length)};
            ++code;
        }
    }
}

inline std::size_t tokens_present(const Lengths& lengths) {
    return static_cast<std::size_t>(std::count_if(lengths.begin(), lengths.end(), [](uint8_t x) { return x != 0; }));
}

}  // namespace hasten::sprintz
