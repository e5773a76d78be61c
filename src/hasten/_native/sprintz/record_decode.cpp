#include <algorithm>
#include <vector>

#include "codes.hpp"
#include "record.hpp"
#include "scratch.hpp"
#include "typed.hpp"
#include "v0_bytes.hpp"

namespace hasten::sprintz {
namespace {

// What is left of a record.
class Cursor {
public:
    Cursor(const uint8_t* data, std::size_t size, std::size_t offset) : data_(data), size_(size), offset_(offset) {}

    [[noreturn]] void fail(const char* reason, std::size_t back = 0) const { throw Corrupt{offset_ + at_ - back, reason}; }

    const uint8_t* bytes(std::size_t count, const char* reason) {
        if (size_ - at_ < count) fail(reason);
        at_ += count;
        return data_ + at_ - count;
    }
    template <typename Word>
    Word word(const char* reason = "a record ends inside its head") {
        return load<Word>(bytes(sizeof(Word), reason));
    }
    uint64_t varint() {
        uint64_t value = 0;
        for (unsigned shift = 0; shift < 63; shift += 7) {
            const uint8_t byte = word<uint8_t>("a record ends inside its palette");
            value |= uint64_t{byte & 127u} << shift;
            if (byte < 128) return value;
        }
        fail("a number of more than 63 bits", 1);
    }
    std::size_t left() const { return size_ - at_; }
    const uint8_t* end() const { return data_ + size_; }

private:
    const uint8_t* data_;
    std::size_t size_, offset_, at_ = 0;
};

template <typename X>
void scatter(const X* x, std::size_t n, const Target& target) {
    for (std::size_t i = 0; i < n; ++i) {
        std::memcpy(target.data + static_cast<std::ptrdiff_t>(i) * target.stride, x + i, sizeof(X));
    }
}

template <typename X>
bool in_place(const Target& target) {
    return target.stride == static_cast<std::ptrdiff_t>(sizeof(X)) &&
           reinterpret_cast<std::uintptr_t>(target.data) % alignof(X) == 0;
}

// ---- stored and planar

template <typename X>
void get_stored(Cursor& in, std::size_t n, X* x) {
    if (in.left() != n * sizeof(X)) in.fail("stored values of another number than there are rows");
    const uint8_t* const from = in.bytes(n * sizeof(X), "");
    if (kBigEndian) {
        for (std::size_t i = 0; i < n; ++i) x[i] = load<X>(from + i * sizeof(X));
    } else if (n) {
        std::memcpy(x, from, n * sizeof(X));
    }
}

// Widths and blocks, which fill all that is left.
template <typename T>
void get_blocks(const Kernels& kernels, Cursor& in, std::size_t n, T base, Predictor predictor, T* out) {
    const std::size_t count = blocks_of(n);
    const uint8_t* const widths = in.bytes(count, "a record ends inside its widths");
    std::size_t total = 0;
    for (std::size_t k = 0; k < count; ++k) {
        if (widths[k] > 8 * sizeof(T)) in.fail("a width of more bits than the values have", count - k);
        total += 4 * std::size_t{widths[k]};
    }
    if (in.left() != total) in.fail("a payload of another length than its widths say");
    planar_of<T>(kernels).unpack(widths, in.bytes(total, ""), in.end(), n, base, predictor, out);
}

template <typename X>
void get_planar(const Kernels& kernels, Cursor& in, std::size_t n, X* x, Scratch& scratch) {
    const uint8_t predictor = in.word<uint8_t>();
    if (predictor > static_cast<uint8_t>(Predictor::delta2)) in.fail("an unknown predictor", 1);
    const uint8_t bits = in.word<uint8_t>();
    if ((bits != 8 && bits != 16 && bits != 32 && bits != 64) || bits > 8 * sizeof(X)) {
        in.fail("values of more bits than the column has", 1);
    }
    const X base = static_cast<X>(in.word<uint64_t>());
    with_type(bits / 8u, [&](auto zero) {
        using T = decltype(zero);
        if constexpr (sizeof(T) == sizeof(X)) {
            get_blocks<T>(kernels, in, n, base, static_cast<Predictor>(predictor), x);
        } else if constexpr (sizeof(T) < sizeof(X)) {
            const Scope scope(scratch);
            T* const v = scratch.take<T>(n);
            get_blocks<T>(kernels, in, n, T{0}, static_cast<Predictor>(predictor), v);
            for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<X>(v[i] + base);
        }
    });
}

// ---- lanes

struct Head {
    Prediction prediction;
    Entropy entropy;
    Mapping mapping;
    uint8_t bits, references;
    std::size_t columns[kMaxReferences];
    int16_t coefficients[kMaxReferences];
};

template <typename X>
struct Map {
    X base = 0, unit = 1;
    std::vector<X> values;
};

Head get_head(Cursor& in, std::size_t itemsize) {
    Head head{};
    const uint8_t predictor = in.word<uint8_t>();
    if (predictor >= kPredictors) in.fail("an unknown predictor", 1);
    head.prediction.predictor = static_cast<Predictor>(predictor);
    const uint8_t entropy = in.word<uint8_t>();
    if (entropy > static_cast<uint8_t>(Entropy::tokens)) in.fail("an unknown entropy code", 1);
    head.entropy = static_cast<Entropy>(entropy);
    head.bits = in.word<uint8_t>();
    const bool fits = head.bits <= 8 * std::max<std::size_t>(itemsize, 2);
    if ((head.bits != 16 && head.bits != 32 && head.bits != 64) || !fits) {
        in.fail("values of more bits than the column has", 1);
    }
    if (head.prediction.predictor == Predictor::fire && head.bits != 16) in.fail("FIRE for other than 16 bits", 1);
    const uint8_t mapping = in.word<uint8_t>();
    if (mapping > static_cast<uint8_t>(Mapping::palette)) in.fail("an unknown mapping", 1);
    head.mapping = static_cast<Mapping>(mapping);
    head.references = in.word<uint8_t>();
    if (head.references > kMaxReferences || (head.references && itemsize != 2 && itemsize != 4)) {
        in.fail("more references to other columns than there may be", 1);
    }
    return head;
}

template <typename X>
Map<X> get_map(Cursor& in, const Head& head) {
    Map<X> map;
    map.base = in.word<X>();
    if (head.mapping == Mapping::affine) map.unit = in.word<X>();
    if (head.mapping != Mapping::palette) return map;
    const std::size_t count = in.word<uint16_t>();
    if (count == 0 || count > kMaxPalette || (sizeof(X) == 1 && count > 256)) {
        in.fail("a palette of no values, or of more than there may be", 2);
    }
    map.values.push_back(map.base);
    while (map.values.size() < count) map.values.push_back(static_cast<X>(map.values.back() + in.varint()));
    return map;
}

void get_rest_of_head(Cursor& in, Head& head) {
    for (std::size_t k = 0; k < head.references; ++k) {
        head.columns[k] = in.word<uint32_t>();
        head.coefficients[k] = static_cast<int16_t>(in.word<uint16_t>());
    }
    Prediction& p = head.prediction;
    if (p.predictor != Predictor::lpc) return;
    p.order = in.word<uint8_t>();
    if (p.order != 2 && p.order != 4 && p.order != 8 && p.order != 16) in.fail("an order other than 2, 4, 8 or 16", 1);
    for (std::size_t k = 0; k < p.order; ++k) p.coefficients[k] = static_cast<int16_t>(in.word<uint16_t>());
}

// The look-up table of one code.
template <typename T>
void make_table(Cursor& in, const Lengths& lengths, std::size_t last, unsigned bits, Entry* table) {
    const auto entry = [](std::size_t s, unsigned length) {
        if (s < 32) return make_entry(length, 0, static_cast<unsigned>(s));
        constexpr unsigned top = Tokens<T>::top;
        const unsigned rest = static_cast<unsigned>(s - 32);
        return make_entry(length, (rest >> top) + 5 - top, (1u << top) + rest % (1u << top));
    };
    const std::size_t size = std::size_t{1} << bits, present = tokens_present(lengths);
    if (present < 2) {  // one token, which takes no bits; or none: then nothing is read with this code
        const Entry only = present ? entry(last - 1, 0) : Entry{0};
        if (present && lengths[last - 1] != 1) in.fail("a code that is not complete");
        std::fill_n(table, size, only);
        return;
    }
    std::size_t room = size;
    for (std::size_t s = 0; s < last; ++s) {
        if (lengths[s] == 0) continue;
        if (size >> lengths[s] > room) in.fail("a code with more words than there is room for");
        room -= size >> lengths[s];
    }
    if (room > 0) in.fail("a code that is not complete");
    Code codes[kMaxTokens] = {};
    canonical_codes(lengths, codes);
    for (std::size_t s = 0; s < last; ++s) {
        if (lengths[s] == 0) continue;
        const Entry known = entry(s, lengths[s]);
        for (std::size_t at = codes[s].bits; at < size; at += std::size_t{1} << lengths[s]) table[at] = known;
    }
}

constexpr const char* kCut = "a record ends inside its codes";

Contexts get_contexts(Cursor& in) {
    Contexts contexts;
    contexts.count = in.word<uint8_t>(kCut);
    if (contexts.count == 0 || contexts.count > kMaxContexts) in.fail("no contexts, or more than 8", 1);
    if (contexts.count == 1) return contexts;
    contexts.shift = in.word<uint8_t>(kCut);
    if (contexts.shift > 31) in.fail("a shift of more than 31 bits", 1);
    std::size_t previous = 0;
    for (uint8_t k = 1; k < contexts.count; ++k) {
        const std::size_t at = in.word<uint8_t>(kCut);
        if (at <= previous) in.fail("levels of contexts that do not rise", 1);
        std::fill(contexts.context + at, contexts.context + kLevels, k);
        previous = at;
    }
    return contexts;
}

// The lengths of one code, of `bits` at most; returns how many tokens they are for.
template <typename T>
std::size_t get_lengths(Cursor& in, unsigned bits, Lengths& lengths) {
    lengths.fill(0);
    const std::size_t last = in.word<uint8_t>(kCut);
    if (last > Tokens<T>::count) in.fail("more tokens than there are", 1);
    for (std::size_t s = 0; s < last; s += 2) {
        const uint8_t two = in.word<uint8_t>(kCut);
        lengths[s] = two & 15;
        lengths[s + 1] = two >> 4;
        if (lengths[s] > bits || lengths[s + 1] > bits) in.fail("a code of more bits than there may be", 1);
    }
    const bool behind = (last > 0 && lengths[last - 1] == 0) || (last % 2 == 1 && lengths[last] != 0);
    if (behind) in.fail("tokens behind the last", 1);
    return last;
}

template <typename T>
void get_tokens(const Kernels& kernels, Cursor& in, std::size_t steps, T* z) {
    const Contexts contexts = get_contexts(in);
    const unsigned bits = contexts.count > 1 ? kMaxCodeOfMany : kMaxCode;
    std::vector<Lengths> lengths(contexts.count);
    std::vector<std::size_t> lasts;
    for (Lengths& mine : lengths) lasts.push_back(get_lengths<T>(in, bits, mine));
    std::vector<Entry> table(std::size_t{contexts.count} << bits);
    for (std::size_t c = 0; c < contexts.count; ++c) {
        make_table<T>(in, lengths[c], lasts[c], bits, table.data() + (c << bits));
    }
    std::size_t sizes[kStreams];
    for (std::size_t q = 0; q + 1 < kStreams; ++q) sizes[q] = in.word<uint32_t>(kCut);
    Stream streams[kStreams];
    for (std::size_t q = 0; q < kStreams; ++q) {
        if (q + 1 == kStreams) sizes[q] = in.left();
        streams[q] = {in.bytes(sizes[q], "a stream is longer than its record"), 8 * sizes[q], 0};
    }
    if (contexts.count == 1 && tokens_present(lengths[0]) == 1 && (table[0] >> 8 & 255) == 0) {  // all are the same
        std::fill_n(z, steps * kLanes, static_cast<T>(table[0] >> 24));
    } else if (!codes_of<T>(kernels).take(streams, steps, contexts, table.data(), z)) {
        in.fail("a stream ends too early");
    }
    for (const Stream& stream : streams) {
        if ((stream.at + 7) / 8 != stream.bits / 8) in.fail("a stream has another length than its codes");
    }
}

template <typename T>
void get_rice(const Kernels& kernels, Cursor& in, std::size_t steps, T* z) {
    const unsigned least = in.word<uint8_t>("a record ends inside its parameters");
    if (least + 13 >= 8 * sizeof(T)) in.fail("a parameter of more bits than the values have", 1);
    const std::size_t count = (steps + 31) / 32 * kLanes;
    const uint8_t* const packed = in.bytes(count / 2, "a record ends inside its parameters");
    std::vector<uint8_t> parameters(count);
    for (std::size_t k = 0; k < count; ++k) {
        parameters[k] = packed[k / 2] >> k % 2 * 4 & 15;
        if (parameters[k] == 15) in.fail("a parameter of 15", (count - k + 1) / 2);
    }
    const std::size_t size = in.word<uint32_t>("a record ends inside its parameters");
    Stream low = {in.bytes(size, "a stream is longer than its record"), 8 * size, 0};
    const std::size_t rest = in.left();
    Stream high = {in.bytes(rest, ""), 8 * rest, 0};
    if (!codes_of<T>(kernels).rice_take(parameters.data(), least, &low, &high, steps, z)) {
        in.fail("a stream ends too early, or counts too far");
    }
    if ((low.at + 7) / 8 != size || (high.at + 7) / 8 != rest) in.fail("a stream has another length than its codes");
}

template <typename X, typename T>
void get_values(const Kernels& kernels, Cursor& in, const Head& head, const Map<X>& map, std::size_t n, X* x,
                Scratch& scratch) {
    const Scope scope(scratch);
    const std::size_t steps = steps_of(n), values = steps * kLanes;
    T *const z = scratch.take<T>(values + kBlock), *const v = scratch.take<T>(values);
    switch (head.entropy) {
        case Entropy::planar: get_blocks<T>(kernels, in, values, T{0}, Predictor::none, z); break;
        case Entropy::rice: get_rice<T>(kernels, in, steps, z); break;
        case Entropy::tokens: get_tokens<T>(kernels, in, steps, z); break;
    }
    lanes_of<T>(kernels).values(z, steps, head.prediction, v);
    if (head.mapping == Mapping::palette) {
        if (lanes_of<T>(kernels).largest(v, values) >= map.values.size()) in.fail("a value that is not in the palette");
    }
    if (head.mapping == Mapping::palette) {  // not in x: others may see that, and change it
        X* const ranks = scratch.take<X>(n);
        move_of<X, T>(kernels).from_lanes(v, n, X{0}, ranks);
        const X* const palette = map.values.data();
        std::size_t i = 0;
        for (; i + 4 <= n; i += 4) {
            for (std::size_t k = 0; k < 4; ++k) x[i + k] = palette[ranks[i + k]];
        }
        for (; i < n; ++i) x[i] = palette[ranks[i]];
        return;
    }
    const bool plain = head.mapping == Mapping::base;
    move_of<X, T>(kernels).from_lanes(v, n, plain ? map.base : X{0}, x);
    if (plain) return;
    for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<X>(map.base + static_cast<uint64_t>(x[i]) * map.unit);
}

// References come first in `columns`, already decoded.
template <typename X>
void get_lanes(const Kernels& kernels, Cursor& in, std::size_t n, const std::vector<const X*>& known, X* x,
               Scratch& scratch) {
    Head head = get_head(in, sizeof(X));
    const Map<X> map = get_map<X>(in, head);
    get_rest_of_head(in, head);
    if (n == 0) in.fail("codes for a column without rows");
    switch (head.bits) {
        case 16: get_values<X, uint16_t>(kernels, in, head, map, n, x, scratch); break;
        case 32:
            if constexpr (sizeof(X) >= 4) get_values<X, uint32_t>(kernels, in, head, map, n, x, scratch);
            break;
        default:
            if constexpr (sizeof(X) == 8) get_values<X, uint64_t>(kernels, in, head, map, n, x, scratch);
    }
    if (head.references == 0) return;
    if constexpr (sizeof(X) == 2 || sizeof(X) == 4) {
        const X* pointers[kMaxReferences];
        for (std::size_t k = 0; k < head.references; ++k) pointers[k] = known[k];
        const auto plus = [&] {
            if constexpr (sizeof(X) == 2) return kernels.plus16;
            else return kernels.plus32;
        }();
        plus(x, pointers, head.coefficients, head.references, n, x);
    }
}

template <typename X>
void get_record(const Kernels& kernels, Cursor in, std::size_t n, const std::vector<const X*>& known, X* x,
               Scratch& scratch) {
    switch (in.word<uint8_t>("an empty record")) {
        case static_cast<uint8_t>(Kind::stored): return get_stored(in, n, x);
        case static_cast<uint8_t>(Kind::planar): return get_planar(kernels, in, n, x, scratch);
        case static_cast<uint8_t>(Kind::lanes): return get_lanes(kernels, in, n, known, x, scratch);
        default: in.fail("a record of an unknown kind", 1);
    }
}

template <typename X>
void into_target(const Kernels& kernels, const Cursor& in, std::size_t n, const std::vector<const X*>& known,
                 const Target& target, X* copy, Scratch& scratch) {
    if (target.data && !copy && in_place<X>(target)) {
        return get_record(kernels, in, n, known, reinterpret_cast<X*>(target.data), scratch);
    }
    const Scope scope(scratch);
    if (!copy) copy = scratch.take<X>(n);
    get_record(kernels, in, n, known, copy, scratch);
    if (target.data) scatter(copy, n, target);
}

// The columns that a record refers to.
std::vector<std::size_t> references_of(Cursor in, std::size_t itemsize) {
    if (in.left() == 0 || in.word<uint8_t>() != static_cast<uint8_t>(Kind::lanes)) return {};
    Head head = get_head(in, itemsize);
    if (head.references == 0) return {};
    with_type(itemsize, [&](auto zero) { get_map<decltype(zero)>(in, head); });
    get_rest_of_head(in, head);
    return {head.columns, head.columns + head.references};
}

// The records of a body of so many columns.
std::vector<Cursor> records_of(const uint8_t* body, std::size_t size, std::size_t count) {
    const std::size_t head = 4 * count;
    if (size < head) throw Corrupt{size, "the chunk ends inside its directory"};
    std::vector<Cursor> records;
    std::size_t start = head;
    for (std::size_t j = 0; j < count; ++j) {
        const std::size_t stop = head + load<uint32_t>(body + 4 * j);
        if (stop < start || stop > size) throw Corrupt{4 * j, "a record ends before it begins, or after the body"};
        records.emplace_back(body + start, stop - start, start);
        start = stop;
    }
    if (start != size) throw Corrupt{start, "bytes behind the last record"};
    return records;
}

// Which columns are needed: the wanted ones, and those that they refer to, which come before them.
struct Needs {
    std::vector<uint8_t> needed, referred;
    std::vector<std::vector<std::size_t>> references;
};

Needs needs_of(const std::vector<Cursor>& records, const std::vector<Target>& columns) {
    const std::size_t count = columns.size();
    Needs found{std::vector<uint8_t>(count), std::vector<uint8_t>(count), std::vector<std::vector<std::size_t>>(count)};
    for (std::size_t j = count; j-- > 0;) {
        if (columns[j].data) found.needed[j] = 1;
        if (!found.needed[j]) continue;
        found.references[j] = references_of(records[j], columns[j].itemsize);
        for (const std::size_t c : found.references[j]) {
            if (c >= j) records[j].fail("a column that refers to a later one, or to itself");
            if (columns[c].itemsize != columns[j].itemsize) records[j].fail("a column that refers to one of another size");
            found.needed[c] = found.referred[c] = 1;
        }
    }
    return found;
}

bool is_known(uint8_t kind) {
    return kind == static_cast<uint8_t>(Kind::stored) || kind == static_cast<uint8_t>(Kind::planar) ||
           kind == static_cast<uint8_t>(Kind::lanes);
}

}  // namespace

std::vector<std::size_t> decode_body(const uint8_t* body, std::size_t size, std::size_t rows,
                                     const std::vector<Target>& columns, const Kernels& kernels) {
    const std::size_t count = columns.size();
    const std::vector<Cursor> records = records_of(body, size, count);
    const Needs needs = needs_of(records, columns);
    std::vector<std::size_t> others;
    Borrowed borrowed;
    Scratch& scratch = borrowed.scratch();
    std::vector<uint8_t*> copies(count);  // of columns that others refer to
    for (std::size_t j = 0; j < count; ++j) {
        if (!needs.needed[j]) continue;
        Cursor peeked = records[j];
        if (!is_known(peeked.word<uint8_t>("an empty record"))) {
            if (needs.referred[j]) records[j].fail("a column that others refer to is not one of plain integers");
            others.push_back(j);
            continue;
        }
        with_type(columns[j].itemsize, [&](auto zero) {
            using X = decltype(zero);
            std::vector<const X*> known;
            for (const std::size_t c : needs.references[j]) known.push_back(reinterpret_cast<const X*>(copies[c]));
            if (needs.referred[j]) copies[j] = scratch.take<uint8_t>(rows * sizeof(X));
            into_target<X>(kernels, records[j], rows, known, columns[j], reinterpret_cast<X*>(copies[j]), scratch);
        });
    }
    return others;
}

void decode_record(const uint8_t* record, std::size_t size, std::size_t rows, const Target& target,
                   const Kernels& kernels) {
    const Cursor in(record, size, 0);
    if (!references_of(in, target.itemsize).empty()) in.fail("a record that refers to others, where it may not");
    Borrowed borrowed;
    with_type(target.itemsize, [&](auto zero) {
        using X = decltype(zero);
        into_target<X>(kernels, in, rows, {}, target, nullptr, borrowed.scratch());
    });
}

const Kernels& kernels_for(Isa isa) {
#if defined(HASTEN_X86)
    constexpr Kernel<const Kernels*> known = {&kernels_scalar, &kernels_avx2, &kernels_avx512, &kernels_avx512vnni};
#elif defined(HASTEN_ARM)
    constexpr Kernel<const Kernels*> known = {&kernels_scalar, nullptr, nullptr, nullptr, &kernels_neon};
#else
    constexpr Kernel<const Kernels*> known = {&kernels_scalar};
#endif
    return *known.pick(isa);
}

}  // namespace hasten::sprintz
