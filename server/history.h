/* history.h: jobs and idempotency keys on disk, in jobs.sqlite of the state directory. Without SQLite nothing is kept:
 * what is put is forgotten when the daemon stops. Every function is on disk when it returns. Threads: safe. */
#ifndef SERVER_HISTORY_H
#define SERVER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store.h"

struct history;

/* history_open: state_dir NULL: nothing is kept either. NULL with one sentence in why. */
struct history *history_open(const char *state_dir, char *why, size_t size);
void history_close(struct history *h);
bool history_kept(void); /* whether this build has SQLite */

/* A row is a name and two texts or arrays; what they mean is the caller's. */
enum history_table { HISTORY_JOBS, HISTORY_KEYS };

/* history_put: a row, new or in the place of the one of that name. */
bool history_put(struct history *h, enum history_table table, const char *name, const char *text, const void *bytes, size_t size,
                 struct failure *f);
bool history_remove(struct history *h, enum history_table table, const char *name, struct failure *f);

/* history_each: every row, in the order of their names; keys in the order in which they were put. */
bool history_each(struct history *h, enum history_table table,
                  void (*each)(void *ctx, const char *name, const char *text, const void *bytes, size_t size), void *ctx,
                  struct failure *f);

#endif
