/* once.h: Idempotency-Key. The first answer under a key, a path and a principal is kept (24 hours, 10 000 answers, 64 MiB, on disk
 * with SQLite) and given again; draft-ietf-httpapi-idempotency-key-header-07. Threads: safe. */
#ifndef SERVER_ONCE_H
#define SERVER_ONCE_H

#include "history.h"
#include "http.h"

struct once;
struct once_entry;
struct store;

struct once *once_open(struct history *history, struct store *store); /* NULL: out of memory */
void once_close(struct once *once);

/* once_begin: NULL when the reply is filled: the kept answer (Idempotency-Replayed: true), 409 while the first request is under way,
 * 422 when the key was used for another body, 400 for a key that is none. Else the request is to be run, and once_end follows.
 *
 * once_end: keeps the answer, unless it is one that a later try may change (429, 499, 5xx) or too large (16 MiB). */
struct once_entry *once_begin(struct once *once, const struct request *rq, const char *key, struct reply *rp);
void once_end(struct once *once, struct once_entry *entry, const struct reply *rp);

#endif
