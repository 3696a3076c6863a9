/* clock.c: the time that never jumps. */
#include "base/base.h"

#include <time.h>

uint64_t lip__now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
