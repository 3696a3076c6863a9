/* check_base.c: errors, memory, the clock and the pool keep their promises. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "check_main.h"

START_TEST(every_code_has_a_name_and_a_text)
{
    for (int code = 0; code < LIP_ERR_COUNT; code++) {
        ck_assert(!strncmp(lip_err_name((lip_err)code), "LIP_", 4));
        ck_assert_uint_gt(strlen(lip_err_text((lip_err)code)), 0);
    }
    ck_assert_str_eq(lip_err_name(LIP_ESHAPE), "LIP_ESHAPE");
    ck_assert_str_eq(lip_err_text((lip_err)-1), "unknown error");
    ck_assert_str_eq(lip_err_name(LIP_ERR_COUNT), "LIP_EUNKNOWN");
}
END_TEST

START_TEST(the_first_text_wins)
{
    lip_error err = {0};

    ck_assert_int_eq(lip__fail_at(&err, LIP_ESHAPE, "/config/layers/0", "found %d", 3), LIP_ESHAPE);
    ck_assert_int_eq(lip__fail(&err, LIP_ENOMEM, "later"), LIP_ENOMEM);
    ck_assert_int_eq(err.code, LIP_ESHAPE);
    ck_assert_str_eq(err.text, "found 3");
    ck_assert_str_eq(err.pointer, "/config/layers/0");
    ck_assert_int_eq(lip__fail(NULL, LIP_ERANGE, "nobody reads this"), LIP_ERANGE);
}
END_TEST

START_TEST(long_texts_are_cut_not_spilled)
{
    lip_error err = {0};

    lip__fail_at(&err, LIP_EJSON, "/x", "%02000d", 1);
    ck_assert_uint_eq(strlen(err.text), sizeof err.text - 1);
}
END_TEST

START_TEST(memory_is_zero_and_aligned)
{
    for (size_t n = 1; n < 3000; n = n * 3 + 1) {
        float *x = lip__alloc(n, sizeof *x);
        ck_assert_uint_eq((uintptr_t)x % 64, 0);
        for (size_t i = 0; i < n; i++)
            ck_assert(x[i] == 0);
        lip__free(x);
    }
    lip__free(NULL);
    lip_free(NULL);
}
END_TEST

static int no_memory(void)
{
    return 1;
}

START_TEST(impossible_sizes_give_null)
{
    char *copy = lip__strdup("onelip");

    ck_assert_str_eq(copy, "onelip");
    lip_free(copy);
    ck_assert_ptr_null(lip__alloc(SIZE_MAX / 2, 3));
    ck_assert_ptr_null(lip__alloc(SIZE_MAX - 8, 1));
    ck_assert_ptr_null(lip__alloc(0, 4));
    lip__alloc_hook = no_memory;
    ck_assert_ptr_null(lip__alloc(1, 1));
    ck_assert_ptr_null(lip__strdup("x"));
    lip__alloc_hook = NULL;
}
END_TEST

START_TEST(finite_finds_the_first_that_is_not)
{
    float x[200];
    size_t at;

    for (size_t i = 0; i < 200; i++)
        x[i] = (i & 1 ? -3.4e38f : 1e-44f);
    ck_assert(lip__all_finite(x, 200, &at));
    ck_assert(lip__all_finite(x, 0, NULL));
    for (size_t bad = 0; bad < 200; bad++) {
        x[bad] = bad % 3 == 0 ? NAN : bad % 3 == 1 ? INFINITY : -INFINITY;
        ck_assert(!lip__all_finite(x, 200, &at));
        ck_assert_uint_eq(at, bad);
        ck_assert(lip__all_finite(x, bad, NULL));
        x[bad] = 0;
    }
}
END_TEST

START_TEST(the_clock_goes_forward)
{
    uint64_t before = lip__now_ns(), after;

    usleep(2000);
    after = lip__now_ns();
    ck_assert_uint_ge(after - before, 2000000);
}
END_TEST

/* ---- shapes ---------------------------------------------------------------------------------------- */

START_TEST(shapes_count_compare_and_print)
{
    lip_shape a = {2, {2, 784}}, b = {2, {2, 784, 5}}, scalar = {0};
    char text[64], little[5];

    ck_assert_uint_eq(lip_shape_count(&a), 1568);
    ck_assert_uint_eq(lip_shape_count(&scalar), 1);
    ck_assert(lip_shape_equal(&a, &b));
    b.rank = 3;
    ck_assert(!lip_shape_equal(&a, &b));
    ck_assert_str_eq(lip_shape_text(&a, text, sizeof text), "[2,784]");
    ck_assert_str_eq(lip_shape_text(&scalar, text, sizeof text), "[]");
    ck_assert_str_eq(lip_shape_text(&a, little, sizeof little), "[2,7");
}
END_TEST

START_TEST(shapes_that_do_not_fit_are_refused)
{
    lip_shape huge = {3, {SIZE_MAX / 2, SIZE_MAX / 2, 3}}, empty = {3, {SIZE_MAX, 0, SIZE_MAX}}, some = {2, {10, 10}},
              deep = {LIP_MAX_RANK + 1, {1}};
    lip_error err = {0};
    lip_tensor t;

    ck_assert_int_eq(lip_shape_check(&huge, 4, SIZE_MAX, &err), LIP_ESHAPE);
    ck_assert_uint_gt(strlen(err.text), 0);
    ck_assert_int_eq(lip_shape_check(&deep, 4, SIZE_MAX, NULL), LIP_ESHAPE);
    ck_assert_int_eq(lip_shape_check(&empty, 4, 100, NULL), LIP_OK);
    ck_assert_int_eq(lip_shape_check(&some, 4, 400, NULL), LIP_OK);
    ck_assert_int_eq(lip_shape_check(&some, 4, 399, NULL), LIP_ESHAPE);
    ck_assert_int_eq(lip_tensor_init(&t, &huge, NULL), LIP_ESHAPE);
    lip_tensor_clear(&t);
    ck_assert_int_eq(lip_tensor_init(&t, &some, NULL), LIP_OK);
    ck_assert(t.data[99] == 0);
    lip_tensor_clear(&t);
    lip_tensor_clear(&t);
    lip__alloc_hook = no_memory;
    ck_assert_int_eq(lip_tensor_init(&t, &some, NULL), LIP_ENOMEM);
    lip__alloc_hook = NULL;
    ck_assert_ptr_null(t.data);
}
END_TEST

/* ---- the pool --------------------------------------------------------------------------------------- */

enum { TASKS = 97, WIDEST = 8 };

struct tally {
    _Atomic int done[TASKS];
    _Atomic int inside[WIDEST];
    _Atomic int wrong;
};

static void count(void *ctx, size_t i, size_t thread)
{
    struct tally *t = ctx;

    if (thread >= lip_threads() || atomic_fetch_add(&t->inside[thread], 1))
        atomic_fetch_add(&t->wrong, 1);
    atomic_fetch_add(&t->done[i], 1);
    atomic_fetch_sub(&t->inside[thread], 1);
}

static void run_once(size_t n)
{
    struct tally t = {0};

    lip__parallel(n, count, &t);
    ck_assert_int_eq(t.wrong, 0);
    for (size_t i = 0; i < TASKS; i++)
        ck_assert_int_eq(t.done[i], i < n);
}

START_TEST(each_task_runs_once_on_a_thread_of_its_own)
{
    size_t threads[] = {1, 2, 5, WIDEST, 3, 1};

    for (size_t c = 0; c < sizeof threads / sizeof *threads; c++) {
        ck_assert_int_eq(lip_set_threads(threads[c], NULL), LIP_OK);
        ck_assert_uint_eq(lip_threads(), threads[c]);
        for (int round = 0; round < 300; round++)
            run_once((size_t)round % TASKS);
        usleep(3000); /* now the workers sleep */
        run_once(TASKS);
    }
    ck_assert_int_eq(lip_set_threads(0, NULL), LIP_ERANGE);
    ck_assert_int_eq(lip_set_threads(257, NULL), LIP_ERANGE);
    ck_assert_uint_eq(lip_threads(), 1);
}
END_TEST

static void *call_often(void *unused)
{
    (void)unused;
    for (int round = 0; round < 500; round++)
        run_once(1 + (size_t)round % TASKS);
    return NULL;
}

START_TEST(callers_do_not_disturb_one_another)
{
    pthread_t caller[4];

    lip_set_threads(3, NULL);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&caller[i], NULL, call_often, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(caller[i], NULL);
    lip_set_threads(1, NULL);
}
END_TEST

/* Short tasks: which thread ran the second one. Asserting takes longer than they may be apart. */
static void note_thread(void *ctx, size_t i, size_t thread)
{
    atomic_fetch_add(&((struct tally *)ctx)->done[i], 1);
    if (i == 1)
        atomic_store(&((struct tally *)ctx)->wrong, thread != 0);
    for (uint64_t end = lip__now_ns() + 2000; lip__now_ns() < end;)
        ;
}

static bool helped(void)
{
    struct tally t = {0};

    lip__parallel_short(2, note_thread, &t);
    if (t.done[0] != 1 || t.done[1] != 1)
        ck_abort_msg("tasks ran %d and %d times", t.done[0], t.done[1]);
    return t.wrong;
}

/* Whoever calls now and then works alone; whoever calls again and again is helped before long. */
START_TEST(short_tasks_wake_nobody_unless_they_keep_coming)
{
    lip_set_threads(2, NULL);
    for (int round = 0; round < 200; round++) {
        usleep(round ? 200 : 100000); /* at first the worker is born, spins and sleeps */
        ck_assert(!helped());
    }
    for (uint64_t end = lip__now_ns() + 30000000000u; !helped();)
        if (lip__now_ns() > end)
            ck_abort_msg("nobody helps");
    lip_set_threads(1, NULL);
    ck_assert(!helped());
}
END_TEST

START_TEST(a_child_process_works_alone)
{
    int status;
    pid_t child;

    lip_set_threads(3, NULL);
    run_once(TASKS);
    usleep(20000); /* a sanitizer's own locks do not survive a fork while threads are being born */
    child = fork();
    if (!child) {
        int ok = lip_threads() == 1;
        run_once(TASKS);
        _exit(!ok);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && !WEXITSTATUS(status));
    run_once(TASKS);
    lip_set_threads(1, NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("base");
    TCase *t = tcase_create("base");

    tcase_add_test(t, every_code_has_a_name_and_a_text);
    tcase_add_test(t, the_first_text_wins);
    tcase_add_test(t, long_texts_are_cut_not_spilled);
    tcase_add_test(t, memory_is_zero_and_aligned);
    tcase_add_test(t, impossible_sizes_give_null);
    tcase_add_test(t, finite_finds_the_first_that_is_not);
    tcase_add_test(t, the_clock_goes_forward);
    tcase_add_test(t, shapes_count_compare_and_print);
    tcase_add_test(t, shapes_that_do_not_fit_are_refused);
    tcase_add_test(t, each_task_runs_once_on_a_thread_of_its_own);
    tcase_add_test(t, callers_do_not_disturb_one_another);
    tcase_add_test(t, short_tasks_wake_nobody_unless_they_keep_coming);
    tcase_add_test(t, a_child_process_works_alone);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
