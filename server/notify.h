/* notify.h: what systemd is told and what it hands over. Without libsystemd, or without systemd, nothing happens. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include <stddef.h>
#include <stdint.h>

/* notify: one message, "READY=1\nSTATUS=…". */
void notify(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* notify_reloading: RELOADING=1 with the time; READY=1 ends it. */
void notify_reloading(void);

/* notify_watchdog_us: how often WATCHDOG=1 is due; 0: nobody asks. */
uint64_t notify_watchdog_us(void);

/* notify_sockets: how many sockets were inherited; the first is *first, the others follow. */
size_t notify_sockets(int *first);

#endif
