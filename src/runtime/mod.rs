//! Wiring: leader election, readiness, metrics, logs, shutdown.
