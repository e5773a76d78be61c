// Functions that a kernel consists of: loops over vectors are fast only where these are not called.
#pragma once

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#else
#define INLINE inline
#endif
