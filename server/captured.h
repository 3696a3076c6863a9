/* captured.h: requests that outlive their connection, or never had one; in one block. What handlers see of it is http.h's. */
#ifndef SERVER_CAPTURED_H
#define SERVER_CAPTURED_H

#include "http.h"
#include "text.h"

enum captured_kind { CAPTURED_HEADER, CAPTURED_QUERY, CAPTURED_KINDS };

/* Names and values on their way into a block. */
struct capture {
    struct text pairs[CAPTURED_KINDS];
};

void capture_begin(struct capture *capture);
void captured_add(struct capture *capture, enum captured_kind kind, const char *name, const char *value);
struct captured *capture_end(struct capture *capture, const struct request *rq); /* NULL: out of memory */

const char *captured_value(const struct captured *c, enum captured_kind kind, const char *name); /* NULL: absent */
void captured_each(const struct captured *c, enum captured_kind kind, void (*call)(void *ctx, const char *name, const char *value),
                   void *ctx);

#endif
