#include <memory>

#include "cross.hpp"
#include "plan.hpp"
#include "record.hpp"
#include "scratch.hpp"
#include "v0_bytes.hpp"

namespace hasten::sprintz {
namespace {

template <typename Word>
void append(Bytes& out, Word word) {
    const std::size_t at = out.size();
    out.resize(at + sizeof word);
    store(out.data() + at, word);
}

template <typename X>
Bytes stored(const X* x, std::size_t n) {
    Bytes out(1 + n * sizeof(X));
    out[0] = static_cast<uint8_t>(Kind::stored);
    for (std::size_t i = 0; i < n; ++i) store(out.data() + 1 + i * sizeof(X), x[i]);
    return out;
}

constexpr std::size_t kPlanarHead = 11, kPlanarSample = 2048;

template <typename X, typename T>
Bytes planar_as(const Kernels& kernels, const X* x, std::size_t n, uint64_t base, int predictor, Scratch& scratch) {
    const Scope scope(scratch);
    const T* v;
    T narrow_base = static_cast<T>(base);
    if constexpr (sizeof(X) == sizeof(T)) {
        v = x;
    } else {
        T* const narrow = scratch.take<T>(n);
        for (std::size_t i = 0; i < n; ++i) narrow[i] = static_cast<T>(x[i] - static_cast<X>(base));
        v = narrow;
        narrow_base = 0;
    }
    const auto& planar = planar_of<T>(kernels);
    Predictor best = Predictor::none;
    if (predictor >= 0) {
        best = static_cast<Predictor>(predictor);
    } else {
        std::size_t fewest = std::numeric_limits<std::size_t>::max();
        for (const Predictor p : {Predictor::none, Predictor::delta, Predictor::delta2}) {
            const std::size_t bytes = planar.measure(v, std::min(n, kPlanarSample), narrow_base, p);
            if (bytes < fewest) {
                fewest = bytes;
                best = p;
            }
        }
    }
    const std::size_t blocks = blocks_of(n);
    uint8_t* const head = scratch.take<uint8_t>(kPlanarHead + blocks + 4 * 8 * sizeof(T) * blocks);
    head[0] = static_cast<uint8_t>(Kind::planar);
    head[1] = static_cast<uint8_t>(best);
    head[2] = 8 * sizeof(T);
    store(head + 3, base);
    uint8_t* const payload = head + kPlanarHead + blocks;
    uint8_t* const end = planar.pack(v, n, narrow_base, best, head + kPlanarHead, payload);
    return Bytes(head, end);
}

template <typename X>
Bytes planar(const Kernels& kernels, const X* x, std::size_t n, int predictor, Scratch& scratch) {
    const Range range = find_range(kernels, x, n);
    Bytes out;
    with_type(std::min(narrowest(range.span), sizeof(X)), [&](auto zero) {
        using T = decltype(zero);
        if constexpr (sizeof(T) <= sizeof(X)) out = planar_as<X, T>(kernels, x, n, range.base, predictor, scratch);
    });
    return out;
}

// Whether a planar record may be no larger, as a part of the column says; sure for few rows.
template <typename X>
bool planar_may_win(const Kernels& kernels, const X* x, std::size_t n, int predictor, std::size_t size) {
    const std::size_t tried = std::min(n, kPlanarSample);
    if (tried == n) return true;
    std::size_t fewest = std::numeric_limits<std::size_t>::max();
    for (const Predictor p : {Predictor::none, Predictor::delta, Predictor::delta2}) {
        if (predictor >= 0 && p != static_cast<Predictor>(predictor)) continue;
        const X* const part = x + (n - tried) / 2;
        const X base = static_cast<X>(find_range(kernels, part, tried).base);
        fewest = std::min(fewest, planar_of<X>(kernels).measure(part, tried, base, p));
    }
    const double whole = static_cast<double>(fewest + blocks_of(tried)) * static_cast<double>(n) / static_cast<double>(tried);
    return whole < 1.05 * static_cast<double>(size);
}

// ---- lanes

struct Mapped {
    Mapping mapping = Mapping::base;
    Range range;            // of the column
    uint64_t unit = 1;      // affine
    std::vector<uint64_t> values;  // palette: above the base, ascending
    std::vector<uint16_t> ranks;   // and where each stands among them
    uint64_t span() const {
        return mapping == Mapping::palette ? values.size() - 1 : range.span / unit;
    }
};

// The greatest unit of which all values above the base are multiples.
template <typename X>
uint64_t unit_of(const X* x, std::size_t n, const Range& range) {
    uint64_t unit = 0;
    for (std::size_t i = 0; i < n && unit != 1; ++i) {
        unit = std::gcd(unit, static_cast<uint64_t>(static_cast<X>(x[i] - static_cast<X>(range.base))));
    }
    return std::max<uint64_t>(unit, 1);
}

// Entries of a table by values above the base. Those of 8 and 16 bits are all in it: whoever changes such a column while
// it is read gets a wrong record, but nothing is read or written beside the table.
template <typename X>
std::size_t palette_room(const Range& range) {
    return sizeof(X) > 2 ? range.span + 1 : std::size_t{1} << 8 * sizeof(X);
}

template <typename X>
void mark_values(const X* x, std::size_t n, X base, uint8_t* seen) {
    std::size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (std::size_t k = 0; k < 4; ++k) seen[static_cast<X>(x[i + k] - base)] = 1;
    }
    for (; i < n; ++i) seen[static_cast<X>(x[i] - base)] = 1;
}

// The marked values, if there are few and most of them have no neighbour.
inline std::vector<uint64_t> marked_values(const uint8_t* seen, uint64_t span) {
    constexpr std::size_t kFew = 512;
    std::vector<uint64_t> values;
    std::size_t neighbours = 0;
    for (uint64_t v = 0; v <= span && values.size() <= kFew; ++v) {
        if (!seen[v]) continue;
        neighbours += v > 0 && seen[v - 1];
        values.push_back(v);
    }
    if (values.size() > kFew || 2 * neighbours > values.size()) values.clear();
    return values;
}

// The distinct values above the base, if it pays to write their ranks.
template <typename X>
std::vector<uint64_t> palette_of(const X* x, std::size_t n, const Range& range, Scratch& scratch) {
    constexpr std::size_t kTried = 2048;
    if (range.span < 8 || range.span >> 16 != 0 || n < 256) return {};
    const Scope scope(scratch);
    const X base = static_cast<X>(range.base);
    uint8_t* const seen = scratch.take<uint8_t>(palette_room<X>(range));
    std::fill_n(seen, range.span + 1, uint8_t{0});
    const std::size_t tried = std::min(n, kTried);
    mark_values(x + (n - tried) / 2, tried, base, seen);
    if (marked_values(seen, range.span).empty()) return {};
    mark_values(x, n, base, seen);
    return marked_values(seen, range.span);
}

template <typename X, typename T>
void into_lanes(const Kernels& kernels, const X* x, std::size_t n, const Mapped& mapped, T* v, Scratch& scratch) {
    const X base = static_cast<X>(mapped.range.base);
    if (mapped.mapping == Mapping::base) return move_of<X, T>(kernels).into_lanes(x, n, base, v);
    if (mapped.mapping == Mapping::palette && n % kLanes == 0) {
        const uint16_t* const ranks = mapped.ranks.data();
        const std::size_t steps = n / kLanes;
        for (std::size_t t = 0; t < steps; ++t, v += kLanes) {
            for (std::size_t l = 0; l < kLanes; ++l) v[l] = ranks[static_cast<X>(x[l * steps + t] - base)];
        }
        return;
    }
    const Scope scope(scratch);
    X* const y = scratch.take<X>(n);
    if (mapped.mapping == Mapping::affine) {
        for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<X>(static_cast<X>(x[i] - base) / static_cast<X>(mapped.unit));
    } else {
        const uint16_t* const ranks = mapped.ranks.data();
        for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<X>(ranks[static_cast<X>(x[i] - base)]);
    }
    move_of<X, T>(kernels).into_lanes(y, n, 0, v);
}

void append_varint(Bytes& out, uint64_t value) {
    for (; value > 127; value >>= 7) out.push_back(static_cast<uint8_t>(value | 128));
    out.push_back(static_cast<uint8_t>(value));
}

template <typename X>
void append_mapping(Bytes& out, const Mapped& mapped) {
    append(out, static_cast<X>(mapped.range.base));
    if (mapped.mapping == Mapping::affine) append(out, static_cast<X>(mapped.unit));
    if (mapped.mapping != Mapping::palette) return;
    append(out, static_cast<uint16_t>(mapped.values.size()));
    for (std::size_t k = 1; k < mapped.values.size(); ++k) append_varint(out, mapped.values[k] - mapped.values[k - 1]);
}

// Levels that part the values of a sample into contexts of the same size.
template <typename T>
Contexts contexts_for(const T* z, std::size_t steps, std::size_t wanted) {
    Contexts contexts;
    std::vector<uint32_t> sizes;
    uint32_t recent[kLanes] = {};
    for (std::size_t t = 0; t < steps; ++t) {
        for (std::size_t l = 0; l < kLanes; ++l) {
            if (t >= 16) sizes.push_back(recent[l]);
            const T a = z[t * kLanes + l];
            recent[l] = recent[l] - (recent[l] >> 3) + (a < kLargest ? static_cast<uint32_t>(a) : kLargest);
        }
    }
    if (sizes.size() < 64 * wanted) return contexts;
    std::sort(sizes.begin(), sizes.end());
    while ((sizes[sizes.size() * (wanted - 1) / wanted] >> contexts.shift) >= kLevels) ++contexts.shift;
    std::size_t previous = 0, count = 0;
    for (std::size_t k = 1; k < wanted; ++k) {
        const std::size_t at = sizes[sizes.size() * k / wanted] >> contexts.shift;
        if (at <= previous) continue;
        ++count;
        for (std::size_t l = at; l < kLevels; ++l) contexts.context[l] = static_cast<uint8_t>(count);
        previous = at;
    }
    contexts.count = static_cast<uint8_t>(count + 1);
    return contexts;
}

struct Coded {
    Entropy entropy;
    Bytes bytes;
};

template <typename T>
Bytes tokens(const Kernels& kernels, const T* z, std::size_t steps, const Contexts& contexts, Scratch& scratch) {
    const Scope scope(scratch);
    const std::size_t values = steps * kLanes;
    auto* const counts = scratch.take<uint32_t[kMaxTokens]>(contexts.count);
    std::fill_n(counts[0], contexts.count * kMaxTokens, 0u);
    uint8_t* const of = contexts.count > 1 ? scratch.take<uint8_t>(values) : nullptr;
    const CodeKernels<T>& kernel = codes_of<T>(kernels);
    kernel.count(z, steps, contexts, counts, of);
    Bytes out;
    out.push_back(contexts.count);
    if (contexts.count > 1) {
        out.push_back(contexts.shift);
        for (std::size_t l = 1; l < kLevels; ++l) {
            if (contexts.context[l] != contexts.context[l - 1]) out.push_back(static_cast<uint8_t>(l));
        }
    }
    auto* const codes = scratch.take<Code[kMaxTokens]>(contexts.count);
    std::fill_n(codes[0], contexts.count * kMaxTokens, Code{});
    const unsigned limit = contexts.count > 1 ? kMaxCodeOfMany : kMaxCode;
    for (std::size_t c = 0; c < contexts.count; ++c) {
        const Lengths lengths = code_lengths(counts[c], Tokens<T>::count, limit);
        canonical_codes(lengths, codes[c]);
        std::size_t last = Tokens<T>::count;
        while (last > 0 && lengths[last - 1] == 0) --last;
        out.push_back(static_cast<uint8_t>(last));
        for (std::size_t s = 0; s < last; s += 2) out.push_back(static_cast<uint8_t>(lengths[s] | lengths[s + 1] << 4));
        if (tokens_present(lengths) == 1) codes[c][last - 1].length = 0;
    }
    const std::size_t room = (values / kStreams * (kMaxCode + 8 * sizeof(T)) + 63) / 64 * 8 + 64;  // of a stream
    uint8_t* const memory = scratch.take<uint8_t>(kStreams * room);
    uint8_t* ends[kStreams];
    for (std::size_t q = 0; q < kStreams; ++q) ends[q] = memory + q * room;
    kernel.put(z, steps, of, contexts.count, codes, ends, scratch.take<uint32_t>(contexts.count * kDirect));
    for (std::size_t q = 0; q + 1 < kStreams; ++q) append(out, static_cast<uint32_t>(ends[q] - (memory + q * room)));
    for (std::size_t q = 0; q < kStreams; ++q) out.insert(out.end(), memory + q * room, ends[q]);
    return out;
}

template <typename T>
Bytes rice(const Kernels& kernels, const T* z, std::size_t steps, Scratch& scratch) {
    const Scope scope(scratch);
    const std::size_t values = steps * kLanes, groups = (steps + 31) / 32;
    T all = 0;
    for (std::size_t i = 0; i < values; ++i) all |= z[i];
    unsigned bits = 0;
    while (bits < 8 * sizeof(T) && all >> bits) ++bits;
    const uint8_t least = static_cast<uint8_t>(bits > 14 ? bits - 14 : 0);
    uint8_t* const parameters = scratch.take<uint8_t>(groups * kLanes);
    uint8_t* const low = scratch.take<uint8_t>(values * sizeof(T) + kSlack);
    uint8_t* const high = scratch.take<uint8_t>(values * 6 + kSlack);
    uint8_t *low_end = low, *high_end = high;
    codes_of<T>(kernels).rice_put(z, steps, least, parameters, &low_end, &high_end);
    Bytes out;
    out.push_back(least);
    for (std::size_t k = 0; k < groups * kLanes; k += 2) {
        out.push_back(static_cast<uint8_t>(parameters[k] | parameters[k + 1] << 4));
    }
    append(out, static_cast<uint32_t>(low_end - low));
    out.insert(out.end(), low, low_end);
    out.insert(out.end(), high, high_end);
    return out;
}

template <typename T>
Bytes blocks(const Kernels& kernels, const T* z, std::size_t steps) {
    const std::size_t values = steps * kLanes, count = blocks_of(values);
    Bytes out(count + 4 * 8 * sizeof(T) * count + kSlack);
    uint8_t* const end = planar_of<T>(kernels).pack(z, values, 0, Predictor::none, out.data(), out.data() + count);
    out.resize(static_cast<std::size_t>(end - out.data()));
    return out;
}

template <typename T>
Coded code(const Kernels& kernels, const Options& options, const T* z, std::size_t steps, Scratch& scratch) {
    if (options.entropy == static_cast<int>(Entropy::planar)) return {Entropy::planar, blocks(kernels, z, steps)};
    if (options.entropy == static_cast<int>(Entropy::rice)) return {Entropy::rice, rice(kernels, z, steps, scratch)};
    const Sample sample = sample_of(steps, options.effort);
    std::size_t wanted = 1;
    if (options.effort == Effort::max) wanted = steps >= 1024 ? 8 : steps >= 256 ? 4 : 1;
    const Contexts contexts = wanted > 1 ? contexts_for(z + sample.first * kLanes, sample.steps(), wanted) : Contexts{};
    Coded best = {Entropy::tokens, tokens(kernels, z, steps, contexts, scratch)};
    if (contexts.count > 1) {
        if (Bytes plain = tokens(kernels, z, steps, Contexts{}, scratch); plain.size() < best.bytes.size()) {
            best.bytes = std::move(plain);
        }
    }
    // Codes take a bit at least: where most values are zeros, those that skip 32 of them may be shorter.
    const bool sparse = best.bytes.size() < steps * kLanes * 5 / 32;
    if (options.entropy < 0 && (sparse || options.effort == Effort::max)) {
        if (Bytes other = rice(kernels, z, steps, scratch); other.size() < best.bytes.size()) {
            best = {Entropy::rice, std::move(other)};
        }
    }
    return best;
}

// The lanes of a sample of a mapped column, and the best predictor for them.
template <typename X, typename T>
Choice<T> try_mapping(const Kernels& kernels, const Options& options, const X* x, std::size_t n, const Mapped& mapped,
                      Scratch& scratch) {
    const Scope scope(scratch);
    const std::size_t steps = steps_of(n);
    const Sample sample = sample_of(steps, options.effort);
    T* const v = scratch.take<T>(sample.steps() * kLanes);
    const X base = static_cast<X>(mapped.range.base);
    for (std::size_t l = 0; l < kLanes; ++l) {
        T* at = v + l;
        for (std::size_t t = sample.first; t < sample.last; ++t, at += kLanes) {
            const X y = static_cast<X>(x[std::min(l * steps + t, n - 1)] - base);
            if (mapped.mapping == Mapping::base) {
                *at = static_cast<T>(y);
            } else if (mapped.mapping == Mapping::affine) {
                *at = static_cast<T>(y / static_cast<X>(mapped.unit));
            } else {
                *at = mapped.ranks[y];
            }
        }
    }
    T* const z = scratch.take<T>(sample.steps() * kLanes);
    return choose(kernels, options, v, sample.steps(), z);
}

template <typename X>
std::size_t lane_bytes(const Mapped& mapped) {
    return std::max<std::size_t>(narrowest(mapped.span()), 2);
}

template <typename X>
Mapped best_mapping(const Kernels& kernels, const Options& options, const X* x, std::size_t n, bool palette,
                    Scratch& scratch) {
    Mapped plain;
    plain.range = find_range(kernels, x, n);
    plain.unit = unit_of(x, n, plain.range);
    if (plain.unit > 1) plain.mapping = Mapping::affine;
    if (!palette) return plain;
    Mapped ranks = plain;
    ranks.values = palette_of(x, n, plain.range, scratch);
    if (ranks.values.empty()) return plain;
    ranks.mapping = Mapping::palette;
    ranks.ranks.resize(palette_room<X>(plain.range));
    for (std::size_t k = 0; k < ranks.values.size(); ++k) ranks.ranks[ranks.values[k]] = static_cast<uint16_t>(k);
    if (ranks.values.size() < plain.span() / 4) return ranks;
    const double as_values = try_mapping<X, uint16_t>(kernels, options, x, n, plain, scratch).bits;
    const double as_ranks = try_mapping<X, uint16_t>(kernels, options, x, n, ranks, scratch).bits;
    return as_ranks < as_values - 0.05 ? ranks : plain;
}

template <typename X, typename T>
Bytes lanes_as(const Kernels& kernels, const Options& options, const X* x, std::size_t n, const Mapped& mapped,
               const References& references, Scratch& scratch) {
    const Scope scope(scratch);
    const std::size_t steps = steps_of(n);
    const Choice<T> choice = try_mapping<X, T>(kernels, options, x, n, mapped, scratch);
    T* const v = scratch.take<T>(steps * kLanes);
    into_lanes(kernels, x, n, mapped, v, scratch);
    T* const z = scratch.take<T>(steps * kLanes + kBlock);
    const Prediction& p = choice.prediction;
    lanes_of<T>(kernels).residuals(v, steps, p, z);
    Coded coded = code(kernels, options, z, steps, scratch);
    Bytes out = {static_cast<uint8_t>(Kind::lanes), static_cast<uint8_t>(p.predictor),
                 static_cast<uint8_t>(coded.entropy), static_cast<uint8_t>(8 * sizeof(T)),
                 static_cast<uint8_t>(mapped.mapping), static_cast<uint8_t>(references.count)};
    out.reserve(coded.bytes.size() + 256);
    append_mapping<X>(out, mapped);
    for (std::size_t k = 0; k < references.count; ++k) {
        append(out, static_cast<uint32_t>(references.columns[k]));
        append(out, static_cast<uint16_t>(references.coefficients[k]));
    }
    if (p.predictor == Predictor::lpc) {
        out.push_back(p.order);
        for (std::size_t k = 0; k < p.order; ++k) append(out, static_cast<uint16_t>(p.coefficients[k]));
    }
    out.insert(out.end(), coded.bytes.begin(), coded.bytes.end());
    return out;
}

template <typename X>
Bytes lanes(const Kernels& kernels, const Options& options, const X* x, std::size_t n, const References& references,
            Scratch& scratch) {
    const Mapped mapped = best_mapping(kernels, options, x, n, references.count == 0, scratch);
    switch (lane_bytes<X>(mapped)) {
        case 2: return lanes_as<X, uint16_t>(kernels, options, x, n, mapped, references, scratch);
        case 4:
            if constexpr (sizeof(X) >= 4) return lanes_as<X, uint32_t>(kernels, options, x, n, mapped, references, scratch);
            [[fallthrough]];
        default:
            if constexpr (sizeof(X) == 8) return lanes_as<X, uint64_t>(kernels, options, x, n, mapped, references, scratch);
    }
    return {};
}

constexpr std::size_t kFewRows = 256;  // below, a table of codes does not pay

template <typename X>
Bytes encode_column(const Kernels& kernels, const Options& options, const std::vector<const uint8_t*>& columns,
                    std::size_t j, std::size_t n, const Crossing* crossing, Scratch& scratch) {
    const X* x = reinterpret_cast<const X*>(columns[j]);
    const bool simple = options.predictor < 0 || options.predictor <= static_cast<int>(Predictor::delta2);
    const bool codes = options.entropy > 0 || (options.entropy < 0 && options.effort != Effort::fast);
    Bytes best = stored(x, 0);
    if (n == 0) return best;
    if (simple && (!codes || (options.entropy < 0 && n < kFewRows))) {
        best = planar(kernels, x, n, options.predictor, scratch);
    } else {
        const Scope scope(scratch);
        if (sizeof(X) > 2) {  // ranks are looked up by value: nobody may change one meanwhile
            X* const own = scratch.take<X>(n);
            x = std::copy_n(x, n, own) - n;
        }
        best = lanes(kernels, options, x, n, References{}, scratch);
        if (options.effort == Effort::max && options.predictor < 0) {  // what "balanced" would do is the least
            Options less = options;
            less.effort = Effort::balanced;
            Bytes other = lanes(kernels, less, x, n, References{}, scratch);
            if (other.size() < best.size()) best = std::move(other);
        }
        if constexpr (sizeof(X) == 2 || sizeof(X) == 4) {
            if (crossing) {
                X* const y = scratch.take<X>(n);
                for (std::size_t count = 1; count <= kMaxReferences; ++count) {
                    const References references = crossing->references(j, count);
                    if (references.count != count) break;
                    subtract(kernels, x, columns, references, n, y);
                    Bytes other = lanes(kernels, options, y, n, references, scratch);
                    if (other.size() >= best.size()) break;
                    best = std::move(other);
                }
            }
        }
        // Widths follow what changes from block to block, and there is no table of codes.
        if (simple && options.entropy < 0 && planar_may_win(kernels, x, n, options.predictor, best.size())) {
            if (Bytes flat = planar(kernels, x, n, options.predictor, scratch); flat.size() <= best.size()) {
                best = std::move(flat);
            }
        }
    }
    if (best.size() >= 1 + n * sizeof(X)) return stored(x, n);
    return best;
}

}  // namespace

std::vector<Bytes> encode_columns(const std::vector<Column>& columns, std::size_t rows, const Options& options,
                                  const Kernels& kernels) {
    Borrowed borrowed;
    Scratch& scratch = borrowed.scratch();
    std::vector<const uint8_t*> values;  // of each column, one after the other
    for (const Column& column : columns) {
        if (!column.data) {
            values.push_back(nullptr);
            continue;
        }
        const bool aligned = reinterpret_cast<std::uintptr_t>(column.data) % column.itemsize == 0;
        if (aligned && column.stride == static_cast<std::ptrdiff_t>(column.itemsize)) {
            values.push_back(column.data);
            continue;
        }
        uint8_t* const copy = scratch.take<uint8_t>(rows * column.itemsize);
        with_type(column.itemsize, [&](auto zero) {
            using X = decltype(zero);
            for (std::size_t i = 0; i < rows; ++i) {
                std::memcpy(copy + i * sizeof(X), column.data + static_cast<std::ptrdiff_t>(i) * column.stride, sizeof(X));
            }
        });
        values.push_back(copy);
    }
    std::unique_ptr<Crossing> crossing;
    if (options.cross && options.effort == Effort::max && columns.size() > 1 && rows >= kFewRows) {
        crossing = std::make_unique<Crossing>(columns, values, rows);
    }
    std::vector<Bytes> records(columns.size());
    for (std::size_t j = 0; j < columns.size(); ++j) {
        if (!columns[j].data) continue;
        with_type(columns[j].itemsize, [&](auto zero) {
            using X = decltype(zero);
            records[j] = encode_column<X>(kernels, options, values, j, rows, crossing.get(), scratch);
        });
    }
    return records;
}

}  // namespace hasten::sprintz
