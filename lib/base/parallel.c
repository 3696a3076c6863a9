/* parallel.c: one pool of threads for the process, fork and join.
 *
 * `state` is the whole protocol: bit 15 says that a job is open, the bits below it count the workers inside it, the
 * bits above it are the job's number. A worker enters by adding 1 to an open state and leaves by taking it away. The
 * caller works too; when no task is left it closes the job and waits for the workers that are inside, never for one
 * that has not woken up. Workers spin for SPIN_NS after a job, because the next product of a layer is usually a few
 * microseconds away, then sleep. In a training step it may be farther, and both ends of a job are waited for longer: a
 * sleeper would come late to each product, and be woken at the caller's expense. Not so in a program that serves
 * meanwhile (lip_set_rest): there who waits awake takes the cores from its requests.
 */
#include "base/base.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include <onelip/model.h>

enum {
    MAX_THREADS = 256,
    SPIN_NS = 20000,
    STEP_SPIN_NS = 400000,
    SPINS_PER_LOOK = 32,
    CLOSE_NS = 5000, /* short calls that come so soon after the one before, */
    CLOSE_CALLS = 64 /* and so many of them, are a loop that will go on */
};

#define OPEN ((uint64_t)1 << 15)
#define INSIDE (OPEN - 1)
#define ONE_JOB ((uint64_t)1 << 16)

static struct {
    pthread_mutex_t busy; /* held by the caller whose job runs, and while the pool changes */
    pthread_mutex_t lock; /* for both conditions */
    pthread_cond_t wake, done;
    _Atomic uint64_t state;
    _Atomic size_t next;     /* task to take */
    _Atomic size_t sleepers; /* workers at `wake` */
    _Atomic bool stop;
    size_t n;
    void (*task)(void *, size_t, size_t);
    void *ctx;
    bool patient;            /* of the caller whose job it is */
    _Atomic size_t workers;
    pthread_t thread[MAX_THREADS]; /* [0] unused: the caller is thread 0 */
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static void (*_Atomic rest)(void);
static _Thread_local bool patience;

void lip_set_rest(void (*function)(void))
{
    atomic_store(&rest, function);
}

bool lip__patient(bool patient)
{
    bool before = patience;

    patience = patient;
    return before;
}

static void may_rest(bool patient)
{
    void (*function)(void) = patient ? atomic_load_explicit(&rest, memory_order_relaxed) : NULL;

    if (function)
        function();
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Whether `ready` came true soon. */
static bool spin(bool patient, bool (*ready)(uint64_t seen), uint64_t seen)
{
    bool alone = patient && !atomic_load_explicit(&rest, memory_order_relaxed);
    uint64_t end = lip__now_ns() + (alone ? STEP_SPIN_NS : SPIN_NS);

    do
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            if (ready(seen))
                return true;
            relax();
        }
    while (lip__now_ns() < end);
    return false;
}

static bool job_is_new(uint64_t seen)
{
    uint64_t state = atomic_load(&pool.state);

    return atomic_load(&pool.stop) || ((state & OPEN) && state / ONE_JOB != seen);
}

static bool nobody_inside(uint64_t seen)
{
    (void)seen;
    return !(atomic_load(&pool.state) & INSIDE);
}

static size_t next_task(void)
{
    return atomic_fetch_add(&pool.next, 1);
}

/* Task i, and then whichever is next. */
static void take_tasks(size_t i, size_t thread)
{
    for (; i < pool.n; i = next_task()) {
        pool.task(pool.ctx, i, thread);
        may_rest(pool.patient);
    }
}

/* Enter the open job unless it closes first; *seen becomes its number, *patient its caller's. */
static bool enter(uint64_t *seen, bool *patient)
{
    uint64_t state = atomic_load(&pool.state);

    do
        if (!(state & OPEN) || state / ONE_JOB == *seen)
            return false;
    while (!atomic_compare_exchange_weak(&pool.state, &state, state + 1));
    *seen = state / ONE_JOB;
    *patient = pool.patient;
    return true;
}

static void leave(void)
{
    uint64_t state = atomic_fetch_sub(&pool.state, 1) - 1;

    if (state & (OPEN | INSIDE))
        return; /* the caller is still at work, or others are inside */
    pthread_mutex_lock(&pool.lock);
    pthread_cond_signal(&pool.done);
    pthread_mutex_unlock(&pool.lock);
}

static void *work(void *argument)
{
    size_t thread = (size_t)(uintptr_t)argument;
    uint64_t seen = 0;
    bool patient = false; /* of the last job */

    for (;;) {
        if (!spin(patient, job_is_new, seen)) {
            pthread_mutex_lock(&pool.lock);
            atomic_fetch_add(&pool.sleepers, 1);
            if (!job_is_new(seen))
                pthread_cond_wait(&pool.wake, &pool.lock); /* that job may be over by now, and the next one near: spin */
            atomic_fetch_sub(&pool.sleepers, 1);
            pthread_mutex_unlock(&pool.lock);
        }
        if (atomic_load(&pool.stop))
            return NULL;
        if (enter(&seen, &patient)) {
            take_tasks(next_task(), thread);
            leave();
        }
    }
}

static void run_here(size_t n, void (*task)(void *, size_t, size_t), void *ctx)
{
    for (size_t i = 0; i < n; i++, may_rest(patience))
        task(ctx, i, 0);
}

void lip__parallel(size_t n, void (*task)(void *ctx, size_t i, size_t thread), void *ctx)
{
    if (n < 2 || !atomic_load(&pool.workers) || pthread_mutex_trylock(&pool.busy)) {
        run_here(n, task, ctx);
        return;
    }
    pool.n = n;
    pool.task = task;
    pool.ctx = ctx;
    pool.patient = patience;
    atomic_store(&pool.next, 1);
    atomic_store(&pool.state, (atomic_load(&pool.state) / ONE_JOB + 1) * ONE_JOB | OPEN);
    if (atomic_load(&pool.sleepers)) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    take_tasks(0, 0); /* the first task is the caller's: from call to call its memory is in the same core's caches */
    atomic_fetch_and(&pool.state, ~OPEN);
    if (!spin(patience, nobody_inside, 0)) {
        pthread_mutex_lock(&pool.lock);
        while (!nobody_inside(0))
            pthread_cond_wait(&pool.done, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.busy);
}

void lip__parallel_short(size_t n, void (*task)(void *, size_t, size_t), void *ctx)
{
    static _Thread_local uint64_t end; /* of the call before */
    static _Thread_local unsigned close;

    if (atomic_load_explicit(&pool.sleepers, memory_order_relaxed)) {
        close = lip__now_ns() - end < CLOSE_NS ? close + 1 : 0;
        if (close < CLOSE_CALLS) {
            run_here(n, task, ctx);
            end = lip__now_ns();
            return;
        }
        close = 0;
    }
    lip__parallel(n, task, ctx);
}

static void stop_workers(void)
{
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.stop, true);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    for (size_t i = atomic_load(&pool.workers); i; i--)
        pthread_join(pool.thread[i], NULL);
    atomic_store(&pool.workers, 0);
    atomic_store(&pool.stop, false);
}

/* A child process has none of its parent's workers. */
static void forget_workers(void)
{
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.done, NULL);
    atomic_store(&pool.state, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.workers, 0);
    atomic_store(&pool.stop, false);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, forget_workers);
}

/* Signals are for the program's own threads, so workers are born with all of them blocked. */
static bool start_worker(size_t thread)
{
    sigset_t all, before;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&pool.thread[thread], NULL, work, (void *)(uintptr_t)thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !failed;
}

lip_err lip_set_threads(size_t n, lip_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    lip_err rc = LIP_OK;

    if (!n || n > MAX_THREADS)
        return lip__fail(err, LIP_ERANGE, "threads: %zu, needs 1 to %d", n, MAX_THREADS);
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&pool.busy);
    stop_workers();
    for (size_t i = 1; i < n && !rc; i++)
        if (start_worker(i))
            atomic_store(&pool.workers, i);
        else
            rc = lip__fail(err, LIP_ENOMEM, "threads: the system started %zu of %zu", i, n);
    if (rc)
        stop_workers();
    pthread_mutex_unlock(&pool.busy);
    return rc;
}

size_t lip_threads(void)
{
    return atomic_load(&pool.workers) + 1;
}
