//! May: Cedar policies over routes; decide mints the only Permit.
