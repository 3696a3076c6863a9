#include "courtesy.h"

#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define NICER 10
#define US 1000u
#define LATELY_NS (20000 * US)
#define WORK_NS (1000 * US) /* between two rests */
#define REST_NS (150 * US)  /* long enough for Linux to move a thread here, which it does not for shorter ones */

static _Atomic uint64_t served_ns;

void courtesy_begin(void)
{
    id_t thread = (id_t)gettid();

    setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + NICER); /* beyond 19 it is 19 */
}

void courtesy_served(uint64_t now_ns)
{
    if (now_ns - atomic_load_explicit(&served_ns, memory_order_relaxed) > WORK_NS) /* else it would do nothing but wander between caches */
        atomic_store_explicit(&served_ns, now_ns, memory_order_relaxed);
}

void courtesy_rest(void)
{
    static const struct timespec rest = {.tv_nsec = REST_NS};
    static _Thread_local uint64_t since;
    uint64_t now = now_ns();

    if (now - since < WORK_NS)
        return;
    if (now - atomic_load_explicit(&served_ns, memory_order_relaxed) < LATELY_NS) {
        nanosleep(&rest, NULL);
        now = now_ns();
    }
    since = now;
}
