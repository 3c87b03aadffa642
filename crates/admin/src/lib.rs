//! The operator's door: metrics, probes, the control socket.
