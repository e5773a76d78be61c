#include "checksum.hpp"

#include <cstring>

#if defined(HASTEN_X86)
#include <immintrin.h>
#elif defined(HASTEN_ARM)
#include <arm_neon.h>
#endif

namespace hasten {
namespace {

constexpr uint64_t G = 0x9E3779B97F4A7C15, A = 0xBF58476D1CE4E5B9, B = 0x94D049BB133111EB;

constexpr uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * A;
    x = (x ^ (x >> 27)) * B;
    return x ^ (x >> 31);
}

// Up to 8 bytes as a little-endian word, whatever the machine's own byte order.
inline uint64_t load_word(const uint8_t* data, std::size_t size) {
    uint64_t word = 0;
    for (std::size_t i = 0; i < size; ++i) word |= uint64_t{data[i]} << (8 * i);
    return word;
}

// The sum over words first .. m-1 and the closing mix: the whole kernel in plain C++, and the tail of the others.
inline uint64_t finish(const uint8_t* data, std::size_t size, std::size_t first, uint64_t sum) {
    uint64_t key = (first + 1) * G;
    std::size_t at = first * 8;
    for (; at + 8 <= size; at += 8, key += G) sum += mix(load_word(data + at, 8) + key);
    if (at < size) sum += mix(load_word(data + at, size - at) + key);
    return mix(size + sum);
}

uint64_t checksum_scalar(const uint8_t* data, std::size_t size) { return finish(data, size, 0, 0); }

#if defined(HASTEN_X86)

// x * constant modulo 2^64 per lane; AVX2 multiplies 32 by 32 bits only, so the constant comes in two halves.
__attribute__((target("avx2"))) inline __m256i multiply_avx2(__m256i x, uint64_t constant) {
    const __m256i low = _mm256_set1_epi64x(static_cast<int64_t>(constant & 0xFFFFFFFF));
    const __m256i high = _mm256_set1_epi64x(static_cast<int64_t>(constant >> 32));
    const __m256i cross =
        _mm256_add_epi64(_mm256_mul_epu32(x, high), _mm256_mul_epu32(_mm256_srli_epi64(x, 32), low));
    return _mm256_add_epi64(_mm256_mul_epu32(x, low), _mm256_slli_epi64(cross, 32));
}

__attribute__((target("avx2"))) inline __m256i mix_avx2(__m256i x) {
    x = multiply_avx2(_mm256_xor_si256(x, _mm256_srli_epi64(x, 30)), A);
    x = multiply_avx2(_mm256_xor_si256(x, _mm256_srli_epi64(x, 27)), B);
    return _mm256_xor_si256(x, _mm256_srli_epi64(x, 31));
}

__attribute__((target("avx2"))) uint64_t checksum_avx2(const uint8_t* data, std::size_t size) {
    constexpr std::size_t kWords = 8;  // two vectors a turn: two independent chains hide the multiplier's latency
    const __m256i step = _mm256_set1_epi64x(static_cast<int64_t>(kWords * G));
    const uint64_t keys[kWords] = {1 * G, 2 * G, 3 * G, 4 * G, 5 * G, 6 * G, 7 * G, 8 * G};
    __m256i key0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys));
    __m256i key1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + 4));
    __m256i sum0 = _mm256_setzero_si256(), sum1 = _mm256_setzero_si256();
    std::size_t word = 0;
    for (; (word + kWords) * 8 <= size; word += kWords) {
        const __m256i* at = reinterpret_cast<const __m256i*>(data + word * 8);
        sum0 = _mm256_add_epi64(sum0, mix_avx2(_mm256_add_epi64(_mm256_loadu_si256(at), key0)));
        sum1 = _mm256_add_epi64(sum1, mix_avx2(_mm256_add_epi64(_mm256_loadu_si256(at + 1), key1)));
        key0 = _mm256_add_epi64(key0, step);
        key1 = _mm256_add_epi64(key1, step);
    }
    uint64_t lanes[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi64(sum0, sum1));
    return finish(data, size, word, lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}

__attribute__((target("avx512f,avx512dq"))) inline __m512i mix_avx512(__m512i x) {
    x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 30)), _mm512_set1_epi64(static_cast<int64_t>(A)));
    x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 27)), _mm512_set1_epi64(static_cast<int64_t>(B)));
    return _mm512_xor_si512(x, _mm512_srli_epi64(x, 31));
}

__attribute__((target("avx512f,avx512dq"))) uint64_t checksum_avx512(const uint8_t* data, std::size_t size) {
    constexpr std::size_t kWords = 16;
    const __m512i step = _mm512_set1_epi64(static_cast<int64_t>(kWords * G));
    const uint64_t keys[8] = {1 * G, 2 * G, 3 * G, 4 * G, 5 * G, 6 * G, 7 * G, 8 * G};
    __m512i key0 = _mm512_loadu_si512(keys);
    __m512i key1 = _mm512_add_epi64(key0, _mm512_set1_epi64(static_cast<int64_t>(8 * G)));
    __m512i sum0 = _mm512_setzero_si512(), sum1 = _mm512_setzero_si512();
    std::size_t word = 0;
    for (; (word + kWords) * 8 <= size; word += kWords) {
        const uint8_t* at = data + word * 8;
        sum0 = _mm512_add_epi64(sum0, mix_avx512(_mm512_add_epi64(_mm512_loadu_si512(at), key0)));
        sum1 = _mm512_add_epi64(sum1, mix_avx512(_mm512_add_epi64(_mm512_loadu_si512(at + 64), key1)));
        key0 = _mm512_add_epi64(key0, step);
        key1 = _mm512_add_epi64(key1, step);
    }
    uint64_t lanes[8], total = 0;
    _mm512_storeu_si512(lanes, _mm512_add_epi64(sum0, sum1));
    for (uint64_t lane : lanes) total += lane;
    return finish(data, size, word, total);
}

#elif defined(HASTEN_ARM)

inline uint64x2_t multiply_neon(uint64x2_t x, uint64_t constant) {
    const uint32x2_t low = vdup_n_u32(static_cast<uint32_t>(constant));
    const uint32x2_t high = vdup_n_u32(static_cast<uint32_t>(constant >> 32));
    const uint32x2_t x_low = vmovn_u64(x), x_high = vshrn_n_u64(x, 32);
    const uint64x2_t cross = vmlal_u32(vmull_u32(x_low, high), x_high, low);
    return vmlal_u32(vshlq_n_u64(cross, 32), x_low, low);
}

inline uint64x2_t mix_neon(uint64x2_t x) {
    x = multiply_neon(veorq_u64(x, vshrq_n_u64(x, 30)), A);
    x = multiply_neon(veorq_u64(x, vshrq_n_u64(x, 27)), B);
    return veorq_u64(x, vshrq_n_u64(x, 31));
}

uint64_t checksum_neon(const uint8_t* data, std::size_t size) {
    constexpr std::size_t kWords = 4;
    const uint64x2_t step = vdupq_n_u64(kWords * G);
    const uint64_t keys[kWords] = {1 * G, 2 * G, 3 * G, 4 * G};
    uint64x2_t key0 = vld1q_u64(keys), key1 = vld1q_u64(keys + 2);
    uint64x2_t sum0 = vdupq_n_u64(0), sum1 = vdupq_n_u64(0);
    std::size_t word = 0;
    for (; (word + kWords) * 8 <= size; word += kWords) {
        const uint8_t* at = data + word * 8;
        sum0 = vaddq_u64(sum0, mix_neon(vaddq_u64(vreinterpretq_u64_u8(vld1q_u8(at)), key0)));
        sum1 = vaddq_u64(sum1, mix_neon(vaddq_u64(vreinterpretq_u64_u8(vld1q_u8(at + 16)), key1)));
        key0 = vaddq_u64(key0, step);
        key1 = vaddq_u64(key1, step);
    }
    const uint64x2_t sum = vaddq_u64(sum0, sum1);
    return finish(data, size, word, vgetq_lane_u64(sum, 0) + vgetq_lane_u64(sum, 1));
}

#endif

}  // namespace

#if defined(HASTEN_X86)
const Kernel<Checksum> checksum = {checksum_scalar, checksum_avx2, checksum_avx512};
#elif defined(HASTEN_ARM)
const Kernel<Checksum> checksum = {checksum_scalar, nullptr, nullptr, nullptr, checksum_neon};
#else
const Kernel<Checksum> checksum = {checksum_scalar};
#endif

}  // namespace hasten
