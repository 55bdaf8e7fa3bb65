//! Mounts of a container: from `-v`, `--mount`, `--volumes-from` and the image, to one list.
//!
//! Parsing and merging are pure; [`super::create`] then makes the volumes the list names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_api_types::container::{Empty, HostConfig};
use wharf_api_types::mount::{Mount, MountPoint};
use wharf_fault::{Error, Result};

use crate::user_namespaces::MountMap;

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute path.
        path: String,
        /// Make a directory there when nothing is (`-v`, not `--mount`).
        create: bool,
        /// Without the mounts below it.
        non_recursive: bool,
    },
    /// A volume.
    Volume {
        /// Its name; empty until an anonymous one is made.
        name: String,
        /// Driver of a new one.
        driver: String,
        /// Driver options of a new one.
        #[serde(default)]
        options: BTreeMap<String, String>,
        /// Labels of a new one.
        #[serde(default)]
        labels: BTreeMap<String, String>,
        /// Only this folder of it.
        #[serde(default)]
        subpath: String,
        /// Fill it from the image while it is empty.
        copy: bool,
    },
    /// Memory.
    Tmpfs {
        /// Options of the mount, `size=…` and the like.
        options: Vec<String>,
    },
}

/// How far read-only reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadOnlyReach {
    /// Mounts below too where the kernel can.
    #[default]
    Recursive,
    /// Only the mount itself.
    NonRecursive,
    /// Mounts below too, or fail.
    ForceRecursive,
}

/// One mount of a container, as kept in its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// Absolute, clean path in the container.
    pub destination: String,
    /// What is mounted.
    pub source: MountSource,
    /// Writable.
    pub rw: bool,
    /// How far read-only reaches.
    #[serde(default)]
    pub read_only_reach: ReadOnlyReach,
    /// Mode as inspect shows it.
    pub mode: String,
    /// `rprivate` and the like; empty for volumes and tmpfs.
    pub propagation: String,
    /// The volume was made for this container alone: `rm -v` takes it along.
    #[serde(default)]
    pub anonymous: bool,
    /// What follows `idmap=`; empty for the container's own mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_map: Option<String>,
}

impl MountRecord {
    /// Name of the mounted volume.
    pub fn volume(&self) -> Option<&str> {
        match &self.source {
            MountSource::Volume { name, .. } => Some(name),
            _ => None,
        }
    }

    /// As `inspect` lists it; `volume_path` answers where a volume's data lies.
    pub fn to_wire(&self, volume_path: impl Fn(&str) -> String) -> MountPoint {
        let mut point = MountPoint {
            destination: self.destination.clone(),
            mode: self.mode.clone(),
            rw: self.rw,
            propagation: self.propagation.clone(),
            ..MountPoint::default()
        };
        match &self.source {
            MountSource::Bind { path, .. } => {
                point.r#type = "bind".to_owned();
                point.source.clone_from(path);
            }
            MountSource::Volume { name, driver, .. } => {
                point.r#type = "volume".to_owned();
                point.name.clone_from(name);
                point.driver.clone_from(driver);
                point.source = volume_path(name);
            }
            MountSource::Tmpfs { .. } => point.r#type = "tmpfs".to_owned(),
        }
        point
    }
}

/// What a `-v` mode says.
#[derive(Debug, Default)]
struct Mode {
    read_only: bool,
    propagation: String,
    no_copy: bool,
    id_map: Option<String>,
}

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

fn parse_mode(text: &str) -> Option<Mode> {
    let mut mode = Mode::default();
    let (mut access, mut label, mut propagation, mut copy, mut consistency) = (0, 0, 0, 0, 0);
    let mut mapping = 0;
    for word in text.split(',') {
        match word {
            "ro" | "rw" => {
                access += 1;
                mode.read_only = word == "ro";
            }
            "z" | "Z" => label += 1,
            "nocopy" => {
                copy += 1;
                mode.no_copy = true;
            }
            "consistent" | "cached" | "delegated" | "default" => consistency += 1,
            word if PROPAGATIONS.contains(&word) => {
                propagation += 1;
                mode.propagation = word.to_owned();
            }
            _ => {
                mapping += 1;
                mode.id_map = Some(id_map_word(word)?.to_owned());
            }
        }
    }
    [access, label, propagation, copy, consistency, mapping]
        .iter()
        .all(|count| *count <= 1)
        .then_some(mode)
}

/// What `idmap[=…]` asks for.
fn id_map_word(word: &str) -> Option<&str> {
    match word.strip_prefix("idmap")? {
        "" => Some(""),
        rest => rest.strip_prefix('=').filter(|map| !map.is_empty()),
    }
}

/// Parses `source:destination[:mode]` or `destination` (`HostConfig.Binds`).
pub(super) fn parse_bind(spec: &str, volume_driver: &str) -> Result<MountRecord> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{spec}'"));
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, destination, mode_text) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] if parse_mode(destination).is_none() => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(invalid()),
    };
    if destination.is_empty() || (source.is_empty() && parts.len() > 1) {
        return Err(invalid());
    }
    let mode = if mode_text.is_empty() {
        Mode::default()
    } else {
        parse_mode(mode_text).ok_or_else(|| Error::invalid(format!("invalid mode: {mode_text}")))?
    };
    let is_bind = source.starts_with('/');
    let kind = if is_bind { "bind" } else { "volume" };
    let context = |why: String| {
        Error::invalid(format!(
            "invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": {why}"
        ))
    };
    let destination = clean_destination(destination).map_err(context)?;
    if !is_bind && !mode.propagation.is_empty() {
        return Err(Error::invalid(format!("invalid mode: {mode_text}")));
    }
    if is_bind && mode.no_copy {
        return Err(Error::invalid(format!("invalid mode: {mode_text}")));
    }
    if let Some(map) = &mode.id_map {
        MountMap::parse(map).map_err(context)?;
    }
    let id_map = mode.id_map.clone();
    let (source, propagation, mode_text, anonymous) = if is_bind {
        let path = clean(source);
        let propagation = if mode.propagation.is_empty() {
            "rprivate".to_owned()
        } else {
            mode.propagation
        };
        (
            MountSource::Bind {
                path,
                create: true,
                non_recursive: false,
            },
            propagation,
            mode_text.to_owned(),
            false,
        )
    } else {
        if !source.is_empty() {
            wharf_ids::validate_volume_name(source)
                .map_err(|error| Error::invalid(format!("create {source}: {error}")))?;
        }
        let driver = if volume_driver.is_empty() {
            "local"
        } else {
            volume_driver
        };
        let volume = MountSource::Volume {
            name: source.to_owned(),
            driver: driver.to_owned(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            subpath: String::new(),
            copy: !mode.no_copy,
        };
        let shown = if mode_text.is_empty() { "z" } else { mode_text };
        (volume, String::new(), shown.to_owned(), source.is_empty())
    };
    Ok(MountRecord {
        destination,
        source,
        rw: !mode.read_only,
        read_only_reach: ReadOnlyReach::default(),
        mode: mode_text,
        propagation,
        anonymous,
        id_map,
    })
}

/// Checks one `--mount` and turns it into a record. `source_exists` tells whether a host path does.
pub(super) fn from_wire(
    mount: &Mount,
    source_exists: impl Fn(&str) -> bool,
) -> Result<MountRecord> {
    let kind = mount.r#type.as_str();
    let invalid =
        |why: String| Error::invalid(format!("invalid mount config for type \"{kind}\": {why}"));
    let extraneous = |what: &str| invalid(format!("{what} must not be specified"));
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty".to_owned()));
    }
    let destination = clean_destination(&mount.target).map_err(invalid)?;
    if kind != "bind" && mount.bind_options.is_some() {
        return Err(extraneous("field BindOptions"));
    }
    if kind != "volume" && mount.volume_options.is_some() {
        return Err(extraneous("field VolumeOptions"));
    }
    if kind != "tmpfs" && mount.tmpfs_options.is_some() {
        return Err(extraneous("field TmpfsOptions"));
    }
    let mut record = MountRecord {
        destination,
        source: MountSource::Tmpfs {
            options: Vec::new(),
        },
        rw: !mount.read_only,
        read_only_reach: ReadOnlyReach::default(),
        mode: String::new(),
        propagation: String::new(),
        anonymous: false,
        id_map: None,
    };
    match kind {
        "bind" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty".to_owned()));
            }
            if !mount.source.starts_with('/') {
                return Err(invalid(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            if !options.propagation.is_empty()
                && !PROPAGATIONS.contains(&options.propagation.as_str())
            {
                return Err(invalid(format!(
                    "invalid propagation mode: {}",
                    options.propagation
                )));
            }
            if options.read_only_force_recursive && options.read_only_non_recursive {
                return Err(invalid("ReadOnlyForceRecursive and ReadOnlyNonRecursive cannot be set at the same time".to_owned()));
            }
            if options.read_only_force_recursive && !mount.read_only {
                return Err(invalid(
                    "mode must be `ro` or `rro` with ReadOnlyForceRecursive".to_owned(),
                ));
            }
            if !options.create_mountpoint && !source_exists(&mount.source) {
                return Err(invalid(format!(
                    "bind source path does not exist: {}",
                    mount.source
                )));
            }
            if !options.id_map.is_empty() {
                let map = match options.id_map.as_str() {
                    "container" => "",
                    map => map,
                };
                MountMap::parse(map).map_err(invalid)?;
                record.id_map = Some(map.to_owned());
            }
            record.read_only_reach = match (
                options.read_only_non_recursive,
                options.read_only_force_recursive,
            ) {
                (true, _) => ReadOnlyReach::NonRecursive,
                (_, true) => ReadOnlyReach::ForceRecursive,
                _ => ReadOnlyReach::Recursive,
            };
            record.propagation = if options.propagation.is_empty() {
                "rprivate".to_owned()
            } else {
                options.propagation
            };
            record.source = MountSource::Bind {
                path: clean(&mount.source),
                create: options.create_mountpoint,
                non_recursive: options.non_recursive,
            };
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            if !mount.source.is_empty() {
                wharf_ids::validate_volume_name(&mount.source)
                    .map_err(|error| invalid(error.to_string()))?;
            }
            if !options.subpath.is_empty() && !is_local_path(&options.subpath) {
                return Err(invalid(format!(
                    "subpath must be a relative path within the volume: {}",
                    options.subpath
                )));
            }
            let driver = options.driver_config.unwrap_or_default();
            record.mode = "z".to_owned();
            record.anonymous = mount.source.is_empty();
            record.source = MountSource::Volume {
                name: mount.source.clone(),
                driver: if driver.name.is_empty() {
                    "local".to_owned()
                } else {
                    driver.name
                },
                options: driver.options.unwrap_or_default(),
                labels: options.labels.unwrap_or_default(),
                copy: !options.no_copy && options.subpath.is_empty(),
                subpath: options.subpath,
            };
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(extraneous("field Source"));
            }
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            if options.size_bytes < 0 {
                return Err(invalid(format!(
                    "invalid tmpfs size: {}",
                    options.size_bytes
                )));
            }
            let mut words = Vec::new();
            if options.mode != 0 {
                words.push(format!("mode={:o}", options.mode & 0o7777));
            }
            if options.size_bytes > 0 {
                words.push(format!("size={}", options.size_bytes));
            }
            for option in options.options.unwrap_or_default() {
                match &option[..] {
                    [flag] => words.push(flag.clone()),
                    [key, value] => words.push(format!("{key}={value}")),
                    _ => return Err(invalid(format!("invalid option: {option:?}"))),
                }
            }
            for word in &words {
                check_tmpfs_option(word).map_err(invalid)?;
            }
            record.source = MountSource::Tmpfs { options: words };
        }
        "image" | "cluster" | "npipe" => {
            return Err(Error::not_implemented(format!(
                "mounts of type \"{kind}\" are not supported by this version of Wharf"
            )));
        }
        "" => return Err(Error::invalid("mount type unknown: \"\"")),
        other => return Err(Error::invalid(format!("mount type unknown: \"{other}\""))),
    }
    Ok(record)
}

/// Options of `--tmpfs` as a list, checked.
pub(super) fn tmpfs_options(destination: &str, options: &str) -> Result<(String, Vec<String>)> {
    let invalid =
        |why: String| Error::invalid(format!("invalid mount config for type \"tmpfs\": {why}"));
    let destination = clean_destination(destination).map_err(invalid)?;
    let words: Vec<String> = options
        .split(',')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    for word in &words {
        check_tmpfs_option(word)
            .map_err(|why| Error::invalid(format!("invalid tmpfs option: {why}")))?;
    }
    Ok((destination, words))
}

fn check_tmpfs_option(word: &str) -> std::result::Result<(), String> {
    const FLAGS: [&str; 31] = [
        "defaults",
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "remount",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "bind",
        "rbind",
        "unbindable",
        "runbindable",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "relatime",
        "norelatime",
    ];
    let known = match word.split_once('=') {
        Some((key, value)) => {
            matches!(
                key,
                "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol" | "size"
            ) && !value.is_empty()
        }
        None => FLAGS.contains(&word) || matches!(word, "strictatime" | "nostrictatime"),
    };
    if known {
        Ok(())
    } else {
        Err(format!("invalid tmpfs option [\"{word}\"]"))
    }
}

/// Merges all sources of mounts in Docker's order. `from` looks up the mounts of another container
/// for `--volumes-from`.
pub(super) fn merge(
    host: &HostConfig,
    image_and_config_volumes: &BTreeMap<String, Empty>,
    from: impl Fn(&str) -> Result<Vec<MountRecord>>,
    source_exists: impl Fn(&str) -> bool,
) -> Result<Vec<MountRecord>> {
    let mut mounts: BTreeMap<String, MountRecord> = BTreeMap::new();
    for spec in host.volumes_from.iter().flatten() {
        let (container, mode) = spec.split_once(':').unwrap_or((spec, "rw"));
        if container.is_empty() {
            return Err(Error::invalid(format!(
                "malformed volumes-from specification: {spec}"
            )));
        }
        let mode = parse_mode(mode)
            .ok_or_else(|| Error::invalid(format!("invalid mode for volumes-from: {mode}")))?;
        for mut mount in from(container)? {
            mount.rw &= !mode.read_only;
            mount.mode = String::new();
            mount.anonymous = false;
            if let MountSource::Volume { copy, .. } = &mut mount.source {
                *copy = false;
            }
            mounts.insert(mount.destination.clone(), mount);
        }
    }
    let mut tmpfs = Vec::new();
    for (destination, options) in host.tmpfs.iter().flatten() {
        tmpfs.push(tmpfs_options(destination, options)?.0);
    }
    let mut given = Vec::new();
    for spec in host.binds.iter().flatten() {
        given.push(parse_bind(spec, &host.volume_driver)?);
    }
    for mount in host.mounts.iter().flatten() {
        given.push(from_wire(mount, &source_exists)?);
    }
    let mut seen: Vec<String> = Vec::new();
    for mount in given {
        if seen.contains(&mount.destination) || tmpfs.contains(&mount.destination) {
            return Err(Error::invalid(format!(
                "Duplicate mount point: {}",
                mount.destination
            )));
        }
        seen.push(mount.destination.clone());
        mounts.insert(mount.destination.clone(), mount);
    }
    for destination in image_and_config_volumes.keys() {
        let destination = clean_destination(destination).map_err(|why| {
            Error::invalid(format!(
                "invalid volume specification: '{destination}': {why}"
            ))
        })?;
        if mounts.contains_key(&destination) || tmpfs.contains(&destination) {
            continue;
        }
        let driver = if host.volume_driver.is_empty() {
            "local"
        } else {
            &host.volume_driver
        };
        let source = MountSource::Volume {
            name: String::new(),
            driver: driver.to_owned(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            subpath: String::new(),
            copy: true,
        };
        let record = MountRecord {
            destination: destination.clone(),
            source,
            rw: true,
            read_only_reach: ReadOnlyReach::default(),
            mode: String::new(),
            propagation: String::new(),
            anonymous: true,
            id_map: None,
        };
        mounts.insert(destination, record);
    }
    Ok(mounts.into_values().collect())
}

/// An absolute path other than `/`, cleaned.
fn clean_destination(path: &str) -> std::result::Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        ));
    }
    if path.contains('\0') {
        return Err("invalid mount path: it contains a null byte".to_owned());
    }
    let clean = clean(path);
    if clean == "/" {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    Ok(clean)
}

/// Lexical cleaning of an absolute path, as Go's `path.Clean`.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn is_local_path(path: &str) -> bool {
    !path.starts_with('/') && !path.split('/').any(|part| part == "..") && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merged(host: &HostConfig, volumes: &[&str]) -> Result<Vec<MountRecord>> {
        let volumes = volumes
            .iter()
            .map(|path| ((*path).to_owned(), Empty {}))
            .collect();
        merge(
            host,
            &volumes,
            |name| Err(Error::not_found(format!("No such container: {name}"))),
            |_| true,
        )
    }

    #[test]
    fn binds_are_read_as_docker_reads_them() {
        let bind = parse_bind("/src/./a:/dst/:ro,rslave", "").unwrap();
        assert_eq!(bind.destination, "/dst");
        assert!(!bind.rw);
        assert_eq!(bind.propagation, "rslave");
        assert_eq!(bind.mode, "ro,rslave");
        assert!(
            matches!(bind.source, MountSource::Bind { ref path, create: true, .. } if path == "/src/a")
        );
        let volume = parse_bind("data:/var/lib/data", "").unwrap();
        assert_eq!(
            (volume.volume(), volume.mode.as_str(), volume.rw),
            (Some("data"), "z", true)
        );
        assert!(parse_bind("/data", "").unwrap().anonymous);
    }

    #[test]
    fn binds_may_map_ids() {
        let map = |spec: &str| parse_bind(spec, "").unwrap().id_map;
        assert_eq!(map("/a:/b"), None);
        assert_eq!(map("/a:/b:ro,idmap").as_deref(), Some(""));
        assert_eq!(map("data:/b:idmap").as_deref(), Some(""));
        assert_eq!(
            map("/a:/b:idmap=uids=0-1000-10#10-5-1;gids=0-100-1").as_deref(),
            Some("uids=0-1000-10#10-5-1;gids=0-100-1")
        );
        let given = parse_bind("/a:/b:idmap,ro", "").unwrap();
        assert!(!given.rw);
        assert_eq!(given.mode, "idmap,ro");
        let wire = |map: &str| {
            let json = serde_json::json!({"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"IDMap":map}});
            from_wire(&serde_json::from_value(json).unwrap(), |_| true).map(|mount| mount.id_map)
        };
        assert_eq!(wire("container").unwrap().as_deref(), Some(""));
        assert_eq!(wire("uids=0-1-1").unwrap().as_deref(), Some("uids=0-1-1"));
        assert_eq!(
            wire("yes").unwrap_err().to_string(),
            "invalid mount config for type \"bind\": invalid idmap option \"yes\": uids=DISK-HOST-SIZE#… or gids=… expected"
        );
    }

    #[test]
    fn wrong_binds_are_named() {
        for (spec, message) in [
            ("/a:/b:idmap,idmap", "invalid mode: idmap,idmap"),
            ("/a:/b:idmap=", "invalid mode: idmap="),
            (
                "/a:/b:idmap=uids=1-2",
                "invalid volume specification: '/a:/b:idmap=uids=1-2': invalid mount config for type \"bind\": invalid idmap range \"1-2\": DISK-HOST-SIZE expected",
            ),
            ("", "invalid volume specification: ''"),
            ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
            ("/a:/b:xx", "invalid mode: xx"),
            ("/a:ro", "invalid volume specification: '/a:ro'"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            (
                "/a:b",
                "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
            ),
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
        ] {
            assert_eq!(parse_bind(spec, "").unwrap_err().to_string(), message);
        }
        assert!(
            parse_bind("a/b:/c", "")
                .unwrap_err()
                .to_string()
                .contains("includes invalid characters")
        );
    }

    #[test]
    fn a_destination_is_taken_once() {
        let host = HostConfig {
            binds: Some(vec!["/a:/x".into(), "v1:/x/".into()]),
            ..HostConfig::default()
        };
        assert_eq!(
            merged(&host, &[]).unwrap_err().to_string(),
            "Duplicate mount point: /x"
        );
        let host = HostConfig {
            binds: Some(vec!["v1:/x".into()]),
            ..HostConfig::default()
        };
        let mounts = merged(&host, &["/x", "/y"]).unwrap();
        assert_eq!(mounts.len(), 2);
        assert!(!mounts[0].anonymous && mounts[1].anonymous);
    }

    #[test]
    fn mount_options_are_checked() {
        let mount = |json: serde_json::Value| {
            from_wire(&serde_json::from_value(json).unwrap(), |path| {
                path == "/here"
            })
        };
        let error =
            mount(serde_json::json!({"Type":"bind","Source":"/gone","Target":"/x"})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid mount config for type \"bind\": bind source path does not exist: /gone"
        );
        assert!(
            mount(
                serde_json::json!({"Type":"bind","Source":"/here","Target":"/x","ReadOnly":true})
            )
            .is_ok()
        );
        let tmpfs = mount(serde_json::json!({"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1024,"Mode":1023}})).unwrap();
        assert_eq!(
            tmpfs.source,
            MountSource::Tmpfs {
                options: vec!["mode=1777".into(), "size=1024".into()]
            }
        );
        assert!(
            mount(serde_json::json!({"Type":"image","Source":"x","Target":"/x"}))
                .unwrap_err()
                .to_string()
                .contains("\"image\"")
        );
        assert!(mount(serde_json::json!({"Type":"volume","Source":"v","Target":"x"})).is_err());
    }

    proptest! {
        #[test]
        fn no_bind_panics_and_destinations_are_clean(text in "[a-z/:.,~ ]{0,40}") {
            if let Ok(mount) = parse_bind(&text, "") {
                prop_assert!(mount.destination.starts_with('/') && mount.destination.len() > 1);
                prop_assert_eq!(clean(&mount.destination), mount.destination);
            }
        }

        #[test]
        fn any_text_is_a_bind_or_an_error(text in ".*") {
            drop(parse_bind(&text, ""));
            drop(tmpfs_options("/t", &text));
        }
    }
}
