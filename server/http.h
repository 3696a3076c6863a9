/* http.h: a request as handlers see it, and the reply they fill. Only http.c knows libmicrohttpd. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_PARAMS 6

struct ctx;     /* the daemon: config, store, scheduler, metrics */
struct request; /* opaque here; the accessors below */

struct request {
    const char *method;             /* "GET" (a HEAD arrives as GET with head set) */
    bool head;
    const char *path;               /* percent-decoded, without query */
    const char *param[MAX_PARAMS];  /* the route's {…} segments, in order */
    const struct route *route;
    const unsigned char *body;      /* the whole body; never NULL */
    size_t bytes;
    const char *id;                 /* X-Request-Id, echoed or generated */
    uint64_t start_ns;              /* when its headers were complete */
    struct job *job;                /* the job that runs it (jobs.h), or NULL */
    bool dry;                       /* say what is wrong with it, do nothing */
    const struct captured *captured; /* what answers for the headers, when the connection does not */
    void *http;                     /* http.c's own */
};

const char *request_header(const struct request *rq, const char *name); /* case-insensitive; NULL: absent */
const char *request_query(const struct request *rq, const char *name);  /* decoded; NULL: absent */
/* request_gone: that its client has closed the connection; not asked for in the first second, when the answer may be as quick. */
bool request_gone(const struct request *rq);
/* request_query_each: every query parameter, so that native paths can refuse unknown ones. */
void request_query_each(const struct request *rq, void (*each)(void *ctx, const char *name, const char *value), void *ctx);

/* request_capture: all of a request, to be run later. request_make: one of our own, POST or the like with a JSON body (taken
 * over; NULL: out of memory) to `route`, whose first parameter is param. One block; free(). NULL: out of memory.
 * request_of: it as a request, valid as long as the block. */
struct captured;
struct captured *request_capture(const struct request *rq);
struct captured *request_make(const char *method, const struct route *route, const char *param, json_t *body);
void request_of(const struct captured *captured, struct request *rq);

/* A body that comes bit by bit. read: some bytes, or -1 at the end, or 0 when there are none now: it has then called
 * http_wait(http), and somebody calls http_wake(http) later, on any thread, once. end: called once, in any case. */
struct reply_stream {
    long (*read)(void *ctx, char *buffer, size_t size, void *http);
    void (*end)(void *ctx);
    void *ctx;
};
void http_wait(void *http);
void http_wake(void *http);
int http_socket(void *http); /* of a body that waits: for looking whether its reader is still there, nothing else */

struct reply {
    int status;               /* 0 until something was said */
    const char *type;         /* static text; "application/json" */
    void *body;               /* malloc'd, taken over; NULL: empty */
    size_t bytes;
    struct { const char *name; char *value; } header[16]; /* value malloc'd, taken over */
    size_t n_headers;
    uint64_t queue_ns, parse_ns, compute_ns, serialize_ns; /* -> Server-Timing */
    const char *code;         /* of a failure, as in errors.def; NULL: no failure */
    struct reply_stream stream; /* read NULL: the body is `body` */
    json_t *problem;          /* "error" and further members of a failure; http.c adds the rest and makes it the body */
};

/* reply_json: takes over `body` and dumps it (real numbers with 17 digits). NULL, or no memory: 503 out_of_memory. */
void reply_json(struct reply *rp, int status, json_t *body);
void reply_bytes(struct reply *rp, int status, const char *type, void *body, size_t bytes); /* takes body over */
/* reply_header: another header, or another value for one that is there. Line ends in the value become spaces. */
void reply_header(struct reply *rp, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
void reply_text(struct reply *rp, const char *name, const char *value); /* likewise, of a value that is there */
const char *reply_said(const struct reply *rp, const char *name); /* a header's value, NULL: it has none */
void reply_vary(struct reply *rp, const char *header); /* the answer depends on this header of the request, too */
void reply_clear(struct reply *rp);

/* One failure: status, the stable code of api.md 3.3, a sentence. The first one wins; the body is completed by
 * http.c (type, title, instance, request_id). extra: further members or NULL, taken over ({"errors":[…]}, {"missing":[…]}). */
void reply_error(struct reply *rp, int status, const char *code, json_t *extra, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* reply_finish: make a failure the body, and a Location one of this server's (http.c, once the handler is done). prefix: "" or
 * what every path begins with; instance: the path; id: the request's. */
void reply_finish(struct reply *rp, const char *prefix, const char *instance, const char *id, bool problem_json);

/* One entry of "errors". */
json_t *error_at(const char *pointer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* text_json: any bytes as a JSON string; what is not UTF-8 becomes "?". */
json_t *text_json(const char *text);

/* find_problem: a line of errors.def; NULL for a code that is not in it. */
struct problem {
    const char *code, *statuses /* "404 409" */, *title, *remedy;
};
const struct problem *find_problem(const char *code);

/* ---- routes: routes.c has the table ---------------------------------------------------------------- */

typedef void handler(struct ctx *ctx, const struct request *rq, struct reply *rp);

/* batch_handler: reads a request that may be computed together with others (batch.h). NULL: the reply is complete; else an
 * admitted item that is run or dropped, and then forgotten (its batcher's work). */
struct batch_item;
typedef struct batch_item *batch_handler(struct ctx *ctx, const struct request *rq, struct reply *rp);

enum route_flags {
    ROUTE_INLINE = 1,  /* cheap: runs in the HTTP thread. Without it a worker runs the handler. */
    ROUTE_WRITE = 2,   /* changes something: one after the other per param[0] (the model), in arrival order; routes without
                          a parameter are one after the other among themselves */
    ROUTE_OIP = 4,     /* Open Inference Protocol path: unknown members and query parameters are ignored */
    ROUTE_ALWAYS = 8,  /* answers while draining too: health, metrics */
    ROUTE_ASYNC = 32,  /* with Prefer: respond-async it runs as a job */
    ROUTE_READS = 64,  /* changes nothing although it is no GET: --read-only lets it pass */
    ROUTE_UPLOAD = 16, /* takes max_upload_bytes; a large body is a mapped file, never in memory. Not with ROUTE_INLINE */
};

struct route {
    const char *method;   /* "GET" also serves HEAD */
    const char *template; /* "/v2/models/{m}/infer": also the label of metrics. {m} is checked to be a name, {v} a version;
                             "/v2/models/stats" goes before "/v2/models/{m}", wherever they stand in the table */
    handler *handle;      /* NULL where there is a batch handler */
    unsigned flags;
    batch_handler *batch; /* NULL, or in the place of handle */
};

extern const struct route routes[]; /* ends with a NULL method */

/* ---- the server: for main.c -------------------------------------------------------------------------- */

struct http;
struct listener; /* listen.h */

/* http_start: serve on every listener; the listeners stay the caller's. NULL: out of memory or threads (logged). */
struct http *http_start(struct ctx *ctx, struct listener *listeners, size_t n);

/* http_tick: close connections that missed a deadline, or whose client has closed in the middle of a request; about twice a second. */
void http_tick(struct http *http);

/* http_refuse: no new connections (each listener's socket is closed here), no new work on those that are open. */
void http_refuse(struct http *http);

size_t http_active(const struct http *http); /* requests between their first byte and the last of their answer */

/* http_end: give no more work to the workers. true: none of them has any of ours. */
bool http_end(struct http *http);

/* http_stop: close every connection and free. No request may be with a worker (http_end said so, or none is active). */
void http_stop(struct http *http);

#endif
