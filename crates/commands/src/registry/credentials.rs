//! Where passwords for registries are kept: a credential helper or the configuration file.
//!
//! A helper is the program `docker-credential-NAME`; it is told what to do by its argument (`get`,
//! `store`, `erase`), reads standard input and answers on standard output.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value, json};

use crate::cli::Cli;
use crate::config_file::ConfigFile;
use crate::outcome::{Failure, Outcome};
use crate::parse::image::HUB;

/// The name Docker Hub's credentials are kept under.
pub(crate) const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The user name of a helper's answer that is an identity token.
const TOKEN_USER: &str = "<token>";

/// What a registry is told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Auth {
    pub(crate) username: String,
    pub(crate) password: String,
    /// Replaces the password when a registry gave one.
    pub(crate) identity_token: String,
}

impl Auth {
    pub(crate) fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty()
    }

    /// The JSON of the API's `AuthConfig`.
    pub(crate) fn json(&self, server: &str) -> Value {
        let mut out = Map::new();
        for (key, value) in [
            ("username", &self.username),
            ("password", &self.password),
            ("identitytoken", &self.identity_token),
        ] {
            if !value.is_empty() {
                out.insert(key.to_owned(), json!(value));
            }
        }
        out.insert("serveraddress".to_owned(), json!(server));
        Value::Object(out)
    }
}

/// The `X-Registry-Auth` header for images of a registry.
pub(crate) fn header(cli: &Cli, domain: &str) -> Outcome<String> {
    let key = key(domain);
    let auth = get(cli.config(), &key)?;
    let value = if auth.is_empty() {
        json!({})
    } else {
        auth.json(&key)
    };
    Ok(URL_SAFE.encode(value.to_string()))
}

/// The name credentials of a registry are kept under.
pub(crate) fn key(registry: &str) -> String {
    match host(registry).as_str() {
        HUB | "index.docker.io" | "registry-1.docker.io" => HUB_KEY.to_owned(),
        host => host.to_owned(),
    }
}

/// The host of a registry written as `https://host/v1/`.
fn host(text: &str) -> String {
    let text = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or(text);
    text.split('/').next().unwrap_or_default().to_owned()
}

/// The helper responsible for a registry, if any.
fn helper(config: &ConfigFile, key: &str) -> Option<String> {
    let own = config
        .texts("credHelpers")
        .into_iter()
        .find(|(registry, _)| self::key(registry) == key);
    let name = own.map_or_else(|| config.text("credsStore").to_owned(), |(_, name)| name);
    (!name.is_empty()).then_some(name)
}

/// Finds the credentials of a registry; empty when there are none.
pub(crate) fn get(config: &ConfigFile, key: &str) -> Outcome<Auth> {
    if let Some(name) = helper(config, key) {
        return from_helper(&name, key);
    }
    let entries = config.get("auths").and_then(Value::as_object);
    let exact = entries.and_then(|entries| entries.get(key));
    let found = exact.or_else(|| {
        entries?
            .iter()
            .find(|(server, _)| self::key(server) == key)
            .map(|(_, entry)| entry)
    });
    let Some(entry) = found else {
        return Ok(Auth::default());
    };
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let mut auth = Auth {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
    };
    let encoded = text("auth");
    if !encoded.is_empty() {
        let decoded = STANDARD
            .decode(encoded.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) = decoded.ok_or_else(|| {
            Failure::new(format!(
                "invalid auth configuration file: cannot decode the entry of {key}"
            ))
        })?;
        username.clone_into(&mut auth.username);
        password
            .trim_end_matches('\0')
            .clone_into(&mut auth.password);
    }
    Ok(auth)
}

fn from_helper(name: &str, key: &str) -> Outcome<Auth> {
    let output = match call(name, "get", key) {
        Ok(output) => output,
        Err(message) if message.contains("credentials not found") => return Ok(Auth::default()),
        Err(message) => {
            return Err(Failure::new(format!(
                "error getting credentials - err: {message}"
            )));
        }
    };
    let answer: Value = serde_json::from_str(&output).map_err(|error| {
        Failure::new(format!(
            "error getting credentials - err: docker-credential-{name}: {error}"
        ))
    })?;
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    Ok(match text("Username").as_str() {
        TOKEN_USER => Auth {
            identity_token: text("Secret"),
            ..Auth::default()
        },
        username => Auth {
            username: username.to_owned(),
            password: text("Secret"),
            ..Auth::default()
        },
    })
}

/// Keeps credentials; the answer is the file they are in when that is not a helper.
pub(crate) fn store(config: &mut ConfigFile, key: &str, auth: &Auth) -> Outcome<bool> {
    if let Some(name) = helper(config, key) {
        let (username, secret) = match auth.identity_token.as_str() {
            "" => (auth.username.as_str(), auth.password.as_str()),
            token => (TOKEN_USER, token),
        };
        let entry = json!({"ServerURL": key, "Username": username, "Secret": secret});
        call(&name, "store", &entry.to_string()).map_err(|message| {
            Failure::new(format!(
                "Error saving credentials: error storing credentials - err: {message}"
            ))
        })?;
        // The file only says that the helper knows the registry.
        config.object_mut("auths").insert(key.to_owned(), json!({}));
        save(config)?;
        return Ok(false);
    }
    let mut entry = Map::new();
    entry.insert(
        "auth".to_owned(),
        json!(STANDARD.encode(format!("{}:{}", auth.username, auth.password))),
    );
    if !auth.identity_token.is_empty() {
        entry.insert("identitytoken".to_owned(), json!(auth.identity_token));
    }
    config
        .object_mut("auths")
        .insert(key.to_owned(), Value::Object(entry));
    save(config)?;
    Ok(true)
}

/// Forgets credentials.
pub(crate) fn erase(config: &mut ConfigFile, key: &str) -> Outcome {
    if let Some(name) = helper(config, key) {
        match call(&name, "erase", key) {
            Ok(_) => {}
            Err(message) if message.contains("credentials not found") => {}
            Err(message) => {
                return Err(Failure::new(format!(
                    "error erasing credentials - err: {message}"
                )));
            }
        }
    }
    let entries = config.object_mut("auths");
    let before = entries.len();
    entries.retain(|server, _| self::key(server) != key);
    if entries.len() != before {
        save(config)
    } else {
        Ok(())
    }
}

fn save(config: &ConfigFile) -> Outcome {
    config.save().map_err(|error| {
        Failure::new(format!(
            "Error saving credentials: {}: {error}",
            config.path().display()
        ))
    })
}

/// Runs a helper; its output, or what it said when it failed.
fn call(name: &str, action: &str, input: &str) -> Result<String, String> {
    // The name comes from a file: a slash would make it a path.
    if name.contains('/') {
        return Err(format!("`{name}` is not the name of a credential helper"));
    }
    let program = format!("docker-credential-{name}");
    let failed = |error: std::io::Error| format!("exec: \"{program}\": {error}");
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read says why on its standard output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ConfigFile {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        ConfigFile::load(dir.path()).unwrap()
    }

    #[test]
    fn entries_are_found_under_every_spelling() {
        let config = config(
            r#"{"auths":{"https://reg.x/v1/":{"auth":"YTpiOmM="},"https://index.docker.io/v1/":{"auth":"aDpw"}}}"#,
        );
        let auth = get(&config, &key("reg.x")).unwrap();
        assert_eq!(
            (auth.username.as_str(), auth.password.as_str()),
            ("a", "b:c")
        );
        assert_eq!(get(&config, &key("docker.io")).unwrap().username, "h");
        assert!(get(&config, &key("other")).unwrap().is_empty());
    }

    #[test]
    fn a_broken_entry_is_an_error() {
        assert!(get(&config(r#"{"auths":{"r":{"auth":"%%"}}}"#), "r").is_err());
    }

    #[test]
    fn stored_credentials_come_back_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ConfigFile::load(dir.path()).unwrap();
        let auth = Auth {
            username: "u".into(),
            password: "p".into(),
            identity_token: String::new(),
        };
        assert!(store(&mut config, "reg:5000", &auth).unwrap());
        let mut again = ConfigFile::load(dir.path()).unwrap();
        assert_eq!(get(&again, "reg:5000").unwrap(), auth);
        erase(&mut again, "reg:5000").unwrap();
        assert!(
            get(&ConfigFile::load(dir.path()).unwrap(), "reg:5000")
                .unwrap()
                .is_empty()
        );
    }
}
