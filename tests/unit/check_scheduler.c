/* check_scheduler.c: order within a key, freedom between keys, bounds, draining. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "check_main.h"
#include "scheduler.h"

/* A gate that work waits at, and a journal of what ran. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
static bool open_gate;
static int at_gate;
static atomic_int done, inside[8];

static void wait_at_gate(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    at_gate++;
    pthread_cond_broadcast(&change);
    while (!open_gate)
        pthread_cond_wait(&change, &lock);
    pthread_mutex_unlock(&lock);
    done++;
}

static void wait_for(int n)
{
    pthread_mutex_lock(&lock);
    while (at_gate < n)
        pthread_cond_wait(&change, &lock);
    pthread_mutex_unlock(&lock);
}

static void open_it(void)
{
    pthread_mutex_lock(&lock);
    open_gate = true;
    pthread_cond_broadcast(&change);
    pthread_mutex_unlock(&lock);
}

static void count(void *arg)
{
    (void)arg;
    done++;
}

struct step {
    int key, number;
    int *last;
};

/* Nobody else of this key is inside, and the one before was the one before. */
static void in_order(void *arg)
{
    struct step *step = arg;

    ck_assert_int_eq(inside[step->key]++, 0);
    ck_assert_int_eq(*step->last, step->number - 1);
    *step->last = step->number;
    inside[step->key]--;
    done++;
}

START_TEST(work_of_one_key_runs_in_order_and_alone)
{
    enum { KEYS = 8, EACH = 200 };
    static struct step steps[KEYS][EACH];
    static int last[KEYS];
    struct scheduler *s = scheduler_new(4, KEYS * EACH);

    for (int n = 0; n < EACH; n++)
        for (int k = 0; k < KEYS; k++) {
            char key[2] = {(char)('a' + k), 0};

            steps[k][n] = (struct step){k, n + 1, &last[k]};
            ck_assert(scheduler_submit(s, key, in_order, &steps[k][n]));
        }
    ck_assert(scheduler_drain(s, 60));
    ck_assert_int_eq(done, KEYS * EACH);
    ck_assert_uint_eq(scheduler_depth(s), 0);
    scheduler_free(s);
}
END_TEST

START_TEST(reads_pass_while_writes_hold_all_they_may)
{
    struct scheduler *s = scheduler_new(3, 100);

    for (int k = 0; k < 5; k++) {
        char key[2] = {(char)('a' + k), 0};

        ck_assert(scheduler_submit(s, key, wait_at_gate, NULL));
    }
    wait_for(2); /* of three workers */
    for (int i = 0; i < 10; i++)
        ck_assert(scheduler_submit(s, NULL, count, NULL));
    while (done < 10)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    pthread_mutex_lock(&lock);
    ck_assert_int_eq(at_gate, 2);
    pthread_mutex_unlock(&lock);
    open_it();
    ck_assert(scheduler_drain(s, 60));
    ck_assert_int_eq(done, 15);
    scheduler_free(s);
}
END_TEST

START_TEST(the_queue_is_bounded)
{
    struct scheduler *s = scheduler_new(2, 3);

    ck_assert(scheduler_submit(s, NULL, wait_at_gate, NULL));
    ck_assert(scheduler_submit(s, NULL, wait_at_gate, NULL));
    wait_for(2);
    for (int i = 0; i < 3; i++)
        ck_assert(scheduler_submit(s, i ? "k" : NULL, count, NULL));
    ck_assert(!scheduler_submit(s, NULL, count, NULL));
    ck_assert(!scheduler_submit(s, "k", count, NULL));
    ck_assert_uint_eq(scheduler_depth(s), 3);
    ck_assert(!scheduler_drain(s, 0.05));
    open_it();
    ck_assert(scheduler_drain(s, 60));
    ck_assert_int_eq(done, 5);
    ck_assert(scheduler_submit(s, "k", count, NULL)); /* there is room again */
    scheduler_free(s);
    ck_assert_int_eq(done, 6); /* what was queued still ran */
}
END_TEST

START_TEST(silence_is_told_only_while_something_waits)
{
    struct scheduler *s = scheduler_new(2, 3);

    ck_assert_double_eq(scheduler_silent_seconds(s), 0);
    ck_assert(scheduler_submit(s, "k", wait_at_gate, NULL));
    ck_assert(scheduler_submit(s, "k", wait_at_gate, NULL));
    wait_for(1);
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    ck_assert_double_ge(scheduler_silent_seconds(s), 0.02);
    open_it();
    ck_assert(scheduler_drain(s, 60));
    ck_assert_double_eq(scheduler_silent_seconds(s), 0);
    scheduler_free(s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("scheduler");
    TCase *every = tcase_create("scheduler");

    tcase_add_test(every, work_of_one_key_runs_in_order_and_alone);
    tcase_add_test(every, reads_pass_while_writes_hold_all_they_may);
    tcase_add_test(every, the_queue_is_bounded);
    tcase_add_test(every, silence_is_told_only_while_something_waits);
    suite_add_tcase(s, every);
    return s;
}

CHECK_MAIN(suite)
