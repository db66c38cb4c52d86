# Shortcuts for the commands in CONTRIBUTING.md. None of them installs anything: .ci/install does that.

set positional-arguments

# All tests.
test:
    cargo test

# The tests whose path contains NAME, such as `close::` or `both_close_at_once`.
test-one NAME:
    cargo test --lib --test it --test memory -- "$1"

# Fuzzes one of the targets in fuzz/fuzz_targets until it is stopped. Needs cargo-fuzz and a nightly toolchain.
fuzz TARGET:
    cargo +nightly fuzz run "$1"

# The Autobahn|Testsuite: all cases, or only these (`quick`, `'7.*'`, `12.1.3`).
autobahn *CASES:
    tests/autobahn/run "$@"

# The benchmark: all rows, or with `--rounds 21 "send 64"` more rounds of the rows with that in their name.
bench *ROWS:
    cargo run --release -p wsync-benches --bin speed -- "$@"
