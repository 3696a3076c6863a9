/* check_random.c: Philox is Philox, and what is made of it has the right distribution. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/random.h>

#include "base/base.h"
#include "check_main.h"

/* Known answers of philox4x32-10, published with the paper's library Random123. */
static const struct {
    uint32_t counter[4], key[2], block[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

START_TEST(published_vectors_come_out)
{
    uint32_t block[4];
    lip_random r = {.seed = (uint64_t)known[_i].key[1] << 32 | known[_i].key[0],
                    .stream = (uint64_t)known[_i].counter[3] << 32 | known[_i].counter[2],
                    .counter = (uint64_t)known[_i].counter[1] << 32 | known[_i].counter[0]};

    lip__philox(known[_i].counter, known[_i].key, block);
    ck_assert_mem_eq(block, known[_i].block, sizeof block);
    ck_assert(lip_random_u64(&r) == ((uint64_t)block[1] << 32 | block[0]));
}
END_TEST

START_TEST(the_same_state_gives_the_same_numbers)
{
    lip_random a = {3, 4, 0}, b = {3, 4, 0}, other = {3, 5, 0};
    float x[37], y[37], z[37];

    lip_random_normal(&a, x, 37);
    ck_assert_uint_eq(a.counter, 10);
    lip_random_normal(&b, y, 37);
    ck_assert_mem_eq(x, y, sizeof x);
    lip_random_normal(&other, z, 37);
    for (int i = 0; i < 37; i++)
        ck_assert(x[i] != z[i]);
    lip_random_normal(&b, y, 37);
    for (int i = 0; i < 37; i++)
        ck_assert(x[i] != y[i]);
}
END_TEST

enum { MANY = 400000 };

/* Mean of f(x) over the sample within six standard errors of what it should be. */
static void has_moments(const float *x, double mean, double variance, double fourth)
{
    double sum = 0, square = 0, quad = 0;

    for (int i = 0; i < MANY; i++) {
        double d = x[i] - mean;
        sum += d;
        square += d * d;
        quad += d * d * d * d;
    }
    ck_assert_double_lt(fabs(sum / MANY), 6 * sqrt(variance / MANY));
    ck_assert_double_lt(fabs(square / MANY - variance), 6 * sqrt((fourth - variance * variance) / MANY));
    ck_assert_double_lt(fabs(quad / MANY - fourth), 0.03 * fourth);
}

START_TEST(uniform_is_uniform)
{
    lip_random r = {1, 2, 0};
    float *x = malloc(MANY * sizeof *x);

    lip_random_uniform(&r, x, MANY);
    for (int i = 0; i < MANY; i++)
        ck_assert(x[i] >= 0 && x[i] < 1);
    has_moments(x, 0.5, 1.0 / 12, 1.0 / 80);
    free(x);
}
END_TEST

START_TEST(normal_is_normal)
{
    lip_random r = {1, 2, 0};
    float *x = malloc(MANY * sizeof *x);
    int beyond = 0;

    lip_random_normal(&r, x, MANY);
    has_moments(x, 0, 1, 3);
    for (int i = 0; i < MANY; i++)
        beyond += fabsf(x[i]) > 3;
    ck_assert_double_lt(fabs(beyond / (double)MANY - 0.0026998), 6 * sqrt(0.0027 / MANY));
    free(x);
}
END_TEST

START_TEST(streams_are_fnv_1a)
{
    ck_assert(lip_random_stream("") == 0xcbf29ce484222325u);
    ck_assert(lip_random_stream("a") == 0xaf63dc4c8601ec8cu);
    ck_assert(lip_random_stream("foobar") == 0x85944171f73967e8u);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("random");
    TCase *t = tcase_create("random");

    tcase_add_loop_test(t, published_vectors_come_out, 0, sizeof known / sizeof *known);
    tcase_add_test(t, the_same_state_gives_the_same_numbers);
    tcase_add_test(t, uniform_is_uniform);
    tcase_add_test(t, normal_is_normal);
    tcase_add_test(t, streams_are_fnv_1a);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
