// CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected, initial value and final xor 0xFFFFFFFF): the check of iSCSI,
// ext4 and Snappy, because x86 (SSE4.2) and ARM (v8 CRC) have an instruction for it.
//
// `crc` is the CRC of the bytes before these, 0 for none: crc32c(crc32c(0, a), b) is the CRC of a followed by b.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../dispatch.hpp"

namespace hasten::sprintz {

using Crc32c = uint32_t (*)(uint32_t crc, const uint8_t* data, std::size_t size);

// The entry of AVX2 is the SSE4.2 instruction: every CPU with AVX2 has it, and where a hypervisor hides it the entry
// is missing. That of NEON is the instruction of ARMv8, where the machine has it.
extern const Kernel<Crc32c> crc32c;

}  // namespace hasten::sprintz
