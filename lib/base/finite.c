/* finite.c: is every number a number? */
#include "base/base.h"

#include <string.h>

enum { BLOCK = 64 };

static inline uint32_t exponent_full(const float *x, size_t i)
{
    uint32_t bits;

    memcpy(&bits, x + i, sizeof bits);
    return (bits & 0x7f800000u) == 0x7f800000u; /* infinities and NaN have all exponent bits set */
}

/* Numbers in front of the first block that has one of them, or of what fills no block. */
LIP__CLONES static size_t finite_blocks(const float *x, size_t n)
{
    size_t i = 0;

    for (; n - i >= BLOCK; i += BLOCK) {
        uint32_t bad = 0;
        for (size_t j = 0; j < BLOCK; j++)
            bad |= exponent_full(x, i + j);
        if (bad)
            break;
    }
    return i;
}

int lip__all_finite(const float *x, size_t n, size_t *at)
{
    for (size_t i = finite_blocks(x, n); i < n; i++)
        if (exponent_full(x, i)) {
            if (at)
                *at = i;
            return 0;
        }
    return 1;
}
