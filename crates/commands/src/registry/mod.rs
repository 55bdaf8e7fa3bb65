//! Registries: logging in and out, credentials, search.

pub(crate) mod credentials;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod search;
