# Build output stays in one place outside the checkout: a first full build takes a quarter of an hour.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/porthole-target

.PHONY: test bench soak fuzz

# Installs what the tests need and runs them all. The lines after the first use the binary that it
# built for its own tests.
test:
	cargo test --release --locked
	bash tests/clients/run.sh $(CARGO_TARGET_DIR)/release/porthole
	bash tests/observability/run.sh $(CARGO_TARGET_DIR)/release/porthole
	bash tests/kubernetes/run.sh $(CARGO_TARGET_DIR)/release/porthole
	bash tests/models/run.sh $(CARGO_TARGET_DIR)/release/porthole

# Two hundred clients for SOAK_SECONDS (ten minutes where nothing is said).
soak:
	cargo test --release --locked --test soak -- --ignored --nocapture

# Every parser of what strangers send, ten minutes each.
fuzz:
	fuzz/run.sh

bench:
	cargo bench --locked --bench ratios
