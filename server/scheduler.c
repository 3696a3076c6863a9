/* scheduler.c: two queues of runnable tasks and, for every busy key, a lane of tasks that wait for it.
 *
 * A lane lives as long as work of its key is queued or running. Only the first task of a lane is runnable, so workers
 * never look at what they may not take; one lock guards everything and is held for pointer moves only.
 */
#include "scheduler.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"

struct task {
    struct task *next;
    struct lane *lane; /* NULL: free of any key */
    void (*run)(void *arg);
    void *arg;
    uint64_t number;
};

struct queue {
    struct task *first, **last;
};

struct lane {
    struct lane *next;
    struct queue waiting;
    char key[];
};

struct scheduler {
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    struct queue reads, writes; /* runnable */
    struct lane *lanes;
    uint64_t submitted, moved_ns; /* moved_ns: when a task was last begun or finished */
    size_t waiting, running, writing, capacity, n_workers;
    bool stopping;
    pthread_t workers[];
};

static void queue_init(struct queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

static void queue_push(struct queue *q, struct task *t)
{
    t->next = NULL;
    *q->last = t;
    q->last = &t->next;
}

static struct task *queue_pop(struct queue *q)
{
    struct task *t = q->first;

    if (t && !(q->first = t->next))
        q->last = &q->first;
    return t;
}

/* The older of the two first runnable tasks; no write while all other workers write. */
static struct task *take(struct scheduler *s)
{
    struct task *read = s->reads.first, *write = s->writing + 1 < s->n_workers ? s->writes.first : NULL;
    struct task *t = !write || (read && read->number < write->number) ? queue_pop(&s->reads) : queue_pop(&s->writes);

    if (t) {
        s->waiting--;
        s->running++;
        s->writing += t->lane != NULL;
        s->moved_ns = now_ns();
    }
    return t;
}

static void lane_free(struct scheduler *s, struct lane *lane)
{
    struct lane **at = &s->lanes;

    while (*at != lane)
        at = &(*at)->next;
    *at = lane->next;
    free(lane);
}

static void finish(struct scheduler *s, struct lane *lane)
{
    s->running--;
    s->moved_ns = now_ns();
    if (lane) {
        struct task *next = queue_pop(&lane->waiting);

        s->writing--;
        if (next)
            queue_push(&s->writes, next);
        else
            lane_free(s, lane);
        pthread_cond_signal(&s->work); /* the next of the lane, or a write that was held back */
    }
    if (!s->waiting && !s->running)
        pthread_cond_broadcast(&s->idle);
}

static void *work(void *arg)
{
    struct scheduler *s = arg;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct task *t = take(s);

        if (t) {
            struct lane *lane = t->lane;

            pthread_mutex_unlock(&s->lock);
            t->run(t->arg);
            free(t);
            pthread_mutex_lock(&s->lock);
            finish(s, lane);
        } else if (s->stopping && !s->waiting) {
            break;
        } else {
            pthread_cond_wait(&s->work, &s->lock);
        }
    }
    pthread_cond_broadcast(&s->work); /* whoever waited for a write to be over can go now, too */
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

struct scheduler *scheduler_new(size_t workers, size_t capacity)
{
    struct scheduler *s = calloc(1, sizeof *s + (workers < 2 ? 2 : workers) * sizeof(pthread_t));
    pthread_condattr_t monotonic;

    if (!s)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    queue_init(&s->reads);
    queue_init(&s->writes);
    s->capacity = capacity;
    s->moved_ns = now_ns();
    pthread_mutex_lock(&s->lock); /* workers begin when their number is known */
    for (size_t wanted = workers < 2 ? 2 : workers; s->n_workers < wanted; s->n_workers++)
        if (pthread_create(&s->workers[s->n_workers], NULL, work, s)) {
            pthread_mutex_unlock(&s->lock);
            scheduler_free(s);
            return NULL;
        }
    pthread_mutex_unlock(&s->lock);
    return s;
}

/* The lane of key, made if need be; NULL: out of memory. *busy: it was there, so its work has to wait. */
static struct lane *lane_of(struct scheduler *s, const char *key, bool *busy)
{
    struct lane *lane = s->lanes;
    size_t length = strlen(key) + 1;

    while (lane && strcmp(lane->key, key))
        lane = lane->next;
    *busy = lane != NULL;
    if (!lane && (lane = malloc(sizeof *lane + length))) {
        memcpy(lane->key, key, length);
        queue_init(&lane->waiting);
        lane->next = s->lanes;
        s->lanes = lane;
    }
    return lane;
}

bool scheduler_submit(struct scheduler *s, const char *key, void (*run)(void *arg), void *arg)
{
    struct task *t = malloc(sizeof *t);
    struct lane *lane = NULL;
    bool busy = false, taken = false;

    if (!t)
        return false;
    pthread_mutex_lock(&s->lock);
    if (!s->stopping && s->waiting < s->capacity && (!key || (lane = lane_of(s, key, &busy)))) {
        *t = (struct task){.lane = lane, .run = run, .arg = arg, .number = s->submitted++};
        if (!s->waiting++)
            s->moved_ns = now_ns();
        queue_push(busy ? &lane->waiting : lane ? &s->writes : &s->reads, t);
        pthread_cond_signal(&s->work);
        taken = true;
    }
    pthread_mutex_unlock(&s->lock);
    if (!taken)
        free(t);
    return taken;
}

size_t scheduler_depth(struct scheduler *s)
{
    size_t waiting;

    pthread_mutex_lock(&s->lock);
    waiting = s->waiting;
    pthread_mutex_unlock(&s->lock);
    return waiting;
}

uint64_t scheduler_submitted(struct scheduler *s)
{
    uint64_t n;

    pthread_mutex_lock(&s->lock);
    n = s->submitted;
    pthread_mutex_unlock(&s->lock);
    return n;
}

double scheduler_silent_seconds(struct scheduler *s)
{
    double seconds;

    pthread_mutex_lock(&s->lock);
    seconds = s->waiting ? (double)(now_ns() - s->moved_ns) * 1e-9 : 0;
    pthread_mutex_unlock(&s->lock);
    return seconds;
}

bool scheduler_drain(struct scheduler *s, double seconds)
{
    uint64_t until = now_ns() + (uint64_t)(seconds * 1e9);
    struct timespec end = {.tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u)};
    bool idle;

    pthread_mutex_lock(&s->lock);
    while (!(idle = !s->waiting && !s->running))
        if (pthread_cond_timedwait(&s->idle, &s->lock, &end) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&s->lock);
    return idle;
}

void scheduler_free(struct scheduler *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < s->n_workers; i++)
        pthread_join(s->workers[i], NULL);
    pthread_cond_destroy(&s->idle);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
