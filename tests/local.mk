# Every test prints TAP. To add one: a line here, nothing else.
#   unit_tests    tests/unit/check_<module>.c: includes check_main.h, sees lib/'s private headers, links libcore.la
#   script_tests  *.py (standard library only) and *.sh
#   fuzzers       tests/fuzz/fuzz_<reader>.c with a corpus in tests/fuzz/corpus/; see tests/fuzz/README
#   benches       tests/bench/bench_<thing>.c: built by `make check`, run by `make bench`
unit_tests += %D%/unit/check_attacks
unit_tests += %D%/unit/check_base
unit_tests += %D%/unit/check_batch
unit_tests += %D%/unit/check_bounds
unit_tests += %D%/unit/check_certify
unit_tests += %D%/unit/check_codec
unit_tests += %D%/unit/check_gemm
unit_tests += %D%/unit/check_golden
unit_tests += %D%/unit/check_gradients
unit_tests += %D%/unit/check_guard
unit_tests += %D%/unit/check_initializers
unit_tests += %D%/unit/check_keys
unit_tests += %D%/unit/check_layers
unit_tests += %D%/unit/check_losses
unit_tests += %D%/unit/check_memory
unit_tests += %D%/unit/check_metrics
unit_tests += %D%/unit/check_model
unit_tests += %D%/unit/check_norm
unit_tests += %D%/unit/check_normalizers
unit_tests += %D%/unit/check_optim
if MPFR
unit_tests += %D%/unit/check_oracle
endif
unit_tests += %D%/unit/check_random
unit_tests += %D%/unit/check_router
unit_tests += %D%/unit/check_safetensors
unit_tests += %D%/unit/check_scheduler
unit_tests += %D%/unit/check_semantics
unit_tests += %D%/unit/check_settings
unit_tests += %D%/unit/check_slots
unit_tests += %D%/unit/check_telemetry
unit_tests += %D%/unit/check_tools
unit_tests += %D%/unit/check_train
unit_tests += %D%/unit/check_wasserstein
unit_tests += %D%/unit/check_transfer
script_tests +=
benches += %D%/bench/bench_json
benches += %D%/bench/bench_certify
benches += %D%/bench/bench_layers
script_tests += %D%/browser/test_ui.py
script_tests += %D%/http/test_bad_input.py
script_tests += %D%/http/test_batching.py
script_tests += %D%/http/test_bench.py
script_tests += %D%/http/test_captured.py
script_tests += %D%/http/test_checkpoints.py
script_tests += %D%/http/test_codes.py
script_tests += %D%/http/test_config.py
script_tests += %D%/http/test_contract.py
script_tests += %D%/http/test_datasets.py
script_tests += %D%/http/test_fashion.py
script_tests += %D%/http/test_disk.py
script_tests += %D%/http/test_events.py
script_tests += %D%/http/test_jobs.py
script_tests += %D%/http/test_lipschitz.py
script_tests += %D%/http/test_metrics.py
script_tests += %D%/http/test_models.py
script_tests += %D%/http/test_openapi.py
script_tests += %D%/http/test_certify.py
script_tests += %D%/http/test_certify_jobs.py
script_tests += %D%/http/test_transfer.py
script_tests += %D%/http/test_patch.py
script_tests += %D%/http/test_singular_values.py
script_tests += %D%/http/test_tighten.py
script_tests += %D%/http/test_wasserstein.py
script_tests += %D%/http/test_triton.py
script_tests += %D%/http/test_weights.py
script_tests += %D%/http/test_cli.py
script_tests += %D%/http/test_infer.py
script_tests += %D%/http/test_infra.py
script_tests += %D%/http/test_readme.py
script_tests += %D%/http/test_recovery.py
script_tests += %D%/http/test_repository.py
script_tests += %D%/http/test_server.py
script_tests += %D%/http/test_settings.py
script_tests += %D%/http/test_slow.py
script_tests += %D%/http/test_snapshots.py
script_tests += %D%/http/test_train.py
script_tests += %D%/load/mixed.py
script_tests += %D%/http/test_limits.py
script_tests += %D%/http/test_load.py
script_tests += %D%/http/test_training.py
script_tests += %D%/http/test_ui.py
script_tests += %D%/http/test_trajectory.py
script_tests += %D%/http/test_versions.py
script_tests += %D%/install/test_headers.py
script_tests += %D%/install/test_install.sh
benches += %D%/bench/bench_mlp
benches += %D%/bench/bench_norm

# What a test or bench is linked with unless it says otherwise (check_x_LDADD).
LDADD = lib/libcore.la $(BLAS_LIBS) $(JANSSON_LIBS) $(CHECK_LIBS) -lm

# Parts of the daemon: they see server/, link libserver.la, and know nothing of lib/'s private parts.
%C%_unit_check_batch_CPPFLAGS = $(SERVER_CPPFLAGS) $(CHECK_CFLAGS)
%C%_unit_check_batch_LDADD = server/libserver.la $(SERVER_LIBS) $(CHECK_LIBS)
%C%_bench_bench_json_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_bench_bench_json_LDADD = server/libserver.la $(SERVER_LIBS)
%C%_unit_check_codec_CPPFLAGS = $(SERVER_CPPFLAGS) $(CHECK_CFLAGS)
%C%_unit_check_codec_LDADD = server/libserver.la $(SERVER_LIBS) $(CHECK_LIBS)
%C%_unit_check_guard_CPPFLAGS = $(SERVER_CPPFLAGS) $(CHECK_CFLAGS)
%C%_unit_check_guard_LDADD = server/libserver.la $(SERVER_LIBS) $(CHECK_LIBS)
%C%_unit_check_keys_CPPFLAGS = $(SERVER_CPPFLAGS) $(CHECK_CFLAGS)
%C%_unit_check_keys_LDADD = server/libserver.la $(SERVER_LIBS) $(CHECK_LIBS)
%C%_unit_check_metrics_CPPFLAGS = $(SERVER_CPPFLAGS) $(CHECK_CFLAGS)
%C%_unit_check_metrics_LDADD = server/libserver.la $(SERVER_LIBS) $(CHECK_LIBS)
%C%_unit_check_router_CPPFLAGS = $(SERVER_CPPFLAGS) $(CHECK_CFLAGS)
%C%_unit_check_router_LDADD = server/libserver.la $(SERVER_LIBS) $(CHECK_LIBS)
%C%_unit_check_scheduler_CPPFLAGS = $(SERVER_CPPFLAGS) $(CHECK_CFLAGS)
%C%_unit_check_scheduler_LDADD = server/libserver.la $(SERVER_LIBS) $(CHECK_LIBS)
%C%_unit_check_settings_CPPFLAGS = $(SERVER_CPPFLAGS) $(CHECK_CFLAGS)
%C%_unit_check_settings_LDADD = server/libserver.la $(SERVER_LIBS) $(CHECK_LIBS)

# An exact forward pass, where libmpfr is there.
%C%_unit_check_oracle_CPPFLAGS = $(AM_CPPFLAGS) $(MPFR_CFLAGS)
%C%_unit_check_oracle_LDADD = $(LDADD) $(MPFR_LIBS)

# Readers of what strangers send, on all of a corpus and on changes of it; libFuzzer links the same files without driver.c.
fuzzers = %D%/fuzz/fuzz_number %D%/fuzz/fuzz_json %D%/fuzz/fuzz_infer %D%/fuzz/fuzz_guard %D%/fuzz/fuzz_router %D%/fuzz/fuzz_files
%C%_fuzz_fuzz_number_SOURCES = %D%/fuzz/fuzz_number.c %D%/fuzz/driver.c %D%/fuzz/fuzz.h
%C%_fuzz_fuzz_number_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_fuzz_fuzz_number_LDADD = server/libserver.la $(SERVER_LIBS)
%C%_fuzz_fuzz_json_SOURCES = %D%/fuzz/fuzz_json.c %D%/fuzz/driver.c %D%/fuzz/fuzz.h
%C%_fuzz_fuzz_json_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_fuzz_fuzz_json_LDADD = server/libserver.la $(SERVER_LIBS)
%C%_fuzz_fuzz_infer_SOURCES = %D%/fuzz/fuzz_infer.c %D%/fuzz/driver.c %D%/fuzz/fuzz.h
%C%_fuzz_fuzz_infer_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_fuzz_fuzz_infer_LDADD = server/libserver.la $(SERVER_LIBS)
%C%_fuzz_fuzz_guard_SOURCES = %D%/fuzz/fuzz_guard.c %D%/fuzz/driver.c %D%/fuzz/fuzz.h
%C%_fuzz_fuzz_guard_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_fuzz_fuzz_guard_LDADD = server/libserver.la $(SERVER_LIBS)
%C%_fuzz_fuzz_router_SOURCES = %D%/fuzz/fuzz_router.c %D%/fuzz/driver.c %D%/fuzz/fuzz.h
%C%_fuzz_fuzz_router_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_fuzz_fuzz_router_LDADD = server/libserver.la $(SERVER_LIBS)
%C%_fuzz_fuzz_files_SOURCES = %D%/fuzz/fuzz_files.c %D%/fuzz/driver.c %D%/fuzz/fuzz.h
%C%_fuzz_fuzz_files_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_fuzz_fuzz_files_LDADD = server/libserver.la $(SERVER_LIBS)

check_PROGRAMS = $(unit_tests) $(benches) $(fuzzers) %D%/bench/trainer %D%/bench/peak
noinst_HEADERS += %D%/unit/check_main.h %D%/unit/models.h %D%/unit/norm_reference.h %D%/bench/bench.h
EXTRA_DIST += $(script_tests) %D%/load/soak.py %D%/bench/bench_serving.py %D%/bench/bench_overload.py %D%/bench/bench_training.py %D%/bench/bench_inference.py %D%/bench/recipes.py %D%/bench/peers %D%/browser/browser.py %D%/http/daemon.py %D%/http/lifecycle.py %D%/http/trajectory.py %D%/http/schema.py %D%/http/stage.py %D%/http/tls-1.key %D%/http/tls-1.pem %D%/http/tls-2.key %D%/http/tls-2.pem %D%/install/use.c %D%/golden %D%/clients %D%/fuzz/corpus %D%/fuzz/README

noinst_HEADERS += %D%/unit/samples.h %D%/unit/served.h

TESTS = $(unit_tests) $(fuzzers) $(script_tests)
TEST_EXTENSIONS = .py .sh
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
PY_LOG_DRIVER = $(LOG_DRIVER)
PY_LOG_COMPILER = $(PYTHON3)
SH_LOG_DRIVER = $(LOG_DRIVER)
SH_LOG_COMPILER = $(SHELL)

# Automake adds srcdir (the top of the source tree). The programs are those of this build, never installed ones.
AM_TESTS_ENVIRONMENT = \
	ONELIPD='$(abs_top_builddir)/server/onelipd'; ONELIP='$(abs_top_builddir)/clients/cli/onelip'; \
	ONELIP_BENCH='$(abs_top_builddir)/clients/bench/onelip-bench'; \
	LIBONELIP='$(abs_top_builddir)/lib/.libs/libonelip.so'; PYTHONDONTWRITEBYTECODE=1; WITH_SWAGGER_UI='$(if $(nodist_webdocs_DATA),1)'; WITH_SQLITE='$(if $(SQLITE_LIBS),1,0)'; top_builddir='$(abs_top_builddir)'; \
	CK_TAP_LOG_FILE_NAME=-; CK_VERBOSITY=silent; CC='$(CC)'; SANITIZER_FLAGS='$(SANITIZER_FLAGS)'; \
	export WITH_SWAGGER_UI WITH_SQLITE CC SANITIZER_FLAGS ONELIPD ONELIP ONELIP_BENCH LIBONELIP top_builddir PYTHONDONTWRITEBYTECODE CK_TAP_LOG_FILE_NAME CK_VERBOSITY;

# Times mean something only with the kernels that OpenBLAS chooses by itself.
.PHONY: bench
bench: $(benches)
	@for b in $(benches); do env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE srcdir='$(srcdir)' ./$$b || exit 1; done

# Requests a second beside other servers, and latencies under load, of the daemon in this build.
.PHONY: bench-serving bench-overload soak
bench-serving: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/bench/bench_serving.py
bench-overload: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/bench/bench_overload.py

# Training steps beside deel-lip on TensorFlow, torch and torchlip: from PyPI, into Pythons of this build (Python 3.11, some GB).
.PHONY: bench-training
bench-training: tests/bench/trainer peers-tf/ready peers-torch/ready
	TF_PYTHON=peers-tf/bin/python TORCH_PYTHON=peers-torch/bin/python $(PYTHON3) $(srcdir)/%D%/bench/bench_training.py .
# A forward pass beside onnxruntime and torch, in the same Python.
.PHONY: bench-inference
bench-inference: lib/libonelip.la tests/bench/peak peers-torch/ready
	TORCH_PYTHON=peers-torch/bin/python $(PYTHON3) $(srcdir)/%D%/bench/bench_inference.py .
peers-tf/ready: $(srcdir)/%D%/golden/requirements.txt
	$(PYTHON3) -m venv peers-tf && peers-tf/bin/pip install -q -r $< && touch $@
peers-torch/ready: $(srcdir)/%D%/bench/peers/requirements-torch.txt
	$(PYTHON3) -m venv peers-torch && peers-torch/bin/pip install -q -r $< && touch $@

# A hundred thousand points inside certified balls.
.PHONY: attacks
attacks: %D%/unit/check_attacks
	ONELIP_ATTACKS=100000 CK_DEFAULT_TIMEOUT=1200 CK_TAP_LOG_FILE_NAME=- %D%/unit/check_attacks

# Half an hour: memory, a million requests, a thousand models.
soak: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/load/soak.py
