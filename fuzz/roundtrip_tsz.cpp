// Columns of any values, encoded with any options: every instruction set writes the same bytes, none more than values
// that are stored, and reads them back. What the encoder allocates is bounded, too.
//
//   input   u8 effort | u8 predictor | u8 entropy, cross | u16 rows | u8 columns | two bytes for each column | data
#include "tsz.hpp"

namespace hasten::fuzz {
namespace {

constexpr std::size_t kMostColumns = 5;

// The same data again, as often as it takes.
class Data {
public:
    explicit Data(Input in) : data_(in.rest()), size_(in.left()) {}
    uint64_t next(std::size_t bytes) {
        uint64_t value = 0;
        for (std::size_t k = 0; k < bytes && size_; ++k, ++at_) value |= uint64_t{data_[at_ % size_]} << 8 * k;
        return value;
    }
    uint64_t step(int64_t part = 1) { return static_cast<uint64_t>(int64_t{static_cast<int8_t>(next(1))} / part); }

private:
    const uint8_t* data_;
    std::size_t size_, at_ = 0;
};

void fill(Place& place, std::size_t rows, std::size_t itemsize, unsigned kind, unsigned parameter,
          const std::vector<Place>& earlier, Data& data) {
    uint64_t palette[16], x = data.next(8), d = 0;
    for (uint64_t& value : palette) value = data.next(itemsize > 2 ? 2 : itemsize);
    for (std::size_t i = 0; i < rows; ++i) {
        switch (kind) {
            case 0: x = data.next(itemsize); break;
            case 1: x += data.step(); break;
            case 2: x += d += data.step(32); break;
            case 3: x = parameter + (parameter % 32 + 2) * data.next(itemsize > 4 ? 4 : 1 + itemsize / 4); break;
            case 4: x = palette[data.next(1) % 16]; break;
            case 5:
                if (!earlier.empty()) x = earlier[parameter % earlier.size()].get(i) * (parameter + 1) >> 4;
                x += data.step(32);
                break;
            case 6: break;
            default: x = data.next(1) % 32 ? 0 : data.next(itemsize);
        }
        place.set(i, x);
    }
}

void check(const std::vector<Place>& places, const std::vector<Column>& columns, std::size_t rows,
           const std::vector<Layout>& layouts, const Bytes& bytes, const Kernels& kernels) {
    std::vector<Place> out;
    std::vector<Target> targets;
    for (std::size_t j = 0; j < columns.size(); ++j) {
        out.emplace_back(rows, columns[j].itemsize, layouts[j]);
        targets.push_back(out[j].target());
        if (!columns[j].data) targets[j].data = nullptr;
    }
    std::vector<std::size_t> others;
    const auto error = decode(Exact(bytes.data(), bytes.size()), rows, targets, kernels, others);
    require(!error, error ? error->reason : "");
    for (std::size_t j = 0; j < columns.size(); ++j) {
        require(!columns[j].data || out[j].holds(places[j]), "values do not come back");
    }
}

std::vector<Bytes> encode(const std::vector<Column>& columns, std::size_t rows, const sprintz::Options& options,
                          const Kernels& kernels) {
    std::size_t bytes = std::size_t{1} << 20;
    for (const Column& column : columns) bytes += 64 * rows * column.itemsize;
    const Allowance limit(bytes);
    return sprintz::encode_columns(columns, rows, options, kernels);
}

}  // namespace

std::vector<Bytes> seeds() {
    Random random(11);
    std::vector<Bytes> found;
    for (unsigned k = 0; k < 400; ++k) {
        Bytes seed = {static_cast<uint8_t>(k), static_cast<uint8_t>(k / 3), static_cast<uint8_t>(random.next()),
                      static_cast<uint8_t>(random.next()), static_cast<uint8_t>(k % 8 ? 0 : random.next()),
                      static_cast<uint8_t>(random.next())};
        const std::size_t size = 10 + random.below(400);
        while (seed.size() < size) seed.push_back(static_cast<uint8_t>(random.next()));
        found.push_back(std::move(seed));
    }
    return found;
}

const char* run(Input in) {
    const std::vector<const Kernels*>& kernels = all_kernels();
    sprintz::Options options;
    options.effort = static_cast<sprintz::Effort>(in.byte() % 3);
    options.predictor = in.byte() % (sprintz::kPredictors + 1) - 1;
    const unsigned more = in.byte();
    options.entropy = static_cast<int>(more % 4) - 1;
    options.cross = more & 4;
    const std::size_t few = in.byte(), many = in.byte(), rows = few + (many % 8 ? 0 : 8 * many);
    std::vector<Place> places;
    std::vector<Column> columns;
    std::vector<Layout> layouts;
    const std::size_t count_columns = in.byte() % (kMostColumns + 1);
    std::vector<unsigned> words;
    for (std::size_t j = 0; j < count_columns; ++j) words.push_back(in.word());
    Data values(in);
    for (const unsigned word : words) {  // bits 0, 1: size; 2, 3: layout; 4 to 6: kind; 7: often, there is no column
        const std::size_t itemsize = std::size_t{1} << word % 4;
        Place place(rows, itemsize, static_cast<Layout>(word / 4 % 4));
        fill(place, rows, itemsize, word / 16 % 8, word / 256, places, values);
        places.push_back(std::move(place));
        layouts.push_back(static_cast<Layout>(word / 4 % 4 ^ word / 256 % 4));
    }
    for (std::size_t j = 0; j < count_columns; ++j) {
        columns.push_back(places[j].column());
        if (words[j] % 256 >= 0xF0) columns[j].data = nullptr;
    }
    const std::vector<Bytes> records = encode(columns, rows, options, *kernels[0]);
    for (std::size_t j = 0; j < count_columns; ++j) {
        const std::size_t most = columns[j].data ? 1 + rows * columns[j].itemsize : 0;
        require(records[j].size() <= most, "a record longer than its values");
    }
    const Bytes body = body_of(records);
    for (const Kernels* const each : kernels) {
        require(encode(columns, rows, options, *each) == records, "instruction sets write different bytes");
        check(places, columns, rows, layouts, body, *each);
    }
    return nullptr;
}

}  // namespace hasten::fuzz
