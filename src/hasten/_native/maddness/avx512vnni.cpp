// AVX-512 of Ice Lake, Zen 4 and later.
#define HASTEN_MADDNESS_VBMI
#include "avx512.hpp"

#if defined(HASTEN_X86)
namespace hasten::maddness {
extern const Kernels kernels_avx512vnni;
const Kernels kernels_avx512vnni = {encode, sums, finish, shuffles};
}  // namespace hasten::maddness
#endif
