#include "step.hpp"

#include <atomic>
#include <cmath>
#include <exception>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#endif

namespace hasten::flash {
namespace {

constexpr std::size_t kBlocksPerThread = 256;  // below some 100 microseconds of work a thread costs more than it saves

template <typename T>
T* pointer(uint64_t address) {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

Numbers numbers(const double* group, double t, Rule rule, bool quantized, uint32_t salt) {
    const double lr = group[Columns::lr], beta1 = group[Columns::beta1], beta2 = group[Columns::beta2];
    Numbers n{};
    n.beta1 = static_cast<float>(beta1);
    n.one_minus_beta1 = static_cast<float>(1.0 - beta1);
    n.beta2 = static_cast<float>(beta2);
    n.one_minus_beta2 = static_cast<float>(1.0 - beta2);
    n.momentum_factor = n.momentum_unit = 1.0f;
    n.step = static_cast<float>(lr);
    n.keep = static_cast<float>(1.0 - group[Columns::decay]);
    n.coupled = static_cast<float>(group[Columns::coupled]);
    n.sign = static_cast<float>(group[Columns::sign]);
    n.dither = (static_cast<uint32_t>(t) * 0x9E37u) & 0xFFFFu;
    n.salt = salt + static_cast<uint32_t>(t) * 0x9E3779B1u;
    n.nesterov = group[Columns::nesterov] != 0;
    n.stochastic = group[Columns::stochastic] != 0;
    if (rule == Rule::adam) {
        double unit1 = 1.0, unit2 = 1.0;
        if (quantized) {
            unit1 = 1.0 - beta1;
            unit2 = std::sqrt(1.0 - beta2);
            n.momentum_unit = static_cast<float>(unit1);
            n.variance_unit = static_cast<float>(unit2);
            n.momentum_factor = static_cast<float>(beta1 / unit1);
            n.variance_factor = static_cast<float>(std::sqrt(beta2) / unit2 / 255.0);
        }
        const double step = lr / (1.0 - std::pow(beta1, t)) * unit1;
        const double root = unit2 / std::sqrt(1.0 - std::pow(beta2, t)) / step, epsilon = group[Columns::epsilon] / step;
        n.root_factor = static_cast<float>(root);
        n.epsilon_factor = static_cast<float>(epsilon);
        if (!std::isfinite(n.root_factor) || !std::isfinite(n.epsilon_factor)) {  // no learning rate, or next to none
            n.root_factor = 0.0f;
            n.epsilon_factor = std::isnan(lr) ? NAN : INFINITY;
        }
    } else if (rule == Rule::momentum) {  // torch's first step takes the whole gradient, whatever the dampening
        n.one_minus_beta1 = static_cast<float>(t == 1.0 ? 1.0 : 1.0 - group[Columns::dampening]);
    }
    return n;
}

Tensor tensor(const uint64_t* row, const double* group) {
    Tensor one{};
    one.weight = pointer<uint8_t>(row[Columns::weight]);
    one.gradient = pointer<const uint8_t>(row[Columns::gradient]);
    one.correction = pointer<uint8_t>(row[Columns::correction]);
    one.momentum = pointer<uint8_t>(row[Columns::momentum]);
    one.momentum_scale = pointer<uint16_t>(row[Columns::momentum_scale]);
    one.variance = pointer<uint8_t>(row[Columns::variance]);
    one.variance_scale = pointer<uint16_t>(row[Columns::variance_scale]);
    one.size = static_cast<std::size_t>(row[Columns::size]);
    one.format = static_cast<Weight>(row[Columns::format]);
    one.group_size = static_cast<std::size_t>(group[Columns::group_size]);
    one.rule = static_cast<Rule>(static_cast<int>(group[Columns::rule]));
    one.quantized = group[Columns::quantized] != 0;
    float* count = pointer<float>(row[Columns::step]);
    *count += 1.0f;
    one.numbers = numbers(group, *count, one.rule, one.quantized, static_cast<uint32_t>(row[Columns::salt]));
    return one;
}

std::size_t block_count(const Tensor& tensor) { return (tensor.size + kBlock - 1) / kBlock; }

// The blocks [first, last) of all tensors, counted through.
void run(const std::vector<Tensor>& tensors, Blocks kernel, std::size_t first, std::size_t last) {
    std::size_t start = 0;
    for (const Tensor& tensor : tensors) {
        const std::size_t count = block_count(tensor), end = start + count;
        if (end > first && start < last) {
            kernel(tensor, first > start ? first - start : 0, last < end ? last - start : count);
        }
        start = end;
        if (start >= last) return;
    }
}

// Each thread has one run of blocks, the same in every step: on a machine with several memories what a thread touches
// stays near it. It takes them in pieces, and who is done helps the others, since a core may be busy with something else.
class Shares {
public:
    Shares(std::size_t total, std::size_t threads) : next_(threads), end_(threads) {
        for (std::size_t i = 0; i < threads; ++i) {
            next_[i] = total * i / threads;
            end_[i] = total * (i + 1) / threads;
        }
    }

    // The next piece for a thread; false if all is done.
    bool take(std::size_t thread, std::size_t& first, std::size_t& last) {
        for (std::size_t i = 0; i < end_.size(); ++i) {
            const std::size_t share = (thread + i) % end_.size();
            first = next_[share].fetch_add(kPiece);
            if (first >= end_[share]) continue;
            last = first + kPiece < end_[share] ? first + kPiece : end_[share];
            return true;
        }
        return false;
    }

private:
    static constexpr std::size_t kPiece = 128;  // blocks: some 40 microseconds
    std::vector<std::atomic<std::size_t>> next_;
    std::vector<std::size_t> end_;
};

#if defined(__unix__) || defined(__APPLE__)
// The OpenMP pool of this process, if there is one: as a rule torch's, which loads its runtime for everybody to see. Its
// threads go on spinning for some milliseconds after torch's last work, so that they are there for the next. Threads of
// our own would share the cores with them.
using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
using ThreadNumber = int (*)();

template <typename Work>
bool in_pool(std::size_t threads, const Work& work) {
    static const auto run = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    static const auto number = reinterpret_cast<ThreadNumber>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
    if (run == nullptr || number == nullptr) return false;
    const auto each = [](void* data) { (*static_cast<const Work*>(data))(static_cast<std::size_t>(number())); };
    run(each, const_cast<Work*>(&work), static_cast<unsigned>(threads), 0);
    return true;
}
#else
template <typename Work>
bool in_pool(std::size_t, const Work&) {
    return false;
}
#endif

// Calls work(0) .. work(threads - 1) at the same time, or as many of them as there are threads to be had. Without a pool
// threads are made anew, some 30 microseconds each against milliseconds of work.
template <typename Work>
void parallel(std::size_t threads, const Work& work) {
    if (in_pool(threads, work)) return;
    std::vector<std::thread> others;
    try {
        for (std::size_t thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
    } catch (const std::exception&) {  // those that there are do the rest
    }
    work(0);
    for (std::thread& other : others) other.join();
}

}  // namespace

#if defined(HASTEN_X86)
const Kernel<Blocks> blocks = {blocks_scalar, blocks_avx2, blocks_avx512, blocks_avx512vnni};
#else
const Kernel<Blocks> blocks = {blocks_scalar};  // on ARM the compiler makes NEON of it: fused multiply-add is basic there
#endif

void step(const uint64_t* rows, std::size_t tensor_count, const double* groups, std::size_t group_count, Isa isa,
          std::size_t threads) {
    std::vector<Tensor> tensors;
    tensors.reserve(tensor_count);
    std::size_t total = 0, group = 0;
    for (std::size_t i = 0; i < tensor_count; ++i) {
        while (group + 1 < group_count &&
               i >= static_cast<std::size_t>(groups[(group + 1) * Columns::group_columns + Columns::first_tensor])) {
            ++group;
        }
        tensors.push_back(
            tensor(rows + i * Columns::tensor_columns, groups + group * Columns::group_columns));
        total += block_count(tensors.back());
    }
    const Blocks kernel = blocks.pick(isa);
    const std::size_t useful = total / kBlocksPerThread;
    if (threads > useful) threads = useful;
    if (threads <= 1) return run(tensors, kernel, 0, total);
    Shares shares(total, threads);
    const auto work = [&](std::size_t thread) {
        std::size_t first, last;
        while (shares.take(thread, first, last)) run(tensors, kernel, first, last);
    };
    parallel(threads, work);
}

}  // namespace hasten::flash
