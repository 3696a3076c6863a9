/* main.c: start, wait for a signal, drain, stop.
 *
 * Signals go through handlers and a pipe: OpenBLAS starts threads that block none before main begins, so a blocked
 * signal would be delivered to one of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <onelip/onelip.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"
#include "clock.h"
#include "courtesy.h"
#include "ctx.h"
#include "datasets.h"
#include "events.h"
#include "handlers/server_config.h"
#include "http.h"
#include "jobs.h"
#include "keys.h"
#include "listen.h"
#include "log.h"
#include "metrics.h"
#include "news.h"
#include "notify.h"
#include "repository.h"
#include "scheduler.h"
#include "settings.h"
#include "store.h"
#include "tls.h"

#define QUEUE 1024         /* requests that may wait for a worker */
#define TICK_MS 500        /* how often deadlines are looked at */
#define DRAIN_TICK_MS 20   /* while draining */
#define STUCK_SECONDS 600  /* no work begun or finished for so long, although some waits: the watchdog is not fed */
#define SAVE_NS 5000000000u /* for unsaved steps, when work does not end */
#define TIDY_NS 1000000000u /* after so long without work its memory is given back */
#define FILES 8192         /* file descriptors, where the limit allows */
#define HEAP_BYTES (32 << 20) /* smaller pieces of memory come from the heaps: a mapping of its own costs 0.3 ms a megabyte, twice */
#define HEAP_REST (4 << 20)   /* what a heap may keep at its end */

struct daemon {
    struct config config;
    struct ctx ctx;
    struct listener *listeners;
    size_t n_listeners;
    struct http *http;
    pthread_t loader;
    bool loading;           /* the loader is to be joined */
    _Atomic bool loaded;    /* it has ended */
    _Atomic bool saved;     /* by save_what_can_be */
    uint64_t watchdog_ns, fed_ns;
    uint64_t submitted, worked_ns; /* tasks when main last looked; since when there were no more, 0: that is tidied up */
};

static int signal_pipe[2];

static void on_signal(int number)
{
    int saved = errno;
    unsigned char byte = (unsigned char)number;

    if (write(signal_pipe[1], &byte, 1) < 0)
        byte = 0; /* a full pipe: main has been told often enough */
    errno = saved;
}

static bool catch_signals(void)
{
    static const int caught[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK))
        return false;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
        sigaction(caught[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    return true;
}

/* The next signal, 0 when none came within ms. */
static int next_signal(int ms)
{
    struct pollfd pipe = {.fd = signal_pipe[0], .events = POLLIN};
    unsigned char byte;

    if (poll(&pipe, 1, ms) > 0 && read(signal_pipe[0], &byte, 1) == 1)
        return byte;
    return 0;
}

/* One line for people and, when it is not the journal's anyway, the exit status of "anything else". */
static int give_up(const char *why)
{
    fprintf(stderr, "onelipd: %s\n", why);
    return 1;
}

static void raise_file_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur >= FILES)
        return;
    files.rlim_cur = files.rlim_max < FILES ? files.rlim_max : FILES;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* ---- start ------------------------------------------------------------------------------------------------- */

static void *load(void *arg)
{
    struct daemon *d = arg;

    repository_start(d->ctx.repository);
    if (!jobs_start(d->ctx.jobs))
        log_error("the threads of jobs do not start: no job will run");
    d->loaded = true;
    return NULL;
}

static double read_depth(void *scheduler)
{
    return (double)scheduler_depth(scheduler);
}

static void announce(const struct daemon *d)
{
    for (size_t i = 0; i < d->n_listeners; i++)
        printf("listening %s\n", d->listeners[i].url);
    fflush(stdout);
}

/* Keys and certificate, if there are to be any. 0, or the exit status after one line on stderr. */
static int open_secrets(struct daemon *d)
{
    const struct config *c = &d->config;
    char why[1024];

    if ((!c->api_key_file || (d->ctx.keys = keys_open(c->api_key_file, c->key_credential, why, sizeof why))) &&
        (!c->tls_certificate || tls_load(c->tls_certificate, c->tls_private_key, why, sizeof why)))
        return 0;
    fprintf(stderr, "%s\n", why);
    return 78;
}

struct pool {
    size_t threads;
    lip_err rc;
    lip_error err;
};

/* Threads are born as nice as who starts them, and only a thread of its own can be nice for that. */
static void *start_pool(void *ctx)
{
    struct pool *p = ctx;

    courtesy_begin();
    p->rc = lip_set_threads(p->threads, &p->err);
    return NULL;
}

/* What the pool helps with is long: training, certificates, large batches. Who serves short requests goes before it. */
static lip_err start_threads(size_t threads, lip_error *err)
{
    struct pool p = {.threads = threads};
    pthread_t starter;

    if (pthread_create(&starter, NULL, start_pool, &p))
        return lip_set_threads(threads, err);
    pthread_join(starter, NULL);
    *err = p.err;
    return p.rc;
}

/* Everything up to the first request. 0, or the exit status after one line on stderr. */
static int start(struct daemon *d)
{
    const struct config *c = &d->config;
    char why[512];
    lip_error err = {0};
    int status = 1;

    raise_file_limit();
    lip_set_rest(courtesy_rest);
    if (start_threads((size_t)c->threads, &err))
        return give_up(err.text);
    if (!(d->ctx.metrics = metrics_new()))
        return give_up("out of memory");
    if ((status = open_secrets(d)))
        return status;
    metrics_set(d->ctx.metrics, "onelip_build_info", "version=\"" PACKAGE_VERSION "\"", 1);
    if (!(d->ctx.store = store_open(c->state_dir, c->read_only, c->checkpoint_seconds, d->ctx.metrics, why, sizeof why)))
        return give_up(why);
    if (!(d->ctx.datasets = datasets_open(store_folder(d->ctx.store), c->read_only, why, sizeof why)))
        return give_up(why);
    if (!(d->ctx.events = events_new()))
        return give_up("cannot start the thread of the event streams");
    store_listen(d->ctx.store, news_tell, events_all(d->ctx.events));
    if (!(d->ctx.jobs = jobs_open(&d->ctx, c->read_only ? NULL : c->state_dir, why, sizeof why)))
        return give_up(why);
    if (!(d->ctx.repository = repository_open(&d->ctx, why, sizeof why)))
        return give_up(why);
    if (!(d->listeners = listen_open(c, &d->n_listeners, &status, why, sizeof why)))
        return give_up(why), status;
    if (!(d->ctx.scheduler = scheduler_new((size_t)c->threads + 1, QUEUE)))
        return give_up("cannot start the workers");
    if (!(d->ctx.batching = batching_new(d->ctx.scheduler, (size_t)c->threads)))
        return give_up("cannot start the timer of batches");
    metrics_watch(d->ctx.metrics, "onelip_queue_depth", read_depth, d->ctx.scheduler);
    if (!(d->http = http_start(&d->ctx, d->listeners, d->n_listeners)))
        return 1; /* said already */
    announce(d);
    if (c->port_file && !port_file_write(c->port_file, d->listeners, d->n_listeners, why, sizeof why))
        return give_up(why);
    if (pthread_create(&d->loader, NULL, load, d))
        return give_up("cannot start the loader");
    d->loading = true;
    return 0;
}

/* ---- run ------------------------------------------------------------------------------------------------------ */

static void say_ready(struct daemon *d)
{
    size_t n, served = 0;
    struct model **models = store_list(d->ctx.store, &n);

    for (size_t i = 0; models && i < n; i++) {
        served += model_stage(models[i], NULL, 0) == MODEL_READY;
        store_put(models[i]);
    }
    free(models);
    notify("READY=1\nSTATUS=serving, %zu models when it started", served);
    log_info("ready: %zu models, %ld threads, state in %s", served, (long)d->config.threads,
             store_folder(d->ctx.store) < 0 ? "nowhere" : d->config.state_dir);
}

static void reload(struct daemon *d)
{
    char why[1024];

    notify_reloading();
    if (config_reload(&d->config, why, sizeof why)) {
        settings_apply(&d->ctx);
        log_info("the configuration was read again");
    } else {
        log_error("the configuration stays as it was: %s", why);
    }
    repository_look(d->ctx.repository);
    if (d->ctx.keys && !keys_reload(d->ctx.keys, why, sizeof why))
        log_error("the keys stay as they were: %s", why);
    if (d->config.tls_certificate &&
        !tls_load(d->config.tls_certificate, d->config.tls_private_key, why, sizeof why))
        log_error("the certificate stays as it was: %s", why);
    notify("READY=1");
}

/* Twice as often as asked for, unless the workers have been stuck for long. */
static void feed_watchdog(struct daemon *d)
{
    uint64_t now = now_ns();

    if (!d->watchdog_ns || now - d->fed_ns < d->watchdog_ns / 2 ||
        scheduler_silent_seconds(d->ctx.scheduler) > STUCK_SECONDS)
        return;
    notify("WATCHDOG=1");
    d->fed_ns = now;
}

/* As many heaps as threads that compute. By itself glibc lets each thread have one, and each keeps at its end, where malloc_trim
 * does not reach, twice the largest piece that ever was in it: loads of a small MLP took 30 MB so, for good. */
static void keep_heaps_small(const struct config *c)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, c->threads > 2 ? (int)c->threads : 2);
    mallopt(M_MMAP_THRESHOLD, HEAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, HEAP_REST);
#else
    (void)c;
#endif
}

/* Give back to the system what work left behind, once there was none for a while: condensing a small MLP leaves 4 MB. */
static void tidy(struct daemon *d)
{
    uint64_t now = now_ns(), submitted = scheduler_submitted(d->ctx.scheduler);

    if (submitted != d->submitted) {
        d->submitted = submitted;
        d->worked_ns = now;
    } else if (d->worked_ns && now - d->worked_ns >= TIDY_NS && scheduler_drain(d->ctx.scheduler, 0)) {
        d->worked_ns = 0;
#ifdef __GLIBC__
        malloc_trim(0);
#endif
    }
}

/* One turn of the main thread; the signal that came, or 0. SIGHUP is dealt with here. */
static int turn(struct daemon *d, int ms)
{
    int number = next_signal(ms);

    if (d->loaded && !d->ctx.ready) {
        d->ctx.ready = true;
        say_ready(d);
    }
    http_tick(d->http);
    feed_watchdog(d);
    tidy(d);
    if (number == SIGHUP && !d->ctx.draining) {
        reload(d);
        return 0;
    }
    return number == SIGHUP ? 0 : number;
}

/* ---- stop ------------------------------------------------------------------------------------------------------- */

/* Leave without waiting for anything; only what others would stumble over is taken away. */
static _Noreturn void leave(struct daemon *d, const char *why)
{
    fprintf(stderr, "onelipd: %s\n", why);
    if (d->config.port_file)
        unlink(d->config.port_file);
    for (size_t i = 0; i < d->n_listeners; i++)
        if (d->listeners[i].path)
            unlink(d->listeners[i].path);
    _exit(1);
}

static void wait_until(struct daemon *d, uint64_t end_ns, bool also_when_idle)
{
    while (now_ns() < end_ns && !(also_when_idle && d->loaded && !http_active(d->http) && jobs_stop(d->ctx.jobs)))
        if (turn(d, DRAIN_TICK_MS))
            leave(d, "a second signal: stopped at once");
}

static void *save(void *arg)
{
    struct daemon *d = arg;

    store_save(d->ctx.store);
    d->saved = true;
    return NULL;
}

/* Training steps of models that nobody works on; the store waits for the others, this does not. */
static void save_what_can_be(struct daemon *d)
{
    uint64_t end_ns = now_ns() + SAVE_NS;
    pthread_t saver;

    if (pthread_create(&saver, NULL, save, d))
        return;
    pthread_detach(saver);
    while (!d->saved && now_ns() < end_ns)
        if (turn(d, DRAIN_TICK_MS))
            return;
}

/* Requests that are under way end, others are refused. */
static void drain(struct daemon *d)
{
    log_info("stopping");
    notify("STOPPING=1\nSTATUS=finishing what is under way");
    d->ctx.draining = true;
    wait_until(d, now_ns() + (uint64_t)(d->config.drain_delay_seconds * 1e9), false);
    http_refuse(d->http);
    events_end(d->ctx.events);
    jobs_stop(d->ctx.jobs);
    wait_until(d, now_ns() + (uint64_t)(d->config.exit_timeout_seconds * 1e9), true);
    for (int i = 0; i < 10 && !http_end(d->http); i++)
        wait_until(d, now_ns() + DRAIN_TICK_MS * 1000000u, false); /* one may be on its way back */
    if (!http_end(d->http) || !d->loaded || !jobs_stop(d->ctx.jobs)) {
        save_what_can_be(d);
        leave(d, "work was still under way after --exit-timeout-seconds");
    }
    if (http_active(d->http))
        log_warning("%zu requests were not whole, or their answers not read, after --exit-timeout-seconds",
                    http_active(d->http));
}

/* Take apart what start put together. false: something that was promised could not be saved. */
static bool stop(struct daemon *d)
{
    bool saved;

    if (d->http)
        http_refuse(d->http);
    if (d->ctx.events)
        events_end(d->ctx.events);
    http_stop(d->http);
    batching_stop(d->ctx.batching);
    scheduler_free(d->ctx.scheduler);
    batching_free(d->ctx.batching);
    if (d->loading)
        pthread_join(d->loader, NULL);
    repository_stop(d->ctx.repository);
    jobs_close(d->ctx.jobs);
    events_free(d->ctx.events);
    datasets_close(d->ctx.datasets);
    repository_close(d->ctx.repository);
    saved = !d->ctx.store || store_close(d->ctx.store);
    if (d->http && d->config.port_file)
        unlink(d->config.port_file);
    listen_close(d->listeners, d->n_listeners);
    metrics_free(d->ctx.metrics);
    keys_close(d->ctx.keys);
    tls_unload();
    return saved;
}

static int check(struct daemon *d)
{
    char why[512];
    int status = open_secrets(d);

    keys_close(d->ctx.keys);
    tls_unload();
    if (status)
        return status;
    if (!listen_allowed(&d->config, why, sizeof why))
        return give_up(why), 78;
    puts("ok");
    return 0;
}

int main(int argc, char **argv)
{
    static struct daemon d;
    int status;

    if (!config_read(&d.config, argc, argv, &status)) {
        config_clear(&d.config);
        return status;
    }
    keep_heaps_small(&d.config);
    log_setup(log_level_named(d.config.log_level), d.config.log_format);
    if (d.config.check_config) {
        status = check(&d);
    } else if (!catch_signals()) {
        status = give_up("no pipe for signals");
    } else {
        d.ctx.config = &d.config;
        d.watchdog_ns = notify_watchdog_us() * 1000;
        status = start(&d);
        if (!status) {
            while (!turn(&d, TICK_MS))
                continue;
            drain(&d);
        }
        if (!stop(&d))
            status = give_up("not every training step could be saved");
    }
    config_clear(&d.config);
    return status;
}
