/* reply.c: what handlers fill in, and the one shape of every failure.
 *
 * A failure is kept apart as code and members until http.c knows the request's id and path: reply_finish then makes it
 * the body, readable for Open Inference Protocol clients ("error") and RFC 9457 readers (the rest) alike.
 */
#include "http.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "text.h"

#define HEADERS (sizeof((struct reply *)NULL)->header / sizeof((struct reply *)NULL)->header[0])

static const char nothing_left[] = "{\"error\":\"out of memory\",\"status\":503,\"code\":\"out_of_memory\"}";

const struct problem *find_problem(const char *code)
{
    static const struct problem problems[] = {
#define PROBLEM(code, statuses, title, remedy) {#code, statuses, title, remedy},
#include "errors.def"
#undef PROBLEM
    };

    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        if (!strcmp(problems[i].code, code))
            return &problems[i];
    return NULL;
}

json_t *text_json(const char *text)
{
    json_t *json = json_string(text);
    char *copy;

    if (json || !(copy = strdup(text)))
        return json;
    for (char *c = copy; *c; c++)
        if (*c & 0x80)
            *c = '?';
    json = json_string(copy);
    free(copy);
    return json;
}

static json_t *vtext_json(const char *format, va_list args)
{
    char *text = NULL;
    json_t *json;

    if (vasprintf(&text, format, args) < 0)
        return NULL;
    json = text_json(text);
    free(text);
    return json;
}

json_t *error_at(const char *pointer, const char *format, ...)
{
    json_t *entry = json_object();
    va_list args;

    va_start(args, format);
    if (json_object_set_new(entry, "pointer", text_json(pointer)) ||
        json_object_set_new(entry, "detail", vtext_json(format, args))) {
        json_decref(entry);
        entry = NULL;
    }
    va_end(args);
    return entry;
}

void reply_error(struct reply *rp, int status, const char *code, json_t *extra, const char *format, ...)
{
    va_list args;

    if (rp->code) { /* the first one wins */
        json_decref(extra);
        return;
    }
    assert(find_problem(code));
    va_start(args, format);
    free(rp->body);
    rp->body = NULL;
    rp->bytes = 0;
    rp->status = status;
    rp->code = code;
    rp->problem = json_object();
    json_object_set_new(rp->problem, "error", vtext_json(format, args));
    if (extra)
        json_object_update(rp->problem, extra);
    json_decref(extra);
    va_end(args);
}

void reply_bytes(struct reply *rp, int status, const char *type, void *body, size_t bytes)
{
    if (rp->code) { /* said after a failure: the failure stays */
        free(body);
        return;
    }
    free(rp->body);
    rp->status = status;
    rp->type = type;
    rp->body = body;
    rp->bytes = bytes;
}

void reply_json(struct reply *rp, int status, json_t *body)
{
    char *text = document_text(body);

    json_decref(body);
    if (text)
        reply_bytes(rp, status, "application/json", text, strlen(text));
    else
        reply_error(rp, 503, "out_of_memory", NULL, "no memory for the answer");
}

/* value: taken over; NULL: there was no memory for it. */
static void keep_header(struct reply *rp, const char *name, char *value)
{
    size_t i = 0;

    if (!value)
        return;
    for (char *c = value; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    while (i < rp->n_headers && strcasecmp(rp->header[i].name, name))
        i++;
    assert(i < HEADERS);
    if (i == HEADERS) {
        free(value);
        return;
    }
    if (i == rp->n_headers)
        rp->n_headers++;
    else
        free(rp->header[i].value);
    rp->header[i].name = name;
    rp->header[i].value = value;
}

void reply_header(struct reply *rp, const char *name, const char *format, ...)
{
    char *value = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&value, format, args) < 0)
        value = NULL;
    va_end(args);
    keep_header(rp, name, value);
}

void reply_text(struct reply *rp, const char *name, const char *value)
{
    keep_header(rp, name, strdup(value));
}

/* The members of a failure in the order in which people read them. NULL: out of memory. */
static json_t *problem_members(const struct reply *rp, const char *prefix, const char *instance, const char *id)
{
    json_t *all = json_object(), *error = json_object_get(rp->problem, "error");

    if (json_object_set(all, "error", error) || json_object_set_new(all, "type", json_sprintf("%s/v2/problems/%s", prefix, rp->code)) ||
        json_object_set_new(all, "title", json_string(find_problem(rp->code)->title)) ||
        json_object_set_new(all, "status", json_integer(rp->status)) || json_object_set(all, "detail", error) ||
        json_object_set_new(all, "instance", text_json(instance)) ||
        json_object_set_new(all, "code", json_string(rp->code)) ||
        json_object_set_new(all, "request_id", text_json(id)) || json_object_update_missing(all, rp->problem)) {
        json_decref(all);
        return NULL;
    }
    return all;
}

void reply_finish(struct reply *rp, const char *prefix, const char *instance, const char *id, bool problem_json)
{
    const char *place = reply_said(rp, "Location");
    json_t *all;
    char *text;

    if (place && *place == '/' && *prefix)
        reply_header(rp, "Location", "%s%s", prefix, place);
    if (!rp->status)
        reply_error(rp, 500, "internal", NULL, "the handler said nothing");
    if (!rp->code || rp->body)
        return;
    all = problem_members(rp, prefix, instance, id);
    text = document_text(all);
    json_decref(all);
    if (!text && !(text = strdup(nothing_left)))
        rp->bytes = 0;
    rp->body = text;
    rp->bytes = text ? strlen(text) : 0;
    rp->type = problem_json ? "application/problem+json" : "application/json";
}

const char *reply_said(const struct reply *rp, const char *name)
{
    for (size_t i = 0; i < rp->n_headers; i++)
        if (!strcasecmp(rp->header[i].name, name))
            return rp->header[i].value;
    return NULL;
}

void reply_vary(struct reply *rp, const char *header)
{
    const char *already = reply_said(rp, "Vary");

    reply_header(rp, "Vary", "%s%s%s", already ? already : "", already ? ", " : "", header);
}

void reply_clear(struct reply *rp)
{
    if (rp->stream.end)
        rp->stream.end(rp->stream.ctx);
    free(rp->body);
    json_decref(rp->problem);
    for (size_t i = 0; i < rp->n_headers; i++)
        free(rp->header[i].value);
    *rp = (struct reply){0};
}
