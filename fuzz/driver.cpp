// Runs a target without libFuzzer: mutants of its seeds, the same ones for the same --seed, and for a compiler that has
// sanitizers but no libFuzzer. It sees no coverage; instead it breeds from inputs whose outcome is rare.
//
//   fuzz_TARGET [--executions N] [--seed S] [--json]     exit status 0: nothing was found
//   fuzz_TARGET --write-seeds FOLDER                     a corpus for libFuzzer
//   fuzz_TARGET FILE...                                  runs these inputs
//
// What ends a run (a sanitizer, a property that does not hold, memory, time) leaves the input in crash-TARGET. Time: an
// input that has used two to three seconds of the processor hangs.
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>

#include "fuzz.hpp"

namespace hasten::fuzz {
namespace {

constexpr std::size_t kLongest = 1 << 16, kKept = 4096;
const char* name = "";
const Bytes* current = nullptr;
volatile uint64_t number = 0;  // of the current input

// ---- what happens when something is found

void save() {
    static bool saved = false;
    if (saved || !current) return;
    saved = true;
    const std::string path = std::string("crash-") + name;
    const auto input = static_cast<unsigned long long>(number);
    std::fprintf(stderr, "fuzz: %s, input %llu, is in ./%s\n", name, input, path.c_str());
    if (std::FILE* const file = std::fopen(path.c_str(), "wb")) {
        std::fwrite(current->data(), 1, current->size(), file);
        std::fclose(file);
    }
}

void on_abort(int) {
    save();
    std::_Exit(1);
}

void on_tick(int) {  // a second of the processor has passed
    static uint64_t seen = ~uint64_t{0};
    static int ticks = 0;
    ticks = seen == number ? ticks + 1 : 0;
    seen = number;
    if (ticks < 2) return;
    std::fprintf(stderr, "fuzz: an input takes too long\n");
    save();
    std::_Exit(1);
}

void watch() {
    __sanitizer_set_death_callback(save);
    signal(SIGABRT, on_abort);
    signal(SIGPROF, on_tick);
    const itimerval second = {{1, 0}, {1, 0}};
    setitimer(ITIMER_PROF, &second, nullptr);
}

void run(const Bytes& input) noexcept {  // an exception ends in on_abort()
    current = &input;
    LLVMFuzzerTestOneInput(input.data(), input.size());
    current = nullptr;
}

// ---- mutants

// A place in an input: in its first bytes, where its heads are, as often as anywhere else.
std::size_t place(const Bytes& input, Random& random) {
    return random.below(random.below(2) ? input.size() : std::min<std::size_t>(input.size(), 64));
}

void put(Bytes& out, std::size_t at, uint32_t value) {
    for (std::size_t k = 0; k < 4 && at + k < out.size(); ++k) out[at + k] = static_cast<uint8_t>(value >> 8 * k);
}

Bytes anything(std::size_t size, Random& random) {
    Bytes found(size);
    for (uint8_t& byte : found) byte = static_cast<uint8_t>(random.next());
    return found;
}

void change(Bytes& out, const std::vector<Bytes>& pool, Random& random) {
    static constexpr uint8_t kBytes[] = {0, 1, 2, 3, 15, 16, 127, 128, 254, 255};
    static constexpr uint32_t kWords[] = {0, 1, 255, 256, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF};
    if (out.empty()) out.push_back(0);
    const std::size_t at = place(out, random), size = std::min(1 + random.below(24), out.size() - at);
    const auto here = out.begin() + static_cast<std::ptrdiff_t>(at), end = here + static_cast<std::ptrdiff_t>(size);
    switch (random.below(13)) {
        case 0: case 1: out[at] = static_cast<uint8_t>(out[at] ^ 1 << random.below(8)); break;
        case 2: out[at] = static_cast<uint8_t>(random.next()); break;
        case 3: out[at] = kBytes[random.below(std::size(kBytes))]; break;
        case 4: out[at] = static_cast<uint8_t>(out[at] + random.below(9) - 4); break;
        case 5: put(out, at, kWords[random.below(std::size(kWords))]); break;
        case 6: put(out, at, static_cast<uint32_t>(out.size() + random.below(9) - 4)); break;
        case 7: out.erase(here, end); break;
        case 8: {  // the same bytes twice
            const Bytes again(here, end);
            out.insert(here, again.begin(), again.end());
            break;
        }
        case 9: {  // new bytes
            const Bytes fresh = anything(size, random);
            out.insert(here, fresh.begin(), fresh.end());
            break;
        }
        case 10: std::generate(here, end, [&] { return static_cast<uint8_t>(random.next()); }); break;
        case 11: {  // a part of another input, over what is here or between it; or all of its end
            const Bytes& other = pool[random.below(pool.size())];
            if (other.empty()) break;
            const std::size_t from = random.below(4) ? random.below(other.size()) : std::min(at, other.size() - 1);
            const std::size_t take = random.below(4) ? std::min(size, other.size() - from) : other.size() - from;
            const auto first = other.begin() + static_cast<std::ptrdiff_t>(from);
            if (random.below(2)) out.erase(here, random.below(2) ? end : out.end());
            out.insert(out.begin() + static_cast<std::ptrdiff_t>(at), first, first + static_cast<std::ptrdiff_t>(take));
            break;
        }
        default: out.resize(random.below(4) ? at : out.size() - std::min<std::size_t>(out.size(), 1 + random.below(4)));
    }
    if (out.size() > kLongest) out.resize(kLongest);
}

// Inputs to breed from: the seeds stay, others come and go.
class Pool {
public:
    explicit Pool(std::vector<Bytes> seeds) : inputs_(std::move(seeds)), fixed_(inputs_.size()) {}

    Bytes mutant(Random& random) const {
        Bytes out = inputs_[random.below(inputs_.size())];
        std::size_t left = random.below(3) ? 1 : 1 + random.below(6);
        for (; left > 0; --left) change(out, inputs_, random);
        return out;
    }
    void consider(const Bytes& input, Random& random) {
        const Tally& all = tally();
        const bool rare = all.last ? all.refused.at(all.last) <= 64 : random.below(100) == 0;
        if (!rare) return;
        if (inputs_.size() < fixed_ + kKept) {
            inputs_.push_back(input);
        } else {
            inputs_[fixed_ + random.below(kKept)] = input;
        }
    }
    const std::vector<Bytes>& inputs() const { return inputs_; }

private:
    std::vector<Bytes> inputs_;
    std::size_t fixed_;
};

void report(uint64_t executions, uint64_t seed, std::size_t seeds, double seconds, bool json) {
    const Tally& all = tally();
    uint64_t refused = 0;
    for (const auto& [reason, times] : all.refused) refused += times;
    const double rate = static_cast<double>(executions) / std::max(seconds, 1e-9);
    const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
    if (!json) {
        std::printf("%-14s %llu executions (seed %llu, %zu seeds), %.0f/s: %llu ok, %llu refused for %zu reasons; "
                    "at most %zu bytes at a time, %.0f %% of what is allowed\n",
                    name, number(executions), number(seed), seeds, rate, number(all.ok), number(refused),
                    all.refused.size(), all.most_bytes, static_cast<double>(all.thousandths) / 10);
        return;
    }
    std::printf("{\"target\": \"%s\", \"executions\": %llu, \"seed\": %llu, \"seeds\": %zu, \"seconds\": %.1f, "
                "\"ok\": %llu, \"refused\": %llu, \"most_bytes\": %zu, \"most_of_allowed\": %.3f, "
                "\"compiler\": \"%s\", \"reasons\": {",
                name, number(executions), number(seed), seeds, seconds, number(all.ok), number(refused), all.most_bytes,
                static_cast<double>(all.thousandths) / 1000, HASTEN_COMPILER);
    const char* comma = "";
    for (const auto& [reason, times] : all.refused) {
        std::printf("%s\"%s\": %llu", comma, reason.c_str(), number(times));
        comma = ", ";
    }
    std::printf("}}\n");
}

int fuzz(uint64_t executions, uint64_t seed, bool json) {
    Random random(seed);
    Pool pool(seeds());
    const std::size_t count = pool.inputs().size();
    for (const Bytes& input : pool.inputs()) {
        run(input);
        if (tally().last) std::fprintf(stderr, "fuzz: a seed of %s is refused: %s\n", name, tally().last);
        if (tally().last) return 1;
    }
    tally() = {};
    const auto start = std::chrono::steady_clock::now();
    for (number = 0; number < executions; number = number + 1) {
        const Bytes input = pool.mutant(random);
        run(input);
        pool.consider(input, random);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    report(executions, seed, count, seconds.count(), json);
    return 0;
}

void write_seeds(const std::string& folder) {
    std::size_t k = 0;
    for (const Bytes& seed : seeds()) {
        std::ofstream file(folder + "/" + name + "-" + std::to_string(k++), std::ios::binary);
        file.write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
        if (!file) throw std::runtime_error("cannot write to " + folder);
    }
}

void replay(const char* path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(std::string("cannot read ") + path);
    run(Bytes(std::istreambuf_iterator<char>(file), {}));
    std::printf("%s: %s\n", path, tally().last ? tally().last : "ok");
}

int main_of(int argc, char** argv) {
    uint64_t executions = 100000, seed = 1;
    bool json = false, replayed = false;
    name = HASTEN_TARGET;
    watch();
    for (int k = 1; k < argc; ++k) {
        const std::string option = argv[k];
        const bool takes = option == "--executions" || option == "--seed" || option == "--write-seeds";
        if (takes && k + 1 == argc) throw std::runtime_error(option + " needs a value");
        if (option == "--write-seeds") return write_seeds(argv[k + 1]), 0;
        if (option == "--executions") executions = std::stoull(argv[++k]);
        else if (option == "--seed") seed = std::stoull(argv[++k]);
        else if (option == "--json") json = true;
        else if (option.rfind("--", 0) == 0) throw std::runtime_error("unknown option " + option);
        else replay(argv[k]), replayed = true;
    }
    return replayed ? 0 : fuzz(executions, seed, json);
}

}  // namespace
}  // namespace hasten::fuzz

int main(int argc, char** argv) try {
    return hasten::fuzz::main_of(argc, argv);
} catch (const std::exception& error) {
    std::fprintf(stderr, "fuzz: %s\n", error.what());
    return 2;
}
