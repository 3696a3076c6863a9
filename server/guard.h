/* guard.h: what must be right about a request's headers before anything else looks at it. No I/O, no memory. */
#ifndef SERVER_GUARD_H
#define SERVER_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One pass over the headers collects what admission needs. Pointers go into the headers that were shown. */
struct guard {
    const char *wrong;     /* NULL, or what is wrong with the framing */
    const char *host, *origin, *accept, *id, *encoding;
    size_t host_length;    /* without the port */
    bool has_length, chunked, expect;
    uint64_t length;       /* Content-Length */
    unsigned hosts;
};

/* guard_header: show one header; begin with a zeroed guard. Lengths are without the NULs behind. */
void guard_header(struct guard *g, const char *name, size_t name_length, const char *value, size_t value_length);

/* guard_end: all headers were shown: NULL, or why the request is refused as bad_framing.
 * Source: RFC 9112, sections 5.1, 6.1, 6.3 and 11.2; RFC 9110, section 7.2. */
const char *guard_end(struct guard *g, bool http_1_0);

/* guard_host: the name in a Host value or in an authority, without the port; its length, 0 when it is not one.
 * "[::1]:80" is "[::1]". */
size_t guard_host(const char *value);

/* guard_accepts: whether an Accept value names exactly this media type with q > 0; NULL accept: no. */
bool guard_accepts(const char *accept, const char *type);

/* guard_quality: how much an Accept value wants this media type: the q of the most exact range that it is in, 0 when there is
 * none. Source: RFC 9110, section 12.5.1. */
double guard_quality(const char *accept, const char *type);

#endif
