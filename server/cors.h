/* cors.h: what web pages of other origins may do (Fetch standard, section 3.2). */
#ifndef SERVER_CORS_H
#define SERVER_CORS_H

#include <stdbool.h>

struct config;
struct reply;

/* cors_headers: the headers that let a page of `origin` (NULL: none was sent) read the answer, and the Vary that tells
 * caches that others may not. Nothing when no origin is allowed at all. */
void cors_headers(struct config *config, const char *origin, struct reply *rp);

/* cors_preflight: answer the question whether a page may send `method` with `headers` (comma-separated; NULL: none);
 * private_network: it asks from a public page. False, with rp untouched: that origin may not. */
bool cors_preflight(struct config *config, const char *origin, const char *headers, bool private_network, struct reply *rp);

#endif
