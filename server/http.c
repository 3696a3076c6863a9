/* http.c: the only file that knows libmicrohttpd: connections, admission, bodies, answers.
 *
 * One MHD daemon per listening socket with as many threads as compute; one thread of ours accepts for all of them and
 * deals the connections out, because MHD's own threads race for them and one may win all. A request is looked at when its
 * headers are complete; what is refused then is answered after a small body was swallowed, so that the client sees why,
 * and at once when the body is large or waits for a "100 Continue". Cheap handlers run in the MHD thread. For the others
 * the connection is suspended, a worker fills the reply and resumes it, and the MHD thread sends.
 *
 * Small inference is parked: the handler returns without an answer and without suspending, so MHD goes on with the other
 * connections that have something to read and calls again in its next round. Whoever is called first in that round
 * computes what was parked in the one before, together. That is batching of what has come anyway, without a wait, a hand-off or
 * a system call. A round reads for a bounded time and computes for a bounded time, so a health check is never far behind:
 * the requests that are over wait unread for the next round.
 *
 * Traps of libmicrohttpd 0.9.75 that this file works around: an answer given in the first call always closes the
 * connection; none can be given in the middle of a body; framing that two readers would cut differently is let through;
 * its timeout is one of idleness, so slow headers and bodies have deadlines here; stopping it with a suspended
 * connection aborts the process.
 */
#include "http.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"
#include "captured.h"
#include "clock.h"
#include "codec.h"
#include "cors.h"
#include "ctx.h"
#include "deflate.h"
#include "guard.h"
#include "inflate.h"
#include "jobs.h"
#include "keys.h"
#include "listen.h"
#include "log.h"
#include "metrics.h"
#include "once.h"
#include "router.h"
#include "scheduler.h"
#include "settings.h"
#include "spool.h"
#include "store.h"
#include "tls.h"

#define NS 1000000000ull
#define HEADER_MEMORY (32u << 10)
#define CONNECTIONS 1024u
#define CONNECTIONS_PER_ADDRESS 128u
#define IDLE_SECONDS 60u
#define HEADER_NS (10 * NS)         /* from the first byte of the connection, or of the request, to the end of its headers */
#define KEPT_NS (70 * NS)           /* as HEADER_NS between two requests; MHD closes idle ones before */
#define BODY_NS (30 * NS)           /* plus: */
#define BODY_NS_PER_BYTE (NS >> 14) /* 16 KiB a second is the slowest body that is read to its end */
#define SWALLOWED (4u << 20)        /* a refused body is read to its end up to here */
#define GONE_AFTER_NS NS            /* a client is looked for only when its request had to wait this long */
#define QUICK_NS 300e3              /* what an HTTP thread computes itself; a hand-over costs 45 us */
#define ROUND_NS 500000u            /* for how long it does so before it looks at its connections again */
#define READ_NS 1000000u            /* for how long a round reads more requests before it computes those it has */
#define QUICK_JSON (32u << 10)      /* and the largest bodies that it reads itself */
#define QUICK_BYTES (96u << 10)
#define PACKED (16u << 10)          /* JSON from this size on is compressed for those who accept it */
#define HTTP_THREADS 16u            /* at most, of one listener */
#define TLS_VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define BODIES 16                   /* largest bodies that may be in memory at a time */
#define KEPT_BODY (16u << 10)       /* room for bodies of this size stays with the connection */
#define QUICK_CLIENT_NS 200000u     /* a client that takes no longer between two requests is worth staying awake for, */
#define AWAKE_NS 100000u            /* for so long */
#define STREAM_PIECE 4096           /* of a body that comes bit by bit */
#define SPOOLED (1u << 20)          /* uploads longer than this, or of unknown length, go to disk */

struct server {
    struct http *http;
    struct listener *listener;
    struct MHD_Daemon *mhd;
};

/* What one of MHD's threads is at. */
struct desk {
    struct exchange *parsing;  /* whose query MHD is taking apart */
    const char *target;        /* the raw request target of it */
    size_t connections;
    struct batch_queue parked;
    uint64_t round;            /* number of rounds in which something was parked */
    uint64_t round_ns;         /* when this one began */
    unsigned char random[240]; /* for ids */
    size_t n_random;           /* what is left of it */
};
static _Thread_local struct desk desk;

struct http {
    struct ctx *ctx;
    size_t n;
    pthread_t acceptor;
    int hush;             /* an eventfd: the acceptor ends; -1: it has */
    pthread_mutex_t lock; /* of clients: a socket is in the list as long as its number is ours */
    struct client *clients;
    _Atomic size_t active, connections, body_bytes;
    _Atomic size_t handed;  /* requests on their way to a worker, with one, or on their way back */
    _Atomic bool refusing;  /* no new requests */
    _Atomic bool ending;    /* none of those that are there goes to a worker any more */
    _Atomic(struct series *) *served; /* of each route's requests that ended with 200; NULL: none did */
    struct server server[];
};

/* A request and its answer. */
struct exchange {
    struct request rq;
    struct reply rp;
    struct server *server;
    struct MHD_Connection *connection;
    struct client *client;
    struct guard guard;
    char *authority;              /* of an absolute target its "host:port", else NULL */
    const char *target;           /* the path in the client's raw, still percent-encoded */
    const char *end;              /* behind the target, in MHD's memory */
    size_t room, received;        /* of its body, in the client's; room 0: there is none */
    struct spool spool;           /* open: the body goes here instead */
    uint64_t deadline_ns, queued_ns;
    struct batch_item *item;      /* of a batch handler, until it is forgotten */
    struct once_entry *once;      /* its answer is kept; such a request is a worker's, because that writes to disk */
    uint64_t round;               /* in which MHD called last, while parked */
    enum coding coding;
    bool admitted, now, swallow, unread, parked, done, close, bad_query, packed;
    char id[129];
};

/* A connection, its request, and what that leaves for the next one, which nearly always asks for the same. */
struct client {
    struct client *next, **at;
    int fd;
    _Atomic uint64_t deadline_ns; /* 0: none */
    uint64_t left_ns;             /* the deadline before which the last tick found that nothing comes any more; 0: it did not */
    struct exchange exchange;
    char *raw;                    /* the target without its query */
    enum route_found found;       /* of raw, when match.route is not NULL */
    struct match match;
    unsigned char *body;          /* NULL, or body_room bytes and a NUL */
    size_t body_room;
    uint64_t ended_ns;            /* when a request ended */
    bool quick;                   /* the next one came at once */
};

/* What every path here begins with. */
static const char *prefix_of(const struct exchange *x)
{
    return x->server->listener->metrics ? "" : x->server->http->ctx->config->api_prefix;
}

static void rejected(struct exchange *x, const char *reason)
{
    char labels[64];

    snprintf(labels, sizeof labels, "reason=\"%s\"", reason);
    metrics_add(x->server->http->ctx->metrics, "onelip_rejected_total", labels, 1);
}

/* ---- what handlers ask ------------------------------------------------------------------------------------ */

const char *request_header(const struct request *rq, const char *name)
{
    const struct exchange *x = rq->http;

    if (rq->captured)
        return captured_value(rq->captured, CAPTURED_HEADER, name);
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

const char *request_query(const struct request *rq, const char *name)
{
    const struct exchange *x = rq->http;
    const char *value = NULL;

    if (rq->captured)
        return captured_value(rq->captured, CAPTURED_QUERY, name);
    if (MHD_lookup_connection_value_n(x->connection, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value, NULL) != MHD_YES)
        return NULL;
    return value ? value : "";
}

struct each {
    void (*call)(void *ctx, const char *name, const char *value);
    void *ctx;
};

static enum MHD_Result call_each(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct each *each = arg;

    (void)kind;
    each->call(each->ctx, name, value ? value : "");
    return MHD_YES;
}

void request_query_each(const struct request *rq, void (*call)(void *ctx, const char *name, const char *value), void *ctx)
{
    const struct exchange *x = rq->http;
    struct each each = {call, ctx};

    if (rq->captured)
        captured_each(rq->captured, CAPTURED_QUERY, call, ctx);
    else
        MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, call_each, &each);
}

/* All headers and query parameters of a request that is to be captured. */
static enum MHD_Result capture_each(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    captured_add(arg, kind == MHD_HEADER_KIND ? CAPTURED_HEADER : CAPTURED_QUERY, name, value ? value : "");
    return MHD_YES;
}

struct captured *request_capture(const struct request *rq)
{
    const struct exchange *x = rq->http;
    struct capture capture;

    capture_begin(&capture);
    if (rq->captured)
        return NULL; /* a job's request is not captured again */
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, capture_each, &capture);
    MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, capture_each, &capture);
    return capture_end(&capture, rq);
}

/* ---- the answer ------------------------------------------------------------------------------------------- */

/* Of a route's successes the series is found once. */
static void measure(const struct exchange *x, uint64_t now)
{
    const char *method = x->rq.head ? "HEAD" : x->rq.route ? x->rq.method : "other";
    double seconds = (double)(now - x->rq.start_ns) * 1e-9;
    struct metrics *metrics = x->server->http->ctx->metrics;
    bool usual = x->rq.route && !x->rq.head && x->rp.status == 200;
    _Atomic(struct series *) *known = usual ? &x->server->http->served[x->rq.route - routes] : NULL;
    struct series *series = known ? *known : NULL;
    char labels[256];

    if (!series) {
        snprintf(labels, sizeof labels, "method=\"%s\",route=\"%s\",code=\"%d\"", method,
                 x->rq.route ? x->rq.route->template : "unmatched", x->rp.status);
        series = metrics_series(metrics, "onelip_request_duration_seconds", labels);
        if (known)
            *known = series;
    }
    if (series)
        series_observe(metrics, series, seconds);
    log_debug("%s %s %d %.3f ms %s", method, x->target, x->rp.status, seconds * 1e3, x->rq.id);
}

/* "name;dur=12.345" in milliseconds; for the request path, where printf of four numbers costs 2 us. */
static char *add_time(char *at, const char *name, uint64_t ns)
{
    uint64_t us = (ns + 500) / 1000;
    char digits[24];
    size_t n = 0;

    at = stpcpy(stpcpy(at, name), ";dur=");
    do {
        digits[n++] = (char)('0' + us % 10);
        us /= 10;
        if (n == 3)
            digits[n++] = '.';
    } while (us || n < 5);
    while (n)
        *at++ = digits[--n];
    *at = '\0';
    return at;
}

static void add_headers(struct exchange *x, struct MHD_Response *response)
{
    char timing[160], *at;

    for (size_t i = 0; i < x->rp.n_headers; i++)
        MHD_add_response_header(response, x->rp.header[i].name, x->rp.header[i].value);
    if (x->rp.type && x->rp.status != 204 && x->rp.status != 304)
        MHD_add_response_header(response, "Content-Type", x->rp.type);
    at = add_time(timing, "queue", x->rp.queue_ns);
    at = add_time(at, ", parse", x->rp.parse_ns);
    at = add_time(at, ", compute", x->rp.compute_ns);
    add_time(at, ", serialize", x->rp.serialize_ns);
    MHD_add_response_header(response, "Server-Timing", timing);
    MHD_add_response_header(response, "X-Request-Id", x->rq.id);
    if (x->close || x->server->http->refusing)
        MHD_add_response_header(response, "Connection", "close");
}

/* ---- bodies that come bit by bit ---------------------------------------------------------------------------- */

struct flow {
    struct reply_stream stream;
    struct MHD_Connection *connection;
};

void http_wait(void *http)
{
    MHD_suspend_connection(http);
}

void http_wake(void *http)
{
    MHD_resume_connection(http);
}

int http_socket(void *http)
{
    return MHD_get_connection_info(http, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

static ssize_t read_flow(void *cls, uint64_t at, char *buffer, size_t size)
{
    struct flow *flow = cls;
    long n = flow->stream.read(flow->stream.ctx, buffer, size, flow->connection);

    (void)at;
    return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : n;
}

static void end_flow(void *cls)
{
    struct flow *flow = cls;

    flow->stream.end(flow->stream.ctx);
    free(flow);
}

static struct MHD_Response *flowing(struct exchange *x)
{
    struct flow *flow = malloc(sizeof *flow);
    struct MHD_Response *response = NULL;

    if (flow) {
        *flow = (struct flow){x->rp.stream, x->connection};
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_PIECE, read_flow, flow, end_flow);
    }
    if (response)
        x->rp.stream = (struct reply_stream){0}; /* the response's now */
    else
        free(flow);
    return response;
}

static struct MHD_Response *whole(struct exchange *x)
{
    return MHD_create_response_from_buffer(x->rp.bytes, x->rp.bytes ? x->rp.body : (void *)"",
                                           x->rp.bytes ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
}

/* Large JSON in the coding that was asked for; small answers and bytes are not worth the time. A HEAD is coded, too, to have the
 * same headers. */
static void pack(struct exchange *x)
{
    const char *accepted = request_header(&x->rq, "Accept-Encoding"), *tag = reply_said(&x->rp, "ETag");
    enum coding coding = guard_accepts(accepted, "gzip") ? CODING_GZIP : guard_accepts(accepted, "deflate") ? CODING_DEFLATE : CODING_NONE;
    const char *name = coding == CODING_GZIP ? "gzip" : "deflate";
    char coded[CODED_ETAG_MAX];
    size_t bytes;
    void *out;

    if (x->packed || x->rp.bytes < PACKED || !x->rp.type || strcmp(x->rp.type, "application/json") != 0)
        return;
    x->packed = true;
    reply_vary(&x->rp, "Accept-Encoding");
    if (coding == CODING_NONE || !deflate_body(coding, x->rp.body, x->rp.bytes, &out, &bytes))
        return;
    free(x->rp.body);
    x->rp.body = out;
    x->rp.bytes = bytes;
    reply_text(&x->rp, "Content-Encoding", name);
    if (tag) {
        codec_tag_coded(coded, tag, name);
        reply_text(&x->rp, "ETag", coded);
    }
}

static enum MHD_Result answer(struct exchange *x)
{
    struct MHD_Response *response;
    enum MHD_Result queued;

    pack(x);
    cors_headers(x->server->http->ctx->config, x->guard.origin, &x->rp);
    reply_finish(&x->rp, prefix_of(x), x->target, x->rq.id, guard_accepts(x->guard.accept, "application/problem+json"));
    if (x->rp.status == 204 || x->rp.status == 304)
        x->rp.bytes = 0;
    response = x->rp.stream.read ? flowing(x) : whole(x);
    if (!response)
        return MHD_NO;
    if (x->rp.bytes)
        x->rp.body = NULL; /* the response's now */
    add_headers(x, response);
    measure(x, now_ns());
    queued = MHD_queue_response(x->connection, (unsigned)x->rp.status, response);
    MHD_destroy_response(response);
    return queued;
}

/* ---- running a handler ------------------------------------------------------------------------------------ */

/* Status codes as Triton's clients know them, where ours differ and the command line asks for it. */
static int status_of(const struct exchange *x, int ours)
{
    return x->server->http->ctx->config->triton_status && x->rq.route->flags & ROUTE_OIP ? 503 : ours;
}

/* A client that has closed its side, and all it sent was read. */
static bool has_left(const struct client *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* One that only stopped sending looks the same, so nobody is looked for who did not have to wait. */
static bool is_gone(const struct exchange *x)
{
    return has_left(x->client);
}

bool request_gone(const struct request *rq)
{
    return !rq->captured && now_ns() - rq->start_ns > GONE_AFTER_NS && is_gone(rq->http);
}

/* Account for memory of bodies. false: that would be too much. */
static bool grow(void *arg, size_t from, size_t to)
{
    struct http *http = arg;
    size_t most = (size_t)http->ctx->config->max_body_bytes * BODIES;

    if (atomic_fetch_add(&http->body_bytes, to - from) + (to - from) <= most || to < from)
        return true;
    atomic_fetch_sub(&http->body_bytes, to - from);
    return false;
}

static void no_room(struct exchange *x)
{
    rejected(x, "out_of_memory");
    reply_header(&x->rp, "Retry-After", "1");
    reply_error(&x->rp, 503, "out_of_memory", NULL, "too many large bodies at a time");
}

static void no_disk(struct exchange *x, int error)
{
    struct failure f = {0};

    failure_errno(&f, error, "the upload");
    reply_error(&x->rp, f.status, f.code, NULL, "%s", f.text);
}

/* The largest body of this request. */
static long body_limit(const struct exchange *x)
{
    const struct config *config = x->server->http->ctx->config;

    return x->rq.route && x->rq.route->flags & ROUTE_UPLOAD ? config->max_upload_bytes : config->max_body_bytes;
}

static void too_large(struct exchange *x, long limit)
{
    rejected(x, "too_large");
    reply_error(&x->rp, 413, "too_large", NULL, "the body is larger than %ld bytes", limit);
}

/* What arrived in the spool is the body. false: the reply says why not. */
static bool map_body(struct exchange *x)
{
    int error = spool_map(&x->spool);

    if (error) {
        no_disk(x, error);
        return false;
    }
    x->rq.body = x->spool.map;
    x->rq.bytes = x->received = x->spool.size;
    return true;
}

/* The body without its coding, in memory or in another spool. */
static enum inflated inflate_to(struct exchange *x, long limit, int *error)
{
    struct http *http = x->server->http;
    struct spool plain = {0};
    enum inflated got;
    unsigned char *out;
    size_t bytes, room;

    if (!x->spool.open) {
        got = inflate_body(x->coding, x->rq.body, x->rq.bytes, (size_t)limit, grow, http, &out, &bytes, &room);
        if (got == INFLATED) {
            grow(http, x->room, 0);
            free(x->client->body);
            x->rq.body = x->client->body = out;
            x->rq.bytes = x->received = bytes;
            x->room = x->client->body_room = room;
        }
        return got;
    }
    if ((*error = spool_open(&plain, store_folder(http->ctx->store), 0)))
        return INFLATE_NO_ROOM;
    if ((got = inflate_spool(x->coding, x->rq.body, x->rq.bytes, (size_t)limit, &plain, error)) == INFLATED) {
        spool_close(&x->spool);
        x->spool = plain;
        return INFLATED;
    }
    spool_close(&plain);
    return got;
}

/* Put the body in the place of its compressed form. false: the reply says why not. */
static bool decompress(struct exchange *x)
{
    long limit = body_limit(x);
    int error = 0;

    switch (inflate_to(x, limit, &error)) {
    case INFLATED:
        return !x->spool.open || map_body(x);
    case INFLATE_NO_ROOM:
        no_disk(x, error);
        return false;
    case INFLATE_DAMAGED:
        reply_error(&x->rp, 400, "bad_request", NULL, "the body is no whole %s data", x->guard.encoding);
        return false;
    case INFLATE_TOO_LARGE:
        too_large(x, limit);
        return false;
    default:
        no_room(x);
        return false;
    }
}

/* Prefer is a list; respond-async may be any of its entries (RFC 7240). */
static bool prefers_async(const struct request *rq)
{
    const char *prefer = rq->route->flags & ROUTE_ASYNC ? request_header(rq, "Prefer") : NULL;
    size_t length = strlen("respond-async");

    for (; prefer; prefer = strchr(prefer, ',') ? strchr(prefer, ',') + 1 : NULL) {
        prefer += strspn(prefer, " \t");
        if (!strncasecmp(prefer, "respond-async", length) && (!prefer[length] || strchr(" \t,;", prefer[length])))
            return true;
    }
    return false;
}

static void dispatch(struct exchange *x)
{
    struct ctx *ctx = x->server->http->ctx;

    if (!ctx->config->read_only && prefers_async(&x->rq)) /* a preference: without jobs it is answered at once */
        jobs_respond_async(ctx, &x->rq, &x->rp);
    else
        x->rq.route->handle(ctx, &x->rq, &x->rp);
}

/* The key under which the answer is kept, or NULL. */
static const char *once_key(const struct exchange *x)
{
    return strcmp(x->rq.method, "POST") ? NULL : request_header(&x->rq, "Idempotency-Key");
}

/* false: the reply is complete. */
static bool begin_once(struct exchange *x)
{
    const char *key = once_key(x);

    return !key || (x->once = once_begin(jobs_once(x->server->http->ctx->jobs), &x->rq, key, &x->rp));
}

static void end_once(struct exchange *x)
{
    if (x->once)
        once_end(jobs_once(x->server->http->ctx->jobs), x->once, &x->rp);
    x->once = NULL;
}

/* Work that was not done, or not to its end. */
static void count_given_up(struct exchange *x)
{
    if (x->rp.status == 504)
        rejected(x, "deadline_exceeded");
    else if (x->rp.status == 499)
        rejected(x, "gone");
}

static void handle(struct exchange *x)
{
    if ((x->spool.open && !map_body(x)) || (x->coding != CODING_NONE && x->received && !decompress(x))) {
        x->done = true;
        return;
    }
    if (begin_once(x)) {
        dispatch(x);
        count_given_up(x);
        end_once(x);
    }
    x->done = true;
}

static void refuse_draining(struct exchange *x)
{
    rejected(x, "draining");
    reply_header(&x->rp, "Retry-After", "1");
    reply_error(&x->rp, 503, "draining", NULL,
                "Server is stopping, scheduler for model has stopped accepting new inference requests");
}

/* Give a suspended connection back to its thread: from here on x is the MHD thread's. */
static void give_back(struct exchange *x)
{
    struct http *http = x->server->http;

    pack(x); /* here, where it holds up nobody else */
    x->done = true;
    MHD_resume_connection(x->connection);
    http->handed--;
}

/* Suspend the connection, for whoever will give it back. false: no more work is given out, the reply says so. */
static bool suspend(struct exchange *x)
{
    struct http *http = x->server->http;

    http->handed++; /* before the question: http_end asks the other way round */
    if (http->ending) {
        http->handed--;
        refuse_draining(x);
        return false;
    }
    MHD_suspend_connection(x->connection);
    x->queued_ns = now_ns();
    return true;
}

/* ---- batches ------------------------------------------------------------------------------------------------ */

static void forget_item(struct exchange *x)
{
    if (x->item)
        x->item->work->forget(x->item);
    x->item = NULL;
}

static bool item_is_gone(struct batch_item *item)
{
    return is_gone(item->owner);
}

static void item_done(struct batch_item *item)
{
    struct exchange *x = item->owner;

    count_given_up(x);
    end_once(x);
    forget_item(x);
    if (x->parked)
        x->done = true;
    else
        give_back(x);
}

/* Let the batch handler read the request. false: the reply is complete. */
static bool read_item(struct exchange *x)
{
    if (x->coding != CODING_NONE && x->received && !decompress(x))
        return false;
    if (!begin_once(x))
        return false;
    if (!(x->item = x->rq.route->batch(x->server->http->ctx, &x->rq, &x->rp))) {
        if (x->rp.code && !strcmp(x->rp.code, "queue_full"))
            rejected(x, "queue_full");
        end_once(x);
        return false;
    }
    x->item->owner = x;
    x->item->gone = item_is_gone;
    x->item->done = item_done;
    return true;
}

static void finish_all(struct batch_item *items, int dropped)
{
    while (items) {
        struct batch_item *next = items->next;

        if (dropped)
            items->work->drop(items, dropped);
        items->done(items);
        items = next;
    }
}

/* Compute what is parked at this desk, until it is enough for one round. */
static void run_parked(void)
{
    uint64_t now = now_ns(), end = now + ROUND_NS;
    struct batch_item *late, *batch;
    struct batch_config config;

    if ((late = batch_expire(&desk.parked, now))) {
        for (struct batch_item *i = late; i; i = i->next)
            batcher_leave(i->batcher);
        finish_all(late, 504);
    }
    do {
        if (!desk.parked.first)
            return;
        batcher_config(desk.parked.first->batcher, &config);
        if (config.latency_budget_us > ROUND_NS / 1000)
            config.latency_budget_us = ROUND_NS / 1000;
        batch = batch_take(&desk.parked, &config);
        batch->work->run(batch);
        finish_all(batch, 0);
    } while (now_ns() < end);
}


/* The request was read here: park it, or let workers have it. */
static enum MHD_Result place_item(struct exchange *x)
{
    struct batch_item *item = x->item;

    if (batcher_is_quick(item->batcher, item, item->min_revision ? model_published(item->batcher) : 0, QUICK_NS)) {
        x->parked = true;
        x->round = desk.round;
        batch_push(&desk.parked, item);
        if (desk.connections > 1)
            return MHD_YES;
        run_parked(); /* nobody else can come meanwhile */
        return x->done ? answer(x) : MHD_YES;
    }
    if (!suspend(x)) {
        batcher_leave(item->batcher);
        forget_item(x);
        return answer(x);
    }
    batching_submit(x->server->http->ctx->batching, item, model_published);
    return MHD_YES;
}

/* A short request, at once or in its turn. */
static enum MHD_Result read_short(struct exchange *x)
{
    if (!desk.parked.first)
        desk.round_ns = now_ns();
    x->unread = desk.parked.first && now_ns() - desk.round_ns > READ_NS;
    x->round = desk.round;
    if (x->unread)
        return MHD_YES;
    return read_item(x) ? place_item(x) : answer(x);
}

/* MHD calls again for a request that is parked or unread. The first call that comes a second time begins a round. */
static enum MHD_Result again(struct exchange *x)
{
    if (!x->done && x->round == desk.round) {
        desk.round++;
        run_parked();
        desk.round_ns = now_ns();
    }
    if (x->unread)
        return read_short(x);
    x->round = desk.round;
    return x->done ? answer(x) : MHD_YES;
}

/* The parked request of a connection that ends. */
static void unpark(struct exchange *x)
{
    if (batch_remove(&desk.parked, x->item) || x->parked)
        batcher_leave(x->item->batcher);
    x->item->work->drop(x->item, 499);
    forget_item(x);
}

/* ---- workers ------------------------------------------------------------------------------------------------ */

/* On a worker, while the connection is suspended. */
static void work(void *arg)
{
    struct exchange *x = arg;
    uint64_t now = now_ns();

    x->rp.queue_ns = now - x->queued_ns;
    if (now > x->deadline_ns) {
        rejected(x, "deadline_exceeded");
        reply_error(&x->rp, status_of(x, 504), "deadline_exceeded", NULL, "Request timeout expired");
    } else if (x->rp.queue_ns > GONE_AFTER_NS && is_gone(x)) {
        rejected(x, "gone");
        log_debug("%s %s 499 the client went away", x->rq.method, x->target);
        reply_bytes(&x->rp, 499, NULL, NULL, 0);
    } else if (!x->rq.route->batch) {
        handle(x);
    } else if (read_item(x)) {
        batching_submit(x->server->http->ctx->batching, x->item, model_published);
        return;
    }
    give_back(x);
}

static enum MHD_Result hand_over(struct exchange *x)
{
    const char *key = !(x->rq.route->flags & ROUTE_WRITE) ? NULL : x->rq.param[0] ? x->rq.param[0] : "";

    if (!suspend(x))
        return answer(x);
    if (!scheduler_submit(x->server->http->ctx->scheduler, key, work, x)) {
        rejected(x, "queue_full");
        reply_header(&x->rp, "Retry-After", "1");
        reply_error(&x->rp, status_of(x, 429), "queue_full", NULL, "Exceeds maximum queue size");
        give_back(x);
    }
    return MHD_YES;
}

/* Whether the HTTP thread reads the request itself. */
static bool is_short(const struct exchange *x)
{
    return x->coding == CODING_NONE && !once_key(x) &&
           x->received <= (request_header(&x->rq, "Inference-Header-Content-Length") ? QUICK_BYTES : QUICK_JSON);
}

/* The request is complete. */
static enum MHD_Result execute(struct exchange *x)
{
    const struct route *route = x->rq.route;

    x->client->deadline_ns = 0;
    x->rq.bytes = x->received;
    x->rq.body = x->room ? x->client->body : (const unsigned char *)"";
    if (x->room)
        x->client->body[x->received] = '\0';
    if (route->batch && is_short(x))
        return read_short(x);
    if (route->batch || x->coding != CODING_NONE || !(route->flags & ROUTE_INLINE))
        return hand_over(x);
    handle(x);
    return answer(x);
}

/* ---- bodies ------------------------------------------------------------------------------------------------- */

static void forget_body(struct exchange *x)
{
    struct client *c = x->client;

    grow(x->server->http, x->room, 0);
    spool_close(&x->spool);
    if (c->body_room > KEPT_BODY) {
        free(c->body);
        c->body = NULL;
        c->body_room = 0;
    }
    x->room = x->received = 0;
}

/* Room for a body of `room` bytes and a NUL. false: there is none, the reply says so. */
static bool make_room(struct exchange *x, size_t room)
{
    struct http *http = x->server->http;
    struct client *c = x->client;
    bool good = grow(http, x->room, room);

    if (good && (!c->body || room > c->body_room)) {
        unsigned char *body = realloc(c->body, room + 1);

        if (body) {
            c->body = body;
            c->body_room = room;
        } else {
            grow(http, room, x->room);
            good = false;
        }
    }
    if (good)
        x->room = room;
    else
        no_room(x);
    return good;
}

/* A place on disk for an upload whose length is `room`, if that is known. false: the reply says why not. */
static bool make_spool(struct exchange *x, size_t room)
{
    int error = spool_open(&x->spool, store_folder(x->server->http->ctx->store), room);

    if (error)
        no_disk(x, error);
    return !error;
}

/* Some of the body. A failure lets the rest be swallowed; beyond what is swallowed only the connection's end helps. */
static enum MHD_Result take(struct exchange *x, const char *data, size_t bytes)
{
    size_t limit = (size_t)body_limit(x), room = x->room;
    int error;

    x->client->deadline_ns = x->rq.start_ns + BODY_NS + (x->received + bytes) * BODY_NS_PER_BYTE;
    if (x->swallow) {
        x->received += bytes;
        return x->received > SWALLOWED ? MHD_NO : MHD_YES;
    }
    if (x->received + bytes > limit)
        too_large(x, (long)limit);
    else if (!room && !x->spool.open && x->rq.route->flags & ROUTE_UPLOAD)
        make_spool(x, 0);
    else if (!x->spool.open && x->received + bytes > room) { /* only when it comes in chunks: the length was not known */
        room = room < 32768 ? 65536 : 2 * room;
        if (room < x->received + bytes)
            room = x->received + bytes;
        make_room(x, room < limit ? room : limit);
    }
    if (!x->rp.status && x->spool.open && (error = spool_write(&x->spool, data, bytes)))
        no_disk(x, error);
    if (x->rp.status) {
        forget_body(x);
        x->swallow = true;
        return MHD_YES;
    }
    if (!x->spool.open)
        memcpy(x->client->body + x->received, data, bytes);
    x->received += bytes;
    return MHD_YES;
}

/* ---- admission ------------------------------------------------------------------------------------------------ */

/* Header lines lie one behind the other in MHD's memory, cut by NULs. A folded line is moved or leaves a gap, and so does
 * a NUL that came over the wire: MHD reads both as something else than other readers do. */
struct lines {
    struct guard *guard;
    const char *end; /* of the line before */
    bool broken;
};

/* Whether a line that begins at `next` follows one that ended at `end`: behind "\n" or "\r\n". */
static bool follows(const char *end, const char *next)
{
    return next == end + 1 || next == end + 2;
}

static enum MHD_Result show_header(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_length,
                                   const char *value, size_t value_length)
{
    struct lines *lines = arg;

    (void)kind;
    guard_header(lines->guard, name, name_length, value, value_length);
    if (!value || !follows(lines->end, name) || value <= name + name_length)
        lines->broken = true;
    lines->end = value ? value + value_length : name + name_length;
    return MHD_YES;
}

/* Show all headers to the guard; NULL, or what is wrong with the framing. */
static const char *check_headers(struct exchange *x, const char *method, const char *version)
{
    struct lines lines = {.guard = &x->guard, .end = version + strlen(version)};
    const union MHD_ConnectionInfo *size = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    bool known = !strncmp(MHD_get_version(), "0.9.", 4); /* later versions refuse such lines by themselves */
    const char *wrong;

    MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, show_header, &lines);
    wrong = guard_end(&x->guard, !strcmp(version, "HTTP/1.0"));
    if (wrong || !known)
        return wrong;
    if (version != x->end + 1)
        return "a NUL in the request line";
    if (lines.broken || !size || method + size->header_size - lines.end < 2 || method + size->header_size - lines.end > 4)
        return "a header that goes on in the next line, or holds a NUL";
    return NULL;
}

/* 12 letters of 5 random bits. */
static void draw_id(char *id)
{
    static const char letters[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    if (desk.n_random < 12) {
        gnutls_rnd(GNUTLS_RND_NONCE, desk.random, sizeof desk.random);
        desk.n_random = sizeof desk.random;
    }
    for (size_t i = 0; i < 12; i++)
        id[i] = letters[desk.random[--desk.n_random] & 31];
    id[12] = '\0';
}

/* The client's id when it is printable, else one of ours. */
static void set_id(struct exchange *x)
{
    const char *given = x->guard.id;
    size_t length = given ? strlen(given) : 0;
    bool good = length > 0 && length < sizeof x->id;

    for (size_t i = 0; good && i < length; i++)
        good = given[i] > ' ' && given[i] < 0x7f;
    if (good) {
        memcpy(x->id, given, length + 1);
    } else {
        draw_id(x->id);
    }
    x->rq.id = x->id;
}

/* "http://host:port/path" is the same as "/path" with that Host (RFC 9112, 3.2.2). false: out of memory. */
static bool absolute_form(struct exchange *x)
{
    const char *authority;
    size_t length;

    if (strncasecmp(x->target, "http://", 7) && strncasecmp(x->target, "https://", 8))
        return true;
    authority = strchr(x->target, ':') + 3;
    length = strcspn(authority, "/");
    if (!(x->authority = strndup(authority, length)))
        return false;
    x->guard.host = x->authority;
    x->guard.host_length = guard_host(x->authority);
    x->target = authority[length] ? authority + length : "/";
    return true;
}

static bool same(const char *host, size_t length, const char *name)
{
    return strlen(name) == length && !strncasecmp(host, name, length);
}

static bool is_address(const char *host, size_t length)
{
    return *host == '[' || strspn(host, "0123456789.") >= length;
}

/* Whether the Host is one of ours: the listener's address, localhost for a loopback one, any address where every
 * address is listened on, or a name that the settings allow. */
static bool is_our_host(const struct exchange *x)
{
    const struct http *http = x->server->http;
    const char *host = x->guard.host;
    size_t length = x->guard.host_length;

    for (size_t i = 0; i < http->n; i++) {
        const struct listener *l = http->server[i].listener;

        if (!l->is_unix && (same(host, length, l->host) || (l->loopback && same(host, length, "localhost")) ||
                            (l->any && (is_address(host, length) || same(host, length, "localhost")))))
            return true;
    }
    return config_allows_host(http->ctx->config, host, length);
}

/* Whether the Origin is the page that this very server gave: its scheme and the request's own Host. */
static bool is_our_origin(const struct exchange *x)
{
    const char *origin = x->guard.origin, *scheme = x->server->listener->tls ? "https://" : "http://";
    size_t length = strlen(scheme);

    return !strncmp(origin, scheme, length) && !strcasecmp(origin + length, x->guard.host);
}

static bool changes_something(const char *method)
{
    return strcmp(method, "GET") && strcmp(method, "HEAD") && strcmp(method, "OPTIONS");
}

/* Web pages of strangers stop here: a name of theirs that leads to us, a form of theirs that is sent to us. */
static void check_origin(struct exchange *x)
{
    if (x->server->listener->is_unix || !x->guard.host)
        return;
    if (!is_our_host(x)) {
        rejected(x, "host_refused");
        reply_error(&x->rp, 403, "host_refused", NULL,
                    "Host \"%.100s\" is not a name of this server; --allowed-hosts adds names", x->guard.host);
    } else if (x->guard.origin && changes_something(x->rq.method) && !is_our_origin(x) &&
               !config_allows_origin(x->server->http->ctx->config, x->guard.origin)) {
        rejected(x, "origin_refused");
        reply_error(&x->rp, 403, "origin_refused", NULL, "pages of %.100s may not change anything here", x->guard.origin);
    }
}

/* A browser asks before it lets a page send. */
static void check_preflight(struct exchange *x)
{
    const char *network = request_header(&x->rq, "Access-Control-Request-Private-Network");

    if (x->guard.origin && !strcmp(x->rq.method, "OPTIONS") && request_header(&x->rq, "Access-Control-Request-Method"))
        cors_preflight(x->server->http->ctx->config, x->guard.origin,
                       request_header(&x->rq, "Access-Control-Request-Headers"), network && !strcasecmp(network, "true"), &x->rp);
}

static void find_route(struct exchange *x)
{
    struct client *c = x->client;

    if (x->server->listener->metrics && strcmp(x->target, "/metrics")) {
        reply_error(&x->rp, 404, "not_found", NULL, "this address has /metrics and nothing else");
        return;
    }
    if (!c->match.route || strcmp(c->match.route->method, x->rq.method)) {
        free(c->match.memory);
        c->found = router_find(routes, x->rq.method, x->target, prefix_of(x), &c->match);
    }
    switch (c->found) {
    case ROUTE_FOUND:
        x->rq.route = c->match.route;
        x->rq.path = c->match.path;
        memcpy(x->rq.param, c->match.param, sizeof x->rq.param);
        if (x->bad_query)
            reply_error(&x->rp, 400, "bad_parameter", NULL, "the query is not percent-encoded text");
        break;
    case ROUTE_BAD_NAME:
        reply_error(&x->rp, 400, "bad_name", NULL, "%s", c->match.why);
        break;
    case ROUTE_NONE:
        reply_error(&x->rp, 404, "not_found", NULL, "Not Found");
        break;
    case ROUTE_OTHER_METHOD:
        reply_header(&x->rp, "Allow", "%s, OPTIONS", c->match.allow);
        if (!strcmp(x->rq.method, "OPTIONS"))
            reply_bytes(&x->rp, 204, NULL, NULL, 0);
        else
            reply_error(&x->rp, 405, "method_not_allowed", NULL, "Method Not Allowed");
    }
}

/* The key that the route asks for. */
static void check_key(struct exchange *x)
{
    struct keys *keys = x->server->http->ctx->keys;
    enum key_verdict verdict = KEY_FINE;

    if (keys && !x->server->listener->metrics)
        verdict = keys_check(keys, request_header(&x->rq, "Authorization"), request_header(&x->rq, "X-Api-Key"),
                             scope_of(x->rq.route->method, x->rq.route->template));
    if (verdict == KEY_UNKNOWN) {
        rejected(x, "unauthorized");
        reply_header(&x->rp, "WWW-Authenticate", "Bearer");
        reply_error(&x->rp, 401, "unauthorized", NULL, "a known API key is needed: Authorization: Bearer KEY");
    } else if (verdict == KEY_FORBIDDEN) {
        rejected(x, "forbidden");
        reply_error(&x->rp, 403, "forbidden", NULL, "this API key's scopes do not include this");
    }
}

/* What the route, the server's state and the body's size allow. */
static void check_work(struct exchange *x)
{
    struct http *http = x->server->http;
    long limit = body_limit(x);

    if (http->refusing && !(x->rq.route->flags & ROUTE_ALWAYS)) {
        refuse_draining(x);
    } else if (http->ctx->config->read_only && changes_something(x->rq.method) && !(x->rq.route->flags & ROUTE_READS)) {
        rejected(x, "read_only");
        reply_error(&x->rp, 403, "read_only", NULL, "the server runs with --read-only");
    } else if (x->guard.length > (uint64_t)limit) {
        too_large(x, limit);
    } else if ((x->coding = coding_named(x->guard.encoding)) == CODING_UNKNOWN) {
        reply_header(&x->rp, "Accept-Encoding", "gzip, deflate");
        reply_error(&x->rp, x->rq.route->flags & ROUTE_OIP ? 501 : 415, "unsupported_encoding", NULL, "content coding \"%.40s\" is neither gzip nor deflate",
                    x->guard.encoding);
    } else if (x->guard.length > SPOOLED && x->rq.route->flags & ROUTE_UPLOAD) {
        make_spool(x, x->guard.length);
    } else if (x->guard.length) {
        make_room(x, x->guard.length);
    }
}

/* The headers are complete: let the request in, or fill in why not. */
static void admit(struct exchange *x, const char *method, const char *version)
{
    struct http *http = x->server->http;
    const char *wrong;

    http->active++;
    x->admitted = true;
    x->rq.start_ns = now_ns();
    x->deadline_ns = x->rq.start_ns + (uint64_t)(http->ctx->config->request_timeout_seconds * 1e9);
    x->client->deadline_ns = x->rq.start_ns + BODY_NS;
    x->rq.http = x;
    x->rq.head = !strcmp(method, "HEAD");
    x->rq.method = x->rq.head ? "GET" : method;
    wrong = check_headers(x, method, version);
    set_id(x);
    if (wrong) {
        x->now = x->close = true;
        rejected(x, "bad_framing");
        reply_error(&x->rp, 400, "bad_framing", NULL, "%s", wrong);
        return;
    }
    if (!absolute_form(x))
        reply_error(&x->rp, 503, "out_of_memory", NULL, "out of memory");
    if (!x->rp.status)
        check_origin(x);
    if (!x->rp.status)
        check_preflight(x);
    if (!x->rp.status)
        find_route(x);
    if (!x->rp.status)
        check_key(x);
    if (!x->rp.status)
        check_work(x);
    x->now = x->rp.status && (x->guard.expect || x->guard.length > SWALLOWED);
    x->swallow = x->rp.status;
}

/* ---- libmicrohttpd's callbacks ----------------------------------------------------------------------------------- */

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *bytes, void **of_request)
{
    struct exchange *x = *of_request;

    (void)cls;
    (void)connection;
    (void)url;
    if (!x)
        return MHD_NO; /* there was no memory for it */
    if (!x->admitted) {
        admit(x, method, version);
        return x->now ? answer(x) : MHD_YES;
    }
    if (*bytes) {
        size_t n = *bytes;

        *bytes = 0;
        return take(x, data, n);
    }
    if (x->unread || x->parked)
        return again(x);
    if (x->done || x->rp.status)
        return answer(x);
    return execute(x);
}

/* Another target than before makes what is known of that one go. false: out of memory. */
static bool know_target(struct client *c, const char *target, size_t length)
{
    if (c->raw && !strncmp(c->raw, target, length) && !c->raw[length])
        return true;
    free(c->match.memory);
    c->match = (struct match){0};
    free(c->raw);
    c->raw = strndup(target, length);
    return c->raw != NULL;
}

/* A processor that sleeps takes 40 us to wake up when it is a virtual one, which is longer than a small request. So while
 * there is one client alone, and its last request came at once, this thread stays awake for the next one. */
static void stay_awake(const struct server *s, const struct client *c)
{
    char byte;

    while (c->quick && s->http->connections == 1 && s->http->ctx->config->threads > 1 &&
           recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN && now_ns() - c->ended_ns < AWAKE_NS)
        continue;
}

/* The request line is complete; what this returns is *of_request from now on. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    struct server *server = cls;
    const union MHD_ConnectionInfo *of = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct client *client = of ? of->socket_context : NULL;
    uint64_t now = now_ns();
    struct exchange *x;

    desk.parsing = NULL;
    desk.target = target;
    if (!client || !target || !know_target(client, target, strcspn(target, "?")))
        return NULL;
    desk.parsing = x = &client->exchange;
    *x = (struct exchange){.target = client->raw,
                           .end = target + strlen(target),
                           .server = server,
                           .connection = connection,
                           .client = client};
    client->deadline_ns = now + HEADER_NS;
    client->quick = now - client->ended_ns < QUICK_CLIENT_NS;
    return x;
}

/* MHD decodes the query by this, and would the path: that one is decoded by the router, segment by segment. */
static size_t on_escaped(void *cls, struct MHD_Connection *connection, char *text)
{
    size_t length = strlen(text);
    long decoded;

    (void)cls;
    (void)connection;
    if (text == desk.target)
        return length;
    decoded = percent_decode(text);
    if (desk.parsing && (decoded < 0 || strlen(text) != (size_t)decoded))
        desk.parsing->bad_query = true;
    return strlen(text);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **of_request, enum MHD_RequestTerminationCode how)
{
    struct exchange *x = *of_request;
    struct server *server = cls;

    (void)connection;
    *of_request = NULL;
    if (!x)
        return;
    if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK && x->admitted)
        log_debug("%s %s: the connection ended before the answer did", x->rq.method, x->target);
    if (desk.parsing == x)
        desk.parsing = NULL;
    if (x->item)
        unpark(x);
    x->client->ended_ns = now_ns();
    x->client->deadline_ns = x->client->ended_ns + KEPT_NS;
    if (x->admitted)
        server->http->active--;
    forget_body(x);
    reply_clear(&x->rp);
    free(x->authority);
    if (how == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        stay_awake(server, x->client);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **of_socket, enum MHD_ConnectionNotificationCode what)
{
    struct server *server = cls;
    struct http *http = server->http;
    struct client *c = *of_socket;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        if (!(*of_socket = c = calloc(1, sizeof *c)))
            return; /* its requests will be refused for want of it */
        c->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        c->deadline_ns = now_ns() + HEADER_NS;
        desk.connections++;
        http->connections++;
        pthread_mutex_lock(&http->lock);
        c->next = http->clients;
        c->at = &http->clients;
        if (c->next)
            c->next->at = &c->next;
        http->clients = c;
        pthread_mutex_unlock(&http->lock);
    } else if (c) { /* before MHD closes the socket */
        pthread_mutex_lock(&http->lock);
        *c->at = c->next;
        if (c->next)
            c->next->at = c->at;
        pthread_mutex_unlock(&http->lock);
        desk.connections--;
        http->connections--;
        free(c->match.memory);
        free(c->raw);
        free(c->body);
        free(c);
        *of_socket = NULL;
    }
}

static void on_log(void *cls, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *format, va_list args)
{
    char text[400];

    (void)cls;
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    log_debug("libmicrohttpd: %s", text);
}

static void on_panic(void *cls, const char *file, unsigned line, const char *reason)
{
    (void)cls;
    log_error("libmicrohttpd gave up: %s:%u: %s", file, line, reason ? reason : "");
    abort();
}

/* ---- start and stop ------------------------------------------------------------------------------------------------ */

static double read_count(void *count)
{
    return (double)*(_Atomic size_t *)count;
}

static bool serve(struct server *s)
{
    static gnutls_certificate_retrieve_function2 *const certificate = tls_certificate;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG |
                     MHD_USE_NO_LISTEN_SOCKET;
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(intptr_t)certificate},
                                   {MHD_OPTION_HTTPS_PRIORITIES, 0, (char *)(intptr_t)TLS_VERSIONS},
                                   {MHD_OPTION_END, 0, NULL}};
    bool is_tls = s->listener->tls;
    unsigned threads = (unsigned)s->http->ctx->config->threads;

    threads = threads > HTTP_THREADS ? HTTP_THREADS : threads;
    s->mhd = MHD_start_daemon(
        flags | (is_tls ? MHD_USE_TLS : 0), 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_ARRAY, is_tls ? tls : &tls[2], MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0u,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_URI_LOG_CALLBACK, on_target, s, MHD_OPTION_UNESCAPE_CALLBACK, on_escaped, s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_MEMORY, MHD_OPTION_CONNECTION_LIMIT,
        CONNECTIONS * (threads > 1 ? threads : 1), MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        s->listener->is_unix ? 0u : CONNECTIONS_PER_ADDRESS, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    return s->mhd != NULL;
}

/* Every connection that waits at this listener. false: there is no room for more. */
static bool accept_some(struct server *s)
{
    while (s->http->connections < CONNECTIONS) {
        struct sockaddr_storage address;
        socklen_t length = sizeof address;
        int fd = accept4(s->listener->fd, (struct sockaddr *)&address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
            return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
        MHD_add_connection(s->mhd, fd, (struct sockaddr *)&address, length); /* closes it when it cannot */
    }
    return false;
}

static void *accept_all(void *arg)
{
    struct http *http = arg;
    struct pollfd *at = calloc(http->n + 1, sizeof *at);
    bool room = at != NULL;

    for (size_t i = 0; room && i < http->n; i++)
        at[i + 1] = (struct pollfd){.fd = http->server[i].listener->fd, .events = POLLIN};
    if (room)
        at[0] = (struct pollfd){.fd = http->hush, .events = POLLIN};
    /* Without room, of connections or descriptors, the listeners are left alone for a moment. */
    while (at && poll(at, room ? http->n + 1 : 1, room ? -1 : 10) >= 0 && !at[0].revents) {
        bool full = false;

        for (size_t i = 0; i < http->n; i++)
            if (!room || at[i + 1].revents)
                full |= !accept_some(&http->server[i]);
        room = !full;
    }
    free(at);
    return NULL;
}

/* End the acceptor. */
static void hush(struct http *http)
{
    uint64_t one = 1;

    if (http->hush < 0)
        return;
    if (write(http->hush, &one, sizeof one) == sizeof one)
        pthread_join(http->acceptor, NULL);
    close(http->hush);
    http->hush = -1;
}

struct http *http_start(struct ctx *ctx, struct listener *listeners, size_t n)
{
    struct http *http = calloc(1, sizeof *http + n * sizeof *http->server);
    size_t n_routes = 0;

    while (routes[n_routes].method)
        n_routes++;
    if (!http || !(http->served = calloc(n_routes + 1, sizeof *http->served))) {
        free(http);
        return NULL;
    }
    MHD_set_panic_func(on_panic, NULL);
    pthread_mutex_init(&http->lock, NULL);
    http->ctx = ctx;
    http->hush = -1;
    for (size_t i = 0; i < n; i++)
        http->server[i] = (struct server){.http = http, .listener = &listeners[i]};
    http->n = n; /* before the first daemon: its requests look at all listeners */
    for (size_t i = 0; i < n; i++)
        if (!serve(&http->server[i])) {
            log_error("cannot serve %s: %s", listeners[i].url, strerror(errno));
            http_stop(http);
            return NULL;
        }
    if ((http->hush = eventfd(0, EFD_CLOEXEC)) < 0 || pthread_create(&http->acceptor, NULL, accept_all, http)) {
        log_error("cannot accept connections: %s", strerror(errno));
        if (http->hush >= 0)
            close(http->hush);
        http->hush = -1;
        http_stop(http);
        return NULL;
    }
    metrics_watch(ctx->metrics, "onelip_connections", read_count, &http->connections);
    metrics_watch(ctx->metrics, "onelip_requests_in_flight", read_count, &http->active);
    metrics_watch(ctx->metrics, "onelip_body_bytes_in_flight", read_count, &http->body_bytes);
    return http;
}

void http_tick(struct http *http)
{
    uint64_t now = now_ns();

    pthread_mutex_lock(&http->lock);
    for (struct client *c = http->clients; c; c = c->next) {
        uint64_t deadline = c->deadline_ns;

        /* MHD's epoll says nothing more when a client's end came together with its last bytes: twice in one wait is for good. */
        if (deadline && has_left(c)) {
            if (c->left_ns == deadline)
                shutdown(c->fd, SHUT_RDWR);
            c->left_ns = deadline;
        } else if (deadline && now > deadline) {
            metrics_add(http->ctx->metrics, "onelip_rejected_total", "reason=\"slow\"", 1); /* counted when the client sees it */
            shutdown(c->fd, SHUT_RDWR); /* MHD sees the end and cleans up */
            c->deadline_ns = 0;
        }
    }
    pthread_mutex_unlock(&http->lock);
}

void http_refuse(struct http *http)
{
    http->refusing = true;
    hush(http);
    for (size_t i = 0; i < http->n; i++) {
        struct listener *l = http->server[i].listener;

        if (l->fd >= 0)
            close(l->fd);
        l->fd = -1;
    }
}

size_t http_active(const struct http *http)
{
    return http->active + http->handed; /* a worker may still hold what was answered a moment ago */
}

bool http_end(struct http *http)
{
    http->ending = true;
    return !http->handed;
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    hush(http);
    for (size_t i = 0; i < http->n; i++)
        if (http->server[i].mhd)
            MHD_stop_daemon(http->server[i].mhd);
    pthread_mutex_destroy(&http->lock);
    free(http->served);
    free(http);
}
