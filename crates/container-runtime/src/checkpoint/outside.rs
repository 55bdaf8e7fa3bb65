//! What of a container lies outside it: streams, network namespace and mounts that a checkpoint
//! names and a restore replaces.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CheckpointOptions;

/// The file beside CRIU's images that tells what to replace.
const FILE: &str = "wharf.json";

/// Under this name CRIU is handed the network namespace.
pub(super) const NETWORK: &str = "extRootNetNS";

/// What a checkpoint left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outside {
    /// How the checkpoint was made; a restore has to be told the same.
    pub(super) options: CheckpointOptions,
    /// CRIU's names of descriptors 0 to 2.
    pub(super) streams: Vec<String>,
    /// The network namespace is the engine's.
    #[serde(default)]
    pub(super) network: bool,
    /// Mounts of the host's file systems.
    #[serde(default)]
    pub(super) mounts: Vec<OutsideMount>,
}

/// A mount of something of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutsideMount {
    /// Where, in the container.
    pub(super) destination: PathBuf,
    /// What it was on the host.
    pub(super) source: PathBuf,
    /// It shows the container's cgroup.
    #[serde(default)]
    pub(super) cgroup: bool,
}

impl Outside {
    /// Looks at the container whose first process is `pid`. Returns, too, how CRIU is told that
    /// these things are not the container's.
    pub(super) fn look(pid: i32, options: &CheckpointOptions) -> io::Result<(Self, Vec<String>)> {
        let mut told = Vec::new();
        let theirs = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let ours = std::fs::read_to_string("/proc/self/mountinfo")?;
        let inside: HashSet<&str> = theirs
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let mut streams = Vec::new();
        for number in 0..3 {
            let (name, is_file) = stream(pid, number, &inside)?;
            if is_file && !told.contains(&name) {
                told.push(name.clone());
            }
            streams.push(name);
        }
        let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
        let network = namespace(&pid.to_string())?;
        let is_outside =
            network != namespace("self")? && !options.empty_network && !options.own_network;
        if is_outside {
            told.push(format!(
                "{}:{NETWORK}",
                network.display().to_string().replace("net:", "net")
            ));
        }
        let mounts = outside_mounts(&theirs, &ours);
        told.extend(mounts.iter().map(|mount| {
            let destination = mount.destination.display();
            format!("mnt[{destination}]:{destination}")
        }));
        let outside = Self {
            options: options.clone(),
            streams,
            network: is_outside,
            mounts,
        };
        Ok((outside, told))
    }

    pub(super) fn write(&self, images: &Path) -> io::Result<()> {
        std::fs::write(images.join(FILE), serde_json::to_vec(self)?)
    }

    pub(super) fn read(images: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(images.join(FILE))?)?)
    }
}

/// CRIU's name of a descriptor, and whether it must be told that it is a file of others.
fn stream(pid: i32, number: u32, inside: &HashSet<&str>) -> io::Result<(String, bool)> {
    let path = format!("/proc/{pid}/fd/{number}");
    let name = std::fs::read_link(&path)?.display().to_string();
    if name.starts_with("pipe:") || name.starts_with("socket:") {
        return Ok((name, false));
    }
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
    let mount = info
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .map(str::trim)
        .unwrap_or_default();
    if inside.contains(mount) {
        return Ok((name, false));
    }
    let mount: u64 = mount.parse().map_err(io::Error::other)?;
    use std::os::unix::fs::MetadataExt as _;
    let inode = std::fs::metadata(&path)?.ino();
    Ok((format!("file[{mount:x}:{inode:x}]"), true))
}

/// A line of `mountinfo`.
struct MountLine {
    device: String,
    root: PathBuf,
    place: PathBuf,
    kind: String,
}

impl MountLine {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let (device, root, place) = (fields.nth(2)?, fields.next()?, fields.next()?);
        let kind = line.split(" - ").nth(1)?.split(' ').next()?;
        Some(Self {
            device: device.to_owned(),
            root: unescape(root),
            place: unescape(place),
            kind: kind.to_owned(),
        })
    }
}

/// Those of a container's mounts whose file system the host has mounted, too.
fn outside_mounts(theirs: &str, ours: &str) -> Vec<OutsideMount> {
    let host: Vec<MountLine> = ours.lines().filter_map(MountLine::parse).collect();
    let mounts = theirs.lines().filter_map(MountLine::parse);
    mounts
        .filter(|mount| mount.place != Path::new("/"))
        .filter_map(|mount| {
            // The deepest part of the file system that shows it.
            let shown = host
                .iter()
                .filter(|place| place.device == mount.device)
                .filter_map(|place| Some((place, mount.root.strip_prefix(&place.root).ok()?)))
                .max_by_key(|(place, _)| place.root.as_os_str().len())?;
            let (place, below) = shown;
            let source = if below.as_os_str().is_empty() {
                place.place.clone()
            } else {
                place.place.join(below)
            };
            Some(OutsideMount {
                destination: mount.place,
                source,
                cgroup: mount.kind.starts_with("cgroup"),
            })
        })
        .collect()
}

/// `\040` and the like, as the kernel writes spaces in paths.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_host_are_told_from_the_containers_own() {
        let theirs = "\
139 145 254:0 /run/x/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw
142 145 254:0 /srv/a\\040b/_data /vol rw,relatime - ext4 /dev/vda rw
145 84 0:57 / / rw,relatime - overlay none rw
146 145 0:59 / /proc rw - proc proc rw
147 145 0:60 / /dev rw,nosuid - tmpfs tmpfs rw
165 152 0:32 /wharf/id /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
174 146 0:6 /null /proc/keys rw - devtmpfs devtmpfs rw
";
        let ours = "\
20 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
21 20 254:0 /srv /mnt rw,relatime - ext4 /dev/vda rw
22 20 0:6 / /dev rw - devtmpfs devtmpfs rw
23 20 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
24 20 0:57 / /elsewhere rw - overlay none rw
";
        let found: Vec<(String, String, bool)> = outside_mounts(theirs, ours)
            .into_iter()
            .map(|mount| {
                (
                    mount.destination.display().to_string(),
                    mount.source.display().to_string(),
                    mount.cgroup,
                )
            })
            .collect();
        let expected = [
            ("/etc/hosts", "/run/x/hosts", false),
            ("/vol", "/mnt/a b/_data", false),
            (
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/memory/wharf/id",
                true,
            ),
            ("/proc/keys", "/dev/null", false),
        ]
        .map(|(to, from, cgroup)| (to.to_owned(), from.to_owned(), cgroup));
        assert_eq!(found, expected);
    }
}
