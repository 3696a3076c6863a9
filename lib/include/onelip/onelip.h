/* onelip.h: the whole public API of libonelip. */
#ifndef ONELIP_ONELIP_H
#define ONELIP_ONELIP_H

#include <onelip/bound.h>
#include <onelip/certify.h>
#include <onelip/error.h>
#include <onelip/gradients.h>
#include <onelip/io.h>
#include <onelip/model.h>
#include <onelip/norm.h>
#include <onelip/random.h>
#include <onelip/telemetry.h>
#include <onelip/tensor.h>
#include <onelip/train.h>
#include <onelip/wasserstein.h>

#endif
