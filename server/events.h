/* events.h: what happened, as bounded histories that clients page through or follow as server-sent events.
 *
 * A feed is the history of one job or of the whole server. Its events have ascending ids and are formatted once; a stream
 * is a position in a feed, so a reader costs no memory while it waits. Events of the kind that only the latest counts of
 * (metrics, revisions) are told at most every EVENTS_COALESCE_MS for each key, the last one always. One thread wakes the
 * streams, a few at a time, so that hundreds of them never stand in the way of a request.
 *
 * Threads: safe. Source of the stream's form: WHATWG, "Server-sent events".
 */
#ifndef SERVER_EVENTS_H
#define SERVER_EVENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http.h"

#define EVENTS_COALESCE_MS 100
#define EVENTS_STREAMS_MAX 256

struct events;
struct feed;

struct events *events_new(void); /* NULL: out of memory or threads */
/* events_end: streams say "shutdown" and end; there are no new ones. */
void events_end(struct events *events);
void events_free(struct events *events); /* no stream may be left */

struct feed *events_all(struct events *events); /* the server's own feed; not counted */
struct feed *feed_new(struct events *events, size_t capacity); /* NULL: out of memory */
struct feed *feed_get(struct feed *feed);
void feed_put(struct feed *feed);

/* feed_tell: one more event. data: an object with a "type"; taken over, NULL is no event (out of memory).
 * model: what ?model= selects by, or NULL. key: NULL, or only the latest of this key counts. */
void feed_tell(struct feed *feed, const char *model, const char *key, json_t *data);

/* feed_end: the event "end"; nothing comes after it. */
void feed_end(struct feed *feed);

/* feed_answer: GET of a feed: a page, or with Accept: text/event-stream or ?stream=true a stream, from Last-Event-ID or ?after=
 * on. all: the server's feed, which ?model= and ?types= select from. */
void feed_answer(struct feed *feed, bool all, const struct request *rq, struct reply *rp);

#endif
