# The one way in. `make demo` shows the main job, `make test` runs every test.
# Everything a target needs beyond a Rust toolchain it installs from Debian itself.
SHELL        := /bin/bash
TARGET       ?= $(or $(CARGO_TARGET_DIR),target)
HOST_TRIPLE  := $(shell rustc -vV | sed -n 's/^host: //p')
MUSL_TRIPLE  := $(subst -gnu,-musl,$(HOST_TRIPLE))
# The shim is static: musl when its target is installed, otherwise static glibc, never PIE.
SHIM_TRIPLE  := $(if $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(MUSL_TRIPLE)),$(MUSL_TRIPLE),$(HOST_TRIPLE))
SHIM_FLAGS   := -C target-feature=+crt-static -C relocation-model=static
PREFIX       ?= /usr/local
# In a folder of their own: cargo test puts other builds of the shim into its own.
UNDER_TEST   := WHARF_BIN=$(abspath $(TARGET))/e2e/wharf WHARF_SHIM=$(abspath $(TARGET))/e2e/wharf-shim
DESTDIR      ?=

.PHONY: build shim build-debug demo test soak upgrade-test check fmt clippy deny lint unit e2e conformance test-vm bench bench-scale bench-logs bench-neighbours bench-stuck bench-runtime install uninstall packages-demo packages-test packages-conformance packages-bench packages-vm clean

# WHARF_LINK=portable for packages whose rules ask for position-independent programs, or for C libraries older than 2.35
# (RHEL 9): commands take 0.4 ms longer (docs/adr/0011).
build: shim
	cargo build --release --locked -p wharf-cli
	install -d $(TARGET)/release
	cp -f $(TARGET)/$(SHIM_TRIPLE)/tiny/wharf-shim $(TARGET)/release/wharf-shim.new
	mv -f $(TARGET)/release/wharf-shim.new $(TARGET)/release/wharf-shim
	ln -sfn wharf-shim $(TARGET)/release/wharf-runtime
	ln -sfn wharf-shim $(TARGET)/release/containerd-shim-wharf-v2

# Built in a cargo call of its own: its profile aborts on panic and it is linked statically.
shim:
	RUSTFLAGS="$(SHIM_FLAGS)" cargo build --locked --profile tiny --target $(SHIM_TRIPLE) -p wharf-shim --features server --bin wharf-shim

# With the features of the tests, so that both share every dependency's build.
build-debug: shim
	cargo build --locked --workspace --all-features --bin wharf
	install -d $(TARGET)/e2e
	ln -f $(TARGET)/debug/wharf $(TARGET)/e2e/wharf
	cp -f $(TARGET)/$(SHIM_TRIPLE)/tiny/wharf-shim $(TARGET)/e2e/wharf-shim.new
	mv -f $(TARGET)/e2e/wharf-shim.new $(TARGET)/e2e/wharf-shim
	ln -sfn wharf-shim $(TARGET)/e2e/wharf-runtime

demo: packages-demo build
	demo/demo.sh $(TARGET)/release

test: packages-test build-debug
	$(UNDER_TEST) .ci/test.sh

check: fmt clippy deny lint unit

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --locked -q --workspace --all-targets --all-features -- -D warnings

deny:
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; else echo "cargo-deny is not installed: licences and bans not checked (cargo install cargo-deny)"; fi

lint:
	cargo run --locked -q -p xtask -- deps
	cargo run --locked -q -p xtask -- tidy

unit:
	cargo test --locked --workspace --all-features --lib --bins

e2e: packages-test build-debug
	$(UNDER_TEST) cargo test --locked --workspace --all-features --test e2e

# A thousand random kills of a release build under load, 100 containers beside it. SOAK="WHARF_SOAK_KILLS=50" for less.
soak: packages-test build
	WHARF_BIN=$(abspath $(TARGET))/release/wharf WHARF_SHIM=$(abspath $(TARGET))/release/wharf-shim \
		WHARF_SOAK_KILLS=1000 WHARF_SOAK_CONTAINERS=100 WHARF_RECOVERY=all $(SOAK) cargo test --locked -p wharf-e2e --test e2e -- --nocapture --test-threads 1 soak:: recovery::

# An engine of the commit OLD is replaced by this one while containers serve.
OLD ?= HEAD~1
upgrade-test: packages-test build-debug
	tests/upgrade.sh "$(OLD)" "$(abspath $(TARGET))/older"
	$(UNDER_TEST) WHARF_OLD_BIN=$(abspath $(TARGET))/older/debug/wharf cargo test --locked -p wharf-e2e --test e2e -- --nocapture upgrade::

# Suites that others wrote. ORACLE=DIR holds the program `oracle` with its transcripts;
# SUITES=DIR holds built suites (see docs/conformance.md). Neither is part of this project.
conformance: packages-test packages-conformance build
	cargo build --locked -p wharf-runtime --examples
	WHARF_CREATES=2000 cargo test --locked -p wharf-runtime --test edges hundreds_of_creates
	tests/conformance/run.sh $(TARGET)/release "$(ORACLE)" "$(SUITES)"

# The runtime's tests, and the engine, under a Debian kernel with cgroup v2 only, emulated; KERNEL is 6.1 or 5.10.
KERNEL ?= 6.1
test-vm: packages-vm build
	tests/vm/run.sh $(TARGET) $(TARGET)/release/wharf $(KERNEL)

# All of it, whatever fails before; BENCH='-k PATTERN' is for the comparison with the peers alone.
bench: packages-bench build
	python3 bench/bench.py --bin $(TARGET)/release $(BENCH); peers=$$?; test -z "$(BENCH)" || exit $$peers; \
	python3 bench/scale.py --bin $(TARGET)/release; scale=$$?; \
	python3 bench/neighbours.py --bin $(TARGET)/release; neighbours=$$?; \
	python3 bench/stuck.py --bin $(TARGET)/release; stuck=$$?; \
	python3 bench/logs.py --bin $(TARGET)/release; exit $$((peers | scale | neighbours | stuck | $$?))

# A thousand containers, ten thousand starts and stops.
bench-scale: packages-bench build
	python3 bench/scale.py --bin $(TARGET)/release $(SCALE)

# A history of ten gigabytes, and ten gigabytes written without an engine; takes 14 GB below $BENCH_DIR.
bench-logs: packages-bench build
	python3 bench/logs.py --bin $(TARGET)/release $(LOGS)

# A container beside a fork bomb, a memory hog, a flood of log lines and a loop of disk writes.
bench-neighbours: packages-bench build
	python3 bench/neighbours.py --bin $(TARGET)/release $(NEIGHBOURS)

bench-stuck: packages-bench build
	python3 bench/stuck.py --bin $(TARGET)/release $(STUCK)

# The runtime alone: steps of a start, memory, and the ratios to crun, runc and a floor in C.
bench-runtime: packages-bench shim
	install -d $(TARGET)/bench
	ln -sfn ../$(SHIM_TRIPLE)/tiny/wharf-shim $(TARGET)/bench/wharf-runtime
	cargo run --locked -q -p wharf-runtime --example default_profile > $(TARGET)/bench/seccomp.json
	python3 bench/runtime.py --bin $(TARGET)/bench --profile $(TARGET)/bench/seccomp.json $(BENCH)

install: build
	install -Dm755 $(TARGET)/release/wharf $(DESTDIR)$(PREFIX)/bin/wharf
	install -Dm755 $(TARGET)/release/wharf-shim $(DESTDIR)$(PREFIX)/bin/wharf-shim
	ln -sfn wharf-shim $(DESTDIR)$(PREFIX)/bin/wharf-runtime
	ln -sfn wharf-shim $(DESTDIR)$(PREFIX)/bin/containerd-shim-wharf-v2
	install -Dm644 packaging/wharf.socket $(DESTDIR)/lib/systemd/system/wharf.socket
	install -d $(DESTDIR)/lib/systemd/system
	sed 's,@PREFIX@,$(PREFIX),g' packaging/wharf.service > $(DESTDIR)/lib/systemd/system/wharf.service
	sed 's,@PREFIX@,$(PREFIX),g' packaging/wharf-containers.service > $(DESTDIR)/lib/systemd/system/wharf-containers.service
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d $(DESTDIR)$(PREFIX)/share/man/man1
	$(TARGET)/release/wharf completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/wharf
	$(TARGET)/release/wharf completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_wharf
	$(TARGET)/release/wharf completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/wharf.fish
	$(TARGET)/release/wharf man $(DESTDIR)$(PREFIX)/share/man/man1

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/wharf $(DESTDIR)$(PREFIX)/bin/wharf-shim $(DESTDIR)$(PREFIX)/bin/wharf-runtime $(DESTDIR)$(PREFIX)/bin/containerd-shim-wharf-v2
	rm -f $(DESTDIR)/lib/systemd/system/wharf.socket $(DESTDIR)/lib/systemd/system/wharf.service $(DESTDIR)/lib/systemd/system/wharf-containers.service
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/wharf $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_wharf $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/wharf.fish
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/wharf*.1

packages-demo:
	@packaging/apt.sh build-essential busybox-static docker-registry curl nftables procps
packages-test:
	@packaging/apt.sh build-essential busybox-static docker-registry curl jq skopeo iproute2 nftables python3 python3-docker libseccomp-dev uidmap btrfs-progs fuse-overlayfs runc crun containerd docker-cli:docker.io procps
packages-conformance:
	@packaging/apt.sh mmdebstrap docker.io containerd podman conmon runc uidmap
packages-vm:
	@packaging/apt.sh build-essential busybox-static criu qemu-system-x86 e2fsprogs mmdebstrap cpio kmod jq util-linux uidmap
packages-bench:
	@packaging/apt.sh build-essential busybox-static docker-registry curl jq python3 docker.io podman runc crun mmdebstrap iproute2 nftables

clean:
	cargo clean
