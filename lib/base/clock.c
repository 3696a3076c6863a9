/* clock.c: the time that never jumps. */
#include "base/base.h"

#include <math.h>
#include <onelip/bound.h>
#include <time.h>

uint64_t lip__now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#define ASKED_NS 50000000u /* how long an answer holds */

static _Thread_local struct {
    bool (*when)(void *ctx);
    void *ctx;
    uint64_t next_ns;
    bool now;
} interrupt;

void lip_interrupt(bool (*when)(void *ctx), void *ctx)
{
    interrupt.when = when;
    interrupt.ctx = ctx;
    interrupt.next_ns = 0;
    interrupt.now = false;
}

static bool interrupted(uint64_t now)
{
    if (interrupt.when && !interrupt.now && now >= interrupt.next_ns) {
        interrupt.now = interrupt.when(interrupt.ctx);
        interrupt.next_ns = now + ASKED_NS;
    }
    return interrupt.now;
}

bool lip__late(uint64_t deadline)
{
    uint64_t now = deadline ? lip__now_ns() : 0;

    return deadline && (now >= deadline || interrupted(now));
}

uint64_t lip__part_of(uint64_t deadline, double share)
{
    uint64_t now = lip__now_ns();

    return deadline > now ? now + (uint64_t)((double)(deadline - now) * share) : deadline;
}

double lip__seconds_until(uint64_t deadline)
{
    uint64_t now = lip__now_ns();

    return !deadline ? INFINITY : deadline > now && !interrupted(now) ? (double)(deadline - now) / 1e9 : 0;
}

bool lip__pace_late(struct lip__pace *p, unsigned steps)
{
    uint64_t now = p->deadline ? lip__now_ns() : 0;

    if (p->before && now - p->before > p->longest)
        p->longest = now - p->before;
    p->before = now;
    return p->deadline && now + steps * p->longest >= p->deadline;
}
