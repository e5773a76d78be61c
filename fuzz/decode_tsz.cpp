// Bodies of tsz chunks that nobody vouches for: every instruction set gives the same values or the same refusal, in
// bounded memory, and writes nothing but the values. A column that is read alone is the one that is read with others.
//
//   input   u16 rows | u8 columns | u8 flags | u8 how for each column | the body
//   flags   bit 0: one record without a directory; 1: the directory's last end is put right, so that a last record that
//           grew or shrank is looked into
//   how     bits 0 and 1: log2 of the bytes of a value; 2: not wanted; 3 and 4: layout of the output
#include <algorithm>
#include <set>

#include "series.hpp"
#include "tsz.hpp"

namespace hasten::fuzz {
namespace {

constexpr std::size_t kMostRows = 4096, kMostColumns = 12;

struct Case {
    std::size_t rows = 0;
    bool single = false;
    std::vector<uint8_t> hows;

    std::vector<Place> places(bool all = false) const {
        std::vector<Place> found;
        for (const uint8_t how : hows) {
            const bool wanted = all || (how & 4) == 0;
            found.emplace_back(wanted ? rows : 0, std::size_t{1} << how % 4, static_cast<Layout>(how / 8 % 4));
        }
        return found;
    }
    std::vector<Target> targets(const std::vector<Place>& places) const {
        std::vector<Target> found;
        for (std::size_t j = 0; j < hows.size(); ++j) {
            found.push_back(places[j].target());
            if (hows[j] & 4) found.back().data = nullptr;
        }
        return found;
    }
};

struct Outcome {
    std::vector<Place> places;
    std::vector<std::size_t> others;
    std::optional<Corrupt> error;
};

std::optional<Corrupt> decode_single(const Exact& record, std::size_t rows, const Target& target,
                                     const Kernels& kernels) {
    const Allowance limit(allowance(rows, {target}));
    try {
        sprintz::decode_record(record.data(), record.size(), rows, target, kernels);
        return std::nullopt;
    } catch (const Corrupt& error) {
        return error;
    }
}

Outcome decode_all(const Case& given, const Exact& body, const Kernels& kernels) {
    Outcome found{given.places(given.single), {}, {}};
    if (given.single) {
        found.error = decode_single(body, given.rows, found.places[0].target(), kernels);
    } else {
        found.error = decode(body, given.rows, given.targets(found.places), kernels, found.others);
    }
    for (const Place& place : found.places) require(place.is_clean_between(), "bytes between values were written");
    if (found.error) require(found.error->offset <= body.size(), "an offset behind the end");
    return found;
}

bool same(const Outcome& a, const Outcome& b) {
    if (a.error || b.error) {
        return a.error && b.error && a.error->offset == b.error->offset &&
               std::strcmp(a.error->reason, b.error->reason) == 0;
    }
    return a.others == b.others && std::equal(a.places.begin(), a.places.end(), b.places.begin(),
                                              [](const Place& x, const Place& y) { return x.holds(y); });
}

// Each wanted column alone.
void check_alone(const Case& given, const Exact& body, const Outcome& known, const Kernels& kernels) {
    for (std::size_t j = 0; j < given.hows.size(); ++j) {
        if (given.hows[j] & 4) continue;
        Case alone = given;
        for (std::size_t k = 0; k < alone.hows.size(); ++k) {
            if (k != j) alone.hows[k] |= 4;
        }
        const Outcome found = decode_all(alone, body, kernels);
        require(!found.error, "a column that is fine with others is refused alone");
        const bool other = std::find(known.others.begin(), known.others.end(), j) != known.others.end();
        require(other || found.places[j].holds(known.places[j]), "a column alone has other values than with others");
    }
}

void mend(const Exact& body, std::size_t columns) {
    const std::size_t end = body.size() - 4 * columns;
    for (std::size_t k = 0; k < 4; ++k) body.data()[4 * (columns - 1) + k] = static_cast<uint8_t>(end >> 8 * k);
}

// ---- seeds

// What the records of seeds are made of: all of it must occur.
void look(const Bytes& record, std::set<std::string>& seen) {
    const auto saw = [&](const char* what, int number) { seen.insert(what + std::to_string(number)); };
    if (record.empty()) return;
    saw("kind ", record[0]);
    if (record[0] == 1) saw("planar predictor ", record[1]);
    if (record[0] != 3) return;
    saw("predictor ", record[1]);
    saw("entropy ", record[2]);
    saw("bits ", record[3]);
    saw("mapping ", record[4]);
    saw("references ", record[5]);
}

void check(const std::set<std::string>& seen) {
    for (const auto& [what, numbers] : std::map<std::string, std::vector<int>>{
             {"kind ", {0, 1, 3}}, {"planar predictor ", {0, 1, 2}}, {"predictor ", {0, 1, 2, 3, 4, 5, 6, 7}},
             {"entropy ", {0, 1, 2}}, {"bits ", {16, 32, 64}}, {"mapping ", {0, 1, 2}}, {"references ", {0, 1, 2}}}) {
        for (const int number : numbers) {
            const std::string wanted = what + std::to_string(number);
            require(seen.count(wanted) == 1, ("no seed has " + wanted).c_str());
        }
    }
}

Bytes head(std::size_t rows, const std::vector<uint8_t>& hows, unsigned flags) {
    Bytes out;
    append(out, rows, 2);
    append(out, hows.size(), 1);
    append(out, flags, 1);
    out.insert(out.end(), hows.begin(), hows.end());
    return out;
}

// Sums of the first two columns and a little noise, as the leads of an ECG are.
void mix(std::vector<Place>& places, std::size_t rows, Random& random) {
    for (std::size_t j = 2; j < places.size(); ++j) {
        const uint64_t p = 1 + random.below(3), q = random.below(3);
        for (std::size_t i = 0; i < rows; ++i) {
            places[j].set(i, p * places[0].get(i) - q * places[1].get(i) + random.below(4));
        }
    }
}

}  // namespace

std::vector<Bytes> seeds() {
    Random random(5);
    const Kernels& kernels = *all_kernels()[0];
    std::vector<Bytes> found;
    std::set<std::string> seen;
    const auto add = [&](std::size_t rows, std::size_t log2, std::size_t columns, bool mixed,
                         const sprintz::Options& options) {
        std::vector<Place> places;
        std::vector<Column> from;
        for (std::size_t j = 0; j < columns; ++j) {
            const auto kind = mixed ? Series::walk : static_cast<Series>(random.below(kSeries));
            places.emplace_back(rows, std::size_t{1} << log2, Layout::plain);
            const std::vector<uint64_t> values = series(kind, rows, std::size_t{1} << log2, random);
            for (std::size_t i = 0; i < rows; ++i) places[j].set(i, values[i]);
        }
        if (mixed) mix(places, rows, random);
        std::vector<uint8_t> hows;
        for (const Place& place : places) {
            from.push_back(place.column());
            hows.push_back(static_cast<uint8_t>(log2 | random.below(4) << 3));
        }
        const std::vector<Bytes> records = sprintz::encode_columns(from, rows, options, kernels);
        for (const Bytes& record : records) look(record, seen);
        const unsigned flags = columns == 1 ? 1 : random.below(4) ? 2 : 0;
        const Bytes body = flags & 1 ? records[0] : body_of(records);
        Bytes seed = head(rows, hows, flags);
        seed.insert(seed.end(), body.begin(), body.end());
        found.push_back(std::move(seed));
    };
    for (const auto effort : {sprintz::Effort::fast, sprintz::Effort::balanced, sprintz::Effort::max}) {
        for (int predictor = -1; predictor < sprintz::kPredictors; ++predictor) {
            for (int entropy = -1; entropy < 3; ++entropy) {
                for (std::size_t log2 = 0; log2 < 4; ++log2) {
                    const std::size_t rows = 20 + random.below(300), columns = 1 + random.below(3);
                    add(rows, log2, columns, false, {effort, predictor, entropy, true});
                }
            }
        }
    }
    for (std::size_t k = 0; k < 12; ++k) {
        add(256 + random.below(64), 1 + k % 2, 4, true, {sprintz::Effort::max, -1, -1, true});  // references
        add(2100 + random.below(400), k % 4, 1, false, {sprintz::Effort::max, -1, -1, true});   // contexts
        add(2 * k, k % 4, 1 + k / 3, false, {sprintz::Effort::max, 7, 2, true});                // hardly any rows
    }
    check(seen);
    return found;
}

const char* run(Input in) {
    const std::vector<const Kernels*>& kernels = all_kernels();
    const std::size_t size = in.left();
    Case given;
    given.rows = in.word() % (kMostRows + 1);
    const std::size_t columns = in.byte() % (kMostColumns + 1);
    const unsigned flags = in.byte();
    given.single = flags & 1 && columns > 0;
    for (std::size_t j = 0; j < columns; ++j) given.hows.push_back(in.byte());
    const Exact body(in.rest(), in.left());
    if (flags & 2 && columns > 0 && body.size() >= 4 * columns) mend(body, columns);
    const Outcome first = decode_all(given, body, *kernels[0]);
    for (std::size_t k = 1; k < kernels.size(); ++k) {
        require(same(first, decode_all(given, body, *kernels[k])), "instruction sets give different outcomes");
    }
    if (!first.error && !given.single && columns > 1) check_alone(given, body, first, *kernels[size % kernels.size()]);
    return first.error ? first.error->reason : nullptr;
}

}  // namespace hasten::fuzz
