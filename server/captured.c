#include "captured.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct captured {
    const struct route *route;
    const char *method; /* the route's */
    bool head;
    size_t pairs[CAPTURED_KINDS], pairs_end[CAPTURED_KINDS]; /* "name\0value\0" one behind the other, at … in bytes */
    size_t path, param[MAX_PARAMS], id, body, body_bytes;    /* SIZE_MAX: no such parameter */
}; /* and then the bytes that these count in */

static const char *at(const struct captured *c, size_t offset)
{
    return (const char *)(c + 1) + offset;
}

void capture_begin(struct capture *capture)
{
    *capture = (struct capture){0};
}

void captured_add(struct capture *capture, enum captured_kind kind, const char *name, const char *value)
{
    text_add(&capture->pairs[kind], name, strlen(name) + 1);
    text_add(&capture->pairs[kind], value, strlen(value) + 1);
}

/* Bytes into the block, or only their room. */
static size_t put(char *to, size_t *used, const void *bytes, size_t n)
{
    size_t here = *used;

    if (to && n)
        memcpy(to + here, bytes, n);
    *used += n;
    return here;
}

struct captured *capture_end(struct capture *capture, const struct request *rq)
{
    struct captured *c = NULL;
    bool failed = capture->pairs[CAPTURED_HEADER].failed || capture->pairs[CAPTURED_QUERY].failed;

    for (int pass = 0; pass < 2 && !failed; pass++) { /* how much room; then the bytes */
        struct captured head = {.route = rq->route, .method = rq->route->method, .head = rq->head};
        char *to = c ? (char *)(c + 1) : NULL;
        size_t used = 0;

        for (int k = 0; k < CAPTURED_KINDS; k++) {
            head.pairs[k] = put(to, &used, capture->pairs[k].bytes, capture->pairs[k].n);
            head.pairs_end[k] = used;
        }
        head.path = put(to, &used, rq->path, strlen(rq->path) + 1);
        for (int i = 0; i < MAX_PARAMS; i++)
            head.param[i] = rq->param[i] ? put(to, &used, rq->param[i], strlen(rq->param[i]) + 1) : SIZE_MAX;
        head.id = put(to, &used, rq->id, strlen(rq->id) + 1);
        head.body = put(to, &used, rq->body, rq->bytes);
        head.body_bytes = rq->bytes;
        put(to, &used, "", 1);
        if (c)
            *c = head;
        else if (!(c = malloc(sizeof *c + used)))
            failed = true;
    }
    for (int k = 0; k < CAPTURED_KINDS; k++)
        free(capture->pairs[k].bytes);
    return c;
}

struct captured *request_make(const char *method, const struct route *route, const char *param, json_t *body)
{
    char *text = document_text(body);
    const char *open = strchr(route->template, '{'), *close = open ? strchr(open, '}') : NULL;
    struct request rq = {.method = method, .route = route, .param = {param}, .id = "job", .body = (unsigned char *)text};
    struct captured *c = NULL;
    struct capture capture;
    char path[512];

    if (text && close &&
        snprintf(path, sizeof path, "%.*s%s%s", (int)(open - route->template), route->template, param, close + 1) < (int)sizeof path) {
        rq.bytes = strlen(text);
        rq.path = path;
        capture_begin(&capture);
        c = capture_end(&capture, &rq);
    }
    free(text);
    json_decref(body);
    return c;
}

void request_of(const struct captured *c, struct request *rq)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    *rq = (struct request){.method = c->method, .head = c->head, .route = c->route, .path = at(c, c->path),
                           .id = at(c, c->id), .body = (const unsigned char *)at(c, c->body), .bytes = c->body_bytes,
                           .start_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, .captured = c};
    for (int i = 0; i < MAX_PARAMS; i++)
        rq->param[i] = c->param[i] == SIZE_MAX ? NULL : at(c, c->param[i]);
}

void captured_each(const struct captured *c, enum captured_kind kind, void (*call)(void *ctx, const char *name, const char *value),
                   void *ctx)
{
    for (size_t here = c->pairs[kind]; here < c->pairs_end[kind];) {
        const char *name = at(c, here), *value = name + strlen(name) + 1;
        call(ctx, name, value);
        here += strlen(name) + strlen(value) + 2;
    }
}

struct search {
    const char *name, *value;
    bool exact;
};

static void compare(void *ctx, const char *name, const char *value)
{
    struct search *s = ctx;

    if (!s->value && !(s->exact ? strcmp(name, s->name) : strcasecmp(name, s->name)))
        s->value = value;
}

const char *captured_value(const struct captured *c, enum captured_kind kind, const char *name)
{
    struct search s = {.name = name, .exact = kind == CAPTURED_QUERY};

    captured_each(c, kind, compare, &s);
    return s.value;
}
