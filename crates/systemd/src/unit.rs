//! Names of units: `slice:prefix:name` as the OCI document has it, and where the cgroup is.

/// Longest name systemd takes.
const NAME_MAX: usize = 255;

/// A container's unit, out of `cgroupsPath`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The slice it is in, `system.slice`.
    pub slice: String,
    /// The unit's own name, `docker-0123.scope`.
    pub unit: String,
}

impl Scope {
    /// Reads `slice:prefix:name`. An absent slice is `default_slice`.
    pub fn parse(path: &str, default_slice: &str) -> Result<Self, String> {
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
            ));
        };
        let slice = if slice.is_empty() {
            default_slice
        } else {
            slice
        };
        let unit = match (prefix, name) {
            (_, name) if name.ends_with(".slice") => name.to_owned(),
            ("", name) => format!("{name}.scope"),
            (prefix, name) => format!("{prefix}-{name}.scope"),
        };
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        if name.is_empty() || unit.len() > NAME_MAX || !unit.bytes().all(known) {
            return Err(format!("{unit:?} is no name for a systemd unit"));
        }
        // Only to see whether it is one.
        expand_slice(slice)?;
        Ok(Self {
            slice: slice.to_owned(),
            unit,
        })
    }

    /// Where its cgroup is, from systemd's own top.
    pub fn path(&self) -> String {
        let slice = expand_slice(&self.slice).unwrap_or_default();
        format!("{slice}/{}", self.unit)
    }

    /// Whether it is a slice instead of a scope: without processes of its own.
    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }
}

/// `a-b.slice` is in `a.slice`: `/a.slice/a-b.slice`. The root slice is `-.slice`.
fn expand_slice(slice: &str) -> Result<String, String> {
    let invalid = || format!("{slice:?} is no name for a systemd slice");
    let name = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if name == "-" {
        return Ok(String::new());
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if slice.len() > NAME_MAX || !name.bytes().all(known) {
        return Err(invalid());
    }
    let mut path = String::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return Err(invalid());
        }
        prefix.push_str(part);
        path.push_str(&format!("/{prefix}.slice"));
        prefix.push('-');
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_systemds() {
        let path = |text: &str| Scope::parse(text, "system.slice").map(|scope| scope.path());
        assert_eq!(
            path("a-b.slice:docker:0123").unwrap(),
            "/a.slice/a-b.slice/docker-0123.scope"
        );
        assert_eq!(path(":runc:x").unwrap(), "/system.slice/runc-x.scope");
        assert_eq!(path("-.slice::x").unwrap(), "/x.scope");
        assert_eq!(
            path("kube.slice::kube-pod.slice").unwrap(),
            "/kube.slice/kube-pod.slice"
        );
        for wrong in [
            "/docker/x",
            "a:b",
            "a:b:c:d",
            "system.slice:x:",
            "a--b.slice:x:y",
            "-a.slice:x:y",
            "system:x:y",
            "a/b.slice:x:y",
            "system.slice:x:../y",
        ] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_hierarchy(text in "[a-z/.:-]{0,30}|.{0,30}") {
            if let Ok(scope) = Scope::parse(&text, "system.slice") {
                let path = scope.path();
                prop_assert!(path.starts_with('/') && !path.split('/').any(|part| part == ".."));
            }
        }
    }
}
