// Any machine: arrays of 16 bytes, of which a compiler makes vectors if it likes.
#include <cstring>

#include "planes_impl.hpp"

namespace hasten::maddness {
namespace {

struct Plain {
    static constexpr std::size_t kBytes = 16, kOutputs = 1;
    uint16_t word[kBytes / 2];  // two rows each, the first one below

    void hold() {
#if defined(__GNUC__)
        asm volatile("" : : "r"(word) : "memory");
#endif
    }
    static Plain zero() { return {}; }
    static Plain load(const uint8_t* from) {
        Plain v;
        for (std::size_t i = 0; i < kBytes / 2; ++i) v.word[i] = static_cast<uint16_t>(from[2 * i] | from[2 * i + 1] << 8);
        return v;
    }
    template <typename F>
    static Plain each(F f) {
        Plain v;
        for (std::size_t i = 0; i < kBytes / 2; ++i) v.word[i] = static_cast<uint16_t>(f(i));
        return v;
    }
    static void store_sums(Plain all, Plain odd, uint16_t* to) {
        for (std::size_t i = 0; i < kBytes / 2; ++i) {
            to[2 * i] = static_cast<uint16_t>(all.word[i] - (odd.word[i] << 8));
            to[2 * i + 1] = odd.word[i];
        }
    }
    static void store_bytes(Plain bytes, uint16_t* to) { store_sums(bytes, high_of(bytes), to); }
    static Plain high_of(Plain a) {
        return each([&](std::size_t i) { return a.word[i] >> 8; });
    }
    template <std::size_t leaves>
    struct Table {
        const uint8_t* entries;
        explicit Table(const uint8_t* from) : entries(from) {}
        Plain lookup(Plain x) const {
            return each([&](std::size_t i) { return entries[x.word[i] & 255] | entries[x.word[i] >> 8] << 8; });
        }
    };
};

Plain average(Plain a, Plain b) {
    return Plain::each([&](std::size_t i) {
        const unsigned low = ((a.word[i] & 255u) + (b.word[i] & 255u) + 1) >> 1;
        return low | ((a.word[i] >> 8) + (b.word[i] >> 8) + 1u) >> 1 << 8;
    });
}
Plain add16(Plain a, Plain b) {
    return Plain::each([&](std::size_t i) { return a.word[i] + b.word[i]; });
}
Plain high(Plain a) { return Plain::high_of(a); }

void encode(const float* const* columns, const Trees& trees, Layout, uint8_t* codes) {
    for (std::size_t c = 0; c < trees.codebooks; ++c, codes += kRows, columns += trees.levels) {
        const float* const thresholds = trees.thresholds + c * kNodes;
        for (std::size_t r = 0; r < kRows; ++r) {
            unsigned node = 0;
            for (unsigned l = 0; l < trees.levels; ++l) node = 2 * node + 1 + (columns[l][r] > thresholds[node]);
            codes[r] = static_cast<uint8_t>(node - ((1u << trees.levels) - 1));
        }
    }
}

void sums(const uint8_t* codes, std::size_t blocks, Layout, const Tables& tables, const Range& range, uint16_t* result) {
    sums_of_planes<Plain>(codes, blocks, tables, range, result);
}

void finish(const uint16_t* s, std::size_t rows, std::size_t count, const float* scale, const float* offset, float* out,
            std::ptrdiff_t row_stride, std::ptrdiff_t column_stride) {
    finish_any(s, rows, count, scale, offset, out, row_stride, column_stride);
}

std::size_t shuffles(std::size_t count) { return shuffles_of<Plain>(count); }

}  // namespace

extern const Kernels kernels_scalar;
const Kernels kernels_scalar = {encode, sums, finish, shuffles};

}  // namespace hasten::maddness
