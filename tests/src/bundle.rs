//! An OCI bundle of busybox, and the runtime's command line on it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::host::Host;
use crate::output::Output;

/// A bundle in a host's scratch folder, with state below it.
#[derive(Debug)]
pub struct Bundle<'h> {
    /// Where it is.
    pub host: &'h Host,
    folder: PathBuf,
    /// `config.json`; [`Bundle::write`] writes it.
    pub config: Value,
}

impl<'h> Bundle<'h> {
    /// A bundle whose program is `sh -c script`.
    pub fn new(host: &'h Host, name: &str, script: &str) -> Self {
        let folder = host.join(name);
        let rootfs = folder.join("rootfs");
        for directory in ["bin", "proc", "sys", "dev", "tmp", "etc", "root"] {
            std::fs::create_dir_all(rootfs.join(directory)).expect("scratch is writable");
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox"))
            .expect("busybox-static is installed");
        let applets = Command::new("/bin/busybox").arg("--list").output();
        let applets = String::from_utf8(applets.expect("busybox runs").stdout).expect("names");
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", rootfs.join("bin").join(applet)).expect("scratch is writable");
        }
        let bundle = Self {
            host,
            folder,
            config: Value::Null,
        };
        let directory = bundle.folder.display().to_string();
        bundle.runtime(&["spec", "--bundle", &directory]).ok();
        let text = std::fs::read(bundle.folder.join("config.json")).expect("spec has written it");
        let mut config: Value = serde_json::from_slice(&text).expect("spec writes JSON");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["root"]["readonly"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(format!("{}/{name}", host.cgroup_parent()));
        let bundle = Self { config, ..bundle };
        bundle.write();
        bundle
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        let text = serde_json::to_vec(&self.config).expect("a value is written");
        std::fs::write(self.folder.join("config.json"), text).expect("scratch is writable");
    }

    /// A file of the bundle's folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// A file of the root file system.
    pub fn in_root(&self, name: &str) -> PathBuf {
        self.folder.join("rootfs").join(name)
    }

    /// Where its containers are remembered.
    pub fn state_root(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The runtime's command line, called in the bundle, to be run by the caller.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let shell = format!("cd {} && exec \"$@\"", self.folder.display());
        let mut command = self.host.command("sh");
        command
            .args(["-c", &shell, "sh"])
            .arg(crate::wharf_binary())
            .args(["runtime", "--root"])
            .arg(self.state_root())
            .args(arguments);
        command
    }

    /// Runs it. What it leaves running may keep its output open: that goes to files, whose end
    /// nobody waits for.
    pub fn runtime(&self, arguments: &[&str]) -> Output {
        use std::io::{Read as _, Seek as _};
        let mut outputs = [0, 1].map(|_| tempfile::tempfile().expect("scratch is writable"));
        let mut command = self.command(arguments);
        let [stdout, stderr] = outputs
            .each_ref()
            .map(|file| file.try_clone().expect("a descriptor is left"));
        let status = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .status()
            .expect("nsenter (util-linux) is installed");
        let [stdout, stderr] = outputs.each_mut().map(|file| {
            let mut text = Vec::new();
            file.rewind().expect("a file is rewound");
            file.read_to_end(&mut text).expect("a file is read");
            String::from_utf8_lossy(&text).into_owned()
        });
        Output {
            command: format!("{command:?}"),
            stdout,
            stderr,
            code: status.code().unwrap_or(-1),
        }
    }

    /// What `state` says.
    pub fn state(&self, id: &str) -> Value {
        let out = self.runtime(&["state", id]).ok();
        serde_json::from_str(&out.stdout).expect("state prints JSON")
    }

    /// Just the status.
    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits for the end of a container's processes.
    #[track_caller]
    pub fn wait_until_stopped(&self, id: &str) {
        crate::waiting::becomes(&"stopped".to_owned(), || self.status(id));
    }

    /// Asserts that no container of it is remembered and none of its cgroups is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let remembered: Vec<_> = std::fs::read_dir(self.state_root())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(remembered.is_empty(), "{remembered:?}");
        let path = self.config["linux"]["cgroupsPath"]
            .as_str()
            .unwrap_or_default();
        for hierarchy in crate::host::cgroup_hierarchies() {
            let directory = hierarchy.join(path.trim_start_matches('/'));
            assert!(!directory.exists(), "{}", directory.display());
        }
    }
}
