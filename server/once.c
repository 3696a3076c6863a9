#include "once.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kept.h"
#include "log.h"
#include "sha256.h"
#include "store.h"
#include "text.h"

#define ENTRIES_MAX 10000
#define BYTES_MAX ((size_t)64 << 20)
#define ANSWER_MAX ((size_t)16 << 20)
#define SECONDS_MAX (24 * 3600)
enum { BUCKETS = 1024, KEY_MAX = 255 };

struct once_entry {
    struct once_entry *next;          /* of the bucket */
    struct once_entry *newer, *older; /* of all finished ones */
    char name[65], fingerprint[65];   /* SHA-256 of who asks where under which key; of what is asked */
    bool running, of_before;          /* of_before: it comes from before the daemon started */
    char *text;
    void *body;
    size_t size;
    time_t at;
};

struct once {
    pthread_mutex_t lock;
    struct history *history;
    struct store *store;
    struct once_entry *bucket[BUCKETS], *oldest, *newest;
    size_t n, bytes;
};

/* ---- the table: under `lock` -------------------------------------------------------------------------------- */

static struct once_entry **place(struct once *o, const char *name)
{
    struct once_entry **at = &o->bucket[strtoul((char[]){name[0], name[1], name[2], 0}, NULL, 16) % BUCKETS];

    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static void entry_free(struct once_entry *e)
{
    free(e->text);
    free(e->body);
    free(e);
}

/* Into the order of age. */
static void age(struct once *o, struct once_entry *e)
{
    e->older = o->newest;
    if (o->newest)
        o->newest->newer = e;
    else
        o->oldest = e;
    o->newest = e;
    o->n++;
    o->bytes += e->size;
}

static void take_out(struct once *o, struct once_entry *e)
{
    *place(o, e->name) = e->next;
    if (!e->running) {
        if (e->older)
            e->older->newer = e->newer;
        else
            o->oldest = e->newer;
        if (e->newer)
            e->newer->older = e->older;
        else
            o->newest = e->older;
        o->n--;
        o->bytes -= e->size;
    }
}

static void forget(struct once *o, struct once_entry *e)
{
    struct failure f = {0};

    take_out(o, e);
    if (!history_remove(o->history, HISTORY_KEYS, e->name, &f))
        log_error("an idempotency key cannot be forgotten: %s", f.text);
    entry_free(e);
}

static void expire(struct once *o)
{
    time_t now = time(NULL);

    while (o->oldest && (o->n > ENTRIES_MAX || o->bytes > BYTES_MAX || now - o->oldest->at > SECONDS_MAX))
        forget(o, o->oldest);
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static void add_text(struct sha256 *s, const char *text)
{
    sha256_add(s, text ? text : "", strlen(text ? text : "") + 1);
}

static void add_query(void *ctx, const char *name, const char *value)
{
    add_text(ctx, name);
    add_text(ctx, value);
}

static void end_hex(struct sha256 *s, char text[65])
{
    unsigned char digest[32];

    sha256_end(s, digest);
    sha256_hex(digest, text);
}

static void name_of(const struct request *rq, const char *key, char name[65])
{
    struct sha256 s;

    sha256_init(&s);
    add_text(&s, rq->method);
    add_text(&s, rq->path);
    add_text(&s, request_header(rq, "Authorization"));
    add_text(&s, request_header(rq, "X-Api-Key"));
    add_text(&s, key);
    end_hex(&s, name);
}

static void fingerprint_of(const struct request *rq, char fingerprint[65])
{
    struct sha256 s;

    sha256_init(&s);
    add_text(&s, request_header(rq, "Inference-Header-Content-Length"));
    request_query_each(rq, add_query, &s);
    sha256_add(&s, rq->body, rq->bytes);
    end_hex(&s, fingerprint);
}

/* Whether the answer tells of a state that a crash has taken back: then it may be asked for again. */
static bool was_lost(struct once *o, const struct once_entry *e, const struct request *rq)
{
    json_t *json = e->of_before && rq->param[0] ? json_loads(e->text, 0, NULL) : NULL;
    const char *etag = json_string_value(json_object_get(json_object_get(json, "headers"), "ETag"));
    struct model *m = etag ? store_get(o->store, rq->param[0]) : NULL;
    bool lost = m && model_lost(m, etag);

    store_put(m);
    json_decref(json);
    return lost;
}

struct once_entry *once_begin(struct once *o, const struct request *rq, const char *key, struct reply *rp)
{
    struct once_entry *e, **at, *fresh = calloc(1, sizeof *fresh);
    size_t length = strlen(key);

    if (!length || length > KEY_MAX) {
        reply_error(rp, 400, "bad_request", NULL, "Idempotency-Key needs 1 to %d characters", KEY_MAX);
        free(fresh);
        return NULL;
    }
    if (!fresh) {
        reply_header(rp, "Retry-After", "1");
        reply_error(rp, 503, "out_of_memory", NULL, "out of memory");
        return NULL;
    }
    name_of(rq, key, fresh->name);
    fingerprint_of(rq, fresh->fingerprint);
    pthread_mutex_lock(&o->lock);
    expire(o);
    at = place(o, fresh->name);
    if (*at && !(*at)->running && was_lost(o, *at, rq)) {
        forget(o, *at);
        at = place(o, fresh->name);
    }
    if (!(e = *at)) {
        fresh->running = true;
        *at = fresh;
        pthread_mutex_unlock(&o->lock);
        return fresh;
    }
    if (strcmp(e->fingerprint, fresh->fingerprint) != 0) {
        reply_error(rp, 422, "idempotency_mismatch", NULL, "this Idempotency-Key was used for another request");
    } else if (e->running) {
        reply_header(rp, "Retry-After", "1");
        reply_error(rp, 409, "idempotency_in_flight", NULL, "the first request with this Idempotency-Key is still running");
    } else if (kept_reply(e->text, e->body, e->size, rp)) {
        reply_header(rp, "Idempotency-Replayed", "true");
    } else {
        reply_header(rp, "Retry-After", "1");
        reply_error(rp, 503, "out_of_memory", NULL, "out of memory");
    }
    pthread_mutex_unlock(&o->lock);
    free(fresh);
    return NULL;
}

static bool worth_keeping(const struct reply *rp)
{
    return rp->status < 499 && rp->status != 429 && rp->bytes <= ANSWER_MAX; /* 499: nobody read it */
}

static bool keep(struct once *o, struct once_entry *e, const struct reply *rp)
{
    char *text, *kept = kept_text(rp);
    json_t *json = kept ? json_loads(kept, 0, NULL) : NULL;
    struct failure f = {0};

    e->at = time(NULL);
    if (!json || (rp->bytes && !(e->body = malloc(rp->bytes)))) {
        free(kept);
        json_decref(json);
        return false;
    }
    if (rp->bytes)
        memcpy(e->body, rp->body, rp->bytes);
    e->size = rp->bytes;
    json_object_set_new(json, "fingerprint", json_string(e->fingerprint));
    json_object_set_new(json, "at", json_integer((json_int_t)e->at));
    text = document_text(json);
    json_decref(json);
    free(kept);
    if (!(e->text = text))
        return false;
    if (!history_put(o->history, HISTORY_KEYS, e->name, e->text, e->body, e->size, &f))
        log_warning("an idempotency key is kept in memory only: %s", f.text);
    return true;
}

void once_end(struct once *o, struct once_entry *e, const struct reply *rp)
{
    bool kept = worth_keeping(rp) && keep(o, e, rp);

    pthread_mutex_lock(&o->lock);
    if (kept) {
        e->running = false;
        age(o, e);
        expire(o);
    } else {
        take_out(o, e);
        entry_free(e);
    }
    pthread_mutex_unlock(&o->lock);
}

/* ---- start and end ------------------------------------------------------------------------------------------------- */

static void load(void *ctx, const char *name, const char *text, const void *bytes, size_t size)
{
    struct once *o = ctx;
    struct once_entry *e = calloc(1, sizeof *e), **at;
    json_t *json = text ? json_loads(text, 0, NULL) : NULL;
    const char *fingerprint = json_string_value(json_object_get(json, "fingerprint"));

    if (e && name && strlen(name) == 64 && fingerprint && strlen(fingerprint) == 64 && (e->text = strdup(text)) &&
        (!size || (e->body = malloc(size))) && !*(at = place(o, name))) {
        memcpy(e->name, name, 65);
        memcpy(e->fingerprint, fingerprint, 65);
        if (size)
            memcpy(e->body, bytes, size);
        e->size = size;
        e->at = (time_t)json_integer_value(json_object_get(json, "at"));
        e->of_before = true;
        *at = e;
        age(o, e);
        e = NULL;
    }
    json_decref(json);
    if (e)
        entry_free(e);
}

struct once *once_open(struct history *history, struct store *store)
{
    struct once *o = calloc(1, sizeof *o);
    struct failure f = {0};

    if (!o)
        return NULL;
    pthread_mutex_init(&o->lock, NULL);
    o->history = history;
    o->store = store;
    if (!history_each(history, HISTORY_KEYS, load, o, &f))
        log_error("idempotency keys of before cannot be read: %s", f.text);
    expire(o);
    return o;
}

void once_close(struct once *o)
{
    if (!o)
        return;
    for (int i = 0; i < BUCKETS; i++)
        for (struct once_entry *e = o->bucket[i], *next; e; e = next) {
            next = e->next;
            entry_free(e);
        }
    pthread_mutex_destroy(&o->lock);
    free(o);
}
