//! Hostile and ordinary layer archives.
