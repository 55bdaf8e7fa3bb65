//! `--mount`: `type=bind,src=/a,dst=/b,ro`, one comma separated line of keys.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{bind, csv, size};
use crate::matches::parse_bool;

/// Parses one `--mount` into an element of `HostConfig.Mounts`; `directory` is what a source like
/// `./data` is relative to.
pub fn parse(text: &str, directory: &Path) -> Result<Value, String> {
    let fields = csv::fields(text)?;
    if fields.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    for field in &fields {
        mount.field(field, directory)?;
    }
    mount.finish()
}

/// The mount as far as it was read.
#[derive(Debug, Default)]
struct Mount {
    kind: String,
    source: String,
    target: String,
    consistency: String,
    read_only: bool,
    bind: Map<String, Value>,
    volume: Map<String, Value>,
    tmpfs: Map<String, Value>,
    image: Map<String, Value>,
}

impl Mount {
    fn field(&mut self, field: &str, directory: &Path) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), value),
            None => {
                let key = field.to_lowercase();
                return match key.as_str() {
                    "readonly" | "ro" => {
                        self.read_only = true;
                        Ok(())
                    }
                    "volume-nocopy" => {
                        self.volume.insert("NoCopy".to_owned(), json!(true));
                        Ok(())
                    }
                    "bind-nonrecursive" => {
                        self.bind.insert("NonRecursive".to_owned(), json!(true));
                        Ok(())
                    }
                    "idmap" => {
                        self.bind.insert("IDMap".to_owned(), json!("container"));
                        Ok(())
                    }
                    _ => Err(format!("invalid field '{field}' must be a key=value pair")),
                };
            }
        };
        let invalid = || format!("invalid value for {key}: {value}");
        let flag = || parse_bool(value).map_err(|_| invalid());
        match key.as_str() {
            "type" => self.kind = value.to_lowercase(),
            "source" | "src" => self.source = bind::absolute(value, directory),
            "target" | "dst" | "destination" => self.target = value.to_owned(),
            "readonly" | "ro" => self.read_only = flag()?,
            "consistency" => self.consistency = value.to_lowercase(),
            "bind-propagation" => drop(
                self.bind
                    .insert("Propagation".to_owned(), json!(value.to_lowercase())),
            ),
            "bind-nonrecursive" => {
                drop(self.bind.insert("NonRecursive".to_owned(), json!(flag()?)))
            }
            "bind-recursive" => match value {
                // Recursively read-only as far as the kernel can: what the engine does anyway.
                "enabled" => {}
                "disabled" => drop(self.bind.insert("NonRecursive".to_owned(), json!(true))),
                "writable" => drop(
                    self.bind
                        .insert("ReadOnlyNonRecursive".to_owned(), json!(true)),
                ),
                "readonly" => drop(
                    self.bind
                        .insert("ReadOnlyForceRecursive".to_owned(), json!(true)),
                ),
                _ => {
                    return Err(format!(
                        "{} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
                        invalid()
                    ));
                }
            },
            "idmap" => {
                // Several ranges and both halves are in one value, as in Podman.
                self.bind.insert("IDMap".to_owned(), json!(value));
            }
            "volume-subpath" => drop(self.volume.insert("Subpath".to_owned(), json!(value))),
            "volume-nocopy" => drop(self.volume.insert("NoCopy".to_owned(), json!(flag()?))),
            "volume-label" => insert_pair(object(&mut self.volume, "Labels"), value),
            "volume-driver" => drop(
                object(&mut self.volume, "DriverConfig").insert("Name".to_owned(), json!(value)),
            ),
            "volume-opt" => insert_pair(
                object(object(&mut self.volume, "DriverConfig"), "Options"),
                value,
            ),
            "image-subpath" => drop(self.image.insert("Subpath".to_owned(), json!(value))),
            "tmpfs-size" => {
                let bytes = size::parse(value).map_err(|_| invalid())?;
                self.tmpfs.insert("SizeBytes".to_owned(), json!(bytes));
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).map_err(|_| invalid())?;
                self.tmpfs.insert("Mode".to_owned(), json!(mode));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Value, String> {
        if self.kind.is_empty() {
            return Err("type is required".to_owned());
        }
        if self.target.is_empty() {
            return Err("target is required".to_owned());
        }
        for (options, kind) in [
            (&self.volume, "volume"),
            (&self.bind, "bind"),
            (&self.tmpfs, "tmpfs"),
            (&self.image, "image"),
        ] {
            if !options.is_empty() && self.kind != kind {
                return Err(format!(
                    "cannot mix '{kind}-*' options with mount type '{}'",
                    self.kind
                ));
            }
        }
        let on = |key: &str| self.bind.contains_key(key);
        if on("ReadOnlyNonRecursive") && !self.read_only {
            return Err("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".to_owned());
        }
        if on("ReadOnlyForceRecursive") {
            if !self.read_only {
                return Err("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".to_owned());
            }
            if self.bind.get("Propagation") != Some(&json!("rprivate")) {
                return Err(
                    "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                        .to_owned(),
                );
            }
        }
        let mut out = Map::new();
        out.insert("Type".to_owned(), json!(self.kind));
        for (key, value) in [
            ("Source", &self.source),
            ("Target", &self.target),
            ("Consistency", &self.consistency),
        ] {
            if !value.is_empty() {
                out.insert(key.to_owned(), json!(value));
            }
        }
        if self.read_only {
            out.insert("ReadOnly".to_owned(), json!(true));
        }
        for (key, options) in [
            ("BindOptions", &mut self.bind),
            ("VolumeOptions", &mut self.volume),
            ("TmpfsOptions", &mut self.tmpfs),
            ("ImageOptions", &mut self.image),
        ] {
            if !options.is_empty() {
                out.insert(key.to_owned(), Value::Object(std::mem::take(options)));
            }
        }
        Ok(Value::Object(out))
    }
}

fn object<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    match map.entry(key).or_insert_with(|| Value::Object(Map::new())) {
        Value::Object(inner) => inner,
        _ => unreachable!("only objects are stored under `{key}`"),
    }
}

fn insert_pair(map: &mut Map<String, Value>, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    map.insert(key.to_owned(), json!(value));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(text: &str) -> Result<Value, String> {
        parse(text, Path::new("/work"))
    }

    #[test]
    fn known_mounts_are_read() {
        assert_eq!(
            run("type=bind,src=./a,dst=/c,ro").unwrap(),
            json!({"Type":"bind","Source":"/work/a","Target":"/c","ReadOnly":true})
        );
        assert_eq!(
            run("dst=/v,volume-opt=a=b,volume-nocopy,\"volume-label=x=1,2\"").unwrap(),
            json!({"Type":"volume","Target":"/v","VolumeOptions":{"DriverConfig":{"Options":{"a":"b"}},"NoCopy":true,"Labels":{"x":"1,2"}}})
        );
        assert_eq!(
            run("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777").unwrap(),
            json!({"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1_048_576,"Mode":1023}})
        );
    }

    #[test]
    fn binds_may_map_ids() {
        for (field, map) in [
            ("idmap", "container"),
            (
                "idmap=uids=0-1000-10#10-11-1;gids=0-1-1",
                "uids=0-1000-10#10-11-1;gids=0-1-1",
            ),
        ] {
            assert_eq!(
                run(&format!("type=bind,src=/a,dst=/b,{field}")).unwrap(),
                json!({"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"IDMap":map}})
            );
        }
        assert_eq!(
            run("type=volume,src=a,dst=/b,idmap"),
            Err("cannot mix 'bind-*' options with mount type 'volume'".to_owned())
        );
    }

    #[test]
    fn wrong_mounts_name_what_is_wrong() {
        for (text, message) in [
            (
                "type=bind,foo",
                "invalid field 'foo' must be a key=value pair",
            ),
            ("type=bind,foo=1,dst=/x", "unexpected key 'foo' in 'foo=1'"),
            ("type=bind,src=/x", "target is required"),
            (
                "type=bind,dst=/x,tmpfs-size=1",
                "cannot mix 'tmpfs-*' options with mount type 'bind'",
            ),
            ("dst=/x,readonly=maybe", "invalid value for readonly: maybe"),
            (
                "type=tmpfs,dst=/x,tmpfs-mode=9",
                "invalid value for tmpfs-mode: 9",
            ),
        ] {
            assert_eq!(run(text), Err(message.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(type=|dst=|,|=|\"|bind-recursive=|[a-z0-9/]){0,20}") {
            let _ = run(&text);
        }
    }
}
