/* scheduler.h: a bounded queue and its workers. Work with the same key runs one after the other, in the order in
 * which it came; other work in parallel. Keyed work leaves one worker free for the rest, so reads never wait for writes.
 * Threads: safe. */
#ifndef SERVER_SCHEDULER_H
#define SERVER_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scheduler;

/* scheduler_new: workers at least 2; capacity is what may wait, not what runs. */
struct scheduler *scheduler_new(size_t workers, size_t capacity); /* NULL: out of memory or threads */
/* scheduler_submit: run(arg) on a worker. key: NULL, or the name whose work is serial (copied). false: the queue is full
 * or the scheduler stops. */
bool scheduler_submit(struct scheduler *s, const char *key, void (*run)(void *arg), void *arg);
size_t scheduler_depth(struct scheduler *s); /* what waits */
uint64_t scheduler_submitted(struct scheduler *s); /* how many tasks there ever were */
/* scheduler_silent_seconds: how long nothing was begun or finished although something waits. */
double scheduler_silent_seconds(struct scheduler *s);
/* scheduler_drain: wait until nothing is queued or running, at most `seconds`; true if so. */
bool scheduler_drain(struct scheduler *s, double seconds);
void scheduler_free(struct scheduler *s); /* ends the workers; what was queued still runs */

#endif
