//! `spec`: a document to begin with.

use std::process::ExitCode;

use wharf_oci::defaults;
use wharf_oci::runtime::{
    DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceKind, Process, Resources, Rlimit,
    Root, Spec,
};

use crate::error::{Error, Result};
use crate::flags::{Flags, option, switch};
use crate::runtime::{Command, Runtime};

pub(super) const COMMAND: Command = Command {
    name: "spec",
    words: "",
    count: (0, 0),
    help: "write a config.json to begin with",
    flags: &[
        option(
            &["bundle", "b"],
            "DIR",
            "where (default: the working directory)",
        ),
        switch(&["rootless"], "for a user other than root"),
    ],
    run,
    failure: 1,
    enters: false,
};

const FILE: &str = "config.json";

fn run(_: &Runtime, flags: &Flags) -> Result<ExitCode> {
    use std::io::Write as _;
    if let Some(bundle) = flags.get("bundle") {
        std::env::set_current_dir(bundle).map_err(Error::file("chdir", bundle))?;
    }
    let mut text = crate::pretty(&document(flags.is("rootless"))).map_err(Error::json(FILE))?;
    text.push('\n');
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(FILE);
    match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Refused(
            format!("file {FILE} exists. Remove it first"),
        )),
        other => other
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map(|()| ExitCode::SUCCESS)
            .map_err(Error::file("write", FILE)),
    }
}

/// A shell with the fewest capabilities, on a read-only root.
fn document(rootless: bool) -> Spec {
    let mut mounts = defaults::mounts();
    let mut namespaces = vec![
        NamespaceKind::Pid,
        NamespaceKind::Network,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Mount,
        NamespaceKind::Cgroup,
    ];
    let mut resources = Some(Resources {
        devices: vec![DeviceRule {
            allow: false,
            access: Some("rwm".to_owned()),
            ..DeviceRule::default()
        }],
        ..Resources::default()
    });
    let (mut uid_mappings, mut gid_mappings) = (Vec::new(), Vec::new());
    if rootless {
        namespaces.push(NamespaceKind::User);
        namespaces.retain(|kind| *kind != NamespaceKind::Network);
        resources = None;
        let map = |host_id| IdMapping {
            container_id: 0,
            host_id,
            size: 1,
        };
        uid_mappings.push(map(rustix::process::geteuid().as_raw()));
        gid_mappings.push(map(rustix::process::getegid().as_raw()));
        for mount in &mut mounts {
            make_rootless(mount);
        }
    }
    Spec {
        oci_version: wharf_oci::runtime::VERSION.to_owned(),
        process: Some(Process {
            terminal: true,
            args: vec!["sh".to_owned()],
            env: vec![defaults::PATH.to_owned(), "TERM=xterm".to_owned()],
            cwd: "/".to_owned(),
            capabilities: Some(defaults::capabilities(&[
                "CAP_AUDIT_WRITE",
                "CAP_KILL",
                "CAP_NET_BIND_SERVICE",
            ])),
            rlimits: vec![Rlimit {
                kind: "RLIMIT_NOFILE".to_owned(),
                hard: 1024,
                soft: 1024,
            }],
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: true,
        }),
        hostname: Some("wharf".to_owned()),
        mounts,
        linux: Some(Linux {
            uid_mappings,
            gid_mappings,
            resources,
            namespaces: namespaces
                .into_iter()
                .map(|kind| Namespace { kind, path: None })
                .collect(),
            masked_paths: list(&defaults::MASKED_PATHS),
            readonly_paths: list(&defaults::READONLY_PATHS),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// Without a network namespace of its own there is no new sysfs, and without more than one group
/// no other owner of terminals.
fn make_rootless(mount: &mut Mount) {
    if mount.destination == "/sys" {
        mount.kind = None;
        mount.source = Some("/sys".to_owned());
        mount.options = list(&["rbind", "nosuid", "noexec", "nodev", "ro"]);
    }
    mount.options.retain(|option| !option.starts_with("gid="));
}

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
