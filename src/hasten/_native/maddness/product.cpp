#include "product.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

namespace hasten::maddness {

const Kernels& kernels_for(Isa isa) {
#if defined(HASTEN_X86)
    if (isa == Isa::avx512vnni) return kernels_avx512vnni;
    if (isa == Isa::avx512) return kernels_avx512;
    if (isa == Isa::avx2) return kernels_avx2;
#elif defined(HASTEN_ARM)
    if (isa == Isa::neon) return kernels_neon;
#endif
    static_cast<void>(isa);
    return kernels_scalar;
}

Layout layout_for(Isa isa, std::size_t leaves, bool exact) {
    if (isa != Isa::avx512vnni || leaves != 16) return Layout::planes;
    return exact ? Layout::quads : Layout::quarters;
}

namespace {

constexpr std::size_t kChunk = 12;  // blocks between two changes of columns or tables
constexpr std::size_t kStride = kRows + 16;  // floats between columns: no power of two, which would share a cache set

float as_float(float x) { return x; }
float as_float(int8_t x) { return x; }
float as_float(uint8_t x) { return x; }
float as_float(uint16_t x) {  // bfloat16
    const uint32_t bits = uint32_t{x} << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename F>
void with_type(Type type, F&& f) {
    switch (type) {
        case Type::bfloat16: return f(uint16_t{});
        case Type::int8: return f(int8_t{});
        case Type::uint8: return f(uint8_t{});
        default: return f(float{});
    }
}

// Columns of a block, 64 values each, in memory of our own.
struct Fetched {
    std::vector<float> values;
    std::vector<const float*> columns;

    explicit Fetched(const Trees& trees)
        : values(trees.codebooks * trees.levels * kStride), columns(trees.codebooks * trees.levels) {
        for (std::size_t q = 0; q < columns.size(); ++q) columns[q] = values.data() + q * kStride;
    }
};

template <typename T>
void fetch_rows(const Matrix& x, const Trees& trees, std::size_t first, std::size_t rows, float* values) {
    const std::size_t count = trees.codebooks * trees.levels;
    const T* row = static_cast<const T*>(x.data) + static_cast<std::ptrdiff_t>(first) * x.row_stride;
    for (std::size_t r = 0; r < rows; ++r, row += x.row_stride) {
        float* to = values + r;
        for (std::size_t q = 0; q < count; ++q, to += kStride) *to = as_float(row[trees.dims[q] * x.column_stride]);
    }
}

// A column: contiguous memory, one after the other.
template <typename T>
void fetch_columns(const Matrix& x, const Trees& trees, std::size_t first, std::size_t rows, float* values) {
    const std::size_t count = trees.codebooks * trees.levels;
    for (std::size_t q = 0; q < count; ++q, values += kStride) {
        const T* const column = static_cast<const T*>(x.data) + first + trees.dims[q] * x.column_stride;
        for (std::size_t r = 0; r < rows; ++r) values[r] = as_float(column[r]);
    }
}

void fetch(const Matrix& x, const Trees& trees, std::size_t first, std::size_t rows, float* values) {
    with_type(x.type, [&](auto zero) {
        using T = decltype(zero);
        if (x.row_stride == 1) return fetch_columns<T>(x, trees, first, rows, values);
        fetch_rows<T>(x, trees, first, rows, values);
    });
}

template <typename T>
void fetch_line(const Patches& x, const T* line, std::size_t across, std::size_t from, std::size_t to, float* values) {
    for (std::size_t place = from; place < to; ++place) {
        const std::ptrdiff_t column = static_cast<std::ptrdiff_t>(place * x.stride[1] + across * x.dilation[1])
            - static_cast<std::ptrdiff_t>(x.padding[1]);
        const bool inside = column >= 0 && column < static_cast<std::ptrdiff_t>(x.width);
        values[place - from] = inside ? as_float(line[column * x.pixel_stride]) : 0.0f;
    }
}

template <typename T>
void fetch_patches(const Patches& x, const Trees& trees, std::size_t first, std::size_t rows, float* values) {
    const std::size_t count = trees.codebooks * trees.levels, area = x.filter[0] * x.filter[1];
    for (std::size_t done = 0; done < rows;) {  // places in one line of an image
        const std::size_t row = first + done, from = row % x.places[1], down = row / x.places[1] % x.places[0];
        const std::size_t image = row / (x.places[0] * x.places[1]), to = std::min(x.places[1], from + rows - done);
        const T* const start = static_cast<const T*>(x.data) + static_cast<std::ptrdiff_t>(image) * x.image_stride;
        for (std::size_t q = 0; q < count; ++q) {
            const std::size_t dim = static_cast<std::size_t>(trees.dims[q]), channel = dim / area, place = dim % area;
            const std::size_t padded = down * x.stride[0] + place / x.filter[1] * x.dilation[0];
            const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(padded) - static_cast<std::ptrdiff_t>(x.padding[0]);
            float* const at = values + q * kStride + done;
            if (line < 0 || line >= static_cast<std::ptrdiff_t>(x.height)) {
                std::fill_n(at, to - from, 0.0f);
                continue;
            }
            const T* const of = start + static_cast<std::ptrdiff_t>(channel) * x.channel_stride + line * x.line_stride;
            fetch_line(x, of, place % x.filter[1], from, to, at);
        }
        done += to - from;
    }
}

void fetch(const Patches& x, const Trees& trees, std::size_t first, std::size_t rows, float* values) {
    with_type(x.type, [&](auto zero) { fetch_patches<decltype(zero)>(x, trees, first, rows, values); });
}

// Codes of the blocks [first, last). Columns that lie in memory as the kernels want them are read where they are, a few
// codebooks at a time for a few blocks: a machine foresees a few runs through memory, not hundreds.
void encode_in_place(const Kernels& kernels, const Matrix& x, const Trees& trees, Layout layout, std::size_t first,
                     std::size_t last, uint8_t* codes) {
    const std::size_t step = 4;
    for (std::size_t c = 0; c < trees.codebooks; c += step) {
        const std::size_t some = std::min(step, trees.codebooks - c);
        const Trees part = {trees.dims + c * trees.levels, trees.thresholds + c * kNodes, some, trees.levels};
        for (std::size_t b = first; b < last; ++b) {
            const float* const block = static_cast<const float*>(x.data) + b * kRows;
            const float* columns[4 * kMaxLevels];
            for (std::size_t q = 0; q < some * trees.levels; ++q) columns[q] = block + part.dims[q] * x.column_stride;
            kernels.encode(columns, part, layout, codes + (b - first) * kRows * trees.codebooks + c * kRows);
        }
    }
}

bool in_place(const Matrix& x) { return x.type == Type::float32 && x.row_stride == 1; }
std::size_t rows_of(const Matrix& x) { return x.rows; }
std::size_t rows_of(const Patches& x) { return x.rows(); }

template <typename Source>
void encode_blocks(const Kernels& kernels, const Source& x, const Trees& trees, Layout layout, std::size_t first,
                   std::size_t last, Fetched& fetched, uint8_t* codes) {
    const std::size_t rows = rows_of(x);
    std::size_t b = first;
    if constexpr (std::is_same_v<Source, Matrix>) {
        if (in_place(x)) {
            const std::size_t whole = std::min(last, rows / kRows);
            encode_in_place(kernels, x, trees, layout, first, std::max(first, whole), codes);
            b = std::max(first, whole);
        }
    }
    for (; b < last; ++b) {
        fetch(x, trees, b * kRows, std::min(kRows, rows - b * kRows), fetched.values.data());
        kernels.encode(fetched.columns.data(), trees, layout, codes + (b - first) * kRows * trees.codebooks);
    }
}

// More codebooks than a sum of 16 bits holds: in parts, added as 32 bits.
void scan_wide(const Kernels& kernels, const uint8_t* codes, Layout layout, const Tables& tables, std::size_t first,
               std::size_t last, std::size_t row, std::size_t rows, const Output& out) {
    alignas(64) uint16_t part[kTile * kRows];
    uint32_t total[kTile * kRows] = {};
    for (std::size_t from = 0; from < tables.codebooks; from += kMaxCodebooks) {
        const Range range = {first, last, from, std::min(tables.codebooks, from + kMaxCodebooks)};
        kernels.sums(codes, 1, layout, tables, range, part);
        for (std::size_t i = 0; i < (last - first) * kRows; ++i) total[i] += part[i];
    }
    for (std::size_t m = first; m < last; ++m) {
        for (std::size_t r = 0; r < rows; ++r) {
            const float sum = static_cast<float>(total[(m - first) * kRows + r]) * tables.scale[m];
            out.at(row + r)[static_cast<std::ptrdiff_t>(m) * out.column_stride] = sum + tables.offset[m];
        }
    }
}

// Floats of a block, a run of rows of one image at a time.
void finish_block(const Kernels& kernels, const uint16_t* sums, const Tables& tables, const Range& range,
                  std::size_t row, std::size_t rows, const Output& out) {
    const std::size_t m = range.first, count = range.last - m;
    for (std::size_t done = 0; done < rows;) {
        const std::size_t some = std::min(rows - done, out.rows - (row + done) % out.rows);
        float* const to = out.at(row + done) + static_cast<std::ptrdiff_t>(m) * out.column_stride;
        kernels.finish(sums + done, some, count, tables.scale + m, tables.offset + m, to, out.row_stride,
                       out.column_stride);
        done += some;
    }
}

// The products of blocks [first, last); their codes begin at `codes`.
void scan_blocks(const Kernels& kernels, const uint8_t* codes, Layout layout, std::size_t rows, const Tables& tables,
                 std::size_t first, std::size_t last, const Output& out) {
    const bool wide = tables.group == 0 && tables.codebooks > kMaxCodebooks;
    alignas(64) uint16_t sums[kTogether * kTile * kRows];
    for (std::size_t m = 0; m < tables.outputs; m += kTile) {
        const Range range = {m, std::min(tables.outputs, m + kTile), 0, tables.codebooks};
        for (std::size_t b = first; b < last; b += kTogether) {
            const std::size_t some_blocks = std::min(kTogether, last - b);
            const uint8_t* const block = codes + (b - first) * kRows * tables.codebooks;
            if (!wide) kernels.sums(block, some_blocks, layout, tables, range, sums);
            for (std::size_t k = 0; k < some_blocks; ++k) {
                const std::size_t row = (b + k) * kRows, some = std::min(kRows, rows - row);
                const uint8_t* const one = block + k * kRows * tables.codebooks;
                if (wide) scan_wide(kernels, one, layout, tables, m, range.last, row, some, out);
                else finish_block(kernels, sums + k * kTile * kRows, tables, range, row, some, out);
            }
        }
    }
}

// work(first, last) for all chunks of blocks, in threads that each take a run of them.
template <typename Work>
void in_threads(std::size_t rows, std::size_t threads, const Work& work) {
    const std::size_t blocks = (rows + kRows - 1) / kRows, chunks = (blocks + kChunk - 1) / kChunk;
    threads = std::max<std::size_t>(1, std::min(threads, chunks));
    const auto start = [&](std::size_t i) { return std::min(blocks, chunks * i / threads * kChunk); };
    const auto run = [&](std::size_t i) { work(start(i), start(i + 1)); };
    std::vector<std::exception_ptr> errors(threads);
    const auto guarded = [&](std::size_t i) {
        try {
            run(i);
        } catch (...) {
            errors[i] = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(threads - 1);
    std::size_t started = 1;
    try {
        for (; started < threads; ++started) others.emplace_back(guarded, started);
    } catch (const std::system_error&) {  // no more threads are to be had: the rest is done here
    }
    guarded(0);
    for (; started < threads; ++started) guarded(started);
    for (std::thread& other : others) other.join();
    for (const std::exception_ptr& error : errors) {
        if (error) std::rethrow_exception(error);
    }
}

template <typename Source>
void encode_any(const Source& x, const Trees& trees, Layout layout, uint8_t* codes, Isa isa, std::size_t threads) {
    const Kernels& kernels = kernels_for(isa);
    in_threads(rows_of(x), threads, [&](std::size_t first, std::size_t last) {
        Fetched fetched(trees);
        for (std::size_t b = first; b < last; b += kChunk) {
            const std::size_t end = std::min(last, b + kChunk);
            encode_blocks(kernels, x, trees, layout, b, end, fetched, codes + b * kRows * trees.codebooks);
        }
    });
}

template <typename Source>
void multiply_any(const Source& x, const Trees& trees, Layout layout, const Tables& tables, const Output& out, Isa isa,
                  std::size_t threads) {
    const Kernels& kernels = kernels_for(isa);
    in_threads(rows_of(x), threads, [&](std::size_t first, std::size_t last) {
        Fetched fetched(trees);
        std::vector<uint8_t> memory(kChunk * kRows * trees.codebooks + kRows);
        uint8_t* const codes = memory.data() + (kRows - reinterpret_cast<std::uintptr_t>(memory.data()) % kRows);
        for (std::size_t b = first; b < last; b += kChunk) {
            const std::size_t end = std::min(last, b + kChunk);
            encode_blocks(kernels, x, trees, layout, b, end, fetched, codes);
            scan_blocks(kernels, codes, layout, rows_of(x), tables, b, end, out);
        }
    });
}

}  // namespace

void encode(const Matrix& x, const Trees& trees, Layout layout, uint8_t* codes, Isa isa, std::size_t threads) {
    encode_any(x, trees, layout, codes, isa, threads);
}

void encode(const Patches& x, const Trees& trees, Layout layout, uint8_t* codes, Isa isa, std::size_t threads) {
    encode_any(x, trees, layout, codes, isa, threads);
}

void scan(const uint8_t* codes, Layout layout, std::size_t rows, const Tables& tables, const Output& out, Isa isa,
          std::size_t threads) {
    const Kernels& kernels = kernels_for(isa);
    in_threads(rows, threads, [&](std::size_t first, std::size_t last) {
        for (std::size_t b = first; b < last; b += kChunk) {
            const std::size_t end = std::min(last, b + kChunk);
            scan_blocks(kernels, codes + b * kRows * tables.codebooks, layout, rows, tables, b, end, out);
        }
    });
}

std::size_t sums_only(const uint8_t* codes, Layout layout, std::size_t rows, const Tables& tables, Isa isa) {
    const Kernels& kernels = kernels_for(isa);
    const std::size_t blocks = (rows + kRows - 1) / kRows;
    alignas(64) uint16_t sums[kTogether * kTile * kRows];
    for (std::size_t chunk = 0; chunk < blocks; chunk += kChunk) {
        const std::size_t end = std::min(blocks, chunk + kChunk);
        for (std::size_t m = 0; m < tables.outputs; m += kTile) {
            const Range range = {m, std::min(tables.outputs, m + kTile), 0, tables.codebooks};
            for (std::size_t b = chunk; b < end; b += kTogether) {
                const uint8_t* const block = codes + b * kRows * tables.codebooks;
                kernels.sums(block, std::min(kTogether, end - b), layout, tables, range, sums);
            }
        }
    }
    return blocks * kRows * tables.outputs * tables.codebooks;
}

void multiply(const Matrix& x, const Trees& trees, Layout layout, const Tables& tables, const Output& out, Isa isa,
              std::size_t threads) {
    multiply_any(x, trees, layout, tables, out, isa, threads);
}

void multiply(const Patches& x, const Trees& trees, Layout layout, const Tables& tables, const Output& out, Isa isa,
              std::size_t threads) {
    multiply_any(x, trees, layout, tables, out, isa, threads);
}

}  // namespace hasten::maddness
