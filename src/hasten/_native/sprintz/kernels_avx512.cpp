// AVX-512 of Skylake servers.
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#define HASTEN_SPRINTZ_AVX2
#define HASTEN_SPRINTZ_TOKENS_AVX512
#define HASTEN_SPRINTZ_KERNELS kernels_avx512
#define HASTEN_SPRINTZ_CODES codes_avx512
#include "kernels_impl.hpp"

namespace hasten::sprintz {
namespace {
#include "tokens_impl.hpp"
}  // namespace

void put_tokens16_avx512(const uint16_t* z, std::size_t steps, const uint8_t* of, std::size_t contexts,
                         const Code (*codes)[kMaxTokens], uint8_t** ends, uint32_t* direct) {
    put_tokens<uint16_t>(z, steps, of, contexts, codes, ends, direct);
}

}  // namespace hasten::sprintz
#endif
