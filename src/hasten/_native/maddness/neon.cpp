// NEON, which every AArch64 machine has: 16 bytes, tables of 16, 32 and 64 entries. Codes lie in planes: four codebooks
// in one table of 64 entries need sums of four bytes to pay (udot, of later machines).
#include "../cpu_features.hpp"

#if defined(HASTEN_ARM)
#include <arm_neon.h>

#include "encode_impl.hpp"
#include "finish_impl.hpp"
#include "planes_impl.hpp"

namespace hasten::maddness {
namespace {

// Bytes of a table in registers.
template <std::size_t count>
struct Entries {
    uint8x16_t sixteen[count / 16];

    INLINE static Entries load(const uint8_t* from) {
        Entries entries;
        for (std::size_t k = 0; k < count / 16; ++k) entries.sixteen[k] = vld1q_u8(from + 16 * k);
        return entries;
    }
    INLINE uint8x16_t at(uint8x16_t index) const {  // 0 behind the table
        if constexpr (count == 16) return vqtbl1q_u8(sixteen[0], index);
        else if constexpr (count == 32) return vqtbl2q_u8({{sixteen[0], sixteen[1]}}, index);
        else return vqtbl4q_u8({{sixteen[0], sixteen[1], sixteen[2], sixteen[3]}}, index);
    }
};

struct Bytes {
    static constexpr std::size_t kBytes = 16;
    uint8x16_t x;

    INLINE void hold() { asm volatile("" : "+w"(x)); }
    INLINE static Bytes zero() { return {vdupq_n_u8(0)}; }
    INLINE static Bytes load(const uint8_t* from) { return {vld1q_u8(from)}; }
    INLINE uint16x8_t words() const { return vreinterpretq_u16_u8(x); }
    INLINE static void store_words(uint16x8_t first, uint16x8_t second, uint16_t* to) {
        vst1q_u16(to, first);
        vst1q_u16(to + kRows / 2, second);
    }
    INLINE static void store_sums(Bytes all, Bytes odd, uint16_t* to) {
        store_words(vsubq_u16(all.words(), vshlq_n_u16(odd.words(), 8)), odd.words(), to);
    }
    INLINE static void store_bytes(Bytes bytes, uint16_t* to) {
        store_words(vandq_u16(bytes.words(), vdupq_n_u16(255)), vshrq_n_u16(bytes.words(), 8), to);
    }
    template <std::size_t leaves>
    struct Table {  // is loaded once for a block; of two outputs the averages would not stay in registers
        static constexpr std::size_t kLeaves = leaves, kServes = 1, kOutputs = 1, kLanes = 4;
        Entries<leaves> entries;

        INLINE static Table load(const uint8_t* from) { return {Entries<leaves>::load(from)}; }
        INLINE Bytes lookup(Bytes codes) const { return {entries.at(codes.x)}; }
    };
};

INLINE Bytes average(Bytes a, Bytes b) { return {vrhaddq_u8(a.x, b.x)}; }
INLINE Bytes add16(Bytes a, Bytes b) { return {vreinterpretq_u8_u16(vaddq_u16(a.words(), b.words()))}; }
INLINE Bytes high(Bytes a) { return {vreinterpretq_u8_u16(vshrq_n_u16(a.words(), 8))}; }

// Thresholds are looked up as bytes: a code stands in all four bytes of its row, and 4 * code + 0, 1, 2, 3 are the
// bytes of a float.
struct Rows {
    static constexpr std::size_t kRows = 4;
    using Codes = uint8x16_t;

    INLINE static Codes zero() { return vdupq_n_u8(0); }
    template <unsigned level>
    INLINE static Codes deeper(const float* values, const float* nodes, Codes codes) {
        const float32x4_t x = vld1q_f32(values), t = threshold<level>(nodes, codes);
        return vsubq_u8(vaddq_u8(codes, codes), vreinterpretq_u8_u32(vcgtq_f32(x, t)));  // less -1
    }
    template <unsigned level>
    INLINE static float32x4_t threshold(const float* nodes, Codes codes) {
        if constexpr (level == 0) return vld1q_dup_f32(nodes);
        const uint8_t* const from = reinterpret_cast<const uint8_t*>(nodes);
        const uint8x16_t bytes = vreinterpretq_u8_u32(vdupq_n_u32(0x03020100)), at = vsliq_n_u8(bytes, codes, 2);
        constexpr std::size_t count = level <= 2 ? 16 : level == 3 ? 32 : 64;
        const uint8x16_t low = Entries<count>::load(from).at(at);
        if constexpr (level < 5) return vreinterpretq_f32_u8(low);
        return vreinterpretq_f32_u8(vorrq_u8(low, Entries<count>::load(from + 64).at(vsubq_u8(at, vdupq_n_u8(64)))));
    }
    INLINE static void store(const Codes (&four)[4], std::size_t, uint8_t* to) {
        const auto words = [&](int k) { return vreinterpretq_u16_u8(four[k]); };
        const uint16x8_t low = vuzp1q_u16(words(0), words(1)), high = vuzp1q_u16(words(2), words(3));
        vst1q_u8(to, vtrn1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high)));
    }
};

// Eight rows of four outputs.
struct Tile {
    static constexpr std::size_t kRows = 8, kOutputs = 4;
    float32x4_t scale, offset;

    INLINE Tile(const float* scales, const float* offsets) : scale(vld1q_f32(scales)), offset(vld1q_f32(offsets)) {}
    INLINE void put(uint16x4_t sums, float* out) const {
        vst1q_f32(out, vaddq_f32(vmulq_f32(vcvtq_f32_u32(vmovl_u16(sums)), scale), offset));
    }
    INLINE void turn(const uint16_t* sums, float* out, std::ptrdiff_t row_stride) const {
        const auto rows = [&](std::size_t m) { return vld1q_u16(sums + m * maddness::kRows); };
        const uint16x8_t a = rows(0), b = rows(1), c = rows(2), d = rows(3);
        const auto pairs = [](uint16x8_t x) { return vreinterpretq_u32_u16(x); };
        const uint32x4_t ab[] = {pairs(vzip1q_u16(a, b)), pairs(vzip2q_u16(a, b))};
        const uint32x4_t cd[] = {pairs(vzip1q_u16(c, d)), pairs(vzip2q_u16(c, d))};
        for (std::size_t half = 0; half < 2; ++half) {
            for (const uint32x4_t two : {vzip1q_u32(ab[half], cd[half]), vzip2q_u32(ab[half], cd[half])}) {
                put(vget_low_u16(vreinterpretq_u16_u32(two)), out);
                put(vget_high_u16(vreinterpretq_u16_u32(two)), out + row_stride);
                out += 2 * row_stride;
            }
        }
    }
};

void encode(const float* const* columns, const Trees& trees, Layout, uint8_t* codes) {
    encode_planes<Rows>(columns, trees, codes);
}

void sums(const uint8_t* codes, std::size_t blocks, Layout, const Tables& tables, const Range& range,
          uint16_t* result) {
    sums_of_planes<Bytes>(codes, blocks, tables, range, result);
}

void finish(const uint16_t* s, std::size_t rows, std::size_t count, const float* scale, const float* offset, float* out,
            std::ptrdiff_t row_stride, std::ptrdiff_t column_stride) {
    finish_tiles<Tile>(s, rows, count, scale, offset, out, row_stride, column_stride);
}

std::size_t shuffles(std::size_t count) { return shuffles_of<Bytes>(count); }

}  // namespace

extern const Kernels kernels_neon;
const Kernels kernels_neon = {encode, sums, finish, shuffles};

}  // namespace hasten::maddness
#endif
