//! Registries: settings of the client, login, what a name stands for there.

use wharf_api_types::Filters;
use wharf_api_types::image::{AuthConfig, AuthResult, DistributionInspect, SearchResult};
use wharf_fault::{Error, Result};
use wharf_ids::ImageRef;
use wharf_oci::image::{CONFIG_SIZE_MAX, Document, ImageConfig, is_attestation};
use wharf_registry_client::{Access, Client, Credentials, Fetched, Options, Reference, Repository};

use super::{Images, describe};
use crate::config::DaemonConfig;

/// A client with the daemon's settings.
pub(super) fn client(daemon: &DaemonConfig) -> Result<Client> {
    let options = Options {
        insecure_registries: daemon.insecure_registries.clone(),
        mirrors: daemon.registry_mirrors.clone(),
        attempts: u32::try_from(daemon.max_download_attempts).unwrap_or(u32::MAX),
        ..Options::default()
    };
    Client::new(options).map_err(Error::from_fault)
}

/// What the client of the API sent, for the registry.
pub(super) fn credentials(auth: &AuthConfig) -> Credentials {
    Credentials {
        username: auth.username.clone(),
        password: auth.password.clone(),
        identity_token: auth.identity_token.clone(),
        registry_token: auth.registry_token.clone(),
    }
}

impl Images {
    pub(super) fn repository(
        &self,
        name: &ImageRef,
        auth: &AuthConfig,
        access: Access,
    ) -> Repository {
        self.client().repository(name, credentials(auth), access)
    }

    /// Asks a registry whether it accepts the credentials.
    pub async fn login(&self, auth: &AuthConfig) -> Result<AuthResult> {
        let login = self
            .client()
            .login(&auth.server_address, &credentials(auth))
            .await;
        let login = login.map_err(Error::from_fault)?;
        Ok(AuthResult {
            identity_token: login.identity_token,
            status: login.status,
        })
    }

    /// What a name stands for in its registry.
    pub async fn distribution(&self, name: &str, auth: AuthConfig) -> Result<DistributionInspect> {
        let invalid = |error: wharf_ids::ReferenceError| Error::invalid(error.to_string());
        let name = ImageRef::parse(name).map_err(invalid)?;
        let repository = self.repository(&name, &auth, Access::Pull);
        let fetched = repository
            .manifest(&Reference::of(&name))
            .await
            .map_err(Error::from_fault)?;
        let platforms = match &fetched.document {
            Document::Index(index) => index
                .manifests
                .iter()
                .filter(|entry| !is_attestation(entry))
                .filter_map(|entry| entry.platform.as_ref())
                .map(describe::platform)
                .collect(),
            Document::Manifest(_) => image_config(&repository, &fetched)
                .await?
                .map(|config| vec![describe::platform(&config.platform)])
                .unwrap_or_default(),
        };
        Ok(DistributionInspect {
            descriptor: describe::descriptor(&fetched.descriptor),
            platforms,
        })
    }

    /// Searching needs Docker Hub's own interface, which no registry has.
    pub async fn search(
        &self,
        term: &str,
        _limit: i64,
        filters: &Filters,
        _auth: AuthConfig,
    ) -> Result<Vec<SearchResult>> {
        filters
            .only(&["is-automated", "is-official", "stars"])
            .map_err(|error| Error::invalid(error.to_string()))?;
        Err(Error::not_implemented(format!(
            "searching for {term:?}: searching Docker Hub is not supported by this version of Wharf"
        )))
    }
}

/// The configuration a manifest names; `None` for artifacts.
async fn image_config(repository: &Repository, fetched: &Fetched) -> Result<Option<ImageConfig>> {
    let Document::Manifest(manifest) = &fetched.document else {
        return Ok(None);
    };
    if !manifest.is_image() || manifest.config.size > CONFIG_SIZE_MAX {
        return Ok(None);
    }
    let mut stream = repository.blob(&manifest.config.digest, manifest.config.size, 0);
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await.map_err(Error::from_fault)? {
        bytes.extend_from_slice(&chunk);
    }
    let config = ImageConfig::parse(&bytes);
    config.map(Some).map_err(|source| {
        Error::system("the registry's image configuration is not valid").caused_by(source)
    })
}
