/* check_batch.c: what the configuration says, who is taken with whom, who comes too late, and who wakes whom. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "batch.h"
#include "check_main.h"
#include "knobs.h"
#include "scheduler.h"

#define MS 1000000u

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- configuration ---------------------------------------------------------------------------------------- */

static bool read_text(const char *text, struct batch_config *c, struct knobs_fault *fault)
{
    json_t *json = json_loads(text, 0, NULL);
    struct knobs *knobs;

    ck_assert_ptr_nonnull(json);
    knobs = knobs_make(json, fault);
    json_decref(json);
    if (!knobs)
        return false;
    *c = knobs->batch;
    knobs_put(knobs);
    return true;
}

START_TEST(configuration_has_tritons_words)
{
    struct batch_config c = {0};
    struct knobs_fault fault;

    ck_assert(read_text("{}", &c, &fault));
    ck_assert(!c.dynamic && !c.max_queue_delay_us && c.max_queue_size == BATCH_QUEUE && c.allow_timeout_override);
    ck_assert(read_text("{\"dynamic_batching\":{\"preferred_batch_size\":[8,\"4\"],\"max_queue_delay_microseconds\":\"500\","
                        "\"preserve_ordering\":false,\"priority_levels\":3,\"default_priority_level\":2,\"default_queue_policy\":"
                        "{\"timeout_action\":\"DELAY\",\"default_timeout_microseconds\":7,\"allow_timeout_override\":false,"
                        "\"max_queue_size\":9}},\"parameters\":{\"deterministic\":{\"string_value\":\"true\"},"
                        "\"latency_budget_us\":{\"string_value\":\"1234\"}}}",
                        &c, &fault));
    ck_assert(c.dynamic && c.n_preferred == 2 && c.preferred[0] == 4 && c.preferred[1] == 8 && c.max_queue_delay_us == 500);
    ck_assert(!c.preserve_ordering && c.priority_levels == 3 && c.default_priority == 2 && c.delay_expired);
    ck_assert(c.default_timeout_us == 7 && !c.allow_timeout_override && c.max_queue_size == 9);
    ck_assert(c.deterministic && c.latency_budget_us == 1234);
    ck_assert(read_text("{\"dynamic_batching\":{\"preserve_ordering\":true,\"priority_levels\":1,\"default_priority_level\":1}}", &c,
                        &fault));
    ck_assert(c.preserve_ordering && c.priority_levels == 1);
}
END_TEST

START_TEST(what_is_wrong_with_it_has_a_place)
{
    static const struct {
        const char *text, *pointer;
    } bad[] = {
        {"{\"dynamic_batching\":[]}", "/dynamic_batching"},
        {"{\"dynamic_batching\":{\"x\":1}}", "/dynamic_batching/x"},
        {"{\"dynamic_batching\":{\"preferred_batch_size\":[0]}}", "/dynamic_batching/preferred_batch_size/0"},
        {"{\"dynamic_batching\":{\"preferred_batch_size\":4}}", "/dynamic_batching/preferred_batch_size"},
        {"{\"dynamic_batching\":{\"max_queue_delay_microseconds\":-1}}", "/dynamic_batching/max_queue_delay_microseconds"},
        {"{\"dynamic_batching\":{\"max_queue_delay_microseconds\":\"5x\"}}", "/dynamic_batching/max_queue_delay_microseconds"},
        {"{\"dynamic_batching\":{\"preserve_ordering\":1}}", "/dynamic_batching/preserve_ordering"},
        {"{\"dynamic_batching\":{\"preserve_ordering\":true,\"priority_levels\":2,\"default_priority_level\":1}}",
         "/dynamic_batching/priority_levels"},
        {"{\"dynamic_batching\":{\"preserve_ordering\":true,\"default_queue_policy\":{\"timeout_action\":\"DELAY\"}}}",
         "/dynamic_batching/default_queue_policy/timeout_action"},
        {"{\"dynamic_batching\":{\"priority_levels\":2}}", "/dynamic_batching/default_priority_level"},
        {"{\"dynamic_batching\":{\"priority_levels\":2,\"default_priority_level\":3}}", "/dynamic_batching/default_priority_level"},
        {"{\"dynamic_batching\":{\"default_queue_policy\":1}}", "/dynamic_batching/default_queue_policy"},
        {"{\"dynamic_batching\":{\"default_queue_policy\":{\"timeout_action\":\"WAIT\"}}}",
         "/dynamic_batching/default_queue_policy/timeout_action"},
        {"{\"dynamic_batching\":{\"default_queue_policy\":{\"y\":0}}}", "/dynamic_batching/default_queue_policy/y"},
        {"{\"dynamic_batching\":{\"max_queue_delay_microseconds\":10000001}}", "/dynamic_batching/max_queue_delay_microseconds"},
        {"{\"dynamic_batching\":{\"preferred_batch_size\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}}", "/dynamic_batching/preferred_batch_size"},
        {"{\"dynamic_batching\":{\"default_priority_level\":1}}", "/dynamic_batching/default_priority_level"},
        {"{\"parameters\":{\"latency_budget_us\":{\"string_value\":\"60000001\"}}}", "/parameters/latency_budget_us"},
        {"{\"parameters\":{\"deterministic\":{\"string_value\":\"maybe\"}}}", "/parameters/deterministic"},
        {"{\"parameters\":{\"latency_budget_us\":{\"string_value\":\"0\"}}}", "/parameters/latency_budget_us"},
    };
    struct batch_config c;
    struct knobs_fault fault;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(!read_text(bad[i].text, &c, &fault), "%s", bad[i].text);
        ck_assert_str_eq(fault.pointer, bad[i].pointer);
        ck_assert(strlen(fault.text) > 10);
    }
}
END_TEST

/* ---- a queue ---------------------------------------------------------------------------------------------------- */

struct job {
    struct batch_item item;
    atomic_int run, with, dropped, done;
    uint64_t when;
};

static pthread_mutex_t run_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t run_change = PTHREAD_COND_INITIALIZER;
static atomic_int held, runs, order;
static atomic_bool closed; /* whoever runs stays there */

static void run(struct batch_item *batch)
{
    int n = 0;

    for (struct batch_item *i = batch; i; i = i->next)
        n++;
    for (struct batch_item *i = batch; i; i = i->next) {
        ((struct job *)i)->with = n;
        ((struct job *)i)->run = ++order;
    }
    runs++;
    while (closed)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void drop(struct batch_item *item, int status)
{
    ((struct job *)item)->dropped = status;
}

static void forget(struct batch_item *item)
{
    (void)item;
}

static bool gone(struct batch_item *item)
{
    (void)item;
    return false;
}

static void done(struct batch_item *item)
{
    ((struct job *)item)->when = now_ns();
    pthread_mutex_lock(&run_lock);
    ((struct job *)item)->done = 1;
    pthread_cond_broadcast(&run_change);
    pthread_mutex_unlock(&run_lock);
}

static void hold(struct batcher *b)
{
    (void)b;
    held++;
}

static void release(struct batcher *b)
{
    (void)b;
    held--;
}

static const struct batch_work work = {run, drop, forget};

/* An admitted item of one row. */
static void begin(struct job *j, struct batcher *b, uint64_t priority, uint64_t timeout_us)
{
    uint64_t now = now_ns(), retry;

    *j = (struct job){.item = {.work = &work, .rows = 1, .most = 64, .flops = 1, .gone = gone, .done = done}};
    ck_assert_int_eq(batcher_admit(b, &j->item, priority, timeout_us, now, now + 3600000000000u, &retry), 0);
}

static size_t count(const struct batch_item *i)
{
    size_t n = 0;

    for (; i; i = i->next)
        n++;
    return n;
}

START_TEST(priorities_go_first_and_keep_their_order)
{
    struct batch_queue q = {0};
    struct batcher b;
    struct batch_config c;
    struct job j[6];
    static const uint64_t priority[] = {2, 1, 3, 1, 2, 0};
    static const int wanted[] = {1, 3, 0, 4, 5, 2};
    struct batch_item *i;

    batcher_init(&b, hold, release);
    batch_config_init(&c);
    c.priority_levels = 3;
    c.default_priority = 2;
    batcher_configure(&b, &c);
    for (int k = 0; k < 6; k++) {
        begin(&j[k], &b, priority[k], 0);
        batch_push(&q, &j[k].item);
    }
    ck_assert_uint_eq(b.pending, 6);
    i = batch_take(&q, &c);
    for (int k = 0; k < 6; k++, i = i->next)
        ck_assert_ptr_eq(i, &j[wanted[k]].item);
    ck_assert(!i && !q.n && !q.rows && !q.first && !q.last && !b.pending && !batch_take(&q, &c));
    batcher_clear(&b);
}
END_TEST

START_TEST(a_batch_is_of_one_model_and_within_its_bounds)
{
    struct batch_queue q = {0};
    struct batcher a, b;
    struct batch_config c;
    struct job j[12];
    struct batch_item *i;

    batcher_init(&a, hold, release);
    batcher_init(&b, hold, release);
    batch_config_init(&c);
    for (int k = 0; k < 12; k++) {
        begin(&j[k], k % 3 == 2 ? &b : &a, 0, 0);
        j[k].item.most = 5;
        batch_push(&q, &j[k].item);
    }
    j[3].item.rows = 3;
    q.rows += 2;
    i = batch_take(&q, &c); /* 1 + 1 + 3, those of b stay */
    ck_assert(count(i) == 3 && i == &j[0].item && i->next->next == &j[3].item);
    c.n_preferred = 2;
    c.preferred[0] = 2;
    c.preferred[1] = 100;
    i = batch_take(&q, &c);
    ck_assert(count(i) == 2 && i == &j[2].item && i->next == &j[5].item);
    ck_assert(batch_remove(&q, &j[11].item) && !batch_remove(&q, &j[11].item) && q.last == &j[10].item);
    c.n_preferred = 0;
    batcher_took(&a, 1, 9 * MS); /* two of them would take longer than the budget of 20 ms allows four */
    batcher_took(&a, 2, 18 * MS);
    batcher_took(&a, 4, 36 * MS);
    ck_assert_uint_eq(batch_rows(&j[4].item, &c), 2);
    ck_assert_uint_eq(count(batch_take(&q, &c)), 2);
    j[9].item.rows = 64; /* more than the bound, but alone */
    ck_assert_uint_eq(count(batch_take(&q, &c)), 1);
    batcher_clear(&a);
    batcher_clear(&b);
}
END_TEST

START_TEST(who_is_too_late_is_refused_or_goes_behind)
{
    struct batch_queue q = {0};
    struct batcher b;
    struct batch_config c;
    struct job j[4];
    uint64_t retry;
    struct batch_item *late;

    batcher_init(&b, hold, release);
    batch_config_init(&c);
    c.default_timeout_us = 1000;
    c.max_queue_size = 4;
    batcher_configure(&b, &c);
    begin(&j[0], &b, 0, 0);
    begin(&j[1], &b, 0, 100000000); /* longer than the default: the default holds */
    c.delay_expired = true;
    batcher_configure(&b, &c);
    begin(&j[2], &b, 0, 500);
    c.default_timeout_us = 0;
    batcher_configure(&b, &c);
    begin(&j[3], &b, 0, 0);
    for (int k = 0; k < 4; k++)
        batch_push(&q, &j[k].item);
    ck_assert_uint_eq(j[0].item.expires_ns - j[0].item.queued_ns, 1000000);
    ck_assert_uint_eq(j[1].item.expires_ns - j[1].item.queued_ns, 1000000);
    ck_assert_uint_eq(j[2].item.expires_ns - j[2].item.queued_ns, 500000);
    ck_assert_uint_eq(j[3].item.expires_ns, UINT64_MAX);
    ck_assert_ptr_null(batch_expire(&q, j[0].item.queued_ns));
    late = batch_expire(&q, j[3].item.queued_ns + 2 * MS);
    ck_assert(count(late) == 2 && late == &j[0].item && late->next == &j[1].item);
    ck_assert(q.n == 2 && q.first == &j[3].item && q.last == &j[2].item);
    ck_assert_ptr_null(batch_expire(&q, j[3].item.queued_ns + 4 * MS)); /* only once */
    ck_assert_int_eq(batcher_admit(&b, &j[0].item, 0, 0, now_ns(), UINT64_MAX, &retry), 429);
    ck_assert_uint_ge(retry, 1);
    ck_assert_uint_eq(b.pending, 4);
    ck_assert_ptr_eq(batch_expire(&q, UINT64_MAX)->next, &j[2].item); /* the request's own end is one for all */
    batcher_clear(&b);
}
END_TEST

/* ---- workers ----------------------------------------------------------------------------------------------------- */

static uint64_t published;

static uint64_t revision(struct batcher *b)
{
    (void)b;
    return published;
}

static void wait_all(struct job *j, size_t n)
{
    pthread_mutex_lock(&run_lock);
    for (size_t i = 0; i < n; i++)
        while (!j[i].done)
            pthread_cond_wait(&run_change, &run_lock);
    pthread_mutex_unlock(&run_lock);
}

static struct scheduler *scheduler;
static struct batching *batching;
static struct batcher model;

static void open_all(void)
{
    held = runs = order = 0;
    closed = false;
    published = 1;
    scheduler = scheduler_new(3, 1024);
    batching = batching_new(scheduler, 2);
    batcher_init(&model, hold, release);
    ck_assert(scheduler && batching);
}

static void close_all(void)
{
    batching_stop(batching);
    scheduler_free(scheduler);
    batching_free(batching);
    ck_assert_int_eq(held, 0);
    ck_assert_uint_eq(model.pending, 0);
    batcher_clear(&model);
}

START_TEST(what_queued_up_is_computed_together)
{
    struct job j[66];

    open_all();
    closed = true; /* the first two keep the workers while the others come */
    for (int k = 0; k < 66; k++) {
        begin(&j[k], &model, 0, 0);
        batching_submit(batching, &j[k].item, revision);
        if (k < 2)
            while (runs <= k)
                nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    closed = false;
    wait_all(j, 66);
    for (int k = 2; k < 66; k++)
        ck_assert_int_eq(j[k].with, 64);
    ck_assert_int_eq(runs, 3);
    close_all();
}
END_TEST

START_TEST(a_delay_waits_for_company_but_not_longer)
{
    struct batch_config c;
    struct job j[9];

    open_all();
    batch_config_init(&c);
    c.max_queue_delay_us = 200000;
    c.n_preferred = 1;
    c.preferred[0] = 4;
    batcher_configure(&model, &c);
    for (int k = 0; k < 9; k++) {
        begin(&j[k], &model, 0, 0);
        batching_submit(batching, &j[k].item, revision);
    }
    wait_all(j, 9);
    /* Eight are two times the preferred size and need not wait; the last one waits for the delay, and alone. */
    ck_assert(j[0].with == 4 && j[7].with == 4 && j[8].with == 1);
    ck_assert_uint_ge(j[8].when - j[8].item.queued_ns, 200 * MS);
    close_all();
}
END_TEST

START_TEST(times_end_while_nothing_else_happens)
{
    struct batch_config c;
    struct job j[2];

    open_all();
    batch_config_init(&c);
    c.max_queue_delay_us = 10000000;
    batcher_configure(&model, &c);
    begin(&j[0], &model, 0, 5000);
    begin(&j[1], &model, 0, 0);
    j[1].item.min_revision = 5;
    j[1].item.deadline_ns = j[1].item.queued_ns + 8 * MS;
    batching_submit(batching, &j[0].item, revision);
    batching_submit(batching, &j[1].item, revision);
    wait_all(j, 2);
    ck_assert(j[0].dropped == 504 && j[1].dropped == 504 && !runs);
    close_all();
}
END_TEST

START_TEST(a_revision_is_waited_for)
{
    struct job j[2];

    open_all();
    begin(&j[0], &model, 0, 0);
    j[0].item.min_revision = 3;
    batching_submit(batching, &j[0].item, revision);
    published = 2;
    batcher_published(&model, 2);
    begin(&j[1], &model, 0, 0);
    batching_submit(batching, &j[1].item, revision);
    wait_all(&j[1], 1);
    ck_assert(!j[0].done);
    published = 3;
    batcher_published(&model, 3);
    wait_all(j, 1);
    ck_assert(j[0].run == 2 && !j[0].dropped);
    close_all();
}
END_TEST

START_TEST(quick_is_what_waits_for_nobody)
{
    struct batch_config c;
    struct job j;

    open_all();
    begin(&j, &model, 0, 0);
    ck_assert(batcher_is_quick(&model, &j.item, 1, 1e6));
    ck_assert(!batcher_is_quick(&model, &j.item, 1, 0.01)); /* one flop takes an eighth of a nanosecond */
    batcher_took(&model, 1, 2 * MS);
    ck_assert(!batcher_is_quick(&model, &j.item, 1, 1e6));
    ck_assert(batcher_is_quick(&model, &j.item, 1, 3e6));
    j.item.min_revision = 2;
    ck_assert(!batcher_is_quick(&model, &j.item, 1, 3e6));
    j.item.min_revision = 0;
    batch_config_init(&c);
    c.max_queue_delay_us = 1;
    batcher_configure(&model, &c);
    ck_assert(!batcher_is_quick(&model, &j.item, 1, 3e6));
    batcher_leave(&model);
    close_all();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("batch");
    TCase *t = tcase_create("configuration");

    tcase_add_test(t, configuration_has_tritons_words);
    tcase_add_test(t, what_is_wrong_with_it_has_a_place);
    suite_add_tcase(s, t);
    t = tcase_create("queue");
    tcase_add_test(t, priorities_go_first_and_keep_their_order);
    tcase_add_test(t, a_batch_is_of_one_model_and_within_its_bounds);
    tcase_add_test(t, who_is_too_late_is_refused_or_goes_behind);
    suite_add_tcase(s, t);
    t = tcase_create("workers");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, what_queued_up_is_computed_together);
    tcase_add_test(t, a_delay_waits_for_company_but_not_longer);
    tcase_add_test(t, times_end_while_nothing_else_happens);
    tcase_add_test(t, a_revision_is_waited_for);
    tcase_add_test(t, quick_is_what_waits_for_nobody);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
