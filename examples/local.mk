# One program a capability and a page of curl, for readers: installed as text, built and run by tests/install as a stranger would.
examplesdir = $(docdir)/examples
dist_examples_DATA = %D%/example.h %D%/certify.c %D%/curl.sh %D%/export.c \
	%D%/gradients.c %D%/layers.c %D%/lipschitz.c %D%/normalize.c %D%/predict.c %D%/train.c %D%/wasserstein.c
