/* batch.h: inference requests of one model that are computed together.
 *
 * The words and defaults are Triton's: nobody waits for company unless max_queue_delay_microseconds says so, and what has
 * queued up meanwhile is taken together. One policy, two kinds of queues: each HTTP thread has one for small work, which
 * it computes itself (http.c); each model has one that workers empty.
 *
 * Source: Triton Inference Server, "Model Configuration", ModelDynamicBatching and ModelQueuePolicy; "Batchers".
 */
#ifndef SERVER_BATCH_H
#define SERVER_BATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scheduler;
struct batching;
struct batcher;

/* ---- configuration ------------------------------------------------------------------------------------------- */

#define BATCH_PREFERRED 16
#define BATCH_PRIORITIES 1000
#define BATCH_QUEUE 256       /* requests that may wait for one model, unless max_queue_size says otherwise */
#define BATCH_LATENCY_US 20000

/* What of a ModelConfig says how requests are queued and joined; knobs.c reads it. */
struct batch_config {
    bool dynamic;                                   /* "dynamic_batching" was given */
    size_t n_preferred, preferred[BATCH_PREFERRED]; /* ascending */
    uint64_t max_queue_delay_us;
    bool preserve_ordering;                         /* answers in the order of the queue: one batch at a time, of workers only */
    uint64_t priority_levels, default_priority;     /* 1 is served first; no levels: all are the same */
    bool delay_expired;                             /* timeout_action DELAY: behind all others; REJECT: 504 */
    uint64_t default_timeout_us;                    /* 0: none but the server's */
    bool allow_timeout_override;
    uint64_t max_queue_size;                        /* 0: no bound */
    bool deterministic;                             /* parameters.deterministic: no answer depends on its company */
    uint64_t latency_budget_us;                     /* parameters.latency_budget_us: no batch is to take longer */
};

void batch_config_init(struct batch_config *c);


/* ---- queues ------------------------------------------------------------------------------------------------------ */

struct batch_item;

/* What is done with items. May be called on any thread. */
struct batch_work {
    void (*run)(struct batch_item *batch);             /* compute the linked items and fill their replies */
    void (*drop)(struct batch_item *item, int status); /* fill its reply: 504 too late, 499 nobody waits for it */
    void (*forget)(struct batch_item *item);           /* free it, run or dropped */
};

/* A request that waits to be computed. */
struct batch_item {
    struct batch_item *next;
    const struct batch_work *work;
    struct batcher *batcher; /* its model's */
    size_t rows;             /* samples */
    size_t most;             /* rows of a batch that it may be in: max_batch_size */
    double flops;            /* of one row */
    uint64_t priority;       /* from 1; UINT64_MAX: its time in the queue is over */
    uint64_t queued_ns;      /* CLOCK_MONOTONIC, like the others */
    uint64_t expires_ns;     /* the queue policy's end of its time; UINT64_MAX: none */
    bool delayed;            /* when it expires it comes behind all others */
    uint64_t deadline_ns;    /* the request's own: 504 after it whatever the policy */
    uint64_t min_revision;   /* waits until one is published; 0: any will do */
    void *owner;             /* for the two that follow */
    bool (*gone)(struct batch_item *item); /* whether nobody waits for its answer any more */
    void (*done)(struct batch_item *item); /* its reply is filled; the item is not touched again */
};

/* Belongs to one thread or to whoever holds its lock. */
struct batch_queue {
    struct batch_item *first, *last;
    size_t n, rows;
};

void batch_push(struct batch_queue *q, struct batch_item *item); /* behind those of its priority */
bool batch_remove(struct batch_queue *q, struct batch_item *item); /* false: it is not in there */

/* batch_expire: take out the items whose time is over, linked; those that the policy delays go behind all others. */
struct batch_item *batch_expire(struct batch_queue *q, uint64_t now_ns);

/* batch_take: the next batch, linked: the first item and, in order, those of its batcher as long as the rows stay within
 * its batch_rows, and within the largest preferred size that can be reached. c: the first item's batcher's.
 * NULL: the queue is empty. */
struct batch_item *batch_take(struct batch_queue *q, const struct batch_config *c);

/* ---- models ---------------------------------------------------------------------------------------------------- */

#define BATCH_CLASSES 17

/* Of one model. Threads: safe, but for what the lock guards. */
struct batcher {
    void (*hold)(struct batcher *b), (*release)(struct batcher *b); /* it does not go away in between */
    pthread_mutex_t lock; /* of what follows, up to pending */
    struct batch_config config;
    struct batch_queue queue, later; /* later: of revisions that are not published yet */
    size_t active;                   /* workers that take from the queue, or are about to */
    struct batching *batching;       /* once something was submitted */
    struct batcher *timed_next;      /* batching's: guarded by its lock */
    uint64_t timed_ns;               /* likewise: when the timer looks at it; 0: never */
    atomic_size_t pending;           /* admitted and not yet taken, in whatever queue */
    _Atomic uint32_t row_ns[BATCH_CLASSES]; /* what a row took last, by the rows' binary logarithm; 0: not known */
};

void batcher_init(struct batcher *b, void (*hold)(struct batcher *b), void (*release)(struct batcher *b));
void batcher_clear(struct batcher *b); /* nothing is queued any more */
void batcher_configure(struct batcher *b, const struct batch_config *c); /* in force at once */
void batcher_config(struct batcher *b, struct batch_config *copy);

/* batcher_admit: an item of ours is about to be queued: its priority and times, from what the request asks for (0:
 * nothing) and what the policy allows. end_ns: the server's deadline.
 * 0, or why not: 429, with *retry_seconds until there should be room. */
int batcher_admit(struct batcher *b, struct batch_item *item, uint64_t priority, uint64_t timeout_us, uint64_t now_ns,
                  uint64_t end_ns, uint64_t *retry_seconds);
void batcher_leave(struct batcher *b); /* an admitted item is taken out of its queue */

double batcher_ns(struct batcher *b, size_t rows, double flops); /* what rows will take; flops of a row: for the first time */
void batcher_took(struct batcher *b, size_t rows, uint64_t ns);  /* what rows took */

/* batch_rows: how many rows a batch that begins with this item may have: what max_batch_size and the latency budget allow,
 * at least 1. Takes no lock. */
size_t batch_rows(const struct batch_item *first, const struct batch_config *c);

/* batcher_is_quick: whether the thread that read the item may just as well compute it in its own queue: it takes no longer
 * than quick_ns, does not wait for company or a revision (published: the one there is), and nothing is queued for workers. */
bool batcher_is_quick(struct batcher *b, const struct batch_item *item, uint64_t published, double quick_ns);

/* batcher_published: items that waited for this revision go on. */
void batcher_published(struct batcher *b, uint64_t revision);

/* ---- workers ----------------------------------------------------------------------------------------------------- */

/* batching_new: workers take batches as tasks of s, at most `most` of one model at a time; one thread of its own keeps the
 * time. NULL: out of memory or threads. */
struct batching *batching_new(struct scheduler *s, size_t most);
void batching_stop(struct batching *batching); /* the timer; nothing is queued. Before the end of the scheduler */
void batching_free(struct batching *batching); /* after it */

/* batching_submit: an admitted item: a worker will run or drop it and then call done, perhaps before this returns.
 * revision: what is published now, asked after the item is in the queue. */
void batching_submit(struct batching *batching, struct batch_item *item, uint64_t (*revision)(struct batcher *b));

#endif
