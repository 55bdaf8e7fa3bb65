//! Who we are to a registry.

use std::fmt;

/// What the caller may prove itself with. The default is to be anonymous.
///
/// `Debug` shows which fields are there, never what is in them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name for basic authentication and password grants.
    pub username: String,
    /// Password or personal access token.
    pub password: String,
    /// A refresh token of an earlier login (`identitytoken`); replaces name and password.
    pub identity_token: String,
    /// A ready bearer token (`registrytoken`); no token server is asked.
    pub registry_token: String,
}

impl Credentials {
    /// Name and password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
            ..Self::default()
        }
    }

    /// Whether there is nothing to prove oneself with.
    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &!self.username.is_empty())
            .field("password", &!self.password.is_empty())
            .field("identity_token", &!self.identity_token.is_empty())
            .field("registry_token", &!self.registry_token.is_empty())
            .finish()
    }
}
