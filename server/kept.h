/* kept.h: an answer as a text and its body, so that it can be given again: under an Idempotency-Key, as a job's result. */
#ifndef SERVER_KEPT_H
#define SERVER_KEPT_H

#include "http.h"

/* kept_text: status, media type, headers that belong to the body, and a failure's members, as JSON; the body is apart.
 * malloc'd; NULL: out of memory, or the answer is a stream. */
char *kept_text(const struct reply *rp);

/* kept_reply: into an empty reply; body (size bytes) is copied. false: out of memory, or the text is none of kept_text's. */
bool kept_reply(const char *text, const void *body, size_t size, struct reply *rp);

#endif
