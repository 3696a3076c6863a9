/* disk.h: one model's folder: saved as a new generation, loaded again after a crash. For store.c and head.c. */
#ifndef SERVER_DISK_H
#define SERVER_DISK_H

#include "store.h"

/* Everything that a generation holds, as the head is or will be. */
struct view {
    const lip_state *state, *served;
    const lip_trainer *trainer;
    const json_t *training; /* NULL: not configured */
    const struct facts *facts;
    bool optimizer_kept;
    uint64_t unpublished;
};

/* The bytes of a generation, cut from the head and then independent of it. */
struct image {
    uint64_t serial, revision, cut_ns;
    char epoch[9];
    void *bytes[PARTS];
    size_t size[PARTS];
    bool present[PARTS]; /* the generation has this part */
    bool fresh[PARTS];   /* and it is in bytes; else the file of the generation before is kept */
    json_t *state;       /* state.json less its files */
};

/* image_make: under `writing`. definition, training: whether these two are new as well; weights and optimizer always are. */
bool image_make(struct model *model, const struct view *view, bool definition, bool training, struct image *image,
                struct failure *f);
void image_clear(struct image *image);

/* disk_save: make the image the generation on disk, unless a later one is there. Takes `saving`. folder: the model's. */
bool disk_save(struct model *model, int folder, struct image *image, struct failure *f);

/* disk_open: the model's folder, or -1 with f. */
int disk_open(struct model *model, struct failure *f);

/* disk_load: fill a model from its folder. false: f says what is damaged; facts then holds what could be read. */
bool disk_load(struct model *model, struct failure *f);

/* disk_sweep: remove files of earlier generations and of interrupted saves. */
void disk_sweep(struct model *model, int folder);

/* ---- shelves: folders of a model's folder whose entries are written once, as a whole, and never changed ---- */

/* shelf_add: the image, on disk when it returns. 409 already_exists. The image has every part in bytes. */
bool shelf_add(struct model *model, const char *shelf, const char *name, struct image *image, struct failure *f);
bool shelf_remove(struct model *model, const char *shelf, const char *name, struct failure *f);

/* shelf_state: an entry's state.json; NULL: there is none such. shelf_names: of all entries. */
json_t *shelf_state(struct model *model, const char *shelf, const char *name);
json_t *shelf_names(struct model *model, const char *shelf);

/* shelf_load: fill a new model from an entry of from's shelf. */
bool shelf_load(struct model *model, struct model *from, const char *shelf, const char *name, struct failure *f);

#define LABELS_FILE "labels.json" /* these two in the model's folder */
#define CONFIG_FILE "config.json"

bool disk_tune(int folder, const struct knobs *knobs, struct failure *f); /* write config.json */

bool disk_mark(struct model *model, struct failure *f); /* write ahead.json */
void disk_unmark(struct model *model);


void epoch_draw(char epoch[9], const char *not_this);

/* save_optimizer: the trainer's tensors as safetensors, with its steps. NULL: out of memory. Memory: lip_free. */
void *save_optimizer(const lip_trainer *trainer, size_t *size);

#endif
