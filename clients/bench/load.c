#include "load.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000u
#define REVISIONS 4096     /* whose outputs are kept */
#define BACKLOG 1000000u   /* intended requests that may wait for a connection */
#define RETRY_NS 10000000u /* before a broken connection is opened anew */

struct connection {
    struct wire wire;
    bool busy;
    uint64_t intended_ns, again_ns; /* again: not before then; 0: at once */
    uint64_t revision;
};

struct output {
    uint64_t revision;
    size_t n;
    float *y;
};

struct load {
    struct plan plan;
    int epoll;
    struct connection *connection;
    unsigned *idle, n_idle;
    uint64_t next_ns;                   /* open: the next intended time */
    uint64_t *late, late_first, late_n; /* intended times that wait, a ring of BACKLOG */
    uint64_t random;
    struct output *output;
    size_t n_outputs;
    unsigned failures; /* in a row, of opening connections */
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

/* Source: Vigna, xorshift64*. Uniform in (0, 1]. */
static double uniform(struct load *l)
{
    l->random ^= l->random >> 12;
    l->random ^= l->random << 25;
    l->random ^= l->random >> 27;
    return ((double)(l->random * 0x2545f4914f6cdd1du >> 11) + 1) * 0x1p-53;
}

static uint64_t gap(struct load *l)
{
    double mean = 1e9 / l->plan.rate;

    return (uint64_t)(l->plan.poisson ? -log(uniform(l)) * mean : mean);
}

struct load *load_new(const struct plan *plan)
{
    struct load *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    prctl(PR_SET_TIMERSLACK, 1);
    l->plan = *plan;
    l->random = plan->seed * 2 + 1;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->connection = calloc(plan->connections, sizeof *l->connection);
    l->idle = calloc(plan->connections, sizeof *l->idle);
    l->late = plan->open ? malloc(BACKLOG * sizeof *l->late) : NULL;
    if (l->epoll < 0 || !l->connection || !l->idle || (plan->open && !l->late)) {
        load_free(l);
        return NULL;
    }
    for (unsigned i = 0; i < plan->connections; i++)
        l->connection[i].wire.fd = -1;
    for (unsigned i = plan->connections; i-- > 0;)
        l->idle[l->n_idle++] = i;
    l->next_ns = now_ns();
    return l;
}

void load_free(struct load *l)
{
    if (!l)
        return;
    for (unsigned i = 0; l->connection && i < l->plan.connections; i++)
        wire_free(&l->connection[i].wire);
    for (size_t i = 0; i < l->n_outputs; i++)
        free(l->output[i].y);
    if (l->epoll >= 0)
        close(l->epoll);
    free(l->output);
    free(l->late);
    free(l->idle);
    free(l->connection);
    free(l);
}

/* ---- verifying ---------------------------------------------------------------------------------------------------- */

/* The floats of an answer's only output; their number, 0: there are none. */
static size_t read_output(const struct wire *w, float **y)
{
    const char *body = wire_body(w), *end = body + w->json_bytes, *at;
    size_t n = (w->body_bytes - w->json_bytes) / sizeof **y, room = 0;

    *y = NULL;
    if (n) {
        if ((*y = malloc(n * sizeof **y)))
            memcpy(*y, end, n * sizeof **y);
        return *y ? n : 0;
    }
    if (!(at = memmem(body, w->json_bytes, "\"data\":[", 8)))
        return 0;
    for (at += 8; at < end && *at != ']'; n++) {
        char *behind;
        if (n == room) {
            float *more = realloc(*y, (room = room ? 2 * room : 64) * sizeof **y);
            if (!more)
                break;
            *y = more;
        }
        (*y)[n] = strtof(at, &behind);
        at = behind + (*behind == ',');
        if (behind == at)
            break;
    }
    return n;
}

static bool alike(const struct load *l, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= l->plan.tolerance * fmax(1, fabs((double)a[i]))))
            return false;
    return true;
}

static void verify(struct load *l, struct connection *c, struct tally *t)
{
    const struct wire *w = &c->wire;
    const char *at = memmem(wire_body(w), w->json_bytes, "\"weights_revision\":", 19);
    uint64_t revision = at ? strtoull(at + 19, NULL, 10) : 0;
    struct output *same = NULL, *more;
    float *y;
    size_t n = read_output(w, &y);

    if (!at || !n || revision < c->revision)
        t->regressions++;
    c->revision = revision;
    for (size_t i = l->n_outputs; i-- > 0 && !same;) /* the newest first */
        if (l->output[i].revision == revision)
            same = &l->output[i];
    if (same) {
        t->mixed += same->n != n || !alike(l, same->y, y, n);
    } else if (l->n_outputs < REVISIONS && (more = realloc(l->output, (l->n_outputs + 1) * sizeof *more))) {
        l->output = more;
        l->output[l->n_outputs++] = (struct output){revision, n, y};
        return;
    }
    free(y);
}

/* ---- connections ---------------------------------------------------------------------------------------------------- */

static void give_back(struct load *l, struct connection *c)
{
    c->busy = false;
    l->idle[l->n_idle++] = (unsigned)(c - l->connection);
}

static void broken(struct load *l, struct connection *c, struct tally *t)
{
    t->broken++;
    l->failures++;
    wire_close(&c->wire);
    c->again_ns = now_ns() + RETRY_NS;
    give_back(l, c);
}

static void ended(struct load *l, struct connection *c, struct tally *t)
{
    uint64_t took = now_ns() - c->intended_ns;
    int status = c->wire.status;

    l->failures = 0;
    if (status == 200) {
        t->ok++;
        histogram_add(&t->latency, took);
        if (l->plan.verify)
            verify(l, c, t);
    } else {
        t->queue_full += status == 429;
        t->unavailable += status == 503;
        t->late += status == 504;
        t->other += status != 429 && status != 503 && status != 504;
        if (status == 429 || status == 503)
            histogram_add(&t->refused, took);
    }
    if (c->wire.close)
        wire_close(&c->wire);
    give_back(l, c);
}

static void step(struct load *l, struct connection *c, struct tally *t)
{
    enum wire_state state = wire_step(&c->wire);

    if (state == WIRE_DONE)
        ended(l, c, t);
    else if (state == WIRE_BROKEN)
        broken(l, c, t);
}

static void begin(struct load *l, struct connection *c, uint64_t intended, struct tally *t)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};

    c->busy = true;
    c->intended_ns = intended;
    if (c->wire.fd < 0 && (!wire_open(&c->wire, l->plan.address) || epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->wire.fd, &event))) {
        broken(l, c, t);
        return;
    }
    wire_send(&c->wire, l->plan.request, l->plan.request_bytes);
    step(l, c, t);
}

/* An idle connection that may be used now; NULL: none. */
static struct connection *take_idle(struct load *l, uint64_t now)
{
    for (unsigned i = l->n_idle; i-- > 0;) {
        unsigned which = l->idle[i];

        if (l->connection[which].again_ns <= now) {
            l->idle[i] = l->idle[--l->n_idle];
            return &l->connection[which];
        }
    }
    return NULL;
}

/* Everything that is due. */
static void begin_due(struct load *l, uint64_t now, struct tally *t)
{
    struct connection *c;

    while (l->plan.open && l->next_ns <= now) {
        if (l->late_n < BACKLOG)
            l->late[(l->late_first + l->late_n++) % BACKLOG] = l->next_ns;
        else
            t->behind++;
        l->next_ns += gap(l);
    }
    /* Closed: those that are idle now, once; who is back already waits for the next turn. */
    for (unsigned n = l->plan.open ? (unsigned)l->late_n : l->n_idle; n-- > 0 && (c = take_idle(l, now));) {
        uint64_t intended = now_ns();
        if (l->plan.open) {
            intended = l->late[l->late_first];
            l->late_first = (l->late_first + 1) % BACKLOG;
            l->late_n--;
        }
        begin(l, c, intended, t);
    }
}

static uint64_t next_event(const struct load *l, uint64_t now, uint64_t end)
{
    uint64_t next = end;

    if (l->plan.open && l->next_ns < next)
        next = l->next_ns;
    if ((l->late_n || !l->plan.open) && l->n_idle && next > now + RETRY_NS)
        next = now + RETRY_NS; /* one that broke is to be tried again */
    return next > now ? next - now : 0;
}

bool load_run(struct load *l, uint64_t ns, struct tally *t)
{
    uint64_t start = now_ns(), end = start + ns, now = start, waiting = l->late_n;

    if (l->next_ns < start) /* between two windows nobody sends, and nobody is late */
        l->next_ns = start;
    while ((now = now_ns()) < end && l->failures < 100 + 4 * l->plan.connections) {
        struct epoll_event events[256];
        struct timespec wait;
        uint64_t left;
        int n;

        begin_due(l, now, t);
        left = next_event(l, now_ns(), end);
        wait = (struct timespec){.tv_sec = (time_t)(left / NS), .tv_nsec = (long)(left % NS)};
        n = epoll_pwait2(l->epoll, events, 256, &wait, NULL);
        if (n < 0 && errno != EINTR)
            return false;
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            char byte;
            if (c->busy)
                step(l, c, t);
            else if (c->wire.fd >= 0 && recv(c->wire.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
                wire_close(&c->wire); /* the server closed it while idle */
        }
    }
    t->seconds += (double)(now - start) * 1e-9;
    if (l->late_n > waiting)
        t->behind += l->late_n - waiting;
    t->revisions = l->n_outputs;
    return now >= end;
}

void tally_merge(struct tally *t, const struct tally *more)
{
    histogram_merge(&t->latency, &more->latency);
    histogram_merge(&t->refused, &more->refused);
    histogram_merge(&t->health, &more->health);
    t->ok += more->ok;
    t->queue_full += more->queue_full;
    t->unavailable += more->unavailable;
    t->late += more->late;
    t->other += more->other;
    t->broken += more->broken;
    t->behind += more->behind;
    t->regressions += more->regressions;
    t->mixed += more->mixed;
    t->revisions = more->revisions;
    t->seconds += more->seconds;
}
