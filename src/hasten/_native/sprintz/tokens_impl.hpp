// Codes for residuals: a token says how large a residual is, bits as they are say the rest. Part of kernels_impl.hpp.

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

template <typename T>
void count_tokens(const T* z, std::size_t steps, const Contexts& contexts, uint32_t (*counts)[kMaxTokens], uint8_t* of) {
    uint32_t small[2][kDirect] = {};  // two, so that equal neighbours do not wait for each other
    if (contexts.count == 1) {
        for (std::size_t i = 0; i < steps * kLanes; i += 2) {
            const T a = z[i], b = z[i + 1];
            if (a < kDirect) ++small[0][a]; else ++counts[0][token(a)];
            if (b < kDirect) ++small[1][b]; else ++counts[0][token(b)];
        }
        for (unsigned a = 0; a < kDirect; ++a) counts[0][token(static_cast<T>(a))] += small[0][a] + small[1][a];
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

template <typename T>
INLINE void put_one(Writer& out, T z, const uint32_t* direct, const Code* codes) {
    if (z < kDirect) {
        const uint32_t known = direct[z];
        out.put(known >> 8, known & 255);
        return;
    }
    const Code code = codes[token(z)];
    const unsigned raw = raw_bits(z);
    const uint64_t rest = z & ((uint64_t{1} << raw) - 1);
    out.put(code.bits, code.length);
    if (sizeof(T) == 8) {
        out.flush();
        out.put(rest & 0xFFFFFFFF, raw < 32 ? raw : 32);
        if (raw > 32) {
            out.flush();
            out.put(rest >> 32, raw - 32);
        }
    } else {
        out.put(rest, raw);
    }
}

template <typename T>
void put_tokens(const T* z, std::size_t steps, const uint8_t* of, std::size_t contexts,
                const Code (*codes)[kMaxTokens], uint8_t** ends, uint32_t* direct) {
    for (std::size_t c = 0; c < contexts; ++c) {
        for (unsigned a = 0; a < kDirect; ++a) {
            const T x = static_cast<T>(a);
            const Code code = codes[c][token(x)];
            const unsigned raw = raw_bits(x);
            direct[c * kDirect + a] = (code.bits | (a & ((1u << raw) - 1)) << code.length) << 8 | (code.length + raw);
        }
    }
    Writer w0{ends[0]}, w1{ends[1]}, w2{ends[2]}, w3{ends[3]};
    const auto one = [&](Writer& out, std::size_t i, bool flush) INLINE_LAMBDA {
        const std::size_t context = contexts > 1 ? of[i] : 0;
        put_one(out, z[i], direct + context * kDirect, codes[context]);
        if (flush || sizeof(T) > 2) out.flush();
    };
    for (std::size_t i = 0; i < steps * kLanes; i += kLanes) {
        one(w0, i, false);
        one(w1, i + 1, false);
        one(w2, i + 2, false);
        one(w3, i + 3, false);
        one(w0, i + 4, true);
        one(w1, i + 5, true);
        one(w2, i + 6, true);
        one(w3, i + 7, true);
    }
    w0.close();
    w1.close();
    w2.close();
    w3.close();
    ends[0] = w0.at;
    ends[1] = w1.at;
    ends[2] = w2.at;
    ends[3] = w3.at;
}

// `word` holds the next bits, and loses those that the value took.
template <typename T>
INLINE T take_one(uint64_t& word, std::size_t& at, Entry entry) {
    const unsigned total = entry & 255, raw = entry >> 16 & 255;
    const uint64_t rest = low_bits(word >> (entry >> 8 & 255), raw);
    word >>= total;
    at += total;
    return static_cast<T>((uint64_t{entry >> 24} << raw) | rest);
}

template <typename T, bool many>
bool take_tokens_of(Stream* streams, std::size_t steps, const Contexts& contexts, const Entry* table,
                    unsigned table_bits, T* z) {
    const uint64_t mask = (uint64_t{1} << table_bits) - 1;
    uint32_t recent[kLanes] = {};
    const auto entry_of = [&](uint64_t word, std::size_t lane) INLINE_LAMBDA {
        const std::size_t context = many ? contexts.context[level(recent[lane], contexts.shift)] : 0;
        return table[(context << table_bits) + (word & mask)];
    };
    std::size_t t = 0;
    if (sizeof(T) <= 4) {
        const uint8_t *const d0 = streams[0].data, *const d1 = streams[1].data, *const d2 = streams[2].data,
                      *const d3 = streams[3].data;
        while (t < steps) {
            std::size_t safe = steps - t;  // as many steps cannot leave any stream
            for (std::size_t q = 0; q < kStreams; ++q) {
                const std::size_t left = streams[q].bits - streams[q].at;
                const std::size_t can = left < 64 ? 0 : (left - 64) / (2 * Tokens<T>::longest);
                if (can < safe) safe = can;
            }
            if (safe == 0) break;
            std::size_t a0 = streams[0].at, a1 = streams[1].at, a2 = streams[2].at, a3 = streams[3].at;
            for (const std::size_t last = t + safe; t < last; ++t) {
                T* const out = z + t * kLanes;
                const auto one = [&](uint64_t& word, std::size_t& at, std::size_t lane) INLINE_LAMBDA {
                    const T value = take_one<T>(word, at, entry_of(word, lane));
                    out[lane] = value;
                    if (many) recent[lane] = faded(recent[lane], value);
                };
                const auto word_of = [](const uint8_t* data, std::size_t at) INLINE_LAMBDA {
                    return load<uint64_t>(data + at / 8) >> at % 8;
                };
                uint64_t w0 = word_of(d0, a0), w1 = word_of(d1, a1), w2 = word_of(d2, a2), w3 = word_of(d3, a3);
                one(w0, a0, 0);
                one(w1, a1, 1);
                one(w2, a2, 2);
                one(w3, a3, 3);
                if (sizeof(T) > 2) {  // two values do not fit a word
                    w0 = word_of(d0, a0);
                    w1 = word_of(d1, a1);
                    w2 = word_of(d2, a2);
                    w3 = word_of(d3, a3);
                }
                one(w0, a0, 4);
                one(w1, a1, 5);
                one(w2, a2, 6);
                one(w3, a3, 7);
            }
            streams[0].at = a0;
            streams[1].at = a1;
            streams[2].at = a2;
            streams[3].at = a3;
        }
    }
    for (; t < steps; ++t) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            Stream& s = streams[lane % kStreams];
            const Entry entry = entry_of(peek(s), lane);
            const unsigned raw = entry >> 16 & 255;
            s.at += entry >> 8 & 255;
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
bool take_tokens(Stream* streams, std::size_t steps, const Contexts& contexts, const Entry* table, unsigned table_bits,
                 T* z) {
    return contexts.count > 1 ? take_tokens_of<T, true>(streams, steps, contexts, table, table_bits, z)
                              : take_tokens_of<T, false>(streams, steps, contexts, table, table_bits, z);
}

template <typename T>
constexpr LaneKernels<T> lane_kernels() {
    return {residuals<T>, values<T>, count_tokens<T>, put_tokens<T>, take_tokens<T>, products<T>, put_rice<T>,
            take_rice<T>};
}
