// Planar blocks: 32 residuals, each in as many bits as the largest of them needs. Part of kernels_impl.hpp.

// The residual of v[i], where x0 and x1 are the two values before it.
template <typename T, Predictor predictor>
INLINE T residual(T x, T x1, T x2) {
    if (predictor == Predictor::none) return x;
    const T d = predictor == Predictor::delta ? static_cast<T>(x - x1) : static_cast<T>(x - x1 - (x1 - x2));
    return zigzag(d);
}

// Writes up to 8 bytes behind the block.
template <typename T>
INLINE void pack_block(const T* z, unsigned w, uint8_t* out) {
    if (w <= 16) {  // two words of four values; the second begins in the middle of a byte if w is odd
        const unsigned half = w / 2, shift = w % 2 * 4;
        for (unsigned k = 0; k < 4; ++k, z += 8, out += w) {
            uint64_t a = 0, b = 0;
            for (unsigned j = 4; j-- > 0;) {
                a = a << w | z[j];
                b = b << w | z[j + 4];
            }
            store(out, a);
            store(out + half, b << shift | (w < 16 ? a >> 8 * half : 0));
        }
        return;
    }
    uint64_t word = 0;
    unsigned filled = 0;
    for (unsigned i = 0; i < kBlock; ++i) {
        const uint64_t value = z[i];
        word |= value << filled;
        if (filled + w >= 64) {
            store(out, word);
            out += 8;
            word = filled ? value >> (64 - filled) : 0;
            filled += w - 64;
        } else {
            filled += w;
        }
    }
    store(out, word);
}

// Reads 8 bytes behind the block.
template <typename T>
INLINE void unpack_block(const uint8_t* in, unsigned w, T* z) {
    const uint64_t mask = w < 64 ? (uint64_t{1} << w) - 1 : ~uint64_t{0};
    if (w <= 16) {
        const unsigned half = w / 2, shift = w % 2 * 4;
        for (unsigned k = 0; k < 4; ++k, z += 8, in += w) {
            const uint64_t a = load<uint64_t>(in), b = load<uint64_t>(in + half) >> shift;
            for (unsigned j = 0; j < 4; ++j) {
                z[j] = static_cast<T>(a >> w * j & mask);
                z[j + 4] = static_cast<T>(b >> w * j & mask);
            }
        }
        return;
    }
    for (unsigned i = 0; i < kBlock; ++i) {
        const unsigned bit = i * w, rest = bit % 8;
        uint64_t word = load<uint64_t>(in + bit / 8) >> rest;
        if (rest + w > 64) word |= uint64_t{in[bit / 8 + 8]} << (64 - rest);
        z[i] = static_cast<T>(word & mask);
    }
}

// Values from residuals, as far as `predictor` says; `state` is that of the two values before.
template <typename T, Predictor predictor>
INLINE void add_up(const T* z, T base, T* state, T* out) {
    if (predictor == Predictor::none) {
        for (unsigned i = 0; i < kBlock; ++i) out[i] = static_cast<T>(z[i] + base);
        return;
    }
    T x = state[0], d = state[1];
    for (unsigned i = 0; i < kBlock; ++i) {
        const T e = unzigzag(z[i]);
        d = predictor == Predictor::delta ? e : static_cast<T>(d + e);
        x = static_cast<T>(x + d);
        out[i] = x;
    }
    state[0] = x;
    state[1] = d;
}

#if defined(HASTEN_SPRINTZ_AVX512)
#include "planar_avx512.hpp"
#elif defined(HASTEN_SPRINTZ_AVX2)
#include "planar_avx2.hpp"
#elif defined(HASTEN_SPRINTZ_NEON)
#include "planar_neon.hpp"
#endif

// The residuals of a full block that has two values before it, and all their bits together.
template <typename T, Predictor predictor>
INLINE T residuals_inside(const T* x, T base, T* z) {
    T all = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
        const T* const at = x + i;  // of differences the base is none of the business
        z[i] = predictor == Predictor::none ? static_cast<T>(*at - base) : residual<T, predictor>(*at, at[-1], at[-2]);
        all = static_cast<T>(all | z[i]);
    }
    return all;
}

// The same of the first block, and of one that is not full.
template <typename T, Predictor predictor>
INLINE T residuals_at_ends(const T* x, std::size_t first, std::size_t n, T base, T* z) {
    T all = 0, x1 = first ? static_cast<T>(x[first - 1] - base) : T{0};
    T x2 = first ? static_cast<T>(x[first - 2] - base) : T{0};
    for (std::size_t i = 0; i < kBlock; ++i) {
        z[i] = 0;
        if (first + i >= n) continue;
        const T v = static_cast<T>(x[first + i] - base);
        z[i] = residual<T, predictor>(v, x1, x2);
        all = static_cast<T>(all | z[i]);
        x2 = x1;
        x1 = v;
    }
    return all;
}

template <typename T, Predictor predictor, bool write>
std::size_t planar(const T* values, std::size_t n, T base, uint8_t* widths, uint8_t* out) {
    std::size_t bytes = 0;
    for (std::size_t first = 0; first < n; first += kBlock) {
        alignas(64) T z[kBlock];
        const bool inside = first > 0 && n - first >= kBlock;
        const T all = inside ? residuals_inside<T, predictor>(values + first, base, z)
                             : residuals_at_ends<T, predictor>(values, first, n, base, z);
        const unsigned w = width(all);
        if (write) {
            *widths++ = static_cast<uint8_t>(w);
            pack_block(z, w, out + bytes);
        }
        bytes += 4 * w;
    }
    return bytes;
}

template <typename T, Predictor predictor>
void unplanar(const uint8_t* widths, const uint8_t* in, const uint8_t* end, std::size_t n, T base, T* out) {
    T state[2] = {predictor == Predictor::none ? T{0} : base, 0};
    std::size_t first = 0;
#if defined(HASTEN_SPRINTZ_AVX512) || defined(HASTEN_SPRINTZ_AVX2) || defined(HASTEN_SPRINTZ_NEON)
    if constexpr (sizeof(T) == 2) {
        std::size_t blocks = n / kBlock;
        for (std::size_t behind = 0; !kReadsNothingBehind && blocks > 0 && behind < 8;) behind += 4 * widths[--blocks];
        in = unplanar_blocks<predictor>(widths, in, blocks, base, state, out);
        widths += blocks;
        first = blocks * kBlock;
    }
#endif
    for (; first < n; first += kBlock) {
        const unsigned w = *widths++;
        alignas(64) T z[kBlock], v[kBlock];
        const std::size_t size = 4 * w;
        if (static_cast<std::size_t>(end - in) >= size + 8) {
            unpack_block(in, w, z);
        } else {  // the last one: nothing may be read behind it
            uint8_t copy[4 * 64 + 8] = {};
            for (std::size_t i = 0; i < size; ++i) copy[i] = in[i];
            unpack_block(copy, w, z);
        }
        in += size;
        if (n - first >= kBlock) {
            add_up<T, predictor>(z, base, state, out + first);
        } else {
            add_up<T, predictor>(z, base, state, v);
            for (std::size_t i = 0; first + i < n; ++i) out[first + i] = v[i];
        }
    }
}

template <typename T>
struct Planar {
    static uint8_t* pack(const T* values, std::size_t n, T base, Predictor predictor, uint8_t* widths, uint8_t* out) {
        switch (predictor) {
            case Predictor::delta: return out + planar<T, Predictor::delta, true>(values, n, base, widths, out);
            case Predictor::delta2: return out + planar<T, Predictor::delta2, true>(values, n, base, widths, out);
            default: return out + planar<T, Predictor::none, true>(values, n, base, widths, out);
        }
    }
    static std::size_t measure(const T* values, std::size_t n, T base, Predictor predictor) {
        switch (predictor) {
            case Predictor::delta: return planar<T, Predictor::delta, false>(values, n, base, nullptr, nullptr);
            case Predictor::delta2: return planar<T, Predictor::delta2, false>(values, n, base, nullptr, nullptr);
            default: return planar<T, Predictor::none, false>(values, n, base, nullptr, nullptr);
        }
    }
    static void unpack(const uint8_t* widths, const uint8_t* in, const uint8_t* end, std::size_t n, T base,
                       Predictor predictor, T* out) {
        switch (predictor) {
            case Predictor::delta: return unplanar<T, Predictor::delta>(widths, in, end, n, base, out);
            case Predictor::delta2: return unplanar<T, Predictor::delta2>(widths, in, end, n, base, out);
            default: return unplanar<T, Predictor::none>(widths, in, end, n, base, out);
        }
    }
    static constexpr PlanarKernels<T> kernels() { return {pack, measure, unpack}; }
};
