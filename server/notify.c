/* notify.c: the only file that knows libsystemd. */
#include "notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>

void notify(const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sd_notify(0, text);
}

uint64_t notify_watchdog_us(void)
{
    uint64_t us = 0;

    return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}

size_t notify_sockets(int *first)
{
    int n = sd_listen_fds(1);

    *first = SD_LISTEN_FDS_START;
    return n > 0 ? (size_t)n : 0;
}

#else

void notify(const char *format, ...)
{
    (void)format;
}

uint64_t notify_watchdog_us(void)
{
    return 0;
}

size_t notify_sockets(int *first)
{
    *first = -1;
    return 0;
}

#endif

void notify_reloading(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    notify("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}
