// A 64-bit fingerprint of bytes, made for weights and data sets: position dependent, the same on every machine.
//
// Read the n bytes as 64-bit little-endian words w_0 .. w_{m-1}, the last one filled up with zero bytes. Then, all
// arithmetic modulo 2^64,
//
//     checksum = mix(n + sum_i mix(w_i + (i + 1) * G))
//     mix(x):  x = (x ^ (x >> 30)) * A;  x = (x ^ (x >> 27)) * B;  x ^ (x >> 31)
//
// G is 2^64 divided by the golden ratio; A, B and the shifts are those of SplitMix64 (Steele, Lea, Flood, "Fast
// splittable pseudorandom number generators", OOPSLA 2014), so the sum runs over SplitMix64 outputs whose state is
// moved by the data.
//
// Why this one: mix is a bijection, so a change within one aligned word ALWAYS changes the result, and other changes
// collide with probability about 2^-64. The sum has no order, so lanes, blocks and threads need no carry between them
// and every instruction set computes exactly the same value. It is no defence against somebody who wants a collision.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace hasten {

using Checksum = uint64_t (*)(const uint8_t* data, std::size_t size);

extern const Kernel<Checksum> checksum;

}  // namespace hasten
