// Records of columns in the body of a tsz chunk (docs/formats.md has the layout, codecs/sprintz/chunk.py the body).
//
//   stored   u8 0 | the values as they are
//   planar   u8 1 | u8 predictor | u8 bits | u64 base | a width for each block of 32 | the blocks
//   lanes    u8 3 | u8 predictor | u8 entropy | u8 bits | u8 mapping | u8 references | what these need | residuals
//
// Planar records keep the order of the rows: they are what profile "fast" writes, and decode at the speed of memory.
//
// Lanes: the rows of a column are cut into 8 runs of `steps` = ceil(rows / 8) each, and value t of run l stands at
// 8 t + l (the last runs are filled up). A predictor then does the same for 8 neighbours, so even one that needs the
// value before, as all do, runs on vectors when it decodes; the same 8 keep four streams of codes busy.
//
// A column is decoded from the right to the left of this:
//   value = reference columns + mapping(predicted + residual)
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace hasten::sprintz {

enum class Kind : uint8_t { stored = 0, planar = 1, lanes = 3 };
enum class Entropy : uint8_t { planar = 0, rice = 1, tokens = 2 };
enum class Mapping : uint8_t { base = 0, affine = 1, palette = 2 };
constexpr std::size_t kMaxPalette = 4096, kMaxReferences = 2;

// Of `rows` values of `itemsize` bytes, `stride` bytes from one to the next.
struct Column {
    const uint8_t* data;  // nullptr: there is no record for it, and none refers to it
    std::ptrdiff_t stride;
    std::size_t itemsize;
};
struct Target {
    uint8_t* data = nullptr;  // nullptr: not wanted
    std::ptrdiff_t stride = 0;
    std::size_t itemsize = 0;
};

enum class Effort : uint8_t { fast, balanced, max };
struct Options {
    Effort effort = Effort::balanced;
    int predictor = -1, entropy = -1;  // of the enumerations above; -1: whatever is smallest
    bool cross = true;                 // may refer to other columns, if the effort is max
};

using Bytes = std::vector<uint8_t>;

std::vector<Bytes> encode_columns(const std::vector<Column>& columns, std::size_t rows, const Options& options,
                                  const Kernels& kernels);

struct Corrupt {
    std::size_t offset;
    const char* reason;
};

// Decodes the wanted columns of a body; returns those whose record is of a kind that is not here. Throws Corrupt.
std::vector<std::size_t> decode_body(const uint8_t* body, std::size_t size, std::size_t rows,
                                     const std::vector<Target>& columns, const Kernels& kernels);

// One record that refers to no other.
void decode_record(const uint8_t* record, std::size_t size, std::size_t rows, const Target& target,
                   const Kernels& kernels);

}  // namespace hasten::sprintz
