// The reference: one element at a time, in plain C++.
#include "step.hpp"

#include <cmath>
#include <cstring>

namespace hasten::flash {
namespace {

struct V {
    using F = float;
    using I = int32_t;
    static constexpr int W = 1, N = static_cast<int>(kQuad);

    INLINE static F set(float x) { return x; }
    INLINE static I seti(int32_t x) { return x; }
    INLINE static F floats(I x) {
        F y;
        std::memcpy(&y, &x, 4);
        return y;
    }
    INLINE static I bits(F x) {
        I y;
        std::memcpy(&y, &x, 4);
        return y;
    }
    INLINE static F load(const float* p) { return *p; }
    INLINE static void store(float* p, F x) { *p = x; }
    INLINE static void storei(int32_t* p, I x) { *p = x; }
    INLINE static F add(F a, F b) { return a + b; }
    INLINE static F sub(F a, F b) { return a - b; }
    INLINE static F mul(F a, F b) { return a * b; }
    INLINE static F div(F a, F b) { return a / b; }
    INLINE static F sqrt(F a) { return std::sqrt(a); }
    INLINE static F fma(F a, F b, F c) { return std::fma(a, b, c); }
    INLINE static F fms(F a, F b, F c) { return std::fma(a, b, -c); }
    INLINE static F fnma(F a, F b, F c) { return std::fma(-a, b, c); }
    INLINE static I addi(I a, I b) { return static_cast<I>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
    INLINE static I subi(I a, I b) { return static_cast<I>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b)); }
    INLINE static I multiplyi(I a, I b) { return static_cast<I>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b)); }
    INLINE static I andi(I a, I b) { return a & b; }
    INLINE static I ori(I a, I b) { return a | b; }
    INLINE static I xori(I a, I b) { return a ^ b; }
    INLINE static I maxu(I a, I b) { return static_cast<uint32_t>(a) > static_cast<uint32_t>(b) ? a : b; }
    template <int k>
    INLINE static I left(I a) {
        return static_cast<I>(static_cast<uint32_t>(a) << k);
    }
    template <int k>
    INLINE static I right(I a) {
        return static_cast<I>(static_cast<uint32_t>(a) >> k);
    }
    INLINE static bool any_above(I a, int32_t limit) { return a > limit; }
    // Where x is above 0, at least `floor`.
    INLINE static F raise(F code, F x, F floor) { return x > 0.0f && code < floor ? floor : code; }
    // Sign of x: 1, -1 or 0; what is not a number stays none.
    INLINE static F sign(F x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x + x; }

    INLINE static I if_less(I a, I limit, I then, I other) { return a < limit ? then : other; }
    // W words, as dwords and from dwords.
    INLINE static I load_words(const uint16_t* p) { return *p; }
    INLINE static void store_words(I x, uint16_t* p) { *p = static_cast<uint16_t>(x); }

    INLINE static void load_float(const float* p, F x[N]) { std::memcpy(x, p, 4 * kQuad); }
    INLINE static void store_float(const F x[N], float* p) { std::memcpy(p, x, 4 * kQuad); }
    INLINE static void load_high(const uint16_t* p, I x[N]) {
        for (int i = 0; i < N; ++i) x[i] = static_cast<I>(uint32_t{p[i]} << 16);
    }
    INLINE static void load_low(const uint16_t* p, I x[N]) {
        for (int i = 0; i < N; ++i) x[i] = p[i];
    }
    INLINE static void load_byte(const uint8_t* p, I x[N]) {
        for (int i = 0; i < N; ++i) x[i] = p[i];
    }
    INLINE static void store_high(const I x[N], uint16_t* p) {
        for (int i = 0; i < N; ++i) p[i] = static_cast<uint16_t>(static_cast<uint32_t>(x[i]) >> 16);
    }
    INLINE static void store_low(const I x[N], uint16_t* p) {
        for (int i = 0; i < N; ++i) p[i] = static_cast<uint16_t>(x[i]);
    }
    template <int k>
    INLINE static void store_byte(const I x[N], uint8_t* p) {
        for (int i = 0; i < N; ++i) p[i] = static_cast<uint8_t>(static_cast<uint32_t>(x[i]) >> (8 * k));
    }
    // The upper 16 bits from `n`, the byte below them from `c`, which is signed and may borrow from above.
    INLINE static void load_joined(const uint16_t* n, const uint8_t* c, I x[N]) {
        for (int i = 0; i < N; ++i) {
            x[i] = static_cast<I>((uint32_t{n[i]} << 16) + (static_cast<uint32_t>(static_cast<int8_t>(c[i])) << 8));
        }
    }
    INLINE static I places(int j) { return j; }  // of vector j in its quad
    // Bytes 0; true if any is zero.
    INLINE static bool store_codes(const I x[N], uint8_t* p) {
        bool zero = false;
        for (int i = 0; i < N; ++i) {
            p[i] = static_cast<uint8_t>(x[i]);
            zero |= p[i] == 0;
        }
        return zero;
    }
    // What load_joined reads, of bits to which half of the last place was added; true if a word is not finite.
    INLINE static bool store_split(const I x[N], uint16_t* n, uint8_t* c) {
        bool special = false;
        for (int i = 0; i < N; ++i) {
            const uint32_t up = static_cast<uint32_t>(x[i]) + 0x8000u;
            c[i] = static_cast<uint8_t>(static_cast<uint32_t>(x[i]) >> 8);
            n[i] = static_cast<uint16_t>(up >> 16);
            special |= (up & 0x7F800000u) == 0x7F800000u;
        }
        return special;
    }
    INLINE static void load_fraction(const int8_t* p, F x[N]) {
        for (int i = 0; i < N; ++i) {
            const float c = p[i], size = c < 0 ? -c : c;
            x[i] = c / (254.0f - size);
        }
    }
    INLINE static void load_squares(const uint8_t* p, F x[N]) {
        for (int i = 0; i < N; ++i) x[i] = static_cast<float>(p[i] * p[i]);
    }
    // Of the bits of floats the bits of their roots, for all runs of a block.
    INLINE static void roots(int32_t* most) {
        for (std::size_t run = 0; run < kBlock / 32; ++run) most[run] = bits(sqrt(floats(most[run])));
    }
    // The maximum of each row of W.
    INLINE static void maxima(const int32_t* rows, int32_t* found) { std::memcpy(found, rows, 4 * (kBlock / 32)); }
};

}  // namespace
}  // namespace hasten::flash

#define HASTEN_FLASH_BLOCKS blocks_scalar
#include "kernel.hpp"
