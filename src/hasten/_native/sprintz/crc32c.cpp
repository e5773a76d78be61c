#include "crc32c.hpp"

#include <array>
#include <cstring>

#if defined(HASTEN_X86)
#include <nmmintrin.h>
#elif defined(HASTEN_ARM) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace hasten::sprintz {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // 0x1EDC6F41 with its bits reversed

using Table = std::array<uint32_t, 256>;

// tables[k][b]: what byte b does to the register when k more bytes follow it in the same step.
constexpr std::array<Table, 8> make_slices() {
    std::array<Table, 8> tables{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t crc = byte;
        for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
        tables[0][byte] = crc;
    }
    for (std::size_t k = 1; k < 8; ++k) {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            const uint32_t before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
        }
    }
    return tables;
}

constexpr std::array<Table, 8> kSlices = make_slices();

inline uint64_t load_little(const uint8_t* data) {
    uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word |= uint64_t{data[i]} << (8 * i);
    return word;
}

// Slicing by eight (Kounavis and Berry, "A systematic approach to building high performance software-based CRC
// generators", 2005).
uint32_t crc_scalar(uint32_t crc, const uint8_t* data, std::size_t size) {
    crc = ~crc;
    for (; size >= 8; data += 8, size -= 8) {
        const uint64_t word = load_little(data) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; ++k) crc ^= kSlices[7 - k][(word >> (8 * k)) & 0xFF];
    }
    for (; size > 0; ++data, --size) crc = (crc >> 8) ^ kSlices[0][(crc ^ *data) & 0xFF];
    return ~crc;
}

#if defined(HASTEN_X86) || defined(HASTEN_ARM)

// The instruction takes three cycles and a new one can start in each, so long data run as three streams of kLane
// bytes; kShift then moves a register past kLane zero bytes, four tables of one byte of it each.
constexpr std::size_t kLane = 1024;

constexpr std::array<Table, 4> make_shift() {
    // The CRC is linear: the register after kLane zero bytes is the xor of what each of its 32 bits becomes.
    std::array<uint32_t, 32> after{};
    for (int bit = 0; bit < 32; ++bit) after[bit] = uint32_t{1} << bit;
    // One zero bit, then squared: 13 times for the 8192 bits of a lane.
    for (int bit = 0; bit < 32; ++bit) after[bit] = (after[bit] >> 1) ^ ((after[bit] & 1) != 0 ? kPolynomial : 0);
    for (std::size_t bits = 1; bits < kLane * 8; bits *= 2) {
        std::array<uint32_t, 32> twice{};
        for (int bit = 0; bit < 32; ++bit) {
            for (int k = 0; k < 32; ++k) {
                if (((after[bit] >> k) & 1) != 0) twice[bit] ^= after[k];
            }
        }
        after = twice;
    }
    std::array<Table, 4> tables{};
    for (int part = 0; part < 4; ++part) {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            for (int k = 0; k < 8; ++k) {
                if (((byte >> k) & 1) != 0) tables[part][byte] ^= after[8 * part + k];
            }
        }
    }
    return tables;
}

constexpr std::array<Table, 4> kShift = make_shift();

inline uint32_t shift(uint32_t crc) {
    return kShift[0][crc & 0xFF] ^ kShift[1][(crc >> 8) & 0xFF] ^ kShift[2][(crc >> 16) & 0xFF] ^ kShift[3][crc >> 24];
}

#if defined(HASTEN_X86)
#define HASTEN_CRC_TARGET __attribute__((target("sse4.2")))
HASTEN_CRC_TARGET inline uint32_t step8(uint32_t crc, const uint8_t* data) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    return static_cast<uint32_t>(_mm_crc32_u64(crc, word));
}
HASTEN_CRC_TARGET inline uint32_t step1(uint32_t crc, uint8_t byte) { return _mm_crc32_u8(crc, byte); }
#else
#define HASTEN_CRC_TARGET
// In assembler: compilers differ in how a function asks for an extension.
inline uint32_t step8(uint32_t crc, const uint8_t* data) {
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(load_little(data)));
    return crc;
}
inline uint32_t step1(uint32_t crc, uint8_t byte) {
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(uint32_t{byte}));
    return crc;
}

// The first ARMv8 machines may lack it.
bool has_crc() {
#if defined(__linux__)
    constexpr unsigned long kCrc32 = 1ul << 7;  // HWCAP_CRC32
    return (getauxval(AT_HWCAP) & kCrc32) != 0;
#elif defined(__ARM_FEATURE_CRC32)
    return true;
#else
    return false;
#endif
}
#endif

HASTEN_CRC_TARGET uint32_t crc_instruction(uint32_t crc, const uint8_t* data, std::size_t size) {
    crc = ~crc;
    for (; size >= 3 * kLane; data += 3 * kLane, size -= 3 * kLane) {
        uint32_t second = 0, third = 0;
        for (std::size_t i = 0; i < kLane; i += 8) {
            crc = step8(crc, data + i);
            second = step8(second, data + kLane + i);
            third = step8(third, data + 2 * kLane + i);
        }
        crc = shift(shift(crc) ^ second) ^ third;
    }
    for (; size >= 8; data += 8, size -= 8) crc = step8(crc, data);
    for (; size > 0; ++data, --size) crc = step1(crc, *data);
    return ~crc;
}

#endif

}  // namespace

#if defined(HASTEN_X86)
const Kernel<Crc32c> crc32c = {crc_scalar, has_feature("sse4.2") ? crc_instruction : nullptr};
#elif defined(HASTEN_ARM)
const Kernel<Crc32c> crc32c = {crc_scalar, nullptr, nullptr, nullptr, has_crc() ? crc_instruction : nullptr};
#else
const Kernel<Crc32c> crc32c = {crc_scalar};
#endif

}  // namespace hasten::sprintz
