//! `runtimes` of `daemon.json`: other OCI runtimes, by name.
//!
//! ```json
//! { "runtimes": { "crun": { "path": "/usr/bin/crun" },
//!                 "gvisor": { "path": "runsc", "runtimeArgs": ["--platform=kvm"] } } }
//! ```
//!
//! [`BUILT_IN_RUNTIMES`] are names of Wharf's own runtime. Unlike in Docker, `runc` may be given to
//! a program: the built-in runtime then answers to its other names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wharf_fault::{Error, Result};

use super::DaemonConfig;

/// Names of the built-in runtime, unless a configured runtime has one of them. The last is only
/// ours.
pub const BUILT_IN_RUNTIMES: [&str; 3] = ["io.containerd.runc.v2", "runc", "wharf"];

/// The only runtime type that is a program with `runc`'s command line.
const RUNC_TYPE: &str = "io.containerd.runc.v2";

/// One runtime as the file gives it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RuntimeSetting {
    /// The program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Arguments before the command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
    /// The type of a containerd runtime.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime_type: String,
    /// Options of that type.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

/// A runtime's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// The program, looked up in `$PATH` if it has no slash.
    pub path: PathBuf,
    /// Arguments before the command.
    pub arguments: Vec<String>,
}

impl DaemonConfig {
    /// Whether containers may ask for the runtime `name`.
    pub fn knows_runtime(&self, name: &str) -> bool {
        BUILT_IN_RUNTIMES.contains(&name) || self.runtimes.contains_key(name)
    }
}

/// Checks the settings, with Docker's words.
pub(super) fn resolve(
    settings: BTreeMap<String, RuntimeSetting>,
) -> Result<BTreeMap<String, Runtime>> {
    let one = |(name, setting): (String, RuntimeSetting)| {
        runtime(&name, setting).map(|runtime| (name, runtime))
    };
    settings.into_iter().map(one).collect()
}

fn runtime(name: &str, setting: RuntimeSetting) -> Result<Runtime> {
    let invalid = |what: &str| Error::invalid(format!("runtime {name}: {what}"));
    if name == "wharf" {
        return Err(Error::invalid("runtime name 'wharf' is reserved"));
    }
    let RuntimeSetting {
        path,
        runtime_args,
        runtime_type,
        options,
    } = setting;
    let path = match (path.is_empty(), runtime_type.is_empty()) {
        (true, true) => {
            return Err(invalid("either a runtimeType or a path must be configured"));
        }
        (false, false) => {
            return Err(invalid(
                "cannot configure both path and runtimeType for the same runtime",
            ));
        }
        (false, true) if !options.is_empty() => {
            return Err(invalid("options cannot be used with a path runtime"));
        }
        (false, true) => path,
        (true, false) if !runtime_args.is_empty() => {
            return Err(invalid("args cannot be used with a runtimeType runtime"));
        }
        (true, false) => binary_of_type(name, &runtime_type, options)?,
    };
    Ok(Runtime {
        path: path.into(),
        arguments: runtime_args,
    })
}

/// The program of a containerd runtime of a type that is one.
fn binary_of_type(name: &str, kind: &str, mut options: Map<String, Value>) -> Result<String> {
    let unsupported = |what: String| {
        Error::not_implemented(format!(
            "runtime {name}: {what} is not supported by this version of Wharf"
        ))
    };
    if kind != RUNC_TYPE {
        return Err(unsupported(format!("runtimeType {kind}")));
    }
    let binary = match options.remove("BinaryName") {
        Some(Value::String(binary)) => binary,
        Some(_) => {
            return Err(Error::invalid(format!(
                "runtime {name}: BinaryName is not a string"
            )));
        }
        None => "runc".to_owned(),
    };
    match options.keys().next() {
        Some(option) => Err(unsupported(format!("option {option}"))),
        None => Ok(binary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(runtimes: &str) -> Result<DaemonConfig> {
        DaemonConfig::resolve(Settings::parse(&format!("{{\"runtimes\":{runtimes}}}"))?)
    }

    #[test]
    fn programs_are_taken_as_docker_writes_them() {
        let config = config(
            r#"{"crun":{"path":"/usr/bin/crun"},"runc":{"path":"runc","runtimeArgs":["--debug"]},
                "typed":{"runtimeType":"io.containerd.runc.v2","options":{"BinaryName":"/opt/runc"}}}"#,
        )
        .unwrap();
        assert_eq!(config.runtimes["crun"].path, PathBuf::from("/usr/bin/crun"));
        assert_eq!(config.runtimes["runc"].arguments, ["--debug"]);
        assert_eq!(config.runtimes["typed"].path, PathBuf::from("/opt/runc"));
        for name in ["wharf", "runc", "crun", "io.containerd.runc.v2"] {
            assert!(config.knows_runtime(name), "{name}");
        }
        assert!(!config.knows_runtime("kata"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (runtimes, words) in [
            (
                r#"{"x":{}}"#,
                "runtime x: either a runtimeType or a path must be configured",
            ),
            (
                r#"{"x":{"path":"a","runtimeType":"b"}}"#,
                "runtime x: cannot configure both path and runtimeType for the same runtime",
            ),
            (
                r#"{"x":{"path":"a","options":{"A":1}}}"#,
                "runtime x: options cannot be used with a path runtime",
            ),
            (
                r#"{"x":{"runtimeType":"io.containerd.kata.v2"}}"#,
                "runtime x: runtimeType io.containerd.kata.v2 is not supported by this version of Wharf",
            ),
            (
                r#"{"x":{"runtimeType":"io.containerd.runc.v2","options":{"NoPivotRoot":true}}}"#,
                "runtime x: option NoPivotRoot is not supported by this version of Wharf",
            ),
            (
                r#"{"wharf":{"path":"a"}}"#,
                "runtime name 'wharf' is reserved",
            ),
        ] {
            assert_eq!(config(runtimes).unwrap_err().to_string(), words);
        }
    }
}
