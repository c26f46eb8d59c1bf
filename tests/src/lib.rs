//! End-to-end tests live in `tests/e2e`, driven by real clients; this crate has no code of its own.
