//! How often: GCRA buckets with bounded memory, concurrency caps.
