/* page.h: lists, cut into pages by ?limit= (20, up to 1000) and ?after= (the last entry of the page before). */
#ifndef SERVER_PAGE_H
#define SERVER_PAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "http.h"

/* page_limit: ?limit=, or 20. false: the reply says what is wrong with it. */
bool page_limit(const struct request *rq, struct reply *rp, size_t *limit);

/* page_next: the path of the page behind the entry `last`, with whatever else the query asks for. NULL: out of memory. */
json_t *page_next(const struct request *rq, const char *last, size_t limit);

/* reply_list: the page of all (taken over; NULL: out of memory) that the query asks for, after= being a value of the member
 * key: {"object":"list", "data", "has_more", "next"}, with a hash of it as ETag. */
void reply_list(const struct request *rq, struct reply *rp, json_t *all, const char *key);

#endif
