//! Output: tables, templates, JSON, and numbers for people.

pub(crate) mod inspect;
pub(crate) mod listing;
pub(crate) mod natural;
pub(crate) mod table;
pub(crate) mod types;
pub(crate) mod units;
