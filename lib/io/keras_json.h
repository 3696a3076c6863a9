/* keras_json.h: objects to and from Keras's JSON, by their tables of fields. The only file of lib/ with jansson.h besides
 * safetensors.c. */
#ifndef LIP_KERAS_JSON_H
#define LIP_KERAS_JSON_H

#include <jansson.h>

#include "layers/layer.h"

/* lip__object_read: an identifier or {"class_name","config"} of one of the classes in `of` (NULL-terminated).
 * what: "loss", "optimizer", for the error's text. pointer: where `json` stands in the document. any_case: class
 * names in any case. Unknown classes and keys are LIP_EOPTION with the accepted names. */
lip_err lip__object_read(const json_t *json, const struct lip__class *const *of, const char *what, bool any_case,
                         const char *pointer, struct lip__object **object, lip_error *err);

/* lip__object_write: {"module","class_name","config","registered_name"} (v3), or {"class_name","config"}. NULL: memory. */
json_t *lip__object_write(const struct lip__object *object, bool legacy);

/* lip__fields_read / _write: a config object by a table. Keys of `also` (NULL-terminated, may be NULL) are skipped. */
lip_err lip__fields_read(const json_t *config, const struct lip__class *cls, void *object, const char *const *also,
                         const char *what, const char *pointer, lip_error *err);
lip_err lip__fields_write(json_t *config, const struct lip__class *cls, const void *object, bool legacy);

#endif
