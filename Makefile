# Needs git, make and Go. "make help" lists the targets.

GO       ?= go
FUZZTIME ?= 10s
COUNT    ?= 6
BIN      := build/bin

# One set of flags for the window's program: any other compiles Fyne's C code again,
# which takes minutes. See cmd/wayfarer-gui for x11.
GUI := GOFLAGS='-trimpath -tags=x11' CGO_ENABLED=1

# Debian roots with other gateways for the lab.
GW_ROOT    ?= /var/tmp/wayfarer-lab-6
PLUTO_ROOT ?= /var/tmp/wayfarer-lab-pluto

# Pinned, and without an entry in go.mod.
TOOLS := mvdan.cc/gofumpt@v0.12.0 honnef.co/go/tools/cmd/staticcheck@v0.8.2 golang.org/x/vuln/cmd/govulncheck@v1.8.0

SYSTEMS   := linux windows darwin
PLATFORMS := $(foreach os,$(SYSTEMS),$(os)/amd64 $(os)/arm64)

# All packages that a system can build without cgo; on macOS Fyne needs it.
packages = $$(GOOS=$(1) CGO_ENABLED=0 $(GO) list -tags lab,gui,suspend ./... | grep -v '$(if $(filter darwin,$(1)),/app/gui$$,^$$)')

.PHONY: help need-go build gui windows gui-windows icons man demo test test-unit check-gui test-cross test-arm64 test-smoke test-gui bench-gui test-windows test-suspend tools lint exhaustive fuzz bench bench-go cover lab soak lab-6 lab-pluto lab-connect-time packages packages-tools packages-linux packages-windows packages-macos test-packages clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-18s %s\n", $$1, $$2}'

build: need-go ## command line and service, without cgo, into build/bin
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/wayfarer ./cmd/wayfarerd

gui: build ## the program with the window, too; needs a C compiler and headers of X11 and OpenGL
	test/need-gui
	$(GUI) $(GO) build -o $(BIN)/ ./cmd/wayfarer-gui

icons: need-go ## the program's icon in all forms, into build/icons
	CGO_ENABLED=0 $(GO) run ./assets/generate -out build/icons

# What Windows shows of a program, and its icon, are linked into it.
WINDOWS_FLAGS = -s -w -X wayfarer/app.version=$$version
windows: need-go ## the programs for Windows, but for the window, into build/windows/ARCH
	@set -e; version=$$(installer/version); set -x; \
	CGO_ENABLED=0 $(GO) run ./assets/generate -resources cmd -version $$version; \
	for arch in amd64 arm64; do \
		GOOS=windows GOARCH=$$arch CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(WINDOWS_FLAGS)" -o build/windows/$$arch/ ./cmd/wayfarer ./cmd/wayfarerd; \
	done

# As with GUI above, one set of flags. Debian has no C compiler for Windows on arm64; llvm-mingw has.
gui-windows: windows ## the same with the window; needs mingw-w64
	test/need-mingw
	rm -f build/windows/*/wayfarer-gui.exe
	@version=$$(installer/version); for target in amd64/x86_64 arm64/aarch64; do \
		cc=$${target#*/}-w64-mingw32-gcc; arch=$${target%/*}; \
		command -v $$cc >/dev/null || { echo "make: no window for Windows on $$arch: there is no $$cc"; continue; }; \
		echo "window for windows/$$arch"; \
		GOOS=windows GOARCH=$$arch CC=$$cc CGO_ENABLED=1 $(GO) build -trimpath -ldflags "-H windowsgui $(WINDOWS_FLAGS)" -o build/windows/$$arch/ ./cmd/wayfarer-gui || exit; \
	done

# The go command fetches the version that go.mod names, if it is at least 1.21.
need-go:
	@command -v $(GO) >/dev/null || { echo "make: missing: the go command, 1.21 or newer (https://go.dev/dl)" >&2; exit 1; }

man: need-go ## manual pages, into build/man
	@mkdir -p build/man
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(GO) test -count=1 -run '^TestManualPages?$$' ./cmd/wayfarer ./cmd/wayfarerd -man $(CURDIR)/build/man

demo: need-go ## an embedded gateway and a rootless connection to it, on loopback
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/wayfarer
	$(BIN)/wayfarer demo

test: test-unit check-gui test-cross test-arm64 test-smoke ## vet, import directions, unit tests; all systems; the window's program, the assembly of arm64 and one real gateway where the machine allows it

# The race detector needs a C compiler.
test-unit: need-go
	CGO_ENABLED=0 $(GO) vet -tags lab,gui,suspend ./...
	@if test/need-cc; then race=-race CGO_ENABLED=1; \
	else echo "make: unit tests run without the race detector"; race= CGO_ENABLED=0; fi; \
	export CGO_ENABLED; set -x; $(GO) test $$race ./...

# Its views are tested by test-unit, without a display.
check-gui: need-go
	@mkdir -p build
	@if test/need-gui 2>build/prereqs-gui.log; then \
		set -x; $(GUI) $(GO) vet ./cmd/wayfarer-gui && $(GUI) $(GO) test ./cmd/wayfarer-gui && $(GUI) $(GO) build -o $(BIN)/ ./cmd/wayfarer-gui; \
	else \
		echo "make: the program with the window was not built: $$(tail -n 1 build/prereqs-gui.log)"; \
	fi

# The window's program has C code, which needs the systems' own headers; see also gui-windows.
test-cross: need-go ## all that builds without cgo is vetted and built for all systems; the window's Go code for macOS is checked
	@set -e; export CGO_ENABLED=0; $(foreach p,$(PLATFORMS),echo "$(p): vet, build"; \
		export GOOS=$(patsubst %/,%,$(dir $(p))) GOARCH=$(notdir $(p)); \
		$(GO) vet -tags lab,gui,suspend $(call packages,$(patsubst %/,%,$(dir $(p)))); $(GO) build -o build/cross/$(p)/ ./cmd/wayfarer ./cmd/wayfarerd;)
	@$(foreach arch,amd64 arm64,$(GO) run ./test/xcheck darwin/$(arch) ./cmd/wayfarer-gui &&) true

# Packages with assembly. Nothing of them may be skipped.
test-arm64: need-go ## the assembly for arm64 is vetted, and tested in an emulator (qemu-user), with the seeds of the fuzzers
	@mkdir -p build
	GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./ike/esp
	@if test/need-qemu 2>build/prereqs-qemu.log; then \
		set -x; GOARCH=arm64 CGO_ENABLED=0 EMULATOR=qemu-aarch64 $(GO) test -exec qemu-aarch64 -v ./ike/esp >build/test-arm64.log || { cat build/test-arm64.log; exit 1; }; \
		! grep SKIP build/test-arm64.log; \
	else \
		echo "make: the assembly for arm64 was not tested: $$(tail -n 1 build/prereqs-qemu.log)"; \
	fi

test-smoke: build
	@if test/lab/lab prereqs --install >build/prereqs.log 2>&1; then \
		set -x; $(GO) test -tags lab -count=1 -run '^TestSmoke$$' ./test/lab; \
	else \
		echo "make: no connection to a real gateway was tried: $$(tail -n 1 build/prereqs.log)"; \
	fi

test-gui: gui ## the program with the window on a display of its own: tray, keyring, real gateways (root, Linux); pictures in build/screens
	test/gui/prereqs
	test/lab/lab prereqs --install
	@mkdir -p build/screens && find build/screens -name '*.png' ! -name 'windows-*' -delete # those are of test-windows
	$(GO) test -tags gui -count=1 -timeout 30m -v ./test/gui

bench-gui: gui ## what the window costs: start, processor, memory, a hundred connects (GUI_COST=1m)
	test/gui/prereqs
	test/lab/lab prereqs --install
	GUI_COST=$${GUI_COST:-1m} $(GO) test -tags gui -count=1 -timeout 120m -v -run '^Test(Cost|Hundred)$$' ./test/gui

test-windows: need-go ## the Windows programs under Wine: unit tests, keyring, service, window and tray, a connection through a real gateway (root, Linux); pictures in build/screens
	test/wine/prereqs
	test/lab/lab prereqs --install
	test/wine/run

# SUSPEND_KERNEL=FILE takes another kernel than Debian's of today.
test-suspend: need-go ## a computer sleeps, and what it is told of that: a virtual machine (Linux on amd64)
	test/suspend/prereqs
	CGO_ENABLED=0 $(GO) test -tags suspend -count=1 -timeout 15m -v ./test/suspend

tools:
	@for t in $(TOOLS); do GOBIN=$(CURDIR)/build/tools $(GO) install $$t || exit; done

lint: tools test-cross ## formatting, vet, staticcheck, known vulnerabilities, import directions, all systems
	@echo gofumpt; out=$$(git ls-files -z "*.go" | xargs -0 build/tools/gofumpt -l) && [ -z "$$out" ] || { echo "not formatted: $$out"; exit 1; }
	@set -e; export CGO_ENABLED=0; $(foreach p,$(PLATFORMS),echo "$(p): staticcheck"; \
		export GOOS=$(patsubst %/,%,$(dir $(p))) GOARCH=$(notdir $(p)); \
		build/tools/staticcheck -tags lab,gui,suspend $(call packages,$(patsubst %/,%,$(dir $(p))));)
	@if test/need-gui; then echo "with the window: staticcheck"; $(GUI) build/tools/staticcheck ./cmd/wayfarer-gui; fi
	@if command -v x86_64-w64-mingw32-gcc >/dev/null; then echo "with the window for Windows: staticcheck"; \
		GOOS=windows GOARCH=amd64 CC=x86_64-w64-mingw32-gcc GOFLAGS=-trimpath CGO_ENABLED=1 build/tools/staticcheck ./cmd/wayfarer-gui; \
	else echo "skipped: no mingw-w64 for the window on Windows"; fi
	$(GO) test ./test/arch
	@command -v shellcheck >/dev/null || echo "skipped: no shellcheck"
	$(GO) test -count=1 -run '^TestScripts$$' ./test/packages
	$(GO) mod tidy -diff
	@check() { echo "$$1: govulncheck"; shift; out=$$(build/tools/govulncheck "$$@" 2>&1) && echo "$$out" || case $$out in \
		*"fetching vulnerabilities"*) echo "skipped: the vulnerability database cannot be reached"; exit ;; \
		*) echo "$$out"; exit 1 ;; esac; }; \
	check "this computer" ./...; export CGO_ENABLED=0; $(foreach p,$(PLATFORMS), \
		export GOOS=$(patsubst %/,%,$(dir $(p))) GOARCH=$(notdir $(p)); \
		check $(p) -tags lab,gui,suspend $(call packages,$(patsubst %/,%,$(dir $(p))));)

exhaustive: ## tests that "make test" takes in strides, in full: every bit, every pair of losses
	EXHAUSTIVE=1 $(GO) test -count=1 -timeout 30m -run '^(TestFlippedBits|TestPairsOfFaults)$$' ./ike

# To make each input that is of interest as short as can be would take all the time.
fuzz: ## every fuzz target for FUZZTIME (10s)
	@set -e; list=$$($(GO) test -list '^Fuzz' ./...); \
	echo "$$list" | awk '/^Fuzz/ {f[n++] = $$1} $$1 == "ok" {for (i = 0; i < n; i++) print $$2, f[i]; n = 0}' | \
	while read -r pkg name; do \
		echo "$$pkg $$name"; $(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
	done

# BENCH picks parts (tcp,pps,ping,idle,datagrams,suites,sas,rekey,strongswan,connect), ROUNDS
# says how many, QUICK=1 makes one short round. REALTIME=1: on a busy machine, for
# tcp,suites,sas,rekey. Without BENCH: all.
bench: build ## the client beside other VPNs, in namespaces: an hour and more, QUICK=1 eight minutes (root, Linux; on an idle machine)
	test/lab/lab prereqs --install
	test/bench/prereqs
	@mkdir -p build/bench
	CGO_ENABLED=0 $(GO) build -o build/bench/wireguard-go golang.zx2c4.com/wireguard
	CGO_ENABLED=0 $(GO) build -o build/bench/bench ./test/bench
	$(if $(REALTIME),chrt --rr 5) build/bench/bench $(if $(BENCH),-parts $(BENCH)) $(if $(ROUNDS),-rounds $(ROUNDS)) $(if $(QUICK),-quick)

bench-go: ## Go benchmarks, each COUNT (6) times for benchstat, half an hour: seal, open, replay, parse, handshake and the rest
	$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) -timeout 2h ./...

cover: ## at least 90 % of the protocol's statements are tested, and of the test gateway's
	@$(GO) test -cover ./ike ./ike/isakmp ./ike/esp ./ike/gateway | awk '{print} \
		/^FAIL/ {bad = 1} /^ok/ && sub(/.*coverage: /, "") {n++; if ($$1 + 0 < 90) bad = 1} \
		END {if (n != 4 || bad) {print "make: less than 90 % covered, or a test failed"; exit 1}}'

lab: build ## all end-to-end scenarios: real gateways, and real clients of our own (root, Linux)
	test/lab/lab prereqs --install
	$(GO) test -tags lab -count=1 -timeout 40m -v ./test/lab
	$(GO) test -tags lab -count=1 -v -run '^TestLab' ./ike/gateway

# SOAK picks tests; one that fails does not end the others.
SOAK ?= .
soak: build ## the same in full length, 100 minutes: every fault, five minutes of load, ten idle, ten of abuse
	test/lab/lab prereqs --install
	EXHAUSTIVE=1 $(GO) test -tags lab -count=1 -timeout 150m -p 1 -v -run '$(SOAK)' ./app/control ./test/lab

lab-6: build ## the same against strongSwan 6: a Debian 13 in GW_ROOT, made by debootstrap
	test/lab/lab prereqs --install
	test/lab/lab gw-root $(GW_ROOT)
	LAB_GW_ROOT=$(GW_ROOT) $(GO) test -tags lab -count=1 -timeout 60m -v ./test/lab

lab-pluto: build ## IKE with Libreswan: a Debian 12 in PLUTO_ROOT, made by debootstrap
	test/lab/lab prereqs --install
	test/lab/lab pluto-root $(PLUTO_ROOT)
	LAB_PLUTO_ROOT=$(PLUTO_ROOT) $(GO) test -tags lab -count=1 -v -run '^TestPluto' ./test/lab

lab-connect-time: build ## time to connect, beside the reference client's
	test/lab/lab prereqs --install
	$(GO) test -tags lab -count=1 -v -run '^TestConnectTime$$' ./test/lab -connect-time

# One target for each system; installer/seal does what is for all of them.
packages: packages-linux packages-windows packages-macos ## all packages, their bills of materials and checksums, into build/packages; SIGN_GPG_KEY signs
	installer/seal

packages-tools: need-go
	GOBIN=$(CURDIR)/build/tools $(GO) -C installer/tools install tool

packages-linux: need-go packages-tools icons ## deb and rpm of the commit that is checked out, into build/packages
	test/need-gui
	installer/linux/build

packages-windows: gui-windows icons ## msi of the commit that is checked out, into build/packages; WINTUN_DLL, SIGN_WINDOWS_CERT
	test/need-wixl
	installer/windows/build

packages-macos: need-go ## pkg of the commit that is checked out, into build/packages, on a Mac with the window; SIGN_MACOS_IDENTITY
	installer/macos/build.sh

test-packages: packages ## install, upgrade and remove the packages in a container with a real systemd, and under Wine, where they reach a gateway (root, Linux)
	test/packages/prereqs
	test/lab/lab prereqs --install
	$(GO) test -tags packages -count=1 ./installer/...
	$(GO) test -tags packages -count=1 -timeout 60m -v ./test/packages

clean: ## remove what was built
	rm -rf build cmd/*/*.syso
