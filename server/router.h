/* router.h: from method and path to a line of the table. */
#ifndef SERVER_ROUTER_H
#define SERVER_ROUTER_H

#include <stddef.h>

#include "http.h"

enum route_found { ROUTE_FOUND, ROUTE_BAD_NAME, ROUTE_NONE, ROUTE_OTHER_METHOD };

struct match {
    const struct route *route;      /* of ROUTE_FOUND and ROUTE_BAD_NAME, else NULL */
    const char *param[MAX_PARAMS];  /* inside path */
    char *path;                     /* percent-decoded, with the prefix; inside memory */
    char allow[64];                 /* of ROUTE_OTHER_METHOD: "GET, HEAD, POST" */
    char why[200];                  /* of ROUTE_BAD_NAME */
    char *memory;                   /* malloc'd; free it */
};

/* router_find: the line of table that serves method (never "HEAD": that is "GET") on target.
 *
 * target  the path as it came, percent-encoded, without the query
 * prefix  "" or "/base", taken away first
 *
 * ROUTE_BAD_NAME  a segment is "." or "..", holds %2F, %00, a control character or no UTF-8, or is no name where one is due
 * ROUTE_NONE      no line has such a path (also when out of memory)
 *
 * One "/" at the end is ignored. Literal segments win over parameters. A parameter is one segment; "{inner}" is one or more,
 * slashes between them: the layers of models inside models, and those in a slot of a layer. Threads: safe. */
enum route_found router_find(const struct route *table, const char *method, const char *target, const char *prefix,
                             struct match *match);

/* percent_decode: in place, a "+" as it is. Returns the new length, -1 when "%" is not followed by two digits. */
long percent_decode(char *text);

#endif
