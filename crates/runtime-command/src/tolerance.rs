//! What a document may say that the library, and with it the engine, refuse: paths that begin at the bundle or
//! the root, and what has no effect. Other runtimes have always taken it, so documents say it. Here paths are
//! completed; what has no effect is left out and told in the log.

use std::path::Path;

use wharf_container_runtime::{host_has_selinux, mount_plan};
use wharf_oci::runtime::{Capabilities as Sets, IdMapping, Spec};
use wharf_sys::capability::Capabilities;

use crate::error::{Error, Result};

/// Completes paths: a bind's source begins at the bundle, a destination at the root.
pub(crate) fn complete_paths(spec: &mut Spec, bundle: &Path) {
    for mount in &mut spec.mounts {
        if is_bind(mount)
            && let Some(source) = mount.source.as_mut().filter(|source| !source.is_empty())
            && !source.starts_with('/')
            && let Some(absolute) = bundle.join(source.as_str()).to_str()
        {
            *source = absolute.to_owned();
        }
        if !mount.destination.is_empty() && !mount.destination.starts_with('/') {
            mount.destination.insert(0, '/');
        }
    }
}

/// Puts mappings in place of Podman's `idmap=uids=DISK-HOST-SIZE#…;gids=…`, so that files belong to who they
/// should.
pub(crate) fn understand_maps(spec: &mut Spec) -> Result<()> {
    for mount in &mut spec.mounts {
        let Some(at) = mount
            .options
            .iter()
            .position(|option| option.starts_with("idmap=") || option.starts_with("ridmap="))
        else {
            continue;
        };
        let option = mount.options[at].clone();
        let (word, maps) = option.split_once('=').unwrap_or((&option, ""));
        for part in maps.split(';') {
            let target = match part.split_once('=') {
                Some(("uids", _)) => &mut mount.uid_mappings,
                Some(("gids", _)) => &mut mount.gid_mappings,
                _ => return Err(not_a_map(&option)),
            };
            for run in part.split_once('=').map_or("", |(_, runs)| runs).split('#') {
                target.push(id_run(run).ok_or_else(|| not_a_map(&option))?);
            }
        }
        mount.options[at] = word.to_owned();
    }
    Ok(())
}

fn not_a_map(option: &str) -> Error {
    Error::Refused(format!(
        "mount option {option:?}: idmap=uids=DISK-HOST-SIZE;gids=DISK-HOST-SIZE expected, with more runs after a #"
    ))
}

fn id_run(text: &str) -> Option<IdMapping> {
    let mut numbers = text.split('-').map(|number| number.parse::<u32>().ok());
    let run = IdMapping {
        container_id: numbers.next()??,
        host_id: numbers.next()??,
        size: numbers.next()??,
    };
    numbers.next().is_none().then_some(run)
}

fn is_bind(mount: &wharf_oci::runtime::Mount) -> bool {
    let mut options = mount.options.iter();
    mount.kind.as_deref() == Some("bind") || options.any(|word| word == "bind" || word == "rbind")
}

/// Takes out names of capabilities that this version does not know, which newer engines may list; the
/// specification wants a warning. Returns them.
pub(crate) fn leave_out_capabilities(sets: &mut Sets) -> Vec<String> {
    let mut unknown = Vec::new();
    for set in [
        &mut sets.bounding,
        &mut sets.effective,
        &mut sets.permitted,
        &mut sets.inheritable,
        &mut sets.ambient,
    ] {
        set.retain(|name| {
            let known = Capabilities::named(name).is_some();
            if !known && !unknown.contains(name) {
                unknown.push(name.clone());
            }
            known
        });
    }
    let say = |name| format!("unknown capability {name:?}: ignored");
    unknown.into_iter().map(say).collect()
}

/// Leaves out of `spec` what has no effect. Returns what that was.
pub(crate) fn leave_out(spec: &mut Spec) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(sets) = spec
        .process
        .as_mut()
        .and_then(|process| process.capabilities.as_mut())
    {
        told.extend(leave_out_capabilities(sets));
    }
    if let Some(resources) = spec
        .linux
        .as_mut()
        .and_then(|linux| linux.resources.as_mut())
    {
        if is_before_1_3(&spec.oci_version) {
            resources.pids = resources.pids.filter(|pids| pids.limit != Some(0));
        }
        if let Some(memory) = &mut resources.memory
            && memory.kernel.take().is_some_and(|limit| limit > 0)
        {
            told.push(
                "memory.kernel: the kernel offers no such limit any more: ignored".to_owned(),
            );
        }
    }
    for mount in &mut spec.mounts {
        if !is_bind(mount) {
            continue;
        }
        let destination = &mount.destination;
        mount.options.retain(|option| {
            let kept = !mount_plan::is_for_filesystem(option);
            if !kept {
                told.push(format!(
                    "mount option {option:?} has no meaning for a bind mount ({destination:?}): ignored"
                ));
            }
            kept
        });
    }
    let label = spec.linux.as_mut().map(|linux| &mut linux.mount_label);
    if let Some(label) = label
        && label.as_deref().is_some_and(|label| !label.is_empty())
        && !host_has_selinux()
    {
        *label = None;
        told.push("linux.mountLabel: SELinux is not enabled on this host: ignored".to_owned());
    }
    told
}

/// From version 1.3 on, a limit of no tasks is what it says, and a poststart hook that fails ends the container.
pub(crate) fn is_before_1_3(version: &str) -> bool {
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse::<u32>().ok());
    minor.is_some_and(|minor| minor < 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_where_they_should() {
        let mut spec: Spec = serde_json::from_str(
            r#"{"ociVersion": "1.3.0", "mounts": [
                {"destination": "a", "source": "x/y", "options": ["rbind"]},
                {"destination": "/b", "type": "bind", "source": "/x"},
                {"destination": "/c", "type": "tmpfs", "source": "tmpfs"}]}"#,
        )
        .unwrap();
        complete_paths(&mut spec, Path::new("/bundle"));
        let said: Vec<(&str, &str)> = spec
            .mounts
            .iter()
            .map(|mount| (mount.destination.as_str(), mount.source.as_deref().unwrap()))
            .collect();
        let expected = [("/a", "/bundle/x/y"), ("/b", "/x"), ("/c", "tmpfs")];
        assert_eq!(said, expected);
    }

    #[test]
    fn maps_in_options_are_understood() {
        let read = |option: &str| -> Result<Spec> {
            let text = format!(
                r#"{{"ociVersion": "1.3.0", "mounts": [{{"destination": "/a", "source": "/x", "options": ["bind", "{option}"]}}]}}"#
            );
            let mut spec: Spec = serde_json::from_str(&text).unwrap();
            understand_maps(&mut spec).map(|()| spec)
        };
        let spec = read("ridmap=uids=0-100000-10#20-7-1;gids=1-2-3").unwrap();
        let mount = &spec.mounts[0];
        assert_eq!(mount.options, ["bind", "ridmap"]);
        let numbers = |maps: &[IdMapping]| -> Vec<(u32, u32, u32)> {
            maps.iter()
                .map(|map| (map.container_id, map.host_id, map.size))
                .collect()
        };
        assert_eq!(numbers(&mount.uid_mappings), [(0, 100_000, 10), (20, 7, 1)]);
        assert_eq!(numbers(&mount.gid_mappings), [(1, 2, 3)]);
        for wrong in [
            "idmap=",
            "idmap=uids=@0-1-2",
            "idmap=uids=0-1",
            "idmap=x=0-1-2",
            "idmap=uids=0-1-2-3",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(read("idmap").unwrap().mounts[0].options, ["bind", "idmap"]);
    }

    #[test]
    fn unknown_capabilities_and_no_limits_are_left_out() {
        let text = |version: &str| {
            format!(
                r#"{{"ociVersion": "{version}", "process": {{"cwd": "/", "capabilities":
                    {{"bounding": ["CAP_CHOWN", "CAP_FOO"], "effective": ["CAP_FOO"]}}}},
                    "linux": {{"resources": {{"pids": {{"limit": 0}}, "memory": {{"kernel": 5}}}}}}}}"#
            )
        };
        for (version, limit) in [("1.0.2", None), ("1.3.0", Some(0))] {
            let mut spec: Spec = serde_json::from_str(&text(version)).unwrap();
            assert_eq!(leave_out(&mut spec).len(), 2);
            let sets = spec.process.unwrap().capabilities.unwrap();
            assert_eq!((sets.bounding.len(), sets.effective.len()), (1, 0));
            let resources = spec.linux.unwrap().resources.unwrap();
            assert_eq!(resources.pids.and_then(|pids| pids.limit), limit);
            assert_eq!(resources.memory.unwrap().kernel, None);
        }
    }

    #[test]
    fn only_what_has_no_effect_is_left_out() {
        let mut spec: Spec = serde_json::from_str(
            r#"{"ociVersion": "1.3.0", "mounts": [
                {"destination": "/a", "type": "bind", "source": "/x", "options": ["ro", "mode=755", "rslave"]},
                {"destination": "/b", "source": "/x", "options": ["rbind", "size=1k", "nosuid"]},
                {"destination": "/c", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}]}"#,
        )
        .unwrap();
        let told = leave_out(&mut spec);
        assert_eq!(told.len(), 2);
        assert_eq!(
            told[0],
            "mount option \"mode=755\" has no meaning for a bind mount (\"/a\"): ignored"
        );
        let left: Vec<String> = spec
            .mounts
            .iter()
            .map(|mount| mount.options.join(" "))
            .collect();
        assert_eq!(left, ["ro rslave", "rbind nosuid", "mode=755"]);
    }
}
