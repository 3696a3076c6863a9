/* intake.h: a model out of what PUT M and model repositories hold: Keras's JSON, the object of api.md 3.5, a file. */
#ifndef SERVER_HANDLERS_INTAKE_H
#define SERVER_HANDLERS_INTAKE_H

#include "common.h"

/* What is wanted of a model besides its definition. Texts are borrowed. */
struct wish {
    const char *name;         /* POST: borrowed from the body */
    const json_t *definition; /* NULL: it is in a file */
    const char *at;           /* the definition's pointer from the top of the body */
    const json_t *training;   /* NULL: none */
    const char *description;
    json_t *tags;             /* borrowed; NULL: none */
    const char *coefficient;  /* NULL: the definition's own */
    const json_t *config;     /* NULL: none */
    uint64_t seed;
    bool strict, dry_run;
};

/* wish_begin: a seed of its own, nothing else. */
void wish_begin(struct wish *w);
/* wish_coefficient: of a request; NULL: none. false: said at pointer. */
bool wish_coefficient(const char *word, const char *pointer, struct wish *w, struct reply *rp);
/* wish_read: what the body says; named: of POST, with a name. false: said. */
bool wish_read(const json_t *body, bool named, struct wish *w, struct reply *rp);

/* intake_json: the model of a wish that was read. intake_file: that of a file with a definition, which is safetensors.
 * intake_any: whatever bytes hold: one of these two, or JSON for wish_read. false: the reply says why; draft_clear in any case. */
bool intake_json(const struct wish *w, struct draft *d, struct reply *rp);
bool intake_file(const void *bytes, size_t size, const struct wish *w, struct draft *d, struct reply *rp);
bool intake_any(const void *bytes, size_t size, struct draft *d, struct reply *rp);

/* intake_is_file: whether bytes are no JSON but a file that a model may come in, readable or not. */
bool intake_is_file(const void *bytes, size_t size);

#endif
