// The step of one block, for whatever vectors `V` are. Included once by each file that defines `V`; no standard
// templates here, since what the linker keeps of them could be compiled for a machine that we do not run on.
#include <cstring>

namespace hasten::flash {
namespace {

using F = V::F;
using I = V::I;
constexpr int N = V::N, HALF = N / 2;      // vectors of a quad, and of the 32 elements that share the smallest group
constexpr int kRuns = int(kBlock / 32);    // runs of 32 in a block
constexpr std::size_t kAhead = 2 * kBlock;  // elements by which memory is asked for ahead of its use

constexpr float kRound = 12582912.0f;      // 1.5 * 2^23: adding it rounds to a whole number, which stands in the low bits
constexpr float kShift = 8388608.0f;       // 2^23
constexpr int32_t kAbsolute = 0x7FFFFFFF;
constexpr int32_t kHuge = 0x7C800000;      // 2^122: a state at or above it counts as not finite
constexpr int32_t kTiny = 0x08800000;      // 2^-110: a state whose group lies below it is zero

INLINE I absolute(F x) { return V::andi(V::bits(x), V::seti(kAbsolute)); }

// 1 / x for 2^-120 < x < 2^125 with a relative error below 1.4e-4: a straight line through the bits (error e below 5.1 %),
// then one step of third order. It only serves to find codes, which are 127 steps long.
INLINE F reciprocal(F x) {
    const F y = V::floats(V::subi(V::seti(0x7EF311C7), V::bits(x)));
    const F e = V::fnma(x, y, V::set(1.0f));
    return V::fma(y, V::fma(e, e, e), y);
}

// Weights ---------------------------------------------------------------------------------------------------------------

// Lanes that are rare and need care, one by one.
template <typename Fix>
RARE void each_lane(I x[N], Fix fix) {
    alignas(64) int32_t lanes[kQuad];
    for (int j = 0; j < N; ++j) V::storei(lanes + j * V::W, x[j]);
    for (std::size_t i = 0; i < kQuad; ++i) lanes[i] = fix(lanes[i]);
    for (int j = 0; j < N; ++j) x[j] = V::bits(V::load(reinterpret_cast<float*>(lanes) + j * V::W));
}

INLINE bool any_above(const I x[N], int32_t limit) {
    I most = V::andi(x[0], V::seti(kAbsolute));
    for (int j = 1; j < N; ++j) most = V::maxu(most, V::andi(x[j], V::seti(kAbsolute)));
    return V::any_above(most, limit);
}

// Where a rounded weight draws its chance from: 16 bits of a hash of its place and of the step.
INLINE I noise(std::size_t first, int j, const Numbers& n) {
    I x = V::addi(V::places(j), V::seti(static_cast<int32_t>(first)));
    x = V::addi(V::multiplyi(x, V::seti(static_cast<int32_t>(0x9E3779B1u))), V::seti(static_cast<int32_t>(n.salt)));
    x = V::multiplyi(V::xori(x, V::right<15>(x)), V::seti(static_cast<int32_t>(0x85EBCA77u)));
    x = V::multiplyi(V::xori(x, V::right<13>(x)), V::seti(static_cast<int32_t>(0xC2B2AE3Du)));
    return V::right<16>(x);
}

// Pointers to one block.
struct View {
    uint8_t *weight, *correction, *momentum, *variance;
    const uint8_t* gradient;
    uint16_t *momentum_scale, *variance_scale;
    std::size_t first;  // its first element's place in the tensor
};

template <typename T, typename P>
INLINE T* at(P* base, std::size_t element) {
    return reinterpret_cast<T*>(base) + element;
}

INLINE void to_floats(const I bits[N], F x[N]) {
    for (int j = 0; j < N; ++j) x[j] = V::floats(bits[j]);
}

INLINE void to_bits(const F x[N], I bits[N]) {
    for (int j = 0; j < N; ++j) bits[j] = V::bits(x[j]);
}

template <Weight format>
struct Weights;

template <>
struct Weights<Weight::f32> {
    static constexpr std::size_t narrow = 4, correction = 0;
    INLINE static void load(const View& v, std::size_t i, F x[N]) { V::load_float(at<const float>(v.weight, i), x); }
    INLINE static void store(const View& v, std::size_t i, const F x[N], const Numbers&) {
        V::store_float(x, at<float>(v.weight, i));
    }
    INLINE static void gradient(const View& v, std::size_t i, F g[N]) { V::load_float(at<const float>(v.gradient, i), g); }
};

struct Bf16 {
    static constexpr std::size_t narrow = 2;
    INLINE static void gradient(const View& v, std::size_t i, F g[N]) {
        I bits[N];
        V::load_high(at<const uint16_t>(v.gradient, i), bits);
        to_floats(bits, g);
    }
    INLINE static int32_t canonical(int32_t lane) { return (lane & kAbsolute) > 0x7F800000 ? 0x7FC00000 : lane; }
};

template <>
struct Weights<Weight::bf16> : Bf16 {
    static constexpr std::size_t correction = 0;
    INLINE static void load(const View& v, std::size_t i, F x[N]) {
        I bits[N];
        V::load_high(at<const uint16_t>(v.weight, i), bits);
        to_floats(bits, x);
    }
    INLINE static void store(const View& v, std::size_t i, const F x[N], const Numbers& n) {
        I b[N];
        to_bits(x, b);
        if (any_above(b, 0x7F800000)) each_lane(b, canonical);
        for (int j = 0; j < N; ++j) {
            const I half = V::addi(V::seti(0x7FFF), V::andi(V::right<16>(b[j]), V::seti(1)));  // to the nearest, even
            b[j] = V::addi(b[j], n.stochastic ? noise(v.first + i, j, n) : half);
        }
        V::store_high(b, at<uint16_t>(v.weight, i));
    }
};

template <>
struct Weights<Weight::bf16c8> : Bf16 {
    static constexpr std::size_t correction = 1;
    INLINE static void load(const View& v, std::size_t i, F x[N]) {
        I bits[N];
        V::load_joined(at<const uint16_t>(v.weight, i), at<const uint8_t>(v.correction, i), bits);
        to_floats(bits, x);
    }
    // What would round to infinity keeps 24 bits by truncation.
    INLINE static int32_t careful(int32_t lane) {
        const int32_t size = lane & kAbsolute;
        return size > 0x7F800000 ? 0x7FC00000 : size < 0x7F800000 && size > 0x7F7FFF7F ? lane & ~0xFF : lane;
    }
    INLINE static void store(const View& v, std::size_t i, const F x[N], const Numbers&) {
        I b[N];
        for (int j = 0; j < N; ++j) b[j] = V::addi(V::bits(x[j]), V::seti(0x80));
        uint16_t* narrow = at<uint16_t>(v.weight, i);
        uint8_t* low = at<uint8_t>(v.correction, i);
        if (!V::store_split(b, narrow, low)) return;
        to_bits(x, b);  // something is not finite, or nearly: once more with care
        each_lane(b, careful);
        for (int j = 0; j < N; ++j) b[j] = V::addi(b[j], V::seti(0x80));
        V::store_split(b, narrow, low);
    }
};

INLINE I sign_extended(I word) { return V::subi(V::xori(word, V::seti(0x8000)), V::seti(0x8000)); }
INLINE I sign_extended_byte(I byte) { return V::subi(V::xori(byte, V::seti(0x80)), V::seti(0x80)); }

template <>
struct Weights<Weight::bf16c16> : Bf16 {
    static constexpr std::size_t correction = 2;
    INLINE static void load(const View& v, std::size_t i, F x[N]) {
        I n[N], c[N];
        V::load_high(at<const uint16_t>(v.weight, i), n);
        V::load_low(at<const uint16_t>(v.correction, i), c);
        for (int j = 0; j < N; ++j) x[j] = V::floats(V::addi(n[j], sign_extended(c[j])));
    }
    INLINE static void store(const View& v, std::size_t i, const F x[N], const Numbers&) {
        I b[N];
        to_bits(x, b);
        if (any_above(b, 0x7F800000)) each_lane(b, canonical);
        V::store_low(b, at<uint16_t>(v.correction, i));
        for (int j = 0; j < N; ++j) b[j] = V::addi(b[j], V::seti(0x8000));
        V::store_high(b, at<uint16_t>(v.weight, i));
    }
};

// float16 is float32 with a shorter exponent: of x * 2^-112 its bits are bits 13 to 27, and what lies below is the
// correction. Sign and size are kept apart, since the sign does not lie next to the rest.
struct F16 {
    static constexpr std::size_t narrow = 2;
    static constexpr int32_t kInfinity = 0x0F800000, kNan = 0x0FC00000;

    INLINE static void widen(const I sizes[N], const I words[N], F x[N]) {
        for (int j = 0; j < N; ++j) {
            const F size = V::mul(V::floats(sizes[j]), V::set(0x1p112f));
            x[j] = V::floats(V::ori(V::bits(size), V::left<16>(V::andi(words[j], V::seti(0x8000)))));
        }
        if (!any_above(sizes, kInfinity - 1)) return;
        alignas(64) int32_t lanes[kQuad], values[kQuad];
        for (int j = 0; j < N; ++j) {
            V::storei(lanes + j * V::W, sizes[j]);
            V::storei(values + j * V::W, V::bits(x[j]));
        }
        for (std::size_t i = 0; i < kQuad; ++i) {
            const int32_t special = lanes[i] > kInfinity ? 0x7FC00000 : 0x7F800000;
            if (lanes[i] >= kInfinity) values[i] = special | (values[i] & ~kAbsolute);
        }
        for (int j = 0; j < N; ++j) x[j] = V::load(reinterpret_cast<const float*>(values) + j * V::W);
    }
    INLINE static void gradient(const View& v, std::size_t i, F g[N]) {
        I words[N], sizes[N];
        V::load_low(at<const uint16_t>(v.gradient, i), words);
        for (int j = 0; j < N; ++j) sizes[j] = V::left<13>(V::andi(words[j], V::seti(0x7FFF)));
        widen(sizes, words, g);
    }
    // Sizes of x * 2^-112 as bits, and the signs in place for a word; sizes above `limit` go through `careful`.
    template <typename Careful>
    INLINE static void narrowed(const F x[N], I sizes[N], I signs[N], int32_t limit, Careful careful) {
        for (int j = 0; j < N; ++j) {
            signs[j] = V::andi(V::right<16>(V::bits(x[j])), V::seti(0x8000));
            sizes[j] = V::bits(V::mul(V::floats(absolute(x[j])), V::set(0x1p-112f)));
        }
        if (any_above(sizes, limit)) each_lane(sizes, careful);
    }
    INLINE static int32_t careful(int32_t lane) {
        return lane > 0x7F800000 ? kNan : lane > kInfinity ? kInfinity : lane;
    }
};

template <>
struct Weights<Weight::f16> : F16 {
    static constexpr std::size_t correction = 0;
    INLINE static void load(const View& v, std::size_t i, F x[N]) {
        gradient({v.weight, v.correction, v.momentum, v.variance, v.weight, v.momentum_scale, v.variance_scale, 0}, i, x);
    }
    INLINE static void store(const View& v, std::size_t i, const F x[N], const Numbers& n) {
        I sizes[N], signs[N];
        narrowed(x, sizes, signs, kInfinity, careful);
        for (int j = 0; j < N; ++j) {
            const I half = V::addi(V::seti(0xFFF), V::andi(V::right<13>(sizes[j]), V::seti(1)));
            const I more = n.stochastic ? V::right<3>(noise(v.first + i, j, n)) : half;
            sizes[j] = V::ori(V::right<13>(V::addi(sizes[j], more)), signs[j]);
        }
        V::store_low(sizes, at<uint16_t>(v.weight, i));
    }
};

template <>
struct Weights<Weight::f16c8> : F16 {
    static constexpr std::size_t correction = 1;
    INLINE static void load(const View& v, std::size_t i, F x[N]) {
        I words[N], sizes[N];
        V::load_low(at<const uint16_t>(v.weight, i), words);
        V::load_byte(at<const uint8_t>(v.correction, i), sizes);
        for (int j = 0; j < N; ++j) {
            const I lost = V::left<5>(sign_extended_byte(sizes[j]));
            sizes[j] = V::addi(V::left<13>(V::andi(words[j], V::seti(0x7FFF))), lost);
        }
        widen(sizes, words, x);
    }
    INLINE static int32_t careful_24(int32_t lane) {
        return lane > 0x7F800000 ? kNan : lane >= kInfinity ? kInfinity : 0x0F7FFFE0;
    }
    INLINE static void store(const View& v, std::size_t i, const F x[N], const Numbers&) {
        I sizes[N], signs[N], low[N];
        narrowed(x, sizes, signs, 0x0F7FFFEF, [](int32_t lane) { return lane > 0x0F7FFFEF ? careful_24(lane) : lane; });
        for (int j = 0; j < N; ++j) {
            const I rounded = V::addi(sizes[j], V::seti(0x10));
            low[j] = V::right<5>(rounded);
            sizes[j] = V::ori(V::right<13>(V::addi(rounded, V::seti(0x1000))), signs[j]);
        }
        V::store_byte<0>(low, at<uint8_t>(v.correction, i));
        V::store_low(sizes, at<uint16_t>(v.weight, i));
    }
};

template <>
struct Weights<Weight::f16c16> : F16 {
    static constexpr std::size_t correction = 2;
    INLINE static void load(const View& v, std::size_t i, F x[N]) {
        I words[N], sizes[N];
        V::load_low(at<const uint16_t>(v.weight, i), words);
        V::load_low(at<const uint16_t>(v.correction, i), sizes);
        for (int j = 0; j < N; ++j) {
            sizes[j] = V::addi(V::left<13>(V::andi(words[j], V::seti(0x7FFF))), sign_extended(sizes[j]));
        }
        widen(sizes, words, x);
    }
    INLINE static void store(const View& v, std::size_t i, const F x[N], const Numbers&) {
        I sizes[N], signs[N], low[N];
        narrowed(x, sizes, signs, kInfinity, careful);
        for (int j = 0; j < N; ++j) {
            const I word = V::right<13>(V::addi(sizes[j], V::seti(0x1000)));
            low[j] = V::subi(sizes[j], V::left<13>(word));
            sizes[j] = V::ori(word, signs[j]);
        }
        V::store_low(low, at<uint16_t>(v.correction, i));
        V::store_low(sizes, at<uint16_t>(v.weight, i));
    }
};

// States ----------------------------------------------------------------------------------------------------------------

// The groups of a block while it is worked on. Values of a group stand once for each of its runs of 32.
struct Groups {
    alignas(64) float old_scale[kRuns];      // stored scales, times a factor
    alignas(64) int32_t rows[kRuns * V::W];  // maxima of the runs, lane by lane
    alignas(64) int32_t most[kRuns];         // the bits of the largest size
    alignas(64) float scale[kRuns];          // the largest size, by which is encoded; 1 where there is nothing to encode
    bool broken;                             // some group is not finite
};

INLINE void read_scales(Groups& groups, const uint16_t* scales, int runs, int runs_per_group, float factor) {
    uint16_t spread[kRuns] = {};
    if (runs_per_group > 1 || runs < kRuns) {
        for (int run = 0; run < runs; ++run) spread[run] = scales[run / runs_per_group];
        scales = spread;
    }
    for (int run = 0; run < kRuns; run += V::W) {
        const F scale = V::floats(V::left<16>(V::load_words(scales + run)));
        V::store(groups.old_scale + run, V::mul(scale, V::set(factor)));
    }
}

RARE void join_runs(int32_t* most, int runs, int runs_per_group) {
    for (int run = runs; run < kRuns; ++run) most[run] = 0;
    for (int first = 0; first < runs; first += runs_per_group) {
        const int last = first + runs_per_group < runs ? first + runs_per_group : runs;
        int32_t largest = 0;
        for (int run = first; run < last; ++run) largest = most[run] > largest ? most[run] : largest;
        for (int run = first; run < last; ++run) most[run] = largest;
    }
}

// From the maxima of runs in groups.most to the groups' scales, which are stored, times `unit`, with dithered rounding.
INLINE void make_scales(Groups& groups, uint16_t* scales, int runs, int runs_per_group, float unit, uint32_t dither) {
    const bool plain = runs_per_group == 1 && runs == kRuns;
    uint16_t spread[kRuns];
    I highest = V::seti(0);
    if (!plain) {  // what is no number may carry a sign
        for (int run = 0; run < runs; ++run) groups.most[run] &= kAbsolute;
        join_runs(groups.most, runs, runs_per_group);
    }
    const I one = V::seti(0x3F800000), tiny = V::seti(kTiny), huge = V::seti(kHuge);
    for (int run = 0; run < kRuns; run += V::W) {
        const I most = V::andi(V::bits(V::load(reinterpret_cast<const float*>(groups.most) + run)), V::seti(kAbsolute));
        const I value = V::bits(V::mul(V::floats(most), V::set(unit)));
        const I rounded = V::right<16>(V::addi(value, V::seti(static_cast<int32_t>(dither))));
        const I stored = V::if_less(value, huge, rounded, V::seti(0x7FC0)), used = V::if_less(value, huge, most, one);
        V::store_words(V::if_less(value, tiny, V::seti(0), stored), (plain ? scales : spread) + run);
        V::store(groups.scale + run, V::floats(V::if_less(value, tiny, one, used)));
        V::storei(groups.most + run, value);
        highest = V::maxu(highest, value);
    }
    groups.broken = V::any_above(highest, kHuge - 1);
    if (!plain) {
        for (int run = 0, group = 0; run < runs; run += runs_per_group) scales[group++] = spread[run];
    }
}

// A group that is not finite keeps no codes.
INLINE void clear_broken(const Groups& groups, uint8_t* codes, int runs) {
    if (!groups.broken) return;
    for (int run = 0; run < runs; ++run) {
        if (groups.most[run] >= kHuge) std::memset(codes + 32 * run, 0, 32);
    }
}

// Codes of one quad of momentum: c = 254 m / (scale + |m|); `part` is scale / 254 of its two runs.
INLINE void encode_momentum(const float* values, const float part[2], uint8_t* codes) {
    const F shrink = V::set(1.0f / 254.0f), round = V::set(kRound);
    I code[N];
    for (int j = 0; j < N; ++j) {
        const F m = V::load(values + j * V::W);
        const F inverse = reciprocal(V::fma(V::floats(absolute(m)), shrink, V::set(part[j / HALF])));
        code[j] = V::bits(V::fma(m, inverse, round));
    }
    V::store_byte<0>(code, codes);
}

// Codes of one quad of variance: c = 255 sqrt(v) / scale, and at least 1 where v is above 0.
INLINE void encode_variance(const F root[N], const float inverse[2], uint8_t* codes) {
    const F shift = V::set(kShift);
    F code[N];
    I bits[N];
    for (int j = 0; j < N; ++j) {
        code[j] = V::fma(root[j], V::set(inverse[j / HALF]), shift);
        bits[j] = V::bits(code[j]);
    }
    if (!V::store_codes(bits, codes)) return;
    for (int j = 0; j < N; ++j) bits[j] = V::bits(V::raise(code[j], root[j], V::set(kShift + 1.0f)));
    V::store_byte<0>(bits, codes);
}

// The largest size of each of the two runs of a quad.
INLINE void note_maxima(Groups& groups, int run, const I sizes[N]) {
    for (int half = 0; half < 2; ++half) {
        I most = sizes[half * HALF];
        for (int j = 1; j < HALF; ++j) most = V::maxu(most, sizes[half * HALF + j]);
        V::storei(groups.rows + (run + half) * V::W, most);
    }
}

// Steps -----------------------------------------------------------------------------------------------------------------

// The gradient with its sign, and the L2 penalty in it.
template <Weight format>
INLINE void load_gradient(const View& view, std::size_t i, F g[N], const Numbers& n) {
    Weights<format>::gradient(view, i, g);
    if (n.sign != 1.0f) {
        for (int j = 0; j < N; ++j) g[j] = V::mul(V::set(n.sign), g[j]);
    }
    if (n.coupled != 0.0f) {
        F x[N];
        Weights<format>::load(view, i, x);
        for (int j = 0; j < N; ++j) g[j] = V::fma(V::set(n.coupled), x[j], g[j]);
    }
}

// The momentum that is kept in `m`; SGD and Lion: the direction of the step in `direction`.
template <Rule rule, bool quantized>
INLINE void new_momentum(const View& view, std::size_t i, const Groups& groups, const F g[N], F m[N], F direction[N],
                         const Numbers& n) {
    const F rest1 = V::set(n.one_minus_beta1), rest2 = V::set(n.one_minus_beta2);
    if constexpr (quantized) {
        V::load_fraction(at<const int8_t>(view.momentum, i), m);
    } else {
        V::load_float(at<const float>(view.momentum, i), m);
    }
    for (int j = 0; j < N; ++j) {
        const float scale = quantized ? groups.old_scale[i / 32 + static_cast<std::size_t>(j / HALF)] : 1.0f;
        if constexpr (rule == Rule::adam && quantized) {
            m[j] = V::fma(V::set(scale), m[j], g[j]);  // in units of 1 - beta1; the decay is in the scale
        } else if constexpr (rule == Rule::lion) {
            const F first = V::fma(V::set(n.beta1 * scale), m[j], V::mul(rest1, g[j]));
            direction[j] = V::sign(first);
            m[j] = V::fma(V::set(n.beta2 * scale), m[j], V::mul(rest2, g[j]));
        } else {
            m[j] = V::fma(V::set(n.beta1 * scale), m[j], V::mul(rest1, g[j]));
        }
        if constexpr (rule == Rule::momentum) direction[j] = n.nesterov ? V::fma(V::set(n.beta1), m[j], g[j]) : m[j];
    }
    if constexpr (!quantized) V::store_float(m, at<float>(view.momentum, i));
}

template <bool quantized>
INLINE void new_variance(const View& view, std::size_t i, const Groups& groups, const F g[N], F v[N],
                         const Numbers& n) {
    if constexpr (quantized) {
        V::load_squares(at<const uint8_t>(view.variance, i), v);
        for (int j = 0; j < N; ++j) {  // in units of 1 - beta2; the decay is in the scale, which is squared
            const float scale = groups.old_scale[i / 32 + static_cast<std::size_t>(j / HALF)];
            v[j] = V::fma(V::set(scale), v[j], V::mul(g[j], g[j]));
        }
    } else {
        V::load_float(at<const float>(view.variance, i), v);
        const F rest = V::set(n.one_minus_beta2), beta = V::set(n.beta2);
        for (int j = 0; j < N; ++j) v[j] = V::fma(V::mul(rest, g[j]), g[j], V::mul(beta, v[j]));
        V::store_float(v, at<float>(view.variance, i));
    }
}

// Asks for the memory of a later quad, by address: it may lie behind the end, where such a request does nothing.
template <Weight format, Rule rule, bool quantized>
INLINE void fetch(const View& view, std::size_t i) {
    using W = Weights<format>;
    constexpr std::size_t line = 64, state = quantized ? 1 : 4;
    const auto lines = [i](const uint8_t* base, std::size_t bytes) {
        const uintptr_t address = reinterpret_cast<uintptr_t>(base) + i * bytes;
        for (std::size_t k = 0; k < kQuad * bytes; k += line) {
#if defined(__GNUC__) || defined(__clang__)
            __builtin_prefetch(reinterpret_cast<const void*>(address + k));
#endif
        }
    };
    lines(view.weight, W::narrow);
    lines(view.gradient, W::narrow);
    lines(view.correction, W::correction);
    if constexpr (rule != Rule::plain) lines(view.momentum, state);
    if constexpr (rule == Rule::adam) lines(view.variance, state);
}

// A block is walked twice. The first walk makes the new states, the second one takes the step and encodes. The second
// walk of a block is interleaved with the first of the next: the long waits of square root and division in the one
// overlap with the other, which has none.
template <Weight format, Rule rule, bool quantized>
struct Walk {
    static constexpr bool has_momentum = rule != Rule::plain, has_variance = rule == Rule::adam;
    static constexpr bool momentum_codes = quantized && has_momentum, variance_codes = quantized && has_variance;

    View view;
    int quads, runs_per_group;
    alignas(64) float momenta[kBlock];  // new momentum
    alignas(64) float others[kBlock];   // Adam: new variance; else the direction of the step
    alignas(64) float part[kRuns];      // what codes of momentum are made with: scale / 254
    alignas(64) float inverse[kRuns];   // and of variance: 255 / scale
    Groups momentum, variance;

    INLINE void begin(const View& block, int count, int per_group, const Numbers& n) {
        view = block;
        quads = count;
        runs_per_group = per_group;
        if constexpr (momentum_codes) {
            read_scales(momentum, view.momentum_scale, 2 * quads, runs_per_group, n.momentum_factor);
        }
        if constexpr (variance_codes) {
            read_scales(variance, view.variance_scale, 2 * quads, runs_per_group, n.variance_factor);
            for (int run = 0; run < kRuns; run += V::W) {
                const F scale = V::load(variance.old_scale + run);
                V::store(variance.old_scale + run, V::mul(scale, scale));
            }
        }
    }

    INLINE void first(int quad, const Numbers& n) {
        const std::size_t i = static_cast<std::size_t>(quad) * kQuad;
        F g[N], m[N], other[N];
        I sizes[N];
        fetch<format, rule, quantized>(view, i + kAhead);
        load_gradient<format>(view, i, g, n);
        if constexpr (has_momentum) {
            new_momentum<rule, quantized>(view, i, momentum, g, m, other, n);
            for (int j = 0; j < N; ++j) {
                V::store(momenta + i + j * V::W, m[j]);
                sizes[j] = absolute(m[j]);
            }
            if constexpr (quantized) note_maxima(momentum, 2 * quad, sizes);
        }
        if constexpr (has_variance) {
            new_variance<quantized>(view, i, variance, g, other, n);
            for (int j = 0; j < N; ++j) sizes[j] = V::bits(other[j]);
            if constexpr (quantized) note_maxima(variance, 2 * quad, sizes);
        }
        if constexpr (rule == Rule::plain) {
            for (int j = 0; j < N; ++j) other[j] = g[j];
        }
        for (int j = 0; j < N; ++j) V::store(others + i + j * V::W, other[j]);
    }

    INLINE void between(const Numbers& n) {
        const int runs = 2 * quads;
        if constexpr (momentum_codes) {
            V::maxima(momentum.rows, momentum.most);
            make_scales(momentum, view.momentum_scale, runs, runs_per_group, n.momentum_unit, n.dither);
            for (int run = 0; run < kRuns; run += V::W) {
                V::store(part + run, V::mul(V::load(momentum.scale + run), V::set(1.0f / 254.0f)));
            }
        }
        if constexpr (variance_codes) {  // the largest root is the root of the largest
            V::maxima(variance.rows, variance.most);
            V::roots(variance.most);
            make_scales(variance, view.variance_scale, runs, runs_per_group, n.variance_unit, n.dither);
            for (int run = 0; run < kRuns; run += V::W) {
                V::store(inverse + run, V::div(V::set(255.0f), V::load(variance.scale + run)));
            }
        }
    }

    INLINE void second(int quad, const Numbers& n) {
        const std::size_t i = static_cast<std::size_t>(quad) * kQuad;
        const F keep = V::set(n.keep), step = V::set(n.step);
        F x[N], direction[N];
        for (int j = 0; j < N; ++j) direction[j] = V::load(others + i + j * V::W);
        if constexpr (rule == Rule::adam) {
            const F factor = V::set(n.root_factor), epsilon = V::set(n.epsilon_factor);
            F root[N];
            for (int j = 0; j < N; ++j) root[j] = V::sqrt(direction[j]);
            for (int j = 0; j < N; ++j) {
                direction[j] = V::div(V::load(momenta + i + j * V::W), V::fma(root[j], factor, epsilon));
            }
            if constexpr (quantized) encode_variance(root, inverse + 2 * quad, view.variance + i);
        }
        if constexpr (momentum_codes) encode_momentum(momenta + i, part + 2 * quad, view.momentum + i);
        Weights<format>::load(view, i, x);
        for (int j = 0; j < N; ++j) {
            if constexpr (rule == Rule::adam) {
                x[j] = V::fms(x[j], keep, direction[j]);  // the learning rate is in the two factors
            } else {
                x[j] = V::fnma(step, direction[j], V::mul(x[j], keep));
            }
        }
        Weights<format>::store(view, i, x, n);
    }

    INLINE void end() {
        if constexpr (momentum_codes) clear_broken(momentum, view.momentum, 2 * quads);
        if constexpr (variance_codes) clear_broken(variance, view.variance, 2 * quads);
    }
};

// A block that ends within a quad is worked on in a copy that zeros fill up; they raise no maximum.
template <Weight format, Rule rule, bool quantized>
RARE void part(const View& view, std::size_t count, std::size_t group_size, const Numbers& n) {
    constexpr std::size_t state = quantized ? 1 : 4;
    constexpr bool has_momentum = rule != Rule::plain, has_variance = rule == Rule::adam;
    using W = Weights<format>;
    alignas(64) uint8_t weight[kBlock * W::narrow] = {}, gradient[kBlock * W::narrow] = {};
    alignas(64) uint8_t correction[kBlock * 2] = {}, momentum[kBlock * state] = {}, variance[kBlock * state] = {};
    uint16_t momentum_scale[kRuns] = {}, variance_scale[kRuns] = {};
    const std::size_t groups = 2 * ((count + group_size - 1) / group_size);  // bytes of their scales
    std::memcpy(weight, view.weight, count * W::narrow);
    std::memcpy(gradient, view.gradient, count * W::narrow);
    if constexpr (W::correction > 0) std::memcpy(correction, view.correction, count * W::correction);
    if constexpr (has_momentum) std::memcpy(momentum, view.momentum, count * state);
    if constexpr (has_variance) std::memcpy(variance, view.variance, count * state);
    if constexpr (quantized && has_momentum) std::memcpy(momentum_scale, view.momentum_scale, groups);
    if constexpr (quantized && has_variance) std::memcpy(variance_scale, view.variance_scale, groups);

    const View copy{weight, correction, momentum, variance, gradient, momentum_scale, variance_scale, view.first};
    const int quads = static_cast<int>((count + kQuad - 1) / kQuad);
    Walk<format, rule, quantized> walk;
    walk.begin(copy, quads, static_cast<int>(group_size / 32), n);
    for (int quad = 0; quad < quads; ++quad) walk.first(quad, n);
    walk.between(n);
    for (int quad = 0; quad < quads; ++quad) walk.second(quad, n);
    walk.end();

    std::memcpy(view.weight, weight, count * W::narrow);
    if constexpr (W::correction > 0) std::memcpy(view.correction, correction, count * W::correction);
    if constexpr (has_momentum) std::memcpy(view.momentum, momentum, count * state);
    if constexpr (has_variance) std::memcpy(view.variance, variance, count * state);
    if constexpr (quantized && has_momentum) std::memcpy(view.momentum_scale, momentum_scale, groups);
    if constexpr (quantized && has_variance) std::memcpy(view.variance_scale, variance_scale, groups);
}

template <Weight format, Rule rule, bool quantized>
INLINE View view_of(const Tensor& t, std::size_t index) {
    constexpr std::size_t state = quantized ? 1 : 4;
    using W = Weights<format>;
    const std::size_t begin = index * kBlock, group = begin / t.group_size;
    return {t.weight + begin * W::narrow,
            W::correction ? t.correction + begin * W::correction : nullptr,
            rule != Rule::plain ? t.momentum + begin * state : nullptr,
            rule == Rule::adam ? t.variance + begin * state : nullptr,
            t.gradient + begin * W::narrow,
            quantized && rule != Rule::plain ? t.momentum_scale + group : nullptr,
            quantized && rule == Rule::adam ? t.variance_scale + group : nullptr,
            begin};
}

template <Weight format, Rule rule, bool quantized>
void blocks(const Tensor& t, std::size_t first, std::size_t last) {
    constexpr int kQuads = static_cast<int>(kBlock / kQuad);
    const Numbers& n = t.numbers;
    const int per_group = static_cast<int>(t.group_size / 32);
    const std::size_t whole = t.size / kBlock < last ? t.size / kBlock : last;
    Walk<format, rule, quantized> walks[2];
    for (std::size_t index = first; index <= whole && first < whole; ++index) {
        Walk<format, rule, quantized>&now = walks[index % 2], &before = walks[1 - index % 2];
        if (index == first) {
            now.begin(view_of<format, rule, quantized>(t, index), kQuads, per_group, n);
            for (int quad = 0; quad < kQuads; ++quad) now.first(quad, n);
        } else if (index < whole) {
            now.begin(view_of<format, rule, quantized>(t, index), kQuads, per_group, n);
            for (int quad = 0; quad < kQuads; ++quad) {
                before.second(quad, n);
                now.first(quad, n);
            }
        } else {
            for (int quad = 0; quad < kQuads; ++quad) before.second(quad, n);
        }
        if (index > first) before.end();
        if (index < whole) now.between(n);
    }
    if (whole < last) {
        const std::size_t index = whole > first ? whole : first;
        part<format, rule, quantized>(view_of<format, rule, quantized>(t, index), t.size - index * kBlock, t.group_size, n);
    }
}

template <Rule rule, bool quantized>
Blocks of_format(Weight format) {
    switch (format) {
        case Weight::f32: return blocks<Weight::f32, rule, quantized>;
        case Weight::bf16: return blocks<Weight::bf16, rule, quantized>;
        case Weight::bf16c8: return blocks<Weight::bf16c8, rule, quantized>;
        case Weight::bf16c16: return blocks<Weight::bf16c16, rule, quantized>;
        case Weight::f16: return blocks<Weight::f16, rule, quantized>;
        case Weight::f16c8: return blocks<Weight::f16c8, rule, quantized>;
        case Weight::f16c16: return blocks<Weight::f16c16, rule, quantized>;
    }
    return nullptr;
}

INLINE Blocks of_tensor(const Tensor& t) {
    switch (t.rule) {
        case Rule::adam: return t.quantized ? of_format<Rule::adam, true>(t.format) : of_format<Rule::adam, false>(t.format);
        case Rule::momentum:
            return t.quantized ? of_format<Rule::momentum, true>(t.format) : of_format<Rule::momentum, false>(t.format);
        case Rule::lion: return t.quantized ? of_format<Rule::lion, true>(t.format) : of_format<Rule::lion, false>(t.format);
        case Rule::plain: return of_format<Rule::plain, false>(t.format);
    }
    return nullptr;
}

}  // namespace

void HASTEN_FLASH_BLOCKS(const Tensor& tensor, std::size_t first, std::size_t last) {
    of_tensor(tensor)(tensor, first, last);
}

}  // namespace hasten::flash
