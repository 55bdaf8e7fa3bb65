//! What `create` takes and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::null_default;
use crate::endpoint::EndpointSettings;
use crate::go_json::{self, GoJsonError};

use super::{ContainerConfig, HostConfig};

/// Body of `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateContainer {
    /// What to run.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// Where to run it.
    #[serde(deserialize_with = "null_default")]
    pub host_config: HostConfig,
    /// Networks to join.
    #[serde(deserialize_with = "null_default")]
    pub networking_config: NetworkingConfig,
}

impl CreateContainer {
    /// Decodes the body as Docker's decoder does: `null` is the zero value, keys match in any
    /// letter case.
    pub fn decode(body: &[u8]) -> Result<Self, GoJsonError> {
        Self::from_value(go_json::from_slice(body)?)
    }

    /// The same from a value.
    pub fn from_value(mut value: serde_json::Value) -> Result<Self, GoJsonError> {
        let mut take = |name: &str| {
            let object = value.as_object_mut()?;
            let key = object
                .keys()
                .find(|key| key.eq_ignore_ascii_case(name))?
                .clone();
            object.remove(&key)
        };
        let host_config = take("HostConfig").unwrap_or_default();
        let networking_config = take("NetworkingConfig").unwrap_or_default();
        Ok(Self {
            config: go_json::from_value(value)?,
            host_config: go_json::from_value(host_config)?,
            networking_config: go_json::from_value(networking_config)?,
        })
    }
}

/// Endpoints wanted at create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    /// By network name or id.
    #[serde(deserialize_with = "null_default")]
    pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
}

/// Answer of `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerCreated {
    /// The new id.
    pub id: String,
    /// What was accepted but will not work on this host.
    #[serde(deserialize_with = "null_default")]
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_any_shape_decodes() {
        let body = br#"{"Image":"busybox","cmd":"true","Env":null,"Labels":{"a":"b"},
            "HostConfig":{"memory":6291456,"Binds":null,"RestartPolicy":null,"ConsoleSize":[0,0],"CapAdd":["NET_ADMIN"],
                "PortBindings":{"80/tcp":[{"HostPort":"8080"}],"81/tcp":null}},
            "NetworkingConfig":{"EndpointsConfig":{"front":null}}}"#;
        let request = CreateContainer::decode(body).unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(request.host_config.memory, 6_291_456);
        assert_eq!(
            request.host_config.port_bindings["80/tcp"]
                .as_ref()
                .unwrap()[0]
                .host_port,
            "8080"
        );
        assert!(
            request
                .networking_config
                .endpoints_config
                .contains_key("front")
        );
        assert!(CreateContainer::decode(b"[]").is_err());
    }
}
