// Codes for residuals: a token says how large a residual is, bits as they are say the rest. Part of codes_impl.hpp.

template <typename T>
INLINE unsigned raw_bits(T z) {
    return z < 32 ? 0 : width(z) - 1 - Tokens<T>::top;
}

template <typename T>
INLINE unsigned token(T z) {
    if (z < 32) return static_cast<unsigned>(z);
    constexpr unsigned top = Tokens<T>::top;
    const unsigned n = width(z) - 1;
    return 32 + ((n - 5) << top) + static_cast<unsigned>(z >> (n - top) & ((1u << top) - 1));
}

INLINE unsigned level(uint32_t recent, unsigned shift) {
    const uint32_t steps = recent >> shift;
    return steps < kLevels ? steps : kLevels - 1;
}

template <typename T>
INLINE uint32_t faded(uint32_t recent, T z) {
    return recent - (recent >> 3) + (z < kLargest ? static_cast<uint32_t>(z) : kLargest);
}

// Are the first `count` values (4 or 8) below a power of two?
template <std::size_t limit, typename T>
INLINE bool all_below(const T* z, std::size_t count) {
    uint64_t bits = 0;
    if (sizeof(T) == 2) {
        for (std::size_t k = 0; k < count; k += 4) {
            uint64_t four;
            std::memcpy(&four, z + k, sizeof four);
            bits |= four;
        }
        return (bits & 0x0001000100010001u * (0xFFFF & ~uint64_t{limit - 1})) == 0;
    }
    for (std::size_t k = 0; k < count; ++k) bits |= z[k];
    return bits < limit;
}

template <typename T>
void count_tokens(const T* z, std::size_t steps, const Contexts& contexts, uint32_t (*counts)[kMaxTokens], uint8_t* of) {
    if (contexts.count == 1) {
        constexpr std::size_t kSmall = 128;
        uint32_t small[4][kSmall] = {};  // four, so that equal neighbours do not wait for each other
        for (std::size_t i = 0; i < steps * kLanes; i += 4) {
            if (all_below<kSmall>(z + i, 4)) {
                for (std::size_t k = 0; k < 4; ++k) ++small[k][z[i + k]];
            } else {
                for (std::size_t k = 0; k < 4; ++k) ++counts[0][token(z[i + k])];
            }
        }
        for (unsigned a = 0; a < kSmall; ++a) {
            counts[0][token(static_cast<T>(a))] += (small[0][a] + small[1][a]) + (small[2][a] + small[3][a]);
        }
        return;
    }
    uint32_t recent[kLanes] = {};
    for (std::size_t i = 0; i < steps * kLanes; i += kLanes) {
        for (std::size_t l = 0; l < kLanes; ++l) {
            const T a = z[i + l];
            const uint8_t context = contexts.context[level(recent[l], contexts.shift)];
            of[i + l] = context;
            ++counts[context][token(a)];
            recent[l] = faded(recent[l], a);
        }
    }
}

// Writes to one of several streams in the same memory: all that it holds is a word and how many bits there are.
struct Pen {
    uint64_t word = 0;
    std::size_t at;  // bits behind `memory`

    INLINE void put(uint8_t* memory, uint64_t bits, std::size_t count) {  // bits < 2^count, count < 64
        word |= bits << at % 64;
        store(memory + at / 64 * 8, word);
        const std::size_t next = at + count;
        word = (at ^ next) & 64 ? bits >> 1 >> (~at & 63) : word;
        at = next;
    }
};

// The codes of a step, whatever its values.
template <typename T>
INLINE void put_step(uint8_t* memory, Pen* pens, const T* z, const uint8_t* of, const Code (*codes)[kMaxTokens]) {
    for (std::size_t l = 0; l < kLanes; ++l) {
        const Code code = codes[of ? of[l] : 0][token(z[l])];
        const unsigned raw = raw_bits(z[l]);
        const uint64_t rest = z[l] & ((uint64_t{1} << raw) - 1);
        Pen& pen = pens[l % kStreams];
        if (sizeof(T) < 8) {
            pen.put(memory, code.bits | rest << code.length, code.length + raw);
        } else {
            pen.put(memory, code.bits, code.length);
            pen.put(memory, rest, raw);
        }
    }
}

// The same, where all are below kDirect. All is looked up before anything is written: a processor that may not guess
// where a store goes waits for it before it loads.
template <typename T>
INLINE void put_direct(uint8_t* memory, Pen* pens, const T* z, const uint8_t* of, const uint32_t* direct) {
    uint64_t bits[kStreams];
    unsigned counts[kStreams];
    for (std::size_t q = 0; q < kStreams; ++q) {
        const std::size_t one = of ? of[q] * kDirect : 0, other = of ? of[q + 4] * kDirect : 0;
        const uint32_t first = direct[one + z[q]], second = direct[other + z[q + 4]];
        const unsigned length = first & 255;
        bits[q] = first >> 8 | uint64_t{second >> 8} << length;
        counts[q] = length + (second & 255);
    }
    for (std::size_t q = 0; q < kStreams; ++q) pens[q].put(memory, bits[q], counts[q]);
}

#if defined(HASTEN_SPRINTZ_TOKENS_AVX512)
#include "tokens_avx512.hpp"
#endif

template <typename T>
void make_direct(const Code (*codes)[kMaxTokens], std::size_t contexts, uint32_t* direct) {
    for (std::size_t c = 0; c < contexts; ++c) {
        for (unsigned a = 0; a < kDirect; ++a) {
            const T x = static_cast<T>(a);
            const Code code = codes[c][token(x)];
            const unsigned raw = raw_bits(x);
            direct[c * kDirect + a] = (code.bits | (a & ((1u << raw) - 1)) << code.length) << 8 | (code.length + raw);
        }
    }
}

template <typename T, bool many>
void put_tokens_of(const T* z, std::size_t steps, const uint8_t* of, std::size_t contexts,
                const Code (*codes)[kMaxTokens], uint8_t** ends, uint32_t* direct) {
    uint8_t* const memory = ends[0];
    Pen pens[kStreams];
    for (std::size_t q = 0; q < kStreams; ++q) pens[q].at = 8 * static_cast<std::size_t>(ends[q] - memory);
    const auto put = [&](std::size_t first, std::size_t last) INLINE_LAMBDA {
        for (std::size_t t = first; t < last; ++t) {
            const T* const step = z + t * kLanes;
            const uint8_t* const contexts_of = many ? of + t * kLanes : nullptr;
            if (all_below<kDirect>(step, kLanes)) put_direct(memory, pens, step, contexts_of, direct);
            else put_step(memory, pens, step, contexts_of, codes);
        }
    };
    make_direct<T>(codes, contexts, direct);
    std::size_t t = 0;
#if defined(HASTEN_SPRINTZ_TOKENS_AVX512)
    if constexpr (!many && sizeof(T) == 2) {
        const Brush brush(codes[0]);
        for (t = brush.put(memory, pens, z, steps); t + Brush::kSteps <= steps;) {
            put(t, t + Brush::kSteps);
            t += Brush::kSteps;
            t += brush.put(memory, pens, z + t * kLanes, steps - t);
        }
    }
#endif
    put(t, steps);
    for (std::size_t q = 0; q < kStreams; ++q) {
        pens[q].put(memory, 0, 0);
        ends[q] = memory + (pens[q].at + 7) / 8;
    }
}

template <typename T>
void put_tokens(const T* z, std::size_t steps, const uint8_t* of, std::size_t contexts,
                const Code (*codes)[kMaxTokens], uint8_t** ends, uint32_t* direct) {
    return contexts > 1 ? put_tokens_of<T, true>(z, steps, of, contexts, codes, ends, direct)
                        : put_tokens_of<T, false>(z, steps, of, contexts, codes, ends, direct);
}

// The value that the next bits and their entry say.
INLINE uint64_t value_of(uint64_t word, Entry entry) {
#if defined(__BMI__)
    const uint64_t rest = __bextr_u64(word, entry);
#else
    const uint64_t rest = low_bits(word >> (entry & 255), entry >> 8 & 255);
#endif
    return (uint64_t{entry >> 24} << (entry >> 8 & 63)) | rest;
}

// The same, and the word loses these bits.
template <typename T>
INLINE T take_one(uint64_t& word, Entry entry) {
    const T value = static_cast<T>(value_of(word, entry));
    word >>= entry >> 16 & 63;
    return value;
}

// Two values of a stream at once, where both fit the bits that are looked up: total | first << 8 | second << 16; 0 where
// they do not. Returns whether nearly all do.
INLINE bool make_pairs(const Entry* table, uint32_t* pairs) {
    constexpr unsigned size = 1u << kMaxCode;
    unsigned missing = 0;
    for (unsigned word = 0; word < size; ++word) {
        const Entry first = table[word], second = table[word >> (first >> 16 & 63)];
        const unsigned total = (first >> 16 & 255) + (second >> 16 & 255);
        const uint64_t a = value_of(word, first), b = value_of(word >> (first >> 16 & 63), second);
        const bool fits = total > 0 && total <= kMaxCode && a < 256 && b < 256;
        pairs[word] = fits ? total | static_cast<uint32_t>(a) << 8 | static_cast<uint32_t>(b) << 16 : 0;
        missing += !fits;
    }
    return missing < size / 12;
}

template <typename T, bool many>
bool take_tokens_of(Stream* streams, std::size_t steps, const Contexts& contexts, const Entry* table, T* z) {
    constexpr unsigned table_bits = many ? kMaxCodeOfMany : kMaxCode;
    constexpr uint64_t mask = (uint64_t{1} << table_bits) - 1;
    uint32_t recent[kLanes] = {};
    const auto entry_of = [&](uint64_t word, std::size_t lane) INLINE_LAMBDA {
        const std::size_t context = many ? contexts.context[level(recent[lane], contexts.shift)] : 0;
        return table[(context << table_bits) + (word & mask)];
    };
    constexpr std::size_t kWorthPairs = 1024;  // steps
    uint32_t pairs[std::size_t{1} << kMaxCode];
    std::size_t all_bits = 0;
    for (std::size_t q = 0; q < kStreams; ++q) all_bits += streams[q].bits;
    const bool short_codes = !many && sizeof(T) == 2 && steps >= kWorthPairs && all_bits < 3 * kLanes * steps;
    const bool by_pairs = short_codes && make_pairs(table, pairs);
    std::size_t t = 0;
    const uint8_t* const data = streams[0].data;  // the others follow: one pointer is enough for four streams
    std::size_t starts[kStreams];
    for (std::size_t q = 0; q < kStreams; ++q) starts[q] = 8 * static_cast<std::size_t>(streams[q].data - data);
    while (sizeof(T) <= 4 && t < steps) {
        std::size_t safe = steps - t;  // so many steps cannot leave any stream
        for (std::size_t q = 0; q < kStreams; ++q) {
            const std::size_t left = streams[q].bits - streams[q].at;
            const std::size_t can = left < 64 ? 0 : (left - 64) / (2 * Tokens<T>::longest);
            if (can < safe) safe = can;
        }
        if (safe == 0) break;
        std::size_t a0 = starts[0] + streams[0].at, a1 = starts[1] + streams[1].at;
        std::size_t a2 = starts[2] + streams[2].at, a3 = starts[3] + streams[3].at;
        const std::size_t last = t + safe;
        for (; by_pairs && t < last; ++t) {
            T* const out = z + t * kLanes;
            const auto two = [&](std::size_t& at, std::size_t lane) INLINE_LAMBDA {
                uint64_t word = load<uint64_t>(data + at / 8) >> at % 8;
                const uint32_t pair = pairs[word & mask];
                unsigned total = pair & 255;
                if (total != 0) {
                    out[lane] = static_cast<T>(pair >> 8 & 255);
                    out[lane + 4] = static_cast<T>(pair >> 16);
                } else {
                    const Entry first = table[word & mask];
                    out[lane] = take_one<T>(word, first);
                    const Entry second = table[word & mask];
                    out[lane + 4] = take_one<T>(word, second);
                    total = ((first >> 16) + (second >> 16)) & 255;
                }
                at += total;
            };
            two(a0, 0);
            two(a1, 1);
            two(a2, 2);
            two(a3, 3);
        }
        for (; t < last; ++t) {
            T* const out = z + t * kLanes;
            const auto one = [&](uint64_t& word, std::size_t lane) INLINE_LAMBDA {
                const Entry entry = entry_of(word, lane);
                const T value = take_one<T>(word, entry);
                out[lane] = value;
                if (many) recent[lane] = faded(recent[lane], value);
                return entry >> 16;
            };
            const auto word_at = [&](std::size_t at) INLINE_LAMBDA { return load<uint64_t>(data + at / 8) >> at % 8; };
            uint64_t w0 = word_at(a0), w1 = word_at(a1), w2 = word_at(a2), w3 = word_at(a3);
            const unsigned b0 = one(w0, 0), b1 = one(w1, 1), b2 = one(w2, 2), b3 = one(w3, 3);
            if (sizeof(T) > 2) {  // two values do not fit a word
                w0 = word_at(a0 + (b0 & 255));
                w1 = word_at(a1 + (b1 & 255));
                w2 = word_at(a2 + (b2 & 255));
                w3 = word_at(a3 + (b3 & 255));
            }
            a0 += (b0 + one(w0, 4)) & 255;  // what both took; the bytes above hold other things
            a1 += (b1 + one(w1, 5)) & 255;
            a2 += (b2 + one(w2, 6)) & 255;
            a3 += (b3 + one(w3, 7)) & 255;
        }
        streams[0].at = a0 - starts[0];
        streams[1].at = a1 - starts[1];
        streams[2].at = a2 - starts[2];
        streams[3].at = a3 - starts[3];
    }
    for (; t < steps; ++t) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            Stream& s = streams[lane % kStreams];
            const Entry entry = entry_of(peek(s), lane);
            const unsigned raw = entry >> 8 & 255;
            s.at += entry & 255;
            if (s.at + raw > s.bits) return false;
            uint64_t rest = low_bits(peek(s), raw < 32 ? raw : 32);
            s.at += raw < 32 ? raw : 32;
            if (raw > 32) {
                rest |= low_bits(peek(s), raw - 32) << 32;
                s.at += raw - 32;
            }
            const T value = static_cast<T>((uint64_t{entry >> 24} << raw) | rest);
            z[t * kLanes + lane] = value;
            if (many) recent[lane] = faded(recent[lane], value);
        }
    }
    return true;
}

template <typename T>
bool take_tokens(Stream* streams, std::size_t steps, const Contexts& contexts, const Entry* table, T* z) {
    return contexts.count > 1 ? take_tokens_of<T, true>(streams, steps, contexts, table, z)
                              : take_tokens_of<T, false>(streams, steps, contexts, table, z);
}

