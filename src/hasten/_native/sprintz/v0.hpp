// Published Sprintz streams ("v0"; Blalock, Madden, Guttag, "Sprintz: time series compression for the internet of
// things", IMWUT 2018, arXiv:1808.02515), byte for byte, and a Huffman stage of our own over their bytes.
//
// Data: a matrix of T = uint8 or uint16 of w = 8 or 16 bits, row after row, D columns; arithmetic is modulo 2^w.
//
//   stream   u32 groups | u16 remaining | u16 D | groups | `remaining` elements as they are          little-endian
//   group    2 D fields of 3 (w = 8) or 4 bits, the first slot's, then the second's; filled up to bytes
//            | the first slot | the second
//   slot     a block of 8 rows. A field f says that its column's errors have f bits each; f = w - 1 says w bits.
//            narrow rows (at most 32 bits): column after column 8 errors, that is `width` bytes
//            wide rows: row after row the D errors, each row filled up to bytes
//   or run   all fields 0: how many blocks without an error follow each other, 1 byte if below 128, else
//            (count & 127) | 128, count >> 7
//
// Bits are packed from the lowest up. Errors are zigzag coded: 0, -1, 1, -2, ... become 0, 1, 2, 3, ...
// Two predictors, with state per column that starts at 0 and goes through the whole stream:
//
//   delta    error = d = x - previous x
//   FIRE     error = d - (previous d * coefficient >> w); the coefficient belongs to a block and is made of a counter,
//            which the signs of the errors of rows 1, 3, 5, 7 move when the block ends
//
// A reader is told w and the predictor from elsewhere. Nothing here trusts the bytes it reads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hasten::sprintz {

// Of reading bytes that nobody vouches for.
struct Outcome {
    const char* reason = nullptr;  // what is wrong with the bytes; nullptr: nothing
    std::size_t offset = 0;        // where it was noticed
    std::size_t elements = 0, columns = 0;
};

// All for T = uint8_t and uint16_t.
namespace v0 {

constexpr std::size_t kMaxColumns = 65535, kMaxRemaining = 65535;

// Room that encode() needs: nothing is longer, and it may write 8 bytes more than it returns.
template <typename T>
std::size_t bound(std::size_t rows, std::size_t columns);

// Returns the length of the stream, or 0 if the format cannot hold the matrix: more than 65535 elements would remain
// after the last group, or more than 2^32 - 1 groups be needed. Columns: 1 to 65535.
template <typename T>
std::size_t encode(const T* x, std::size_t rows, std::size_t columns, bool fire, uint8_t* out);

// Walks a stream without decoding it: its columns and elements, or what is wrong with it.
template <typename T>
Outcome scan(const uint8_t* data, std::size_t size, std::size_t max_elements);

// Decodes a stream of at most `max_elements`, for which `out` has room.
template <typename T>
Outcome decode(const uint8_t* data, std::size_t size, bool fire, T* out, std::size_t max_elements);

}  // namespace v0

// Bytes, canonical Huffman codes of at most 11 bits, a table for each 128 KiB; see v0_huffman.hpp.
namespace huffman {

// Room that encode() needs; it may write 8 bytes more than it returns.
std::size_t bound(std::size_t size);

// Returns the length of what it wrote.
std::size_t encode(const uint8_t* data, std::size_t size, uint8_t* out);

// Decodes exactly `out_size` bytes from exactly `size` bytes.
Outcome decode(const uint8_t* data, std::size_t size, uint8_t* out, std::size_t out_size);

}  // namespace huffman

}  // namespace hasten::sprintz
