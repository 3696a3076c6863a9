/* page.h: one page of a list, api.md 3.1: {"object":"list","data":[…],"has_more","next"}; ?limit= 1 to 1000, ?after= the name of
 * the last one of the page before.
 *
 *     if (page_begin(rq, rp, NULL, &page)) {
 *         for (each thing, newest first)
 *             if (page_wants(&page, thing->name))
 *                 page_add(&page, thing->name, thing_json(thing));
 *         page_end(&page, rp);
 *     }
 */
#ifndef SERVER_PAGE_H
#define SERVER_PAGE_H

#include <jansson.h>

#include "http.h"

struct page {
    const struct request *rq;
    size_t limit;
    const char *after; /* NULL once it has been seen */
    char last[200];    /* name of the last entry */
    bool more, failed;
    json_t *data;
};

/* page_begin: others: further query parameters that the path knows (NULL-terminated), or NULL. false: the reply says why. */
bool page_begin(const struct request *rq, struct reply *rp, const char *const *others, struct page *page);
bool page_wants(struct page *page, const char *name);                /* asked of every entry in turn */
void page_add(struct page *page, const char *name, json_t *entry);   /* takes entry over; NULL: out of memory */
void page_end(struct page *page, struct reply *rp);

#endif
