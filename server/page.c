#include "page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

bool page_begin(const struct request *rq, struct reply *rp, const char *const *others, struct page *page)
{
    const char *limit = request_query(rq, "limit"), *names[16] = {"limit", "after"};
    size_t n = 2;
    char *end;

    while (others && *others)
        names[n++] = *others++;
    *page = (struct page){.rq = rq, .limit = 20, .after = request_query(rq, "after")};
    if (!codec_queries(rq, rp, names))
        return false;
    if (limit) {
        page->limit = strtoul(limit, &end, 10);
        if (*limit < '0' || *limit > '9' || *end || page->limit < 1 || page->limit > 1000) {
            reply_error(rp, 400, "bad_parameter", NULL, "limit is \"%.40s\", needs an integer from 1 to 1000", limit);
            return false;
        }
    }
    if (!(page->data = json_array()))
        reply_no_memory(rp);
    return page->data != NULL;
}

bool page_wants(struct page *page, const char *name)
{
    if (page->after) {
        if (!strcmp(page->after, name))
            page->after = NULL;
        return false;
    }
    if (json_array_size(page->data) < page->limit)
        return true;
    page->more = true;
    return false;
}

void page_add(struct page *page, const char *name, json_t *entry)
{
    snprintf(page->last, sizeof page->last, "%s", name);
    page->failed |= json_array_append_new(page->data, entry) != 0;
}

void page_end(struct page *page, struct reply *rp)
{
    json_t *next = page->more ? json_sprintf("%s?after=%s&limit=%zu", page->rq->path, page->last, page->limit) : json_null();

    if (page->failed) {
        json_decref(page->data);
        json_decref(next);
        reply_no_memory(rp);
    } else {
        reply_json(rp, 200, json_pack("{s:s, s:o, s:b, s:o}", "object", "list", "data", page->data, "has_more", page->more,
                                      "next", next));
    }
}
