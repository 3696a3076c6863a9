/* documents.c: JSON bodies, query parameters and entity tags. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "codec.h"
#include "guard.h"
#include "json_scan.h"
#include "sha256.h"
#include "text.h"

/* Whether a media type is one that JSON comes as, or says nothing. */
static bool takes_json(const char *type)
{
    static const char *const plain[] = {"application/json", "application/x-www-form-urlencoded", "application/octet-stream",
                                        "application/merge-patch+json", "application/vnd.keras+json", "text/json", NULL};
    size_t n = type ? strcspn(type, "; \t") : 0;

    if (!n)
        return true;
    for (size_t i = 0; plain[i]; i++)
        if (strlen(plain[i]) == n && !strncasecmp(plain[i], type, n))
            return true;
    return false;
}

json_t *codec_document(const struct request *rq, struct reply *rp)
{
    const char *type = request_header(rq, "Content-Type");
    char why[256];
    json_t *json;

    if (rq->bytes == 0)
        return json_object();
    if (!takes_json(type)) {
        const char *taken = strcmp(rq->method, "PATCH") ? "application/json" : "application/merge-patch+json, application/json";

        reply_text(rp, "Accept", taken);
        reply_error(rp, 415, "unsupported_media_type", NULL, "this path takes %s, got %.100s", taken, type);
        return NULL;
    }
    if (!(json = json_scan((const char *)rq->body, rq->bytes, NULL, why, sizeof why))) {
        reply_error(rp, 400, "bad_json", NULL, "the body is not valid JSON: %s", why);
        return NULL;
    }
    if (!json_is_object(json)) {
        json_decref(json);
        reply_at(rp, 400, "bad_request", "", "the body needs to be a JSON object");
        return NULL;
    }
    return json;
}

/* One more token of a JSON pointer. */
static void point(char *pointer, size_t size, const char *base, const char *token)
{
    size_t n = (size_t)snprintf(pointer, size, "%s/", base);

    for (; *token && n + 3 < size; token++) {
        if (*token == '~' || *token == '/') {
            pointer[n++] = '~';
            pointer[n++] = *token == '~' ? '0' : '1';
        } else {
            pointer[n++] = *token;
        }
    }
    if (n < size)
        pointer[n] = 0;
}

static void list_names(struct text *t, const char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        text_printf(t, "%s%s", i ? ", " : "", names[i]);
    text_add(t, "", 1);
}

bool codec_members(struct reply *rp, const json_t *object, const char *pointer, const char *const *members)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value) {
        size_t i = 0;
        while (members[i] && strcmp(members[i], key))
            i++;
        if (!members[i]) {
            struct text list = {0};
            char at[512];
            list_names(&list, members);
            point(at, sizeof at, pointer, key);
            reply_at(rp, 400, "unknown_member", at, "unknown member \"%.100s\"; known here: %s", key,
                     list.bytes && !list.failed ? list.bytes : "");
            free(list.bytes);
            return false;
        }
    }
    return true;
}

struct query_check {
    const char *const *names;
    char unknown[128];
};

static void check_query(void *ctx, const char *name, const char *value)
{
    struct query_check *check = ctx;
    (void)value;
    for (size_t i = 0; check->names[i]; i++)
        if (!strcmp(check->names[i], name))
            return;
    if (!check->unknown[0])
        snprintf(check->unknown, sizeof check->unknown, "%s", name[0] ? name : " ");
}

bool codec_queries(const struct request *rq, struct reply *rp, const char *const *names)
{
    struct query_check check = {.names = names};
    struct text list = {0};

    request_query_each(rq, check_query, &check);
    if (!check.unknown[0])
        return true;
    list_names(&list, names);
    reply_error(rp, 400, "bad_parameter", NULL, "unknown query parameter \"%s\"; known here: %s", check.unknown,
                list.bytes && !list.failed && list.bytes[0] ? list.bytes : "none");
    free(list.bytes);
    return false;
}

bool codec_query_bool(const struct request *rq, struct reply *rp, const char *name, bool *value)
{
    const char *text = request_query(rq, name);

    if (!text)
        return true;
    if (!strcmp(text, "true") || !strcmp(text, "1") || !*text)
        *value = true;
    else if (!strcmp(text, "false") || !strcmp(text, "0"))
        *value = false;
    else {
        reply_error(rp, 400, "bad_parameter", NULL, "%s is \"%.100s\", needs true or false", name, text);
        return false;
    }
    return true;
}

bool codec_query_positive(const struct request *rq, struct reply *rp, const char *name, double *value)
{
    const char *text = request_query(rq, name);
    char *end;
    double x;

    if (!text)
        return true;
    x = strtod(text, &end);
    if (end == text || *end || !isfinite(x) || x <= 0 || strspn(text, "0123456789+-.eE") != strlen(text)) {
        reply_error(rp, 400, "bad_parameter", NULL, "%s is \"%.100s\", needs a number above 0", name, text);
        return false;
    }
    *value = x;
    return true;
}

json_t *codec_real(double x)
{
    if (isfinite(x))
        return json_real(x);
    return json_string(isnan(x) ? "NaN" : x > 0 ? "Infinity" : "-Infinity");
}

json_t *codec_real_or_null(double x)
{
    return isnan(x) ? json_null() : codec_real(x);
}

json_t *codec_shape(const lip_shape *shape, json_t *batch)
{
    json_t *list = json_array();

    if (batch)
        json_array_append_new(list, batch);
    for (size_t i = 0; i < shape->rank; i++)
        json_array_append_new(list, json_integer((json_int_t)shape->dim[i]));
    return list;
}

void codec_tag_coded(char coded[CODED_ETAG_MAX], const char *etag, const char *coding)
{
    snprintf(coded, CODED_ETAG_MAX, "%.*s-%s\"", (int)strlen(etag) - 1, etag, coding);
}

/* Whether these n bytes are the tag, or that of one of its codings. */
static bool is_tag(const char *text, size_t n, const char *etag)
{
    static const char *const codings[] = {"\"", "-gzip\"", "-deflate\""};
    size_t plain = strlen(etag) - 1; /* without the last quote */

    if (n <= plain || strncmp(text, etag, plain) != 0)
        return false;
    for (size_t i = 0; i < sizeof codings / sizeof *codings; i++)
        if (strlen(codings[i]) == n - plain && !strncmp(text + plain, codings[i], n - plain))
            return true;
    return false;
}

/* codec_tag_listed; *found: the tag as it is listed, or etag. */
static bool find_tag(const char *list, const char *etag, bool weak, const char **found, size_t *length)
{
    *found = etag;
    *length = strlen(etag);
    while (list && *list) {
        list += strspn(list, " \t,");
        if (*list == '*')
            return true;
        bool is_weak = !strncmp(list, "W/", 2);
        list += is_weak ? 2 : 0;
        if (*list == '"') {
            size_t n = 1 + strcspn(list + 1, "\"");
            if (list[n] != '"')
                return false;
            n++;
            if (is_tag(list, n, etag) && (weak || !is_weak)) {
                *found = list;
                *length = n;
                return true;
            }
            list += n;
        } else {
            list += strcspn(list, ",");
        }
    }
    return false;
}

bool codec_tag_listed(const char *list, const char *etag, bool weak)
{
    const char *found;
    size_t length;

    return find_tag(list, etag, weak, &found, &length);
}

size_t codec_accept(const struct request *rq, struct reply *rp, const char *const *types, size_t n)
{
    const char *accept = request_header(rq, "Accept");
    size_t best = n;
    double most = 0;

    reply_vary(rp, "Accept");
    if (!accept)
        return 0;
    for (size_t i = 0; i < n; i++) {
        double q = guard_quality(accept, types[i]);

        if (q > most) {
            most = q;
            best = i;
        }
    }
    return best;
}

bool codec_not_modified(const struct request *rq, struct reply *rp, const char *etag)
{
    const char *known = request_header(rq, "If-None-Match"), *found;
    size_t length;
    bool same = find_tag(known, etag, true, &found, &length);

    reply_header(rp, "ETag", "%.*s", (int)length, found);
    if (!same)
        return false;
    reply_bytes(rp, 304, "application/json", NULL, 0);
    return true;
}

void codec_hash_of(char etag[HASH_ETAG_MAX], const void *bytes, size_t size)
{
    char sum[65];

    sha256_text(bytes, size, sum);
    snprintf(etag, HASH_ETAG_MAX, "\"%.16s\"", sum);
}

bool codec_hash_etag(const struct request *rq, struct reply *rp, const void *bytes, size_t size)
{
    char etag[HASH_ETAG_MAX];

    codec_hash_of(etag, bytes, size);
    return codec_not_modified(rq, rp, etag);
}

bool codec_conditions_hold(const struct request *rq, const char *etag, const char *other)
{
    const char *wanted = request_header(rq, "If-Match"), *unwanted = request_header(rq, "If-None-Match");

    return (!wanted || (etag && codec_tag_listed(wanted, etag, false)) || (other && codec_tag_listed(wanted, other, false))) &&
           (!unwanted || !((etag && codec_tag_listed(unwanted, etag, true)) || (other && codec_tag_listed(unwanted, other, true))));
}

bool codec_precondition(const struct request *rq, struct reply *rp, const char *etag)
{
    if (codec_conditions_hold(rq, etag, NULL))
        return true;
    if (etag)
        reply_header(rp, "ETag", "%s", etag);
    reply_error(rp, 412, "precondition_failed", NULL,
                etag ? "it is %s, which is not what the request asks for" : "there is nothing yet that could be what the request asks for",
                etag);
    return false;
}

bool codec_precondition_json(const struct request *rq, struct reply *rp, const json_t *present)
{
    char *text = document_text(present), etag[HASH_ETAG_MAX];

    if (text)
        codec_hash_of(etag, text, strlen(text));
    free(text);
    return codec_precondition(rq, rp, text ? etag : NULL);
}

void reply_json_tagged(const struct request *rq, struct reply *rp, json_t *body)
{
    char *text = document_text(body), etag[HASH_ETAG_MAX];

    json_decref(body);
    if (!text)
        reply_no_memory(rp);
    else if (!strcmp(rq->method, "GET") && codec_hash_etag(rq, rp, text, strlen(text)))
        free(text);
    else {
        codec_hash_of(etag, text, strlen(text));
        reply_header(rp, "ETag", "%s", etag);
        reply_bytes(rp, 200, "application/json", text, strlen(text));
    }
}
