// One optimizer step over low-precision weights and 8-bit states: decode, update, encode, in one pass over memory.
//
// What is computed stands, in readable form, in hasten/optim/flash/ (splitting.py, companding.py, rules.py). Formats:
//
//   weight      float32 | bfloat16 or float16, with a correction of 0, 8 or 16 bits that holds the lost low bits
//   gradient    the dtype of the weight
//   momentum    float32 | int8 codes c and, for each group of consecutive elements, a bfloat16 scale s:
//               m = s * c / (254 - |c|)
//   variance    float32 | uint8 codes c and such a scale: sqrt(v) = s * c / 255
//
// Every instruction set gives the same bytes: only operations that IEEE 754 rounds in one way (add, multiply, fused
// multiply-add, divide, square root), integer operations, and a reciprocal made of these (reciprocal() in kernel.hpp).
// Memory is walked in blocks of 512 elements, which no group crosses; blocks are independent, so threads need no order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../dispatch.hpp"

// Everything inside a kernel is one function to the compiler: what passes through memory costs more than arithmetic.
// (Not under a sanitizer, whose checks would make minutes of compilation of it.)
#if (defined(__GNUC__) || defined(__clang__)) && !defined(__SANITIZE_ADDRESS__)
#define INLINE __attribute__((always_inline)) inline
#define RARE __attribute__((noinline, cold))
#else
#define INLINE inline
#define RARE inline
#endif

namespace hasten::flash {

enum class Rule : int { adam, momentum, plain, lion };
enum class Weight : int { f32, bf16, bf16c8, bf16c16, f16, f16c8, f16c16 };

constexpr std::size_t kBlock = 512;
constexpr std::size_t kQuad = 64;  // elements that the kernel takes at once

// The numbers of one tensor's step, made ready in step.cpp.
struct Numbers {
    float beta1, one_minus_beta1;  // Lion: of the direction
    float beta2, one_minus_beta2;  // Adam: of the variance; Lion: of the momentum that is kept
    // Quantized: what a stored scale is multiplied with to give the decayed momentum or root of the variance, and what
    // a new one is multiplied with to be stored. Adam counts them in units of 1 - beta1 and sqrt(1 - beta2), so that
    // the gradient itself is added.
    float momentum_factor, momentum_unit, variance_factor, variance_unit;
    float root_factor, epsilon_factor;  // Adam: learning rate * direction = m / (sqrt(v) * root_factor + epsilon_factor)
    float step;                         // else: what the direction is multiplied with, the learning rate
    float keep;                         // what the weight is multiplied with before: 1 - decay
    float coupled;                      // L2 penalty: added to the gradient times the weight; 0 for none
    float sign;                         // -1 to maximize
    uint32_t dither;                    // added below the 16 bits of a scale: see companding.py
    uint32_t salt;                      // of the stochastic rounding
    bool nesterov, stochastic;
};

struct Tensor {
    uint8_t *weight, *correction, *momentum, *variance;
    const uint8_t* gradient;
    uint16_t *momentum_scale, *variance_scale;
    std::size_t size, group_size;
    Weight format;
    Rule rule;
    bool quantized;
    Numbers numbers;
};

// Steps the blocks [first, last) of a tensor.
using Blocks = void (*)(const Tensor& tensor, std::size_t first, std::size_t last);

// The variants, one file each, so that each can be compiled for its instruction set.
void blocks_scalar(const Tensor& tensor, std::size_t first, std::size_t last);
void blocks_avx2(const Tensor& tensor, std::size_t first, std::size_t last);
void blocks_avx512(const Tensor& tensor, std::size_t first, std::size_t last);
void blocks_avx512vnni(const Tensor& tensor, std::size_t first, std::size_t last);

extern const Kernel<Blocks> blocks;

// Columns of the tables that Python fills in; see hasten/optim/flash/native.py.
struct Columns {
    enum Tensor : std::size_t {
        weight, gradient, momentum, momentum_scale, variance, variance_scale, step, size, format, salt, correction,
        tensor_columns
    };
    enum Group : std::size_t {
        first_tensor, rule, lr, beta1, beta2, epsilon, decay, coupled, dampening, sign, nesterov, stochastic,
        quantized, group_size, group_columns
    };
};

// One step of every tensor, each of which counts its own steps. The groups follow each other in the table of tensors.
void step(const uint64_t* tensors, std::size_t tensor_count, const double* groups, std::size_t group_count, Isa isa,
          std::size_t threads);

}  // namespace hasten::flash
