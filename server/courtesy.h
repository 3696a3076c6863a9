/* courtesy.h: who serves goes before who trains.
 *
 * Threads of long work have a lower priority, which is not enough: Linux moves a thread that waits for its core to another one when
 * that falls idle, else only every few tens of milliseconds, and who trains is never idle. So long work rests for a moment
 * again and again, as long as requests come.
 * Threads: safe.
 */
#ifndef SERVER_COURTESY_H
#define SERVER_COURTESY_H

#include <stdint.h>

/* courtesy_begin: this thread does long work from here on, and so do the threads that it starts: their priority is lower, by ten,
 * than that which the daemon was started with. */
void courtesy_begin(void);

/* courtesy_served: a short request was answered just now. */
void courtesy_served(uint64_t now_ns);

/* courtesy_rest: between two pieces of long work, however short: sleeps when it is time and requests came lately. */
void courtesy_rest(void);

#endif
