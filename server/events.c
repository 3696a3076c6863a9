#include "events.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "codec.h"
#include "guard.h"
#include "page.h"
#include "text.h"

#define MS 1000000ull
#define PING_NS (15000 * MS)
#define WAKE_NS (50 * MS)  /* a stream is woken at most this often, */
#define SHARE_NS (1 * MS)  /* and all of them together */
#define AT_ONCE 8          /* streams woken before the next pause */
#define PAUSE_NS (1 * MS)
#define IDLE_NS (500 * MS)
#define LOOK_NS (1000 * MS) /* how often readers are looked for: nobody says that one has gone while its stream waits */
#define ALL_CAPACITY 1024
#define SLOW 64            /* a stream that was up to date and is so many events behind skips what was superseded */

struct event {
    uint64_t id;
    char *type, *model, *key; /* model and key may be NULL */
    char *text;               /* {"type":…} */
    size_t n;
};

struct feed {
    atomic_uint refs;
    struct events *events;
    struct feed *next, **at; /* in events->feeds */
    size_t capacity, n;
    struct event *ring;      /* the n latest, ring[(first + i) % capacity] */
    size_t first;
    uint64_t last, dropped;  /* the newest id; the highest that fell out and that no other made up for */
    struct event *held;      /* of keys that were told a moment ago; at most HELD */
    size_t n_held;
    uint64_t held_ns;        /* when the first of them is due; 0: none */
    struct { char key[200]; uint64_t told_ns; } *recent; /* RECENT keys, and when they were told; NULL, as held, once ended */
    bool ended;
};
enum { HELD = 16, RECENT = 16 };

struct stream {
    struct stream *next, **at;
    struct events *events;
    struct feed *feed;
    uint64_t after, gap; /* the last id that was looked at; up to where a gap has been told */
    uint64_t woken_ns, said_ns;
    char *model, *types;     /* NULL: all */
    struct text out;         /* formatted, sent up to `sent` */
    size_t sent;
    bool begun, live, waiting, over, ping;
    int socket;              /* while it waits */
    void *http;
};

struct events {
    pthread_mutex_t lock;
    pthread_cond_t news;
    pthread_t waker;
    struct feed *feeds, *all;
    struct stream *streams;
    size_t n_streams;
    uint64_t looked_ns, next_ns; /* next_ns: when the waker looks again by itself; 0: it is awake */
    bool ending, stop;
};

/* ---- histories: all under `lock` ------------------------------------------------------------------------------- */

static void event_clear(struct event *e)
{
    free(e->type);
    free(e->model);
    free(e->key);
    free(e->text);
    *e = (struct event){0};
}

static struct event *event_at(const struct feed *f, size_t i)
{
    return &f->ring[(f->first + i) % f->capacity];
}

/* Whether a later event says the same newer. */
static bool superseded(const struct feed *f, size_t i)
{
    const struct event *e = event_at(f, i);

    for (size_t j = i + 1; e->key && j < f->n; j++)
        if (event_at(f, j)->key && !strcmp(event_at(f, j)->key, e->key))
            return true;
    return false;
}

/* Takes the event's memory over. The oldest falls out of a full ring, of those with a key first. */
static void append(struct feed *f, struct event *e)
{
    if (f->n == f->capacity) {
        size_t victim = 0;
        while (victim < f->n / 2 && !event_at(f, victim)->key)
            victim++;
        if (victim == f->n / 2)
            victim = 0;
        if (event_at(f, victim)->id > f->dropped && !superseded(f, victim))
            f->dropped = event_at(f, victim)->id;
        event_clear(event_at(f, victim));
        for (; victim > 0; victim--)
            *event_at(f, victim) = *event_at(f, victim - 1);
        f->first = (f->first + 1) % f->capacity;
        f->n--;
    }
    e->id = ++f->last;
    *event_at(f, f->n++) = *e;
    *e = (struct event){0};
}

static void release_held(struct feed *f)
{
    for (size_t i = 0; i < f->n_held; i++)
        append(f, &f->held[i]);
    f->n_held = 0;
    f->held_ns = 0;
}

/* Whether an event of this key was told less than EVENTS_COALESCE_MS ago; if not, it is from now on. */
static bool told_lately(struct feed *f, const char *key, uint64_t now)
{
    size_t oldest = 0;

    for (size_t i = 0; i < RECENT; i++) {
        if (!strcmp(f->recent[i].key, key)) {
            if (now - f->recent[i].told_ns < EVENTS_COALESCE_MS * MS)
                return true;
            f->recent[i].told_ns = now;
            return false;
        }
        if (f->recent[i].told_ns < f->recent[oldest].told_ns)
            oldest = i;
    }
    snprintf(f->recent[oldest].key, sizeof f->recent[oldest].key, "%s", key);
    f->recent[oldest].told_ns = now;
    return false;
}

/* Which held event has that key; n_held: none. */
static size_t held_at(const struct feed *f, const char *key)
{
    size_t i = 0;

    while (i < f->n_held && strcmp(f->held[i].key, key) != 0)
        i++;
    return i;
}

static void drop_held(struct feed *f, const char *key)
{
    size_t i = held_at(f, key);

    if (i == f->n_held)
        return;
    event_clear(&f->held[i]);
    memmove(f->held + i, f->held + i + 1, (--f->n_held - i) * sizeof *f->held);
}

/* Keep it until its time has come, in the place of an earlier one of its key. */
static void hold(struct feed *f, struct event *e, uint64_t now)
{
    size_t i = held_at(f, e->key);

    if (i == HELD) {
        release_held(f);
        i = 0;
    }
    if (i == f->n_held)
        f->n_held++;
    else
        event_clear(&f->held[i]);
    f->held[i] = *e;
    *e = (struct event){0};
    if (!f->held_ns)
        f->held_ns = now + EVENTS_COALESCE_MS * MS;
}

void feed_tell(struct feed *f, const char *model, const char *key, json_t *data)
{
    const char *type = json_string_value(json_object_get(data, "type"));
    struct event e = {.type = type ? strdup(type) : NULL, .model = model ? strdup(model) : NULL, .key = key ? strdup(key) : NULL,
                      .text = document_text(data)};
    uint64_t now = now_ns(), due = UINT64_MAX;

    if (e.text && e.type && (!key || e.key) && (!model || e.model)) {
        e.n = strlen(e.text);
        pthread_mutex_lock(&f->events->lock);
        if (f->ended) {
            ;
        } else if (key && told_lately(f, key, now)) {
            hold(f, &e, now);
            due = f->held_ns;
        } else {
            due = f->events->n_streams ? now : due;
            if (key)
                drop_held(f, key); /* its time had come, and this is newer */
            else
                release_held(f); /* what came before it is told before it */
            append(f, &e);
        }
        if (due < f->events->next_ns) {
            f->events->next_ns = 0;
            pthread_cond_signal(&f->events->news);
        }
        pthread_mutex_unlock(&f->events->lock);
    }
    json_decref(data); /* key may be a string of it */
    event_clear(&e);
}

void feed_end(struct feed *f)
{
    struct event *kept;

    feed_tell(f, NULL, NULL, json_pack("{s:s}", "type", "end"));
    pthread_mutex_lock(&f->events->lock);
    if (!f->ended)
        release_held(f);
    f->ended = true;
    free(f->held);
    free(f->recent);
    f->held = NULL;
    f->recent = NULL;
    if (f->n && f->n < f->capacity && (kept = calloc(f->n, sizeof *kept))) { /* a thousand jobs that are over are remembered */
        for (size_t i = 0; i < f->n; i++)
            kept[i] = *event_at(f, i);
        free(f->ring);
        f->ring = kept;
        f->first = 0;
        f->capacity = f->n;
    }
    pthread_cond_signal(&f->events->news);
    pthread_mutex_unlock(&f->events->lock);
}

struct feed *feed_new(struct events *events, size_t capacity)
{
    struct feed *f = calloc(1, sizeof *f);

    if (!f || !(f->ring = calloc(capacity, sizeof *f->ring)) || !(f->held = calloc(HELD, sizeof *f->held)) ||
        !(f->recent = calloc(RECENT, sizeof *f->recent))) {
        if (f) {
            free(f->ring);
            free(f->held);
        }
        free(f);
        return NULL;
    }
    atomic_init(&f->refs, 1);
    f->events = events;
    f->capacity = capacity;
    pthread_mutex_lock(&events->lock);
    f->next = events->feeds;
    f->at = &events->feeds;
    if (f->next)
        f->next->at = &f->next;
    events->feeds = f;
    pthread_mutex_unlock(&events->lock);
    return f;
}

struct feed *feed_get(struct feed *f)
{
    atomic_fetch_add(&f->refs, 1);
    return f;
}

void feed_put(struct feed *f)
{
    if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
        return;
    pthread_mutex_lock(&f->events->lock);
    *f->at = f->next;
    if (f->next)
        f->next->at = f->at;
    pthread_mutex_unlock(&f->events->lock);
    for (size_t i = 0; i < f->n; i++)
        event_clear(event_at(f, i));
    for (size_t i = 0; i < f->n_held; i++)
        event_clear(&f->held[i]);
    free(f->held);
    free(f->recent);
    free(f->ring);
    free(f);
}

/* Where the events behind `after` begin. */
static size_t behind(const struct feed *f, uint64_t after)
{
    size_t low = 0, high = f->n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (event_at(f, middle)->id <= after)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The id of the i-th event; behind the last one, that of the next there will be. */
static uint64_t id_at(const struct feed *f, size_t i)
{
    return i < f->n ? event_at(f, i)->id : f->last + 1;
}

static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, word, n) && (at[n] == ',' || !at[n]))
            return true;
    return false;
}

static bool selected(const struct event *e, const char *model, const char *types)
{
    return (!model || (e->model && !strcmp(e->model, model))) && (!types || listed(types, e->type));
}

/* ---- streams ------------------------------------------------------------------------------------------------------ */

/* What there is to say goes to s->out; nothing, when there is nothing. */
static void compose(struct stream *s)
{
    struct feed *f = s->feed;
    uint64_t now = now_ns();
    size_t i;

    if (!s->begun)
        text_puts(&s->out, "retry: 2000\n\n");
    s->begun = true;
    i = behind(f, s->after);
    if (s->after < f->dropped && s->gap < f->dropped) {
        text_printf(&s->out, "event: gap\ndata: {\"type\":\"gap\",\"after\":%llu,\"next\":%llu}\n\n",
                    (unsigned long long)s->after, (unsigned long long)id_at(f, i));
        s->gap = f->dropped;
    }
    for (bool slow = s->live && f->n - i > SLOW; i < f->n && s->out.n < 8192 && !s->over; i++) {
        const struct event *e = event_at(f, i);
        s->after = e->id;
        if (!selected(e, s->model, s->types) || (slow && superseded(f, i)))
            continue;
        text_printf(&s->out, "id: %llu\nevent: %s\ndata: ", (unsigned long long)e->id, e->type);
        text_add(&s->out, e->text, e->n);
        text_puts(&s->out, "\n\n");
        s->over = !strcmp(e->type, "end");
    }
    s->live |= i == f->n;
    if (i == f->n && !s->over && s->events->ending) {
        text_puts(&s->out, "event: shutdown\ndata: {\"type\":\"shutdown\"}\n\n");
        s->over = true;
    }
    s->over |= i == f->n && f->ended;
    if (!s->out.n && (s->ping || now - s->said_ns >= PING_NS))
        text_puts(&s->out, ": ping\n\n");
    s->ping = false;
    if (s->out.n)
        s->said_ns = now;
    s->over |= s->out.failed;
}

/* http.c's question for more. */
static long stream_read(void *ctx, char *buffer, size_t size, void *http)
{
    struct stream *s = ctx;
    long n = 0;

    pthread_mutex_lock(&s->events->lock);
    if (s->sent == s->out.n) {
        s->out.n = s->sent = 0;
        if (!s->over)
            compose(s);
    }
    if (s->out.n > s->sent) {
        n = (long)(s->out.n - s->sent < size ? s->out.n - s->sent : size);
        memcpy(buffer, s->out.bytes + s->sent, (size_t)n);
        s->sent += (size_t)n;
    } else if (s->over) {
        n = -1;
    } else {
        s->http = http;
        s->socket = http_socket(http);
        s->waiting = true;
        http_wait(http);
    }
    pthread_mutex_unlock(&s->events->lock);
    return n;
}

static void stream_end(void *ctx)
{
    struct stream *s = ctx;
    struct events *events = s->events;

    pthread_mutex_lock(&events->lock);
    *s->at = s->next;
    if (s->next)
        s->next->at = s->at;
    events->n_streams--;
    pthread_mutex_unlock(&events->lock);
    feed_put(s->feed);
    free(s->out.bytes);
    free(s->model);
    free(s->types);
    free(s);
}

/* Streams that wait and whose readers do not any more. One that closed its side may still read: a ping tells, and the next
 * look sees what came of it. */
static void look_for_readers(struct events *events, uint64_t now)
{
    struct pollfd at[EVENTS_STREAMS_MAX];
    struct stream *stream[EVENTS_STREAMS_MAX];
    nfds_t n = 0;

    events->looked_ns = now;
    for (struct stream *s = events->streams; s && n < EVENTS_STREAMS_MAX; s = s->next) {
        if (!s->waiting)
            continue;
        at[n] = (struct pollfd){.fd = s->socket, .events = POLLRDHUP};
        stream[n++] = s;
    }
    if (!n || poll(at, n, 0) <= 0)
        return;
    for (nfds_t i = 0; i < n; i++) {
        stream[i]->over |= (at[i].revents & (POLLHUP | POLLERR)) != 0;
        stream[i]->ping |= at[i].revents != 0;
    }
}

/* Up to AT_ONCE streams that wait and have a reason not to. *next_ns: when the next one will have. */
static size_t to_wake(struct events *events, void *http[AT_ONCE], uint64_t now, uint64_t *next_ns)
{
    uint64_t often = events->n_streams * SHARE_NS > WAKE_NS ? events->n_streams * SHARE_NS : WAKE_NS;
    size_t n = 0;

    for (struct stream *s = events->streams; s && n < AT_ONCE; s = s->next) {
        uint64_t due = s->said_ns + PING_NS;

        if (!s->waiting)
            continue;
        if (s->after < s->feed->last)
            due = s->woken_ns + often;
        if (s->feed->ended || events->ending || s->ping)
            due = now;
        if (due <= now) {
            s->waiting = false;
            s->woken_ns = now;
            http[n++] = s->http; /* it stays suspended, and so it stays there, until it is woken */
        } else if (due < *next_ns) {
            *next_ns = due;
        }
    }
    return n;
}

static void *wake(void *arg)
{
    struct events *events = arg;
    void *http[AT_ONCE];

    pthread_mutex_lock(&events->lock);
    while (!events->stop) {
        uint64_t now = now_ns(), next = now + IDLE_NS;
        size_t n;

        for (struct feed *f = events->feeds; f; f = f->next) {
            if (f->held_ns && f->held_ns <= now)
                release_held(f);
            else if (f->held_ns && f->held_ns < next)
                next = f->held_ns;
        }
        if (now - events->looked_ns >= LOOK_NS)
            look_for_readers(events, now);
        if ((n = to_wake(events, http, now, &next))) {
            struct timespec pause = {.tv_nsec = PAUSE_NS};
            pthread_mutex_unlock(&events->lock);
            for (size_t i = 0; i < n; i++)
                http_wake(http[i]);
            nanosleep(&pause, NULL);
            pthread_mutex_lock(&events->lock);
        } else {
            struct timespec until = {.tv_sec = (time_t)(next / 1000000000u), .tv_nsec = (long)(next % 1000000000u)};
            events->next_ns = next;
            pthread_cond_timedwait(&events->news, &events->lock, &until);
            events->next_ns = 0;
        }
    }
    pthread_mutex_unlock(&events->lock);
    return NULL;
}

/* ---- answers -------------------------------------------------------------------------------------------------------- */

/* The id to go on from: the later of Last-Event-ID and ?after=. */
static bool read_after(const struct request *rq, struct reply *rp, uint64_t *after)
{
    const char *given[] = {request_header(rq, "Last-Event-ID"), request_query(rq, "after")};

    *after = 0;
    for (int i = 0; i < 2; i++) {
        char *end;
        uint64_t n;
        if (!given[i] || (i == 0 && !*given[i]))
            continue;
        n = strtoull(given[i], &end, 10);
        if (*given[i] < '0' || *given[i] > '9' || *end || strlen(given[i]) > 18) {
            reply_error(rp, 400, "bad_parameter", NULL, "%s is \"%.40s\", needs the id of an event",
                        i ? "after" : "Last-Event-ID", given[i]);
            return false;
        }
        if (n > *after)
            *after = n;
    }
    return true;
}

static void page(struct feed *f, const struct request *rq, struct reply *rp, uint64_t after, const char *model, const char *types)
{
    struct text t = {0};
    bool more = false;
    size_t limit, n = 0, i;
    uint64_t last = after;
    json_t *behind_it;
    char id[24];

    if (!page_limit(rq, rp, &limit))
        return;
    text_puts(&t, "{\"object\":\"list\",\"data\":[");
    pthread_mutex_lock(&f->events->lock);
    release_held(f);
    if (after < f->dropped) {
        uint64_t next = id_at(f, behind(f, after));
        text_printf(&t, "{\"id\":%llu,\"type\":\"gap\",\"after\":%llu,\"next\":%llu}", (unsigned long long)next - 1,
                    (unsigned long long)after, (unsigned long long)next);
        n++;
    }
    for (i = behind(f, after); i < f->n && !more; i++) {
        const struct event *e = event_at(f, i);
        if (!selected(e, model, types))
            continue;
        if (n == limit) {
            more = true;
            continue;
        }
        text_printf(&t, "%s{\"id\":%llu,", n++ ? "," : "", (unsigned long long)e->id);
        text_add(&t, e->text + 1, e->n - 1);
        last = e->id;
    }
    pthread_mutex_unlock(&f->events->lock);
    snprintf(id, sizeof id, "%llu", (unsigned long long)last);
    behind_it = more ? page_next(rq, id, limit) : NULL;
    text_printf(&t, "],\"has_more\":%s,\"next\":", more ? "true" : "false");
    if (behind_it)
        text_quote(&t, json_string_value(behind_it));
    else
        text_puts(&t, "null");
    text_puts(&t, "}");
    t.failed |= more && !behind_it;
    json_decref(behind_it);
    if (t.failed) {
        free(t.bytes);
        reply_no_memory(rp);
    } else {
        reply_header(rp, "Cache-Control", "no-store");
        reply_bytes(rp, 200, "application/json", t.bytes, t.n);
    }
}

static struct stream *stream_new(struct feed *f, uint64_t after, const char *model, const char *types)
{
    struct stream *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->events = f->events;
    s->after = after;
    s->said_ns = now_ns();
    s->model = model ? strdup(model) : NULL;
    s->types = types ? strdup(types) : NULL;
    if ((model && !s->model) || (types && !s->types)) {
        free(s->model);
        free(s->types);
        free(s);
        return NULL;
    }
    s->feed = feed_get(f);
    return s;
}

static void stream(struct feed *f, struct reply *rp, uint64_t after, const char *model, const char *types)
{
    struct events *events = f->events;
    struct stream *s = stream_new(f, after, model, types);
    bool room, over;

    if (!s) {
        reply_no_memory(rp);
        return;
    }
    pthread_mutex_lock(&events->lock);
    over = f->ended && after >= f->last;
    room = events->n_streams < EVENTS_STREAMS_MAX && !events->ending;
    if (room && !over) {
        s->next = events->streams;
        s->at = &events->streams;
        if (s->next)
            s->next->at = &s->next;
        events->streams = s;
        events->n_streams++;
    }
    pthread_mutex_unlock(&events->lock);
    reply_header(rp, "Cache-Control", "no-store");
    reply_header(rp, "X-Accel-Buffering", "no");
    if (room && !over) {
        rp->status = 200;
        rp->type = "text/event-stream";
        rp->stream = (struct reply_stream){stream_read, stream_end, s};
        return;
    }
    feed_put(s->feed);
    free(s->model);
    free(s->types);
    free(s);
    if (over) { /* an EventSource takes this as: do not come back */
        reply_bytes(rp, 204, NULL, NULL, 0);
    } else {
        reply_header(rp, "Retry-After", "5");
        reply_error(rp, 429, "rate_limited", NULL, "%d event streams are open already", EVENTS_STREAMS_MAX);
    }
}

void feed_answer(struct feed *f, bool all, const struct request *rq, struct reply *rp)
{
    static const char *const of_job[] = {"after", "limit", "stream", NULL},
                             *const of_all[] = {"after", "limit", "stream", "model", "types", NULL};
    const char *accept = request_header(rq, "Accept"), *model = all ? request_query(rq, "model") : NULL;
    const char *types = all ? request_query(rq, "types") : NULL;
    bool as_stream = guard_accepts(accept, "text/event-stream");
    uint64_t after;

    if (!codec_queries(rq, rp, all ? of_all : of_job) || !codec_query_bool(rq, rp, "stream", &as_stream) ||
        !read_after(rq, rp, &after))
        return;
    if (as_stream && !rq->head)
        stream(f, rp, after, model, types);
    else
        page(f, rq, rp, after, model, types);
}

/* ---- start and end ------------------------------------------------------------------------------------------------------- */

struct events *events_new(void)
{
    struct events *events = calloc(1, sizeof *events);
    pthread_condattr_t monotonic;

    if (!events)
        return NULL;
    pthread_mutex_init(&events->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&events->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if ((events->all = feed_new(events, ALL_CAPACITY)) && !pthread_create(&events->waker, NULL, wake, events))
        return events;
    feed_put(events->all);
    free(events);
    return NULL;
}

struct feed *events_all(struct events *events)
{
    return events->all;
}

void events_end(struct events *events)
{
    pthread_mutex_lock(&events->lock);
    events->ending = true;
    pthread_cond_signal(&events->news);
    pthread_mutex_unlock(&events->lock);
}

void events_free(struct events *events)
{
    if (!events)
        return;
    pthread_mutex_lock(&events->lock);
    events->stop = true;
    pthread_cond_signal(&events->news);
    pthread_mutex_unlock(&events->lock);
    pthread_join(events->waker, NULL);
    feed_put(events->all);
    pthread_cond_destroy(&events->news);
    pthread_mutex_destroy(&events->lock);
    free(events);
}
