//! Compiled system call filters, cached: the start path never compiles the same one twice.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wharf_api_types::container::HostConfig;
use wharf_fault::{Error, Result, chain};
use wharf_oci::runtime::Seccomp;
use wharf_seccomp::{Machine, NATIVE, Profile, compile};

use super::security::SeccompChoice;

/// Filters kept; profiles given by users are hostile in number too.
const CACHED_MAX: usize = 64;

/// Filters by profile and capabilities, in the form the shim takes.
#[derive(Debug)]
pub(super) struct SeccompCache {
    /// `None`: containers are unconfined unless they bring a profile.
    default: Option<Profile>,
    machine: Machine,
    filters: Mutex<HashMap<Key, Arc<str>>>,
}

/// Profile text (empty for the default) and capabilities.
type Key = (String, String);

impl SeccompCache {
    /// With the daemon's default profile: built in, a file, or `unconfined`.
    pub(super) fn new(profile: &str, kernel: (u32, u32)) -> Result<Self> {
        let default = match profile {
            "" | "builtin" => Some(Profile::docker_default()),
            "unconfined" => None,
            path => {
                let json = std::fs::read(Path::new(path)).map_err(|source| {
                    Error::invalid(format!("opening seccomp profile ({path}) failed"))
                        .caused_by(source)
                })?;
                Some(parse(&json)?)
            }
        };
        Ok(Self {
            default,
            machine: Machine {
                arch: NATIVE,
                kernel,
            },
            filters: Mutex::new(HashMap::new()),
        })
    }

    /// The filter of a container; `None` for an unconfined one.
    pub(super) fn filter(
        &self,
        host: &HostConfig,
        choice: &SeccompChoice,
        capabilities: &[String],
    ) -> Result<Option<String>> {
        let (text, profile) = match choice {
            SeccompChoice::Unconfined => return Ok(None),
            // A profile that is named holds for privileged containers, too.
            SeccompChoice::Default if host.privileged => return Ok(None),
            SeccompChoice::Default => match &self.default {
                Some(profile) => (String::new(), Ok(profile)),
                None => return Ok(None),
            },
            SeccompChoice::Profile(json) => (json.clone(), Err(json)),
        };
        let key = (text, capabilities.join(","));
        if let Some(known) = self.lock().get(&key) {
            return Ok(Some(known.to_string()));
        }
        let filter = match profile {
            Ok(profile) => self.compile(profile, capabilities)?,
            Err(json) => self.compile(&parse(json.as_bytes())?, capabilities)?,
        };
        let mut filters = self.lock();
        if filters.len() >= CACHED_MAX {
            filters.clear();
        }
        filters.insert(key, Arc::from(filter.as_str()));
        Ok(Some(filter))
    }

    /// The filter of a container as a document, for runtimes that compile it themselves.
    pub(super) fn document(
        &self,
        host: &HostConfig,
        choice: &SeccompChoice,
        capabilities: &[String],
    ) -> Result<Option<Seccomp>> {
        let given;
        let profile = match choice {
            SeccompChoice::Unconfined => return Ok(None),
            SeccompChoice::Default if host.privileged => return Ok(None),
            SeccompChoice::Default => match &self.default {
                Some(profile) => profile,
                None => return Ok(None),
            },
            SeccompChoice::Profile(json) => {
                given = parse(json.as_bytes())?;
                &given
            }
        };
        profile
            .resolve(capabilities, self.machine)
            .map(Some)
            .map_err(|error| Error::invalid(chain(&error)))
    }

    /// Checks a profile a user gave.
    pub(super) fn check(choice: &SeccompChoice) -> Result<()> {
        match choice {
            SeccompChoice::Profile(json) => parse(json.as_bytes()).map(drop),
            _ => Ok(()),
        }
    }

    fn compile(&self, profile: &Profile, capabilities: &[String]) -> Result<String> {
        let invalid = |error: &dyn std::error::Error| Error::invalid(chain(error));
        let resolved = profile
            .resolve(capabilities, self.machine)
            .map_err(|error| invalid(&error))?;
        let program = compile(&resolved).map_err(|error| invalid(&error))?;
        Ok(STANDARD.encode(program.to_bytes()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<str>>> {
        self.filters
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

fn parse(json: &[u8]) -> Result<Profile> {
    Profile::parse(json).map_err(|error| Error::invalid(chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_compiled_once_per_profile_and_capabilities() {
        let cache = SeccompCache::new("", (6, 1)).unwrap();
        let host = HostConfig::default();
        let caps = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let one = cache
            .filter(&host, &SeccompChoice::Default, &caps(&["CAP_CHOWN"]))
            .unwrap();
        assert_eq!(
            cache
                .filter(&host, &SeccompChoice::Default, &caps(&["CAP_CHOWN"]))
                .unwrap(),
            one
        );
        let admin = cache
            .filter(&host, &SeccompChoice::Default, &caps(&["CAP_SYS_ADMIN"]))
            .unwrap();
        assert_ne!(one, admin);
        assert_eq!(cache.lock().len(), 2);
        assert_eq!(
            cache
                .filter(&host, &SeccompChoice::Unconfined, &[])
                .unwrap(),
            None
        );
        let privileged = HostConfig {
            privileged: true,
            ..HostConfig::default()
        };
        assert_eq!(
            cache
                .filter(&privileged, &SeccompChoice::Default, &[])
                .unwrap(),
            None
        );
    }

    #[test]
    fn bad_profiles_are_named() {
        let error = SeccompCache::check(&SeccompChoice::Profile("/no/file".into())).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("decoding seccomp profile failed"),
            "{error}"
        );
    }
}
