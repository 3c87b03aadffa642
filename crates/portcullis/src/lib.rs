//! The gateway: command line, configuration, wiring, shutdown.
