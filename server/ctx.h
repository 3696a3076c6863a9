/* ctx.h: the daemon's parts, as handlers reach them. */
#ifndef SERVER_CTX_H
#define SERVER_CTX_H

#include <stdbool.h>

struct config;    /* settings.h: the settings in force */
struct store;     /* store.h: models in memory and on disk */
struct repository; /* repository.h: which of them are loaded */
struct metrics;   /* metrics.h */
struct scheduler; /* scheduler.h */
struct datasets;  /* datasets.h */
struct events;    /* events.h */
struct jobs;      /* jobs.h */
struct keys;      /* keys.h */
struct batching;  /* batch.h */

struct ctx {
    struct config *config;
    struct store *store;
    struct repository *repository;
    struct metrics *metrics;
    struct scheduler *scheduler;
    struct datasets *datasets;
    struct batching *batching;
    struct events *events;
    struct jobs *jobs;
    struct keys *keys; /* NULL: everybody may do everything */
    _Atomic bool ready;    /* every model that was to be loaded has loaded or failed */
    _Atomic bool draining; /* a SIGTERM has come */
};

#endif
