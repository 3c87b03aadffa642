//! How: listener, connection, handle, upstream; refusals and the snapshot.
