/* disk.c: one model's folder.
 *
 *     models/NAME/definition.G.json             Keras's JSON
 *     models/NAME/head/weights.G.safetensors    every variable of the head
 *     models/NAME/head/served.G.safetensors     the same as published, while unpublished steps lie between
 *     models/NAME/head/optimizer.G.safetensors  slots of the optimizer
 *     models/NAME/head/training.G.json          the training resource
 *     models/NAME/head/state.json               the generations in force, checksums, revisions; written last
 *     models/NAME/head/ahead.json               steps beyond state.json were given out
 *     models/NAME/config.json                   what was told of Triton's model configuration
 *     models/NAME/labels.json                   names of versions
 *     models/NAME/checkpoints/C/                the same files without a generation: written once, as a whole
 *     models/NAME/versions/N/                   likewise
 */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "sha256.h"
#include "store_private.h"
#include "text.h"

static const struct {
    const char *name, *file, *suffix;
} parts[PARTS] = {
    [PART_DEFINITION] = {"definition", "definition", "json"},
    [PART_WEIGHTS] = {"weights", "head/weights", "safetensors"},
    [PART_SERVED] = {"served", "head/served", "safetensors"},
    [PART_OPTIMIZER] = {"optimizer", "head/optimizer", "safetensors"},
    [PART_TRAINING] = {"training", "head/training", "json"},
};

#define SHELF_FILE "state.json"
#define STATE_FILE "head/" SHELF_FILE
#define AHEAD_FILE "head/ahead.json"
#define FILE_LIMIT ((size_t)1 << 40)
#define STATE_LIMIT ((size_t)1 << 24)
#define SHELF_PATH 200

/* ---- failures ---------------------------------------------------------------------------------------- */

bool failure_set(struct failure *f, int status, const char *code, const char *format, ...)
{
    va_list args;

    if (f->status)
        return false;
    f->status = status;
    f->code = code;
    va_start(args, format);
    vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
    return false;
}

bool failure_errno(struct failure *f, int error, const char *what)
{
    if (error == ENOMEM)
        return failure_set(f, 503, "out_of_memory", "out of memory while writing %s", what);
    if (error == ENOSPC || error == EDQUOT || error == EFBIG)
        return failure_set(f, 507, "disk_full", "no room on the disk for %s (%s); nothing was changed", what,
                           strerror(error));
    return failure_set(f, 500, "internal", "cannot write %s: %s", what, strerror(error));
}

bool failure_lip(struct failure *f, const lip_error *err)
{
    bool memory = err->code == LIP_ENOMEM;
    return failure_set(f, memory ? 503 : 500, memory ? "out_of_memory" : "internal", "%s",
                       err->text[0] ? err->text : lip_err_text(err->code));
}

void epoch_draw(char epoch[9], const char *not_this)
{
    char drawn[9];
    uint32_t bits = 0;

    do {
        if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
            bits++;
        snprintf(drawn, sizeof drawn, "%08x", (unsigned)bits);
    } while (!strcmp(drawn, not_this));
    memcpy(epoch, drawn, sizeof drawn);
}

/* ---- images ------------------------------------------------------------------------------------------- */

static bool add(struct image *image, int part, void *bytes, size_t size, struct failure *f)
{
    if (!bytes)
        return failure_set(f, 503, "out_of_memory", "out of memory for the model's %s file", parts[part].name);
    image->bytes[part] = bytes;
    image->size[part] = size;
    image->fresh[part] = true;
    return true;
}

void *save_optimizer(const lip_trainer *trainer, size_t *size)
{
    size_t n = lip_trainer_tensors(trainer);
    lip_named *tensors = calloc(n + 1, sizeof *tensors);
    char steps[24];
    const char *const metadata[] = {"steps", steps};
    void *bytes;

    if (!tensors)
        return NULL;
    for (size_t i = 0; i < n; i++)
        tensors[i] = lip_trainer_tensor(trainer, i);
    snprintf(steps, sizeof steps, "%llu", (unsigned long long)lip_trainer_steps(trainer));
    bytes = lip_safetensors_write(tensors, n, metadata, 1, size);
    free(tensors);
    return bytes;
}

static json_t *effective(const lip_state *state)
{
    const lip_model *model = lip_state_model(state);
    json_t *all = json_object();

    for (size_t i = 0; all && i < lip_model_layers(model); i++) {
        lip_effective e = lip_state_effective(state, i);
        if (e != LIP_NONE)
            json_object_set_new(all, lip_layer_name(lip_model_layer(model, i)),
                                json_string(e == LIP_STORED ? "stored" : "computed"));
    }
    return all;
}

static json_t *describe(const struct view *v)
{
    const struct facts *facts = v->facts;
    json_t *json = json_pack("{s:i, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:o?, s:o, s:b, s:I, s:I}", "format", 1, "epoch",
                             facts->epoch, "version", facts->version, "state_revision", (json_int_t)facts->state_revision,
                             "weights_revision", (json_int_t)facts->weights_revision, "created_at", facts->created_at,
                             "opened_at", facts->opened_at, "frozen_at", facts->frozen_at,
                             "description", facts->description ? facts->description : "", "tags", json_deep_copy(facts->tags),
                             "effective_kernels", effective(v->state), "optimizer_kept", v->optimizer_kept, "unpublished",
                             (json_int_t)v->unpublished, "optimizer_steps",
                             (json_int_t)(v->trainer ? lip_trainer_steps(v->trainer) : 0));
    if (json && v->served)
        json_object_set_new(json, "served_kernels", effective(v->served));
    if (json && facts->lost_epoch[0])
        json_object_set_new(json, "lost", json_pack("{s:s, s:I}", "epoch", facts->lost_epoch, "after", (json_int_t)facts->lost_after));
    return json;
}

bool image_make(struct model *model, const struct view *v, bool definition, bool training, struct image *image,
                struct failure *f)
{
    size_t size = 0;
    char *text;

    *image = (struct image){.serial = ++model->serial, .revision = v->facts->state_revision, .cut_ns = now_ns()};
    memcpy(image->epoch, v->facts->epoch, sizeof image->epoch);
    image->present[PART_DEFINITION] = image->present[PART_WEIGHTS] = true;
    image->present[PART_SERVED] = v->served != NULL;
    image->present[PART_OPTIMIZER] = image->present[PART_TRAINING] = v->trainer != NULL;
    if (!(image->state = describe(v)))
        return failure_set(f, 503, "out_of_memory", "out of memory for the model's state");
    if (json_object_size(model->positions) &&
        json_object_set_new(image->state, "jobs", json_deep_copy(model->positions)))
        return failure_set(f, 503, "out_of_memory", "out of memory for the model's state");
    if (definition) {
        text = lip_model_definition(lip_state_model(v->state), false);
        if (!add(image, PART_DEFINITION, text, text ? strlen(text) : 0, f))
            return false;
    }
    if (training && v->training) {
        text = document_text(v->training);
        if (!add(image, PART_TRAINING, text, text ? strlen(text) : 0, f))
            return false;
    }
    void *bytes = lip_state_save(v->state, &size);
    if (!add(image, PART_WEIGHTS, bytes, size, f))
        return false;
    if (v->served) {
        bytes = lip_state_save(v->served, &size);
        if (!add(image, PART_SERVED, bytes, size, f))
            return false;
    }
    if (v->trainer) {
        bytes = save_optimizer(v->trainer, &size);
        if (!add(image, PART_OPTIMIZER, bytes, size, f))
            return false;
    }
    return true;
}

void image_clear(struct image *image)
{
    for (int i = 0; i < PARTS; i++) {
        if (i == PART_TRAINING)
            free(image->bytes[i]);
        else
            lip_free(image->bytes[i]);
    }
    json_decref(image->state);
    *image = (struct image){0};
}

/* ---- saving -------------------------------------------------------------------------------------------- */

int disk_open(struct model *model, struct failure *f)
{
    int folder = openat(model->store->models, model->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (folder < 0)
        failure_errno(f, errno, model->name);
    return folder;
}

/* generation 0: on a shelf, without folder and number. */
static void name_part(struct part *part, int i, uint64_t generation)
{
    const char *slash = strrchr(parts[i].file, '/');

    if (generation)
        snprintf(part->file, sizeof part->file, "%s.%llu.%s", parts[i].file, (unsigned long long)generation, parts[i].suffix);
    else
        snprintf(part->file, sizeof part->file, "%s.%s", slash ? slash + 1 : parts[i].file, parts[i].suffix);
}

static bool write_parts(struct model *model, int folder, const struct image *image, uint64_t generation,
                        struct part next[PARTS], struct failure *f)
{
    for (int i = 0; i < PARTS; i++) {
        if (!image->present[i]) {
            next[i] = (struct part){0};
            continue;
        }
        if (!image->fresh[i]) {
            next[i] = model->part[i];
            continue;
        }
        name_part(&next[i], i, generation);
        next[i].bytes = image->size[i];
        sha256_text(image->bytes[i], image->size[i], next[i].sha256);
        int error = file_write(folder, next[i].file, image->bytes[i], image->size[i]);
        if (error)
            return failure_errno(f, error, next[i].file);
    }
    return true;
}

static bool write_state(int folder, const struct image *image, uint64_t generation, const struct part next[PARTS],
                        struct failure *f)
{
    json_t *files = json_object(), *json = json_copy(image->state);
    char *text = NULL;
    int error = ENOMEM;

    for (int i = 0; i < PARTS; i++)
        if (next[i].file[0])
            json_object_set_new(files, parts[i].name,
                                json_pack("{s:s, s:I, s:s}", "file", next[i].file, "bytes", (json_int_t)next[i].bytes,
                                          "sha256", next[i].sha256));
    if (json && !json_object_set(json, "files", files) &&
        !json_object_set_new(json, "generation", json_integer((json_int_t)generation)))
        text = json_dumps(json, JSON_INDENT(1));
    /* The folders first: the new files must be found by whoever reads the new state.json. */
    if (text && !(error = generation ? folder_sync(folder, "head") : 0) && !(error = folder_sync(folder, ".")))
        error = file_replace(folder, generation ? STATE_FILE : SHELF_FILE, text, strlen(text));
    free(text);
    json_decref(files);
    json_decref(json);
    return error ? failure_errno(f, error, STATE_FILE) : true;
}

bool disk_save(struct model *model, int folder, struct image *image, struct failure *f)
{
    struct part next[PARTS] = {0};
    uint64_t generation;
    bool done = false;

    pthread_mutex_lock(&model->saving);
    if (image->serial < model->saved_serial) {
        pthread_mutex_unlock(&model->saving);
        return true;
    }
    generation = model->generation + 1;
    if (write_parts(model, folder, image, generation, next, f) && write_state(folder, image, generation, next, f))
        done = true;
    for (int i = 0; i < PARTS; i++) {
        const struct part *old = done ? &model->part[i] : &next[i];
        bool still = !strcmp(old->file, done ? next[i].file : model->part[i].file);
        if (old->file[0] && !still)
            unlinkat(folder, old->file, 0);
    }
    if (done) {
        memcpy(model->part, next, sizeof next);
        model->saved_serial = image->serial;
    }
    model->generation = generation; /* a failed one is not used again either */
    pthread_mutex_unlock(&model->saving);
    return done;
}

/* ---- shelves ------------------------------------------------------------------------------------------- */

/* "checkpoints/.new.NAME" and so on. */
static const char *shelf_path(char path[SHELF_PATH], const char *shelf, const char *mark, const char *name)
{
    snprintf(path, SHELF_PATH, "%s/%s%s", shelf, mark, name);
    return path;
}

bool shelf_add(struct model *model, const char *shelf, const char *name, struct image *image, struct failure *f)
{
    char beside[SHELF_PATH], place[SHELF_PATH];
    struct part next[PARTS] = {0};
    int folder = disk_open(model, f), inside = -1, error = 0;
    bool ok = false;

    if (folder < 0)
        return false;
    shelf_path(beside, shelf, ".new.", name);
    shelf_path(place, shelf, "", name);
    if ((mkdirat(folder, shelf, 0700) && errno != EEXIST) || (error = folder_remove(folder, beside)) ||
        mkdirat(folder, beside, 0700) || (inside = openat(folder, beside, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        failure_errno(f, error ? error : errno, place);
    } else if (write_parts(model, inside, image, 0, next, f) && write_state(inside, image, 0, next, f)) {
        if (renameat(folder, beside, folder, place))
            error = errno;
        else if ((error = folder_sync(folder, shelf)) || (error = folder_sync(folder, ".")))
            folder_remove(folder, place);
        ok = !error;
        if (error == EEXIST || error == ENOTEMPTY)
            failure_set(f, 409, "already_exists", "%s is there already", place);
        else if (error)
            failure_errno(f, error, place);
    }
    if (inside >= 0)
        close(inside);
    if (!ok)
        folder_remove(folder, beside);
    close(folder);
    return ok;
}

bool shelf_remove(struct model *model, const char *shelf, const char *name, struct failure *f)
{
    char away[SHELF_PATH], place[SHELF_PATH];
    int folder = disk_open(model, f), error = 0;

    if (folder < 0)
        return false;
    shelf_path(away, shelf, ".gone.", name);
    shelf_path(place, shelf, "", name);
    folder_remove(folder, away);
    if (renameat(folder, place, folder, away) || (error = folder_sync(folder, shelf)))
        failure_errno(f, error ? error : errno, place);
    else
        folder_remove(folder, away);
    close(folder);
    return f->status == 0;
}

json_t *shelf_state(struct model *model, const char *shelf, const char *name)
{
    struct failure ignored = {0};
    char path[SHELF_PATH + sizeof SHELF_FILE];
    int folder = disk_open(model, &ignored);
    json_t *json = NULL;
    void *bytes;
    size_t size;

    if (folder < 0)
        return NULL;
    snprintf(path, sizeof path, "%s/%s/" SHELF_FILE, shelf, name);
    if (!file_read(folder, path, STATE_LIMIT, &bytes, &size)) {
        json = json_loadb(bytes, size, 0, NULL);
        free(bytes);
    }
    close(folder);
    return json;
}

json_t *shelf_names(struct model *model, const char *shelf)
{
    struct failure ignored = {0};
    int folder = disk_open(model, &ignored);
    int fd = folder < 0 ? -1 : openat(folder, shelf, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    json_t *names = json_array();
    struct dirent *entry;

    if (!list && fd >= 0)
        close(fd);
    while (list && (entry = readdir(list))) {
        if (entry->d_name[0] != '.')
            json_array_append_new(names, json_string(entry->d_name));
        else if (!strncmp(entry->d_name, ".gone.", 6)) /* what a crash left; a ".new." may be under way */
            folder_remove(fd, entry->d_name);
    }
    if (list)
        closedir(list);
    if (folder >= 0)
        close(folder);
    return names;
}

/* ---- sweeping and marks -------------------------------------------------------------------------------- */

static void sweep(struct model *model, int folder, const char *name, const char *prefix)
{
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (!list && fd >= 0)
        close(fd);
    while (list && (entry = readdir(list))) {
        char path[PATH_MAX];
        bool used = false;
        snprintf(path, sizeof path, "%s%s", prefix, entry->d_name);
        for (int i = 0; i < PARTS; i++)
            used |= !strcmp(path, model->part[i].file);
        if (used || !strcmp(path, STATE_FILE) || !strcmp(path, AHEAD_FILE) || !strcmp(path, LABELS_FILE) ||
            !strcmp(path, CONFIG_FILE) || !strcmp(entry->d_name, ".") ||
            !strcmp(entry->d_name, "..") || !strcmp(path, "head"))
            continue;
        unlinkat(fd, entry->d_name, 0);
    }
    if (list)
        closedir(list);
}

void disk_sweep(struct model *model, int folder)
{
    sweep(model, folder, ".", "");
    sweep(model, folder, "head", "head/");
}

bool disk_mark(struct model *model, struct failure *f)
{
    char text[128];
    int folder = disk_open(model, f), error;

    if (folder < 0)
        return false;
    snprintf(text, sizeof text, "{\"epoch\": \"%s\"}\n", model->facts.epoch);
    error = file_replace(folder, AHEAD_FILE, text, strlen(text));
    close(folder);
    return error ? failure_errno(f, error, AHEAD_FILE) : true;
}

void disk_unmark(struct model *model)
{
    struct failure ignored = {0};
    int folder = disk_open(model, &ignored);

    if (folder < 0)
        return;
    unlinkat(folder, AHEAD_FILE, 0);
    close(folder);
}

/* ---- loading ------------------------------------------------------------------------------------------- */

static bool damaged(struct failure *f, const char *file, const char *why)
{
    return failure_set(f, 503, "unavailable", "%s: %s", file, why);
}

/* A part's bytes, checked. NULL with f. */
static void *read_part(struct model *model, int folder, const json_t *files, int part, size_t *size, struct failure *f)
{
    struct part *p = &model->part[part];
    const char *file, *sum;
    json_int_t length;
    char actual[65];
    void *bytes;
    int error;

    if (json_unpack(json_object_get(files, parts[part].name), "{s:s, s:I, s:s}", "file", &file, "bytes", &length,
                    "sha256", &sum) ||
        strlen(file) >= sizeof p->file || strlen(sum) != 64 || strstr(file, "..") || file[0] == '/') {
        damaged(f, STATE_FILE, "its list of files is incomplete");
        return NULL;
    }
    snprintf(p->file, sizeof p->file, "%s", file);
    snprintf(p->sha256, sizeof p->sha256, "%s", sum);
    p->bytes = (size_t)length;
    if ((error = file_read(folder, file, FILE_LIMIT, &bytes, size))) {
        damaged(f, file, strerror(error));
        return NULL;
    }
    sha256_text(bytes, *size, actual);
    if (*size != p->bytes || strcmp(actual, sum)) {
        char why[200];
        snprintf(why, sizeof why, "damaged: %zu bytes with SHA-256 %.12s…, expected %zu bytes with %.12s…", *size, actual,
                 p->bytes, sum);
        damaged(f, file, why);
        free(bytes);
        return NULL;
    }
    return bytes;
}

static bool load_weights(struct model *model, int folder, const json_t *json, int part, const char *kernels,
                         lip_state *state, struct failure *f)
{
    const lip_model *definition = lip_state_model(state);
    const json_t *marks = json_object_get(json, kernels);
    lip_safetensors *file = NULL;
    lip_error err = {0};
    size_t size;
    void *bytes = read_part(model, folder, json_object_get(json, "files"), part, &size, f);

    if (!bytes)
        return false;
    if (lip_safetensors_read(bytes, size, &file, &err) ||
        lip_state_load(state, lip_safetensors_tensors(file), lip_safetensors_count(file), false, NULL, NULL, &err)) {
        damaged(f, model->part[part].file, err.text);
    } else {
        for (size_t i = 0; i < lip_model_layers(definition); i++) {
            const char *mark =
                json_string_value(json_object_get(marks, lip_layer_name(lip_model_layer(definition, i))));
            if (mark && !strcmp(mark, "computed"))
                lip_state_mark(state, i, LIP_COMPUTED);
        }
    }
    lip_safetensors_free(file);
    free(bytes);
    return f->status == 0;
}

static bool load_training(struct model *model, int folder, const json_t *json, const lip_model *definition,
                          struct failure *f)
{
    const json_t *files = json_object_get(json, "files");
    lip_safetensors *file = NULL;
    lip_error err = {0};
    json_t *config;
    size_t size;
    void *bytes;

    if (!json_object_get(files, "training"))
        return true;
    if (!(bytes = read_part(model, folder, files, PART_TRAINING, &size, f)))
        return false;
    config = json_loadb(bytes, size, 0, NULL);
    free(bytes);
    if (!config || recipe_make(definition, config, &model->recipe, &model->trainer, &err))
        damaged(f, model->part[PART_TRAINING].file, config ? err.text : "not JSON");
    json_decref(config);
    if (f->status || !(bytes = read_part(model, folder, files, PART_OPTIMIZER, &size, f)))
        return false;
    if (lip_safetensors_read(bytes, size, &file, &err) ||
        lip_trainer_load(model->trainer, (uint64_t)json_integer_value(json_object_get(json, "optimizer_steps")),
                         lip_safetensors_tensors(file), lip_safetensors_count(file), &err))
        damaged(f, model->part[PART_OPTIMIZER].file, err.text);
    lip_safetensors_free(file);
    free(bytes);
    if (!f->status)
        lip_trainer_follow(model->recipe->judge, model->trainer);
    model->optimizer_kept = json_is_true(json_object_get(json, "optimizer_kept"));
    model->unpublished = (uint64_t)json_integer_value(json_object_get(json, "unpublished"));
    return f->status == 0;
}

static bool load_facts(struct model *model, const json_t *json, struct failure *f)
{
    struct facts *facts = &model->facts;
    const char *epoch, *created, *description;
    const char *version = NULL, *opened = NULL, *frozen = NULL;
    json_int_t state, weights, generation;
    json_t *tags, *lost;

    if (json_unpack((json_t *)json, "{s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:o, s:I}", "epoch", &epoch, "version", &version,
                    "state_revision", &state, "weights_revision", &weights, "created_at", &created, "opened_at", &opened, "frozen_at", &frozen,
                    "description", &description, "tags", &tags,
                    "generation", &generation) ||
        strlen(epoch) != 8 || !*version || strlen(version) >= VERSION_MAX || state < 1 || weights < 1 || weights > state)
        return damaged(f, STATE_FILE, "a member is missing or wrong");
    memcpy(facts->epoch, epoch, 9);
    snprintf(facts->version, sizeof facts->version, "%s", version);
    facts->state_revision = facts->checkpointed_revision = (uint64_t)state;
    facts->weights_revision = (uint64_t)weights;
    snprintf(facts->created_at, sizeof facts->created_at, "%s", created);
    snprintf(facts->opened_at, sizeof facts->opened_at, "%s", opened);
    snprintf(facts->frozen_at, sizeof facts->frozen_at, "%s", frozen);
    facts->description = strdup(description);
    facts->tags = json_incref(tags);
    lost = json_object_get(json, "lost");
    snprintf(facts->lost_epoch, sizeof facts->lost_epoch, "%s",
             json_is_string(json_object_get(lost, "epoch")) ? json_string_value(json_object_get(lost, "epoch")) : "");
    facts->lost_after = (uint64_t)json_integer_value(json_object_get(lost, "after"));
    model->positions = json_incref(json_object_get(json, "jobs"));
    model->generation = (uint64_t)generation;
    return facts->description ? true : failure_set(f, 503, "out_of_memory", "out of memory");
}

static bool load_definition(struct model *model, int folder, const json_t *json, lip_model **definition,
                            struct failure *f)
{
    lip_error err = {0};
    size_t size;
    void *bytes = read_part(model, folder, json_object_get(json, "files"), PART_DEFINITION, &size, f);

    if (!bytes)
        return false;
    if (lip_model_read(bytes, size, false, definition, &err))
        damaged(f, model->part[PART_DEFINITION].file, err.text);
    free(bytes);
    return f->status == 0;
}

/* Steps were given out that are not here: the revisions from here on are other ones, under another epoch. */
static void behind(struct model *model, int folder, json_t *json)
{
    struct part same[PARTS];
    struct image image = {.state = json};
    struct failure f = {0};
    size_t size;
    void *bytes;
    json_t *mark;
    const char *epoch;

    if (model->store->read_only || file_read(folder, AHEAD_FILE, 4096, &bytes, &size))
        return;
    mark = json_loadb(bytes, size, 0, NULL);
    free(bytes);
    epoch = json_string_value(json_object_get(mark, "epoch"));
    if (!epoch || !strcmp(epoch, model->facts.epoch)) {
        memcpy(model->facts.lost_epoch, model->facts.epoch, sizeof model->facts.lost_epoch);
        model->facts.lost_after = model->facts.state_revision;
        json_object_set_new(json, "lost", json_pack("{s:s, s:I}", "epoch", model->facts.lost_epoch, "after",
                                                    (json_int_t)model->facts.lost_after));
        epoch_draw(model->facts.epoch, model->facts.epoch);
        json_object_set_new(json, "epoch", json_string(model->facts.epoch));
        memcpy(same, model->part, sizeof same);
        log_warning("model %s: steps after revision %llu were lost in a crash; its epoch is now %s", model->name,
                    (unsigned long long)model->facts.state_revision, model->facts.epoch);
        if (!write_state(folder, &image, model->generation, same, &f)) {
            log_error("model %s: %s", model->name, f.text);
            json_decref(mark);
            return; /* the mark stays, and the next start draws again */
        }
    }
    json_decref(mark);
    unlinkat(folder, AHEAD_FILE, 0);
}

/* The highest generation in any file's name, so that a new one collides with nothing that is left. */
static uint64_t highest(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    uint64_t most = 0;

    if (!list && fd >= 0)
        close(fd);
    while (list && (entry = readdir(list))) {
        const char *dot = strchr(entry->d_name, '.');
        uint64_t g = dot ? strtoull(dot + 1, NULL, 10) : 0;
        if (g < (uint64_t)1 << 62 && g > most)
            most = g;
    }
    if (list)
        closedir(list);
    return most;
}

/* Everything that the state file in folder names, into the model: the head's, or that of a shelf. */
static bool load_all(struct model *model, int folder, bool head, struct failure *f)
{
    const char *state_file = head ? STATE_FILE : SHELF_FILE;
    lip_state *state = NULL, *served = NULL;
    lip_snapshot *snapshot = NULL;
    lip_model *definition = NULL;
    lip_error err = {0};
    json_t *json = NULL;
    void *bytes = NULL;
    size_t size;
    int error;

    if ((error = file_read(folder, state_file, STATE_LIMIT, &bytes, &size))) {
        damaged(f, state_file, strerror(error));
        goto done;
    }
    if (!(json = json_loadb(bytes, size, 0, NULL))) {
        damaged(f, state_file, "not JSON");
        goto done;
    }
    if (!load_facts(model, json, f) || !load_definition(model, folder, json, &definition, f))
        goto done;
    if (lip_state_new(definition, 0, &state, &err)) {
        failure_lip(f, &err);
        goto done;
    }
    if (!load_weights(model, folder, json, PART_WEIGHTS, "effective_kernels", state, f) ||
        !load_training(model, folder, json, definition, f))
        goto done;
    if (json_object_get(json_object_get(json, "files"), "served")) {
        if (lip_state_new(definition, 0, &served, &err)) {
            failure_lip(f, &err);
            goto done;
        }
        if (!load_weights(model, folder, json, PART_SERVED, "served_kernels", served, f))
            goto done;
    }
    if (lip_state_publish(served ? served : state, &snapshot, &err)) {
        failure_lip(f, &err);
        goto done;
    }
    if (head)
        behind(model, folder, json);
    if (!(model->now = published_new(snapshot, &model->facts, model->stats))) {
        failure_set(f, 503, "out_of_memory", "out of memory");
        goto done;
    }
    model->state = state;
    model->served = served;
    state = served = NULL;
done:
    lip_snapshot_put(snapshot);
    lip_state_free(served);
    lip_state_free(state);
    lip_model_put(definition);
    free(bytes);
    json_decref(json);
    return f->status == 0;
}

bool shelf_load(struct model *model, struct model *from, const char *shelf, const char *name, struct failure *f)
{
    char path[SHELF_PATH];
    int folder = disk_open(from, f), inside;

    if (folder < 0)
        return false;
    inside = openat(folder, shelf_path(path, shelf, "", name), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (inside < 0)
        damaged(f, path, strerror(errno));
    else
        load_all(model, inside, false, f);
    if (inside >= 0)
        close(inside);
    close(folder);
    return f->status == 0;
}

bool disk_tune(int folder, const struct knobs *knobs, struct failure *f)
{
    char *text = json_dumps(knobs->told, JSON_INDENT(1));
    int error = text ? file_replace(folder, CONFIG_FILE, text, strlen(text)) : ENOMEM;

    free(text);
    return error ? failure_errno(f, error, CONFIG_FILE) : true;
}

static bool load_knobs(struct model *model, int folder, struct failure *f)
{
    struct knobs *knobs;
    struct knobs_fault fault;
    json_t *json;
    void *bytes;
    size_t size;
    int error = file_read(folder, CONFIG_FILE, STATE_LIMIT, &bytes, &size);

    if (error == ENOENT)
        return true;
    if (error)
        return damaged(f, CONFIG_FILE, strerror(error));
    json = json_loadb(bytes, size, 0, NULL);
    free(bytes);
    knobs = json ? knobs_make(json, &fault) : NULL;
    if (!knobs)
        damaged(f, CONFIG_FILE, json ? fault.text : "not JSON");
    json_decref(json);
    if (!knobs)
        return false;
    model_set_knobs(model, knobs);
    knobs_put(knobs);
    return true;
}

bool disk_load(struct model *model, struct failure *f)
{
    int folder = disk_open(model, f);

    if (folder < 0)
        return false;
    if (load_knobs(model, folder, f) && load_all(model, folder, true, f) && !model->store->read_only)
        disk_sweep(model, folder);
    if (model->generation < highest(folder, ".") || model->generation < highest(folder, "head")) {
        uint64_t a = highest(folder, "."), b = highest(folder, "head");
        model->generation = a > b ? a : b;
    }
    close(folder);
    return f->status == 0;
}
