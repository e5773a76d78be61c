// The loops that take the time of encoding and decoding a column of a tsz chunk: one table of functions for each
// instruction set, all of the same plain source (kernels_impl.hpp), so that all write the same bytes.
//
// They allocate nothing, throw nothing and check nothing but where they say so: record_encode.cpp and
// record_decode.cpp, which call them, do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../dispatch.hpp"

namespace hasten::sprintz {

constexpr std::size_t kBlock = 32;    // values that share a width
constexpr std::size_t kLanes = 8;     // runs into which the rows of a column are cut; see record.hpp
constexpr std::size_t kStreams = 4;   // of bits, which a decoder reads at the same time
constexpr std::size_t kSlack = 16;    // bytes that may be written, or of scratch read, behind the end of anything
constexpr std::size_t kMaxOrder = 16;
constexpr std::size_t kMaxContexts = 8;
constexpr std::size_t kLevels = 256;  // of the recent size of residuals, on which a context depends
constexpr unsigned kMaxCode = 11;     // bits of the longest code
constexpr unsigned kMaxCodeOfMany = 10;  // where there are several codes: their tables share a cache

enum class Predictor : uint8_t { none, delta, delta2, fire, nlms1, nlms2, nlms4, lpc };
constexpr uint8_t kPredictors = 8;

struct Prediction {
    Predictor predictor = Predictor::none;
    uint8_t order = 0;            // lpc: 2, 4, 8 or 16
    int16_t coefficients[kMaxOrder] = {};  // in units of 2^-12, the most recent value's first
};

// Tokens of residuals z: z itself below 32; then 4 (u64: 2) for each power of two, the bits below these follow as they
// are.
template <typename T>
struct Tokens {
    static constexpr unsigned top = sizeof(T) == 8 ? 1 : 2;  // bits below the highest that belong to the token
    static constexpr unsigned count = 32 + ((8 * sizeof(T) - 5) << top);
    static constexpr unsigned longest = kMaxCode + 8 * sizeof(T) - 1 - top;  // code and raw bits
};
constexpr std::size_t kMaxTokens = 160;

// Which code a value is written with: that of `context[level]`, where the level is the recent size of residuals of its
// lane, a sum of its last ones that fades by an eighth with each, in units of 2^shift.
struct Contexts {
    uint8_t count = 1, shift = 0;
    uint8_t context[kLevels] = {};
};
constexpr uint32_t kLargest = (1u << 20) - 1;  // of a residual in that sum

struct Code {  // of one token
    uint16_t bits;
    uint8_t length;
};

// What the next bits of a stream say: a code of `length` bits, then `raw` bits that follow the ones in `top`; `total` is
// both together. Length and raw stand where the instruction BEXTR looks for them.
using Entry = uint32_t;
constexpr Entry make_entry(unsigned length, unsigned raw, unsigned top) {
    return length | raw << 8 | (length + raw) << 16 | top << 24;
}

struct Stream {
    const uint8_t* data;
    std::size_t bits, at;  // how many, and how many of them are read
};

template <typename T>
struct PlanarKernels {
    // widths: one byte for each block. Returns the end of the payload. Predictors none, delta, delta2.
    uint8_t* (*pack)(const T* values, std::size_t n, T base, Predictor predictor, uint8_t* widths, uint8_t* payload);
    // The bytes of the payload that `pack` would write.
    std::size_t (*measure)(const T* values, std::size_t n, T base, Predictor predictor);
    void (*unpack)(const uint8_t* widths, const uint8_t* payload, const uint8_t* end, std::size_t n, T base,
                   Predictor predictor, T* out);
};

template <typename T>
struct LaneKernels {  // v, z: 8 values for each of `steps`
    void (*residuals)(const T* v, std::size_t steps, const Prediction& prediction, T* z);
    void (*values)(const T* z, std::size_t steps, const Prediction& prediction, T* v);
    // products[j] = sum of v[i] v[i - 8 j], for i in steps [first, steps) and j = 0 ... order
    void (*products)(const T* v, std::size_t first, std::size_t steps, std::size_t order, double* products);
    T (*largest)(const T* v, std::size_t count);
};
constexpr std::size_t kDirect = 512;  // residuals whose whole code stands in a table

template <typename T>
struct CodeKernels {
    // How often each token occurs in each context; contexts[i] becomes that of z[i] (not touched if there is but one).
    void (*count)(const T* z, std::size_t steps, const Contexts& contexts, uint32_t (*counts)[kMaxTokens],
                  uint8_t* of);
    // Four streams of codes; ends[q] enters as the beginning of each and leaves as the end. They begin in the same memory,
    // in this order, multiples of 8 bytes apart; 64 bytes behind each end may be written.
    void (*put)(const T* z, std::size_t steps, const uint8_t* of, std::size_t contexts, const Code (*codes)[kMaxTokens],
                uint8_t** ends, uint32_t* scratch);  // scratch: contexts * kDirect
    // The streams follow each other in memory. The table has 2^kMaxCode entries, or 2^kMaxCodeOfMany for each context.
    // Checks nothing but that no stream is read behind its end: then it returns false.
    bool (*take)(Stream* streams, std::size_t steps, const Contexts& contexts, const Entry* table, T* z);
    // Rice codes, a parameter for the 32 steps of a lane (record.hpp); low and high enter as beginnings, leave as ends.
    void (*rice_put)(const T* z, std::size_t steps, unsigned least, uint8_t* parameters, uint8_t** low, uint8_t** high);
    bool (*rice_take)(const uint8_t* parameters, unsigned least, Stream* low, Stream* high, std::size_t steps, T* z);
};

// For nearly all of these AVX-512 has nothing to offer, and leads the compiler to keep numbers in mask registers:
// codes_avx512 are those of AVX2 but for `put` of 16 bits, which kernels_avx512.cpp has.
struct Codes {
    CodeKernels<uint16_t> codes16;
    CodeKernels<uint32_t> codes32;
    CodeKernels<uint64_t> codes64;
};
extern const Codes codes_scalar;
#if defined(HASTEN_X86)
extern const Codes codes_avx2, codes_avx512;
#endif

// x: a column; v: its values in lanes, less a base.
template <typename X>
struct RangeKernels {
    // Lowest and highest value: of the unsigned ones, then of the same bits with a sign.
    void (*range)(const X* x, std::size_t n, X found[4]);
};

template <typename X, typename T>
struct MoveKernels {
    void (*into_lanes)(const X* x, std::size_t n, X base, T* v);
    void (*from_lanes)(const T* v, std::size_t n, X base, X* x);
};

struct Kernels {
    const Codes* codes;
    PlanarKernels<uint8_t> planar8;
    PlanarKernels<uint16_t> planar16;
    PlanarKernels<uint32_t> planar32;
    PlanarKernels<uint64_t> planar64;
    LaneKernels<uint16_t> lanes16;
    LaneKernels<uint32_t> lanes32;
    LaneKernels<uint64_t> lanes64;
    RangeKernels<uint8_t> range8;
    RangeKernels<uint16_t> range16;
    RangeKernels<uint32_t> range32;
    RangeKernels<uint64_t> range64;
    MoveKernels<uint8_t, uint16_t> move8_16;
    MoveKernels<uint16_t, uint16_t> move16_16;
    MoveKernels<uint32_t, uint16_t> move32_16;
    MoveKernels<uint32_t, uint32_t> move32_32;
    MoveKernels<uint64_t, uint16_t> move64_16;
    MoveKernels<uint64_t, uint32_t> move64_32;
    MoveKernels<uint64_t, uint64_t> move64_64;
    // y = x - sum of coefficients[k] * references[k] in units of 2^-12, rounded; and its inverse.
    void (*less16)(const uint16_t* x, const uint16_t* const* references, const int16_t* coefficients, std::size_t count,
                   std::size_t n, uint16_t* y);
    void (*plus16)(const uint16_t* y, const uint16_t* const* references, const int16_t* coefficients, std::size_t count,
                   std::size_t n, uint16_t* x);
    void (*less32)(const uint32_t* x, const uint32_t* const* references, const int16_t* coefficients, std::size_t count,
                   std::size_t n, uint32_t* y);
    void (*plus32)(const uint32_t* y, const uint32_t* const* references, const int16_t* coefficients, std::size_t count,
                   std::size_t n, uint32_t* x);
};

extern const Kernels kernels_scalar;
#if defined(HASTEN_X86)
extern const Kernels kernels_avx2, kernels_avx512, kernels_avx512vnni;
#elif defined(HASTEN_ARM)
extern const Kernels kernels_neon;
#endif
const Kernels& kernels_for(Isa isa);

}  // namespace hasten::sprintz
