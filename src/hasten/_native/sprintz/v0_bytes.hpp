// Little-endian words in unaligned memory, whatever the machine's own byte order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace hasten::sprintz {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
constexpr bool kBigEndian = true;
#else
constexpr bool kBigEndian = false;
#endif

template <typename Word>
Word reversed(Word word) {
    Word result = 0;
    for (std::size_t i = 0; i < sizeof(Word); ++i) result = static_cast<Word>(result << 8 | (word >> 8 * i & 0xFF));
    return result;
}

template <typename Word>
inline Word load(const uint8_t* at) {
    Word word;
    std::memcpy(&word, at, sizeof word);
    return kBigEndian ? reversed(word) : word;
}

template <typename Word>
inline void store(uint8_t* at, Word word) {
    if (kBigEndian) word = reversed(word);
    std::memcpy(at, &word, sizeof word);
}

// Bits one after the other, from the lowest up, into exactly the bytes that they need.
class BitWriter {
public:
    explicit BitWriter(uint8_t* at) : at_(at) {}

    // At most 32 bits.
    void put(uint32_t value, unsigned bits) {
        word_ |= uint64_t{value} << filled_;
        for (filled_ += bits; filled_ >= 8; filled_ -= 8, word_ >>= 8) *at_++ = static_cast<uint8_t>(word_);
    }

    // Fills up the last byte; returns where the bits end.
    uint8_t* close() {
        if (filled_ > 0) *at_++ = static_cast<uint8_t>(word_);
        filled_ = 0;
        return at_;
    }

private:
    uint8_t* at_;
    uint64_t word_ = 0;
    unsigned filled_ = 0;
};

// Bits from exactly the bytes that hold them; the caller knows that they are there.
class BitReader {
public:
    explicit BitReader(const uint8_t* at) : at_(at) {}

    // At most 25 bits.
    uint32_t get(unsigned bits) {
        for (; filled_ < bits; filled_ += 8) word_ |= uint32_t{*at_++} << filled_;
        const uint32_t value = word_ & ((uint32_t{1} << bits) - 1);
        word_ >>= bits;
        filled_ -= bits;
        return value;
    }

private:
    const uint8_t* at_;
    uint32_t word_ = 0;
    unsigned filled_ = 0;
};

}  // namespace hasten::sprintz
