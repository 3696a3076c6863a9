# libcore.la: all of lib/, for libonelip.so and the unit tests.
noinst_LTLIBRARIES += %D%/libcore.la
%C%_libcore_la_SOURCES = \
	%D%/base/alloc.c %D%/base/clock.c %D%/base/error.c %D%/base/finite.c %D%/base/parallel.c %D%/base/random.c \
	%D%/bounds/attack.c %D%/bounds/certificate.c %D%/bounds/chain.c %D%/bounds/conv.c %D%/bounds/dense.c %D%/bounds/embed.c %D%/bounds/factor.c \
	%D%/bounds/descent.c %D%/bounds/ends.c %D%/bounds/liplt.c %D%/bounds/lipsdp.c %D%/bounds/local.c %D%/bounds/map.c %D%/bounds/network.c %D%/bounds/pairs.c %D%/bounds/rescaled.c %D%/bounds/ritz.c %D%/bounds/stack.c %D%/bounds/secant.c %D%/bounds/shape.c \
	%D%/bounds/spectrum.c %D%/bounds/stage.c %D%/bounds/tangent.c %D%/bounds/telemetry.c %D%/bounds/tighten.c %D%/bounds/tools.c %D%/bounds/upper.c %D%/bounds/value.c %D%/bounds/wasserstein.c \
	%D%/io/json_text.c %D%/io/keras_json.c %D%/io/safetensors.c %D%/io/training_json.c \
	%D%/layers/activation.c %D%/layers/batch_normalization.c %D%/layers/conv2d.c %D%/layers/conv2d_transpose.c %D%/layers/dense.c %D%/layers/distributions.c %D%/layers/dropout.c %D%/layers/family.c \
	%D%/layers/fields.c %D%/layers/flatten.c %D%/layers/global_pooling.c %D%/layers/group_sort.c \
	%D%/layers/householder.c %D%/layers/initializers.c %D%/layers/input_layer.c %D%/layers/layer.c %D%/layers/max_min.c \
	%D%/layers/merge.c %D%/layers/moves.c %D%/layers/pad_conv2d.c %D%/layers/pooling.c %D%/layers/rectifiers.c %D%/layers/constraints.c %D%/layers/regularizers.c %D%/layers/reparam.c %D%/layers/sampling.c %D%/layers/scale.c \
	%D%/layers/scaled_pooling.c %D%/layers/softmax.c \
	%D%/losses/accuracy.c %D%/losses/crossentropy.c %D%/losses/hinge.c %D%/losses/hkr.c %D%/losses/kr.c \
	%D%/losses/keras.c %D%/losses/labels.c %D%/losses/loss.c %D%/losses/margin.c %D%/losses/metric.c %D%/losses/robustness.c \
	%D%/losses/soft.c \
	%D%/model/callbacks.c %D%/model/export.c %D%/model/forward.c %D%/model/gradients.c %D%/model/graph.c %D%/model/judge.c %D%/model/slots.c %D%/model/state.c %D%/model/tape.c %D%/model/train.c \
	%D%/norm/bjorck.c %D%/norm/conv_factor.c %D%/norm/eigen.c %D%/norm/frobenius.c %D%/norm/lanczos.c %D%/norm/normalizers.c \
	%D%/norm/polynomial.c %D%/norm/rational.c %D%/norm/rko.c %D%/norm/spectral.c \
	%D%/optim/adam.c %D%/optim/optimizer.c %D%/optim/rmsprop.c %D%/optim/schedules.c %D%/optim/sgd.c \
	%D%/tensor/band.c %D%/tensor/conv.c %D%/tensor/gemm.c %D%/tensor/group_conv.c %D%/tensor/im2col.c %D%/tensor/small_conv.c %D%/tensor/tensor.c %D%/tensor/tile.c

# Private headers and the lists of kinds, losses, optimizers.
noinst_HEADERS += \
	%D%/base/base.h \
	%D%/bounds/certifier.h %D%/bounds/chain.h %D%/bounds/conv.h %D%/bounds/descent.h %D%/bounds/embed.h %D%/bounds/enclose.h %D%/bounds/factor.h %D%/bounds/ends.h %D%/bounds/liplt.h %D%/bounds/lipsdp.h %D%/bounds/local.h %D%/bounds/map.h %D%/bounds/pairs.h %D%/bounds/rescaled.h %D%/bounds/ritz.h %D%/bounds/stack.h %D%/bounds/secant.h %D%/bounds/shape.h %D%/bounds/stage.h %D%/bounds/tangent.h %D%/bounds/upper.h \
	%D%/io/json_text.h %D%/io/keras_json.h \
	%D%/layers/distributions.h %D%/layers/family.h %D%/layers/kinds.def %D%/layers/layer.h %D%/layers/slots.h %D%/layers/softmax.h \
	%D%/losses/family.h %D%/losses/loss.h %D%/losses/losses.def %D%/losses/metric.h \
	%D%/model/callbacks.h %D%/model/judge.h %D%/model/model.h %D%/model/slots.h %D%/model/tape.h %D%/model/train.h \
	%D%/norm/eigen.h %D%/norm/polynomial.h %D%/norm/rational.h %D%/norm/rko.h %D%/norm/rko_factor.h %D%/norm/schemes.def \
	%D%/optim/family.h %D%/optim/optimizer.h %D%/optim/optimizers.def %D%/optim/schedule.h \
	%D%/tensor/band.h %D%/tensor/conv.h %D%/tensor/gemm.h %D%/tensor/group_conv.h %D%/tensor/im2col.h %D%/tensor/small_conv.h %D%/tensor/tile.h %D%/tensor/tile_unit.h

# libonelip.so: what <onelip/*.h> declares and nothing else.
lib_LTLIBRARIES += %D%/libonelip.la
%C%_libonelip_la_SOURCES =
%C%_libonelip_la_LIBADD = %D%/libcore.la $(BLAS_LIBS) $(JANSSON_LIBS) -lm
%C%_libonelip_la_LDFLAGS = $(AM_LDFLAGS) -no-undefined -version-info $(LIP_ABI) -export-symbols-regex '^lip_[a-z]'

onelipincludedir = $(includedir)/onelip
onelipinclude_HEADERS = \
	%D%/include/onelip/bound.h %D%/include/onelip/certify.h %D%/include/onelip/error.h %D%/include/onelip/gradients.h %D%/include/onelip/io.h %D%/include/onelip/model.h \
	%D%/include/onelip/norm.h %D%/include/onelip/onelip.h %D%/include/onelip/random.h %D%/include/onelip/telemetry.h %D%/include/onelip/tensor.h \
	%D%/include/onelip/train.h %D%/include/onelip/wasserstein.h

pkgconfigdir = $(libdir)/pkgconfig
nodist_pkgconfig_DATA = %D%/onelip.pc
EXTRA_DIST += %D%/libonelip.sym %D%/norm/fit_schemes.py

dist_man_MANS += %D%/onelip.3
