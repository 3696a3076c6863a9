/* random.c: Philox4x32-10.
 *
 * A block is ten rounds of a bijection of its 128-bit counter under a 64-bit key. Here the counter is
 * (lip_random.counter, lip_random.stream) and the key is lip_random.seed, low words first. Every call starts a new
 * block, so that what a call returns depends on its counter only.
 *
 * Source: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
 */
#include <onelip/random.h>

#include <math.h>

#include "base/base.h"

static const double two_pi = 6.283185307179586476925286766559;

void lip__philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xD2511F53u * c0, q = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(q >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)q;
        c2 = (uint32_t)(p >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static void next_block(lip_random *r, uint32_t out[4])
{
    const uint32_t counter[4] = {(uint32_t)r->counter, (uint32_t)(r->counter >> 32), (uint32_t)r->stream,
                                 (uint32_t)(r->stream >> 32)};
    const uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};

    lip__philox(counter, key, out);
    r->counter++;
}

void lip_random_uniform(lip_random *r, float *x, size_t n)
{
    uint32_t word[4];

    for (size_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            next_block(r, word);
        x[i] = (float)(word[i % 4] >> 8) * 0x1p-24f;
    }
}

/* Two independent N(0,1) from two words; u = (word + 1/2) / 2^32 lies strictly between 0 and 1. */
static void box_muller(const uint32_t word[2], float normal[2])
{
    double radius = sqrt(-2 * log((word[0] + 0.5) * 0x1p-32)), angle = two_pi * (word[1] + 0.5) * 0x1p-32;

    normal[0] = (float)(radius * cos(angle));
    normal[1] = (float)(radius * sin(angle));
}

void lip_random_normal(lip_random *r, float *x, size_t n)
{
    uint32_t word[4];
    float normal[4];

    for (size_t i = 0; i < n; i++) {
        if (i % 4 == 0) {
            next_block(r, word);
            box_muller(word, normal);
            box_muller(word + 2, normal + 2);
        }
        x[i] = normal[i % 4];
    }
}

uint64_t lip_random_u64(lip_random *r)
{
    uint32_t word[4];

    next_block(r, word);
    return (uint64_t)word[1] << 32 | word[0];
}

uint64_t lip_random_stream(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        hash = (hash ^ *c) * 0x100000001b3u;
    return hash;
}
