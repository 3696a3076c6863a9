/* repository.h: which models are loaded: those of the state directory, of --model-dir, and those that requests bring along.
 *
 * A folder of --model-dir is a model that is served and never written: NAME/FILE, or NAME/N/FILE with a file for each version.
 * FILE is the one with a suffix of a model (.json, .safetensors, .keras, .h5, .hdf5, .onelip); what begins with a dot, and other
 * files, are left alone. Folders may be links. Threads: safe. */
#ifndef SERVER_REPOSITORY_H
#define SERVER_REPOSITORY_H

#include <jansson.h>

#include "ctx.h"
#include "store.h"

struct repository;

/* repository_open: nothing is loaded yet. NULL with one sentence in why: --model-dir is no folder, or there is no memory. */
struct repository *repository_open(struct ctx *ctx, char *why, size_t size);
void repository_close(struct repository *r); /* after repository_stop */

/* repository_start: load what is to be loaded at start; then, in the mode poll, look at --model-dir every poll_seconds: what is new
 * or has changed is loaded, what is not there any more goes. A model that cannot be loaded any more stays as it was.
 * repository_look: look soon, in any mode. */
void repository_start(struct repository *r);
void repository_look(struct repository *r);
void repository_stop(struct repository *r);

/* repository_load: by a request. config: of the model, for as long as it is loaded; NULL: its own. files: {"1/model.json": base64} in
 * the place of the model's folder, or NULL. What was served stays when that fails: false, with f.
 * repository_unload: false with f. */
bool repository_load(struct repository *r, const char *name, struct knobs *config, const json_t *files, struct failure *f);
bool repository_unload(struct repository *r, const char *name, struct failure *f);

#endif
