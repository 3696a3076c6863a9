/* store_private.h: what store.c, head.c, disk.c and recipe.c share. */
#ifndef SERVER_STORE_PRIVATE_H
#define SERVER_STORE_PRIVATE_H

#include "clock.h"
#include "disk.h"
#include "log.h"
#include "store.h"

struct store {
    int root, models, lock_file; /* folders, and the file that says "one daemon"; -1: missing, and read_only */
    bool read_only;
    _Atomic double checkpoint_seconds;
    struct metrics *metrics;
    store_listener *told; /* NULL: nobody listens */
    void *told_ctx;

    pthread_mutex_t changing;
    pthread_mutex_t lock; /* the table */
    struct model **model; /* sorted by name */
    size_t n_models, capacity;

    pthread_t keeper; /* writes unsaved steps */
    pthread_mutex_t keeping;
    pthread_cond_t wake;
    bool stop;
};

/* published_new: the snapshot (another reference to it, and to stats) with the epoch, version and weights_revision of facts.
 * NULL: out of memory. */
struct published *published_new(lip_snapshot *snapshot, const struct facts *facts, struct stats *stats);

/* store_tell: this has become of the model; its revisions are those that go with it. */
void store_tell(struct model *model, enum model_news what);

/* model_saved: the image is on disk. */
void model_saved(struct model *model, const struct image *image);

/* model_write: the image of `view`, on disk. */
bool model_write(struct model *model, const struct view *view, bool definition, bool training, struct image *image,
                 struct failure *f);

/* The table, under `changing`. store_insert: a new name; takes over the caller's reference on success (else: out of memory).
 * store_exchange: fresh, whose reference is taken over, in the place of old. store_take_out: a name is no more. */
bool store_insert(struct store *store, struct model *model);
void store_exchange(struct store *store, struct model *old, struct model *fresh);
void store_take_out(struct store *store, struct model *model);

/* model_load: the model of the state directory with old's name and statistics; a damaged one is UNAVAILABLE. One reference, not in
 * the table. NULL: out of memory. */
struct model *model_load(struct store *store, struct model *old);

/* model_new: one reference, nothing in it. NULL: out of memory. */
struct model *model_new(struct store *store, const char *name);
void model_free(struct model *model);

/* versions_load: the frozen versions and labels of a head that was loaded, or could not be. */
void versions_load(struct model *head);

/* model_set_knobs: in force at once, in memory; takes a reference of its own. */
void model_set_knobs(struct model *model, struct knobs *knobs);

/* model_view: the head as it is, with these facts. */
struct view model_view(struct model *model, const struct facts *facts);

#endif
