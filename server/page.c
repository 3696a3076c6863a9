/* page.c: lists, cut into pages by ?limit= and ?after=. */
#include "page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

bool page_limit(const struct request *rq, struct reply *rp, size_t *limit)
{
    const char *text = request_query(rq, "limit");

    *limit = text ? (size_t)strtoul(text, NULL, 10) : 20;
    if (!text || (*text && strspn(text, "0123456789") == strlen(text) && *limit >= 1 && *limit <= 1000))
        return true;
    reply_error(rp, 400, "bad_parameter", NULL, "limit is \"%.40s\", needs an integer from 1 to 1000", text);
    return false;
}

/* "%41" of what is not plain in a query. */
static void put_encoded(FILE *out, const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:";

    for (; *text; text++)
        fprintf(out, strchr(plain, *text) ? "%c" : "%%%02X", (unsigned char)*text);
}

static void put_query(void *ctx, const char *name, const char *value)
{
    if (!strcmp(name, "after") || !strcmp(name, "limit"))
        return;
    fputc('&', ctx);
    put_encoded(ctx, name);
    fputc('=', ctx);
    put_encoded(ctx, value);
}

json_t *page_next(const struct request *rq, const char *last, size_t limit)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    json_t *json = NULL;
    bool good;

    if (!out)
        return NULL;
    fprintf(out, "%s?after=", rq->path);
    put_encoded(out, last);
    fprintf(out, "&limit=%zu", limit);
    request_query_each(rq, put_query, out);
    good = !ferror(out);
    if (!fclose(out) && good)
        json = json_string(text);
    free(text);
    return json;
}

void reply_list(const struct request *rq, struct reply *rp, json_t *all, const char *key)
{
    const char *after = request_query(rq, "after"), *last = NULL;
    size_t n = json_array_size(all), from = 0, limit;
    json_t *list = json_array(), *json;

    if (!page_limit(rq, rp, &limit))
        goto done;
    if (after) {
        while (from < n && strcmp(json_string_value(json_object_get(json_array_get(all, from), key)), after))
            from++;
        if (from++ == n) {
            reply_error(rp, 400, "bad_parameter", NULL, "after is \"%.140s\", which is not in the list", after);
            goto done;
        }
    }
    for (size_t i = from; i < n && i - from < limit; i++) {
        json_array_append(list, json_array_get(all, i));
        last = json_string_value(json_object_get(json_array_get(all, i), key));
    }
    json = all ? json_pack("{s:s, s:O, s:b, s:n}", "object", "list", "data", list, "has_more", n - from > limit, "next") : NULL;
    if (json && n - from > limit)
        json_object_set_new(json, "next", page_next(rq, last, limit));
    reply_json_tagged(rq, rp, json);
done:
    json_decref(list);
    json_decref(all);
}
