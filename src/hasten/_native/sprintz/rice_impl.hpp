// Rice codes: of each residual z, z >> k in unary and the k low bits as they are, where k belongs to the 32 steps of one
// lane; 32 zeros take no bits at all. Part of codes_impl.hpp.

constexpr std::size_t kRun = 32;  // steps of a lane that share a parameter
constexpr unsigned kMostUnary = 40;

// 0: all zeros; else 1 + k - least, for the k that needs the fewest bits.
template <typename T>
INLINE unsigned rice_parameter(const T* z, std::size_t count, unsigned least) {
    T all = 0;
    for (std::size_t i = 0; i < count; ++i) all = static_cast<T>(all | z[i * kLanes]);
    if (all == 0) return 0;
    unsigned best = 0;
    uint64_t fewest = ~uint64_t{0};
    const unsigned most = width(all);
    for (unsigned k = least; k < least + 14; ++k) {
        if (static_cast<uint64_t>(all) >> k > kMostUnary) continue;
        uint64_t bits = count * (k + 1);
        for (std::size_t i = 0; i < count; ++i) bits += z[i * kLanes] >> k;
        if (bits >= fewest) break;  // from here on it only grows
        fewest = bits;
        best = 1 + k - least;
        if (k >= most) break;
    }
    return best;
}

template <typename T>
void put_rice(const T* z, std::size_t steps, unsigned least, uint8_t* parameters, uint8_t** low, uint8_t** high) {
    Writer lows{*low}, unary{*high};
    for (std::size_t first = 0; first < steps; first += kRun) {
        const std::size_t count = steps - first < kRun ? steps - first : kRun;
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const T* const run = z + first * kLanes + lane;
            const unsigned parameter = rice_parameter(run, count, least);
            *parameters++ = static_cast<uint8_t>(parameter);
            if (parameter == 0) continue;
            const unsigned k = least + parameter - 1;
            for (std::size_t i = 0; i < count; ++i) {
                const uint64_t x = run[i * kLanes];
                const unsigned zeros = static_cast<unsigned>(x >> k);
                const uint64_t rest = low_bits(x, k);
                unary.put(uint64_t{1} << zeros, zeros + 1);
                unary.flush();
                lows.put(rest & 0xFFFFFFFF, k < 32 ? k : 32);
                lows.flush();
                if (k <= 32) continue;
                lows.put(rest >> 32, k - 32);
                lows.flush();
            }
        }
    }
    lows.close();
    unary.close();
    *low = lows.at;
    *high = unary.at;
}

template <typename T>
bool take_rice(const uint8_t* parameters, unsigned least, Stream* low, Stream* high, std::size_t steps, T* z) {
    for (std::size_t first = 0; first < steps; first += kRun) {
        const std::size_t count = steps - first < kRun ? steps - first : kRun;
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            T* const run = z + first * kLanes + lane;
            const unsigned parameter = *parameters++;
            if (parameter == 0) {
                for (std::size_t i = 0; i < count; ++i) run[i * kLanes] = 0;
                continue;
            }
            const unsigned k = least + parameter - 1;
            for (std::size_t i = 0; i < count; ++i) {
                const uint64_t unary = low_bits(peek(*high), kMostUnary + 1);
                if (unary == 0) return false;
                const unsigned zeros = width(unary & (0 - unary)) - 1;
                high->at += zeros + 1;
                uint64_t rest = low_bits(peek(*low), k < 32 ? k : 32);
                if (k > 32) {
                    low->at += 32;
                    rest |= low_bits(peek(*low), k - 32) << 32;
                    low->at += k - 32;
                } else {
                    low->at += k;
                }
                if (high->at > high->bits || low->at > low->bits) return false;
                run[i * kLanes] = static_cast<T>(uint64_t{zeros} << k | rest);
            }
        }
    }
    return true;
}
