/* probe.h: two functions compared at points that are always the same. */
#ifndef SERVER_PROBE_H
#define SERVER_PROBE_H

#include <onelip/model.h>
#include <stdbool.h>

enum { PROBE = 256 };

/* probe_change: the largest |f_b(x) - f_a(x)| over PROBE points of the unit cube, of snapshots with the same inputs and
 * outputs; infinite where one is NaN. largest: the largest |f_a(x)|; may be NULL. false: err. */
bool probe_change(const lip_snapshot *a, const lip_snapshot *b, double *change, double *largest, lip_error *err);

#endif
