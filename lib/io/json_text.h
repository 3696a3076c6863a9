/* json_text.h: writing JSON without losing a part of it when memory runs out. jansson's own functions leave a value out then, and go on. */
#ifndef LIP_JSON_TEXT_H
#define LIP_JSON_TEXT_H

#include <jansson.h>

/* lip__json_set, lip__json_add: as json_object_set_new and json_array_append_new; a value that could not be made (NULL) or put in
 * its place is remembered, for this thread, until lip__json_done. 0: it is there. */
int lip__json_set(json_t *object, const char *key, json_t *value);
int lip__json_add(json_t *array, json_t *value);

/* lip__json_done: the text of a whole document, for lip__free; NULL when root is NULL or anything was lost on the way. Takes the
 * reference. Whoever sets or adds ends with it. */
char *lip__json_done(json_t *root, size_t flags);

#endif
