//! Containers and execs: records, registry, lifecycle.

pub mod reconcile;
