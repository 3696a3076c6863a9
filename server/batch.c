/* batch.c: queues of requests, what is taken from them together, and who waits for what.
 *
 * Locks: a batcher's, then batching's or the scheduler's. None is held while something is computed, dropped or answered.
 */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "scheduler.h"

#define MS 1000000u
#define FLOPS_PER_NS 8.0      /* of one core, small batches */
#define GONE_AFTER_NS 1000000000u /* a client is looked for only when its request had to wait this long */
#define AGAIN_NS (10 * MS)    /* when there was no room for a worker's task */

/* ---- configuration ------------------------------------------------------------------------------------------- */

void batch_config_init(struct batch_config *c)
{
    *c = (struct batch_config){.allow_timeout_override = true,
                               .max_queue_size = BATCH_QUEUE,
                               .latency_budget_us = BATCH_LATENCY_US};
}

/* ---- queues ------------------------------------------------------------------------------------------------------ */

void batch_push(struct batch_queue *q, struct batch_item *item)
{
    struct batch_item *before = q->last; /* whom it follows; nearly always the last, of the same priority */

    if (before && before->priority > item->priority) {
        struct batch_item *next = q->first;
        for (before = NULL; next->priority <= item->priority; next = next->next)
            before = next;
    }
    item->next = before ? before->next : q->first;
    if (before)
        before->next = item;
    else
        q->first = item;
    if (!item->next)
        q->last = item;
    q->n++;
    q->rows += item->rows;
}

/* The item behind `before`, the first one behind NULL, leaves. */
static struct batch_item *take_behind(struct batch_queue *q, struct batch_item *before)
{
    struct batch_item *item = before ? before->next : q->first;

    if (before)
        before->next = item->next;
    else
        q->first = item->next;
    if (q->last == item)
        q->last = before;
    item->next = NULL;
    q->n--;
    q->rows -= item->rows;
    return item;
}

bool batch_remove(struct batch_queue *q, struct batch_item *item)
{
    struct batch_item *before = NULL;

    for (struct batch_item *i = q->first; i; before = i, i = i->next)
        if (i == item) {
            take_behind(q, before);
            return true;
        }
    return false;
}

struct batch_item *batch_expire(struct batch_queue *q, uint64_t now_ns)
{
    struct batch_item *late = NULL, **end = &late, *delayed = NULL, **delayed_end = &delayed, *before = NULL;

    for (struct batch_item *i = q->first, *next; i; i = next) {
        next = i->next;
        if (now_ns < i->expires_ns && now_ns < i->deadline_ns) {
            before = i;
        } else if (now_ns >= i->deadline_ns || !i->delayed) {
            *end = take_behind(q, before);
            end = &i->next;
        } else {
            *delayed_end = take_behind(q, before);
            delayed_end = &i->next;
        }
    }
    while (delayed) {
        struct batch_item *i = delayed;

        delayed = i->next;
        i->priority = i->expires_ns = UINT64_MAX;
        batch_push(q, i);
    }
    return late;
}

size_t batch_rows(const struct batch_item *first, const struct batch_config *c)
{
    size_t rows = 1;

    while (rows < first->most) {
        size_t more = rows < first->most / 2 ? 2 * rows : first->most;
        if (batcher_ns(first->batcher, more, first->flops) > (double)c->latency_budget_us * 1e3)
            break;
        rows = more;
    }
    return rows;
}

/* How many rows the next batch may have: the largest preferred size that the rows at hand can make, else `most`. */
static size_t reach(const struct batch_config *c, size_t rows, size_t most)
{
    for (size_t i = c->n_preferred; i-- > 0;)
        if (c->preferred[i] <= rows && c->preferred[i] <= most)
            return c->preferred[i];
    return most;
}

struct batch_item *batch_take(struct batch_queue *q, const struct batch_config *c)
{
    struct batch_item *batch = NULL, **end = &batch, *before = NULL;
    struct batcher *b = q->first ? q->first->batcher : NULL;
    const struct batch_work *work = q->first ? q->first->work : NULL;
    size_t rows = 0, most;

    if (!b)
        return NULL;
    most = reach(c, q->rows, batch_rows(q->first, c));
    for (struct batch_item *i = q->first, *next; i; i = next) {
        next = i->next;
        if (i->batcher != b || i->work != work) {
            before = i;
        } else if (rows && rows + i->rows > most) {
            break;
        } else {
            rows += i->rows;
            *end = take_behind(q, before);
            end = &i->next;
            batcher_leave(b);
        }
    }
    return batch;
}

/* ---- models ---------------------------------------------------------------------------------------------------- */

void batcher_init(struct batcher *b, void (*hold)(struct batcher *b), void (*release)(struct batcher *b))
{
    *b = (struct batcher){.hold = hold, .release = release};
    pthread_mutex_init(&b->lock, NULL);
    batch_config_init(&b->config);
}

void batcher_clear(struct batcher *b)
{
    pthread_mutex_destroy(&b->lock);
}

void batcher_configure(struct batcher *b, const struct batch_config *c)
{
    pthread_mutex_lock(&b->lock);
    b->config = *c;
    pthread_mutex_unlock(&b->lock);
}

void batcher_config(struct batcher *b, struct batch_config *copy)
{
    pthread_mutex_lock(&b->lock);
    *copy = b->config;
    pthread_mutex_unlock(&b->lock);
}

static unsigned class_of(size_t rows)
{
    unsigned class = 63 - (unsigned)__builtin_clzll(rows | 1);

    return class < BATCH_CLASSES ? class : BATCH_CLASSES - 1;
}

double batcher_ns(struct batcher *b, size_t rows, double flops)
{
    uint32_t row = b->row_ns[class_of(rows)];

    return (double)rows * (row ? row : flops / FLOPS_PER_NS);
}

/* An average that forgets by an eighth, so that one interruption does not stay for long. */
void batcher_took(struct batcher *b, size_t rows, uint64_t ns)
{
    _Atomic uint32_t *row = &b->row_ns[class_of(rows)];
    uint64_t now = ns / (rows ? rows : 1), before = *row;

    if (now > UINT32_MAX)
        now = UINT32_MAX;
    now = before ? (7 * before + now + 4) / 8 : now;
    *row = now ? (uint32_t)now : 1;
}

int batcher_admit(struct batcher *b, struct batch_item *item, uint64_t priority, uint64_t timeout_us, uint64_t now_ns,
                  uint64_t end_ns, uint64_t *retry_seconds)
{
    struct batch_config c;
    uint64_t timeout;
    size_t waiting = b->pending++;

    batcher_config(b, &c);
    timeout = c.default_timeout_us;
    if (c.allow_timeout_override && timeout_us && (!timeout || timeout_us < timeout))
        timeout = timeout_us;
    item->batcher = b;
    item->priority = priority && priority <= c.priority_levels ? priority : c.default_priority;
    item->queued_ns = now_ns;
    item->expires_ns = timeout ? now_ns + timeout * 1000 : UINT64_MAX;
    item->deadline_ns = end_ns;
    item->delayed = c.delay_expired;
    if (!c.max_queue_size || waiting < c.max_queue_size)
        return 0;
    b->pending--;
    *retry_seconds = 1 + (uint64_t)(batcher_ns(b, 1, item->flops) * (double)waiting * 1e-9);
    return 429;
}

void batcher_leave(struct batcher *b)
{
    b->pending--;
}

bool batcher_is_quick(struct batcher *b, const struct batch_item *item, uint64_t published, double quick_ns)
{
    bool quick;

    pthread_mutex_lock(&b->lock);
    quick = !b->config.max_queue_delay_us && !b->config.preserve_ordering && !b->queue.n && item->min_revision <= published &&
            batcher_ns(b, item->rows, item->flops) <= quick_ns;
    pthread_mutex_unlock(&b->lock);
    return quick;
}

/* ---- workers ----------------------------------------------------------------------------------------------------- */

struct batching {
    struct scheduler *scheduler;
    size_t most;
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct batcher *timed; /* each held */
    uint64_t next_ns;      /* when the timer wakes up by itself */
    bool stopping;
    pthread_t timer;
};

static void work(void *arg);

/* When nobody has to wait for company any more: now or before, or later. The lock of b is held; something is queued. */
static uint64_t due(struct batcher *b)
{
    const struct batch_config *c = &b->config;
    size_t most = batch_rows(b->queue.first, c);
    uint64_t oldest = UINT64_MAX;

    if (!c->max_queue_delay_us || b->queue.rows >= (c->n_preferred && c->preferred[0] < most ? c->preferred[0] : most))
        return 0;
    for (const struct batch_item *i = b->queue.first; i; i = i->next)
        if (i->queued_ns < oldest)
            oldest = i->queued_ns;
    return oldest + c->max_queue_delay_us * 1000;
}

/* When the timer has to look at b; 0: never. The lock of b is held. */
static uint64_t next_look(struct batcher *b, uint64_t now)
{
    uint64_t next = UINT64_MAX;

    for (int k = 0; k < 2; k++)
        for (const struct batch_item *i = k ? b->later.first : b->queue.first; i; i = i->next) {
            uint64_t end = i->expires_ns < i->deadline_ns ? i->expires_ns : i->deadline_ns;
            next = end < next ? end : next;
        }
    if (b->queue.n && b->active < (b->config.preserve_ordering ? 1 : b->batching->most)) {
        uint64_t at = due(b);
        next = at > now && at < next ? at : at > now ? next : now + AGAIN_NS < next ? now + AGAIN_NS : next;
    }
    return next == UINT64_MAX ? 0 : next;
}

/* Let the timer look at b then; 0: no more. The lock of b is held, and so is b itself. */
static void look_at(struct batching *batching, struct batcher *b, uint64_t when)
{
    bool forget = false;

    pthread_mutex_lock(&batching->lock);
    if (when && !b->timed_ns) {
        b->hold(b);
        b->timed_next = batching->timed;
        batching->timed = b;
    } else if (!when && b->timed_ns) {
        struct batcher **at = &batching->timed;
        while (*at != b)
            at = &(*at)->timed_next;
        *at = b->timed_next;
        forget = true;
    }
    b->timed_ns = when;
    if (when && when < batching->next_ns)
        pthread_cond_signal(&batching->change);
    pthread_mutex_unlock(&batching->lock);
    if (forget)
        b->release(b);
}

/* Workers for what may be taken now, as many as there may be. The lock of b is held. */
static void start(struct batching *batching, struct batcher *b, uint64_t now)
{
    size_t most = b->config.preserve_ordering ? 1 : batching->most;

    /* One that has been asked for will find what is queued now, so a second one is for what it leaves. */
    if (!b->queue.n || b->active >= most || due(b) > now)
        return;
    b->hold(b);
    b->active++;
    if (!scheduler_submit(batching->scheduler, NULL, work, b)) {
        b->active--; /* the timer tries again */
        b->release(b);
    }
}

static void drop_all(struct batch_item *items, int status)
{
    while (items) {
        struct batch_item *next = items->next;

        items->work->drop(items, status);
        items->done(items);
        items = next;
    }
}

/* Take out what is too late. The lock of b is held. */
static struct batch_item *expire(struct batcher *b, uint64_t now)
{
    struct batch_item *late = batch_expire(&b->queue, now), **end = &late;

    while (*end)
        end = &(*end)->next;
    *end = batch_expire(&b->later, now);
    for (struct batch_item *i = late; i; i = i->next)
        batcher_leave(b);
    return late;
}

/* Leaves in the batch those whose client is still there. */
static struct batch_item *take_gone(struct batch_item **batch, uint64_t now)
{
    struct batch_item *gone = NULL;

    while (*batch) {
        struct batch_item *i = *batch;

        if (now - i->queued_ns > GONE_AFTER_NS && i->gone(i)) {
            *batch = i->next;
            i->next = gone;
            gone = i;
        } else {
            batch = &i->next;
        }
    }
    return gone;
}

/* One batch, on a worker. */
static void work(void *arg)
{
    struct batcher *b = arg;
    struct batching *batching;
    struct batch_item *late, *batch, *gone;
    uint64_t now = now_ns();

    pthread_mutex_lock(&b->lock);
    batching = b->batching;
    late = expire(b, now);
    batch = b->queue.n && due(b) <= now ? batch_take(&b->queue, &b->config) : NULL;
    start(batching, b, now); /* what is left is another worker's */
    pthread_mutex_unlock(&b->lock);
    gone = take_gone(&batch, now);
    drop_all(late, 504);
    drop_all(gone, 499);
    if (batch)
        batch->work->run(batch);
    while (batch) {
        struct batch_item *next = batch->next;

        batch->done(batch);
        batch = next;
    }
    now = now_ns();
    pthread_mutex_lock(&b->lock);
    b->active--;
    start(batching, b, now);
    look_at(batching, b, next_look(b, now));
    pthread_mutex_unlock(&b->lock);
    b->release(b);
}

/* The timer's look at b. */
static void look(struct batching *batching, struct batcher *b)
{
    uint64_t now = now_ns();
    struct batch_item *late;

    pthread_mutex_lock(&b->lock);
    late = expire(b, now);
    start(batching, b, now);
    look_at(batching, b, next_look(b, now));
    pthread_mutex_unlock(&b->lock);
    drop_all(late, 504);
    b->release(b);
}

/* One that is due, or NULL and when the next one is. The lock is held. */
static struct batcher *take_timed(struct batching *batching, uint64_t now)
{
    batching->next_ns = UINT64_MAX;
    for (struct batcher **at = &batching->timed; *at; at = &(*at)->timed_next) {
        struct batcher *b = *at;

        if (b->timed_ns <= now) {
            *at = b->timed_next;
            b->timed_ns = 0;
            return b;
        }
        if (b->timed_ns < batching->next_ns)
            batching->next_ns = b->timed_ns;
    }
    return NULL;
}

static void *keep_time(void *arg)
{
    struct batching *batching = arg;

    pthread_mutex_lock(&batching->lock);
    while (!batching->stopping) {
        struct batcher *b = take_timed(batching, now_ns());
        uint64_t next = batching->next_ns;

        if (b) {
            pthread_mutex_unlock(&batching->lock);
            look(batching, b);
            pthread_mutex_lock(&batching->lock);
        } else if (next == UINT64_MAX) {
            pthread_cond_wait(&batching->change, &batching->lock);
        } else {
            struct timespec at = {.tv_sec = (time_t)(next / 1000000000u), .tv_nsec = (long)(next % 1000000000u)};
            pthread_cond_timedwait(&batching->change, &batching->lock, &at);
        }
    }
    pthread_mutex_unlock(&batching->lock);
    return NULL;
}

struct batching *batching_new(struct scheduler *s, size_t most)
{
    struct batching *batching = calloc(1, sizeof *batching);
    pthread_condattr_t monotonic;

    if (!batching)
        return NULL;
    batching->scheduler = s;
    batching->most = most ? most : 1;
    pthread_mutex_init(&batching->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&batching->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!pthread_create(&batching->timer, NULL, keep_time, batching))
        return batching;
    pthread_cond_destroy(&batching->change);
    pthread_mutex_destroy(&batching->lock);
    free(batching);
    return NULL;
}

void batching_stop(struct batching *batching)
{
    if (!batching)
        return;
    pthread_mutex_lock(&batching->lock);
    batching->stopping = true;
    pthread_cond_signal(&batching->change);
    pthread_mutex_unlock(&batching->lock);
    pthread_join(batching->timer, NULL);
}

void batching_free(struct batching *batching)
{
    if (!batching)
        return;
    while (batching->timed) {
        struct batcher *b = batching->timed;

        batching->timed = b->timed_next;
        b->timed_ns = 0;
        b->release(b);
    }
    pthread_cond_destroy(&batching->change);
    pthread_mutex_destroy(&batching->lock);
    free(batching);
}

void batching_submit(struct batching *batching, struct batch_item *item, uint64_t (*revision)(struct batcher *b))
{
    struct batcher *b = item->batcher;
    bool later = item->min_revision > revision(b);
    uint64_t now = now_ns();

    b->hold(b); /* the item may be done before we are */
    pthread_mutex_lock(&b->lock);
    b->batching = batching;
    batch_push(later ? &b->later : &b->queue, item);
    start(batching, b, now);
    look_at(batching, b, next_look(b, now));
    pthread_mutex_unlock(&b->lock);
    if (later) /* it may have been published while we pushed */
        batcher_published(b, revision(b));
    b->release(b);
}

void batcher_published(struct batcher *b, uint64_t revision)
{
    struct batch_item *before = NULL;

    pthread_mutex_lock(&b->lock);
    for (struct batch_item *i = b->later.first, *next; i; i = next) {
        next = i->next;
        if (i->min_revision > revision) {
            before = i;
        } else {
            i->queued_ns = now_ns();
            batch_push(&b->queue, take_behind(&b->later, before));
        }
    }
    if (b->queue.n)
        start(b->batching, b, now_ns());
    pthread_mutex_unlock(&b->lock);
}
