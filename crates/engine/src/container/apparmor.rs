//! The default AppArmor profile, and which profile a container gets.
//!
//! Where the host enforces AppArmor the profile `docker-default` is loaded when the engine opens:
//! the kernel takes compiled policy only, which the host's `apparmor_parser` makes. A host without
//! that program, and without the profile, is one without AppArmor, as for Docker.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use wharf_api_types::container::HostConfig;
use wharf_fault::{Error, Result};

use super::security;

/// The profile containers get unless told otherwise, by Docker's name.
pub(super) const DEFAULT: &str = "docker-default";

/// Asks for no confinement.
const UNCONFINED: &str = "unconfined";

/// The profiles the kernel knows, one a line: `name (mode)`.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// The policy of [`DEFAULT`]: a container may do what its namespaces, capabilities and filter let
/// it, but not write the kernel's settings, look into its memory, change mounts, or trace and
/// signal what is outside.
const POLICY: &str = r#"#include <tunables/global>

profile docker-default flags=(attach_disconnected,mediate_deleted) {
  #include <abstractions/base>

  capability,
  file,
  network,
  umount,
  deny mount,

  # The engine and whoever is outside may signal a container; containers signal their own.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=docker-default,
  ptrace (trace, read, tracedby, readby) peer=docker-default,

  # Of procfs a container writes its processes' own files and, of the settings, those of its
  # network and of its IPC (msg*, sem, shm*, fs.mqueue).
  deny @{PROC}/[^1-9]* w,
  deny @{PROC}/[^1-9st]*/** w,
  deny @{PROC}/s[^ey]*/** w,
  deny @{PROC}/t[^h]*/** w,
  deny @{PROC}/sys/{abi,crypto,debug,dev,sunrpc,user,vm}/** w,
  deny @{PROC}/sys/fs/[^m]** w,
  deny @{PROC}/sys/kernel/[^ms]** w,
  deny @{PROC}/sys/kernel/{m[^s],s[^eh]}** w,
  deny @{PROC}/{kcore,kmem,mem,sysrq-trigger} rwklx,
  deny @{PROC}/{acpi,scsi}/** rwklx,

  # Of sysfs it writes its cgroups, where they are mounted so.
  deny /sys/{block,bus,class,dev,devices,hypervisor,module,power}/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/kernel/[^s]*/** wklx,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
"#;

/// Whether containers can be confined, and sees to it that the default profile is there. To be
/// called when the engine opens: it may run a program.
pub(super) fn make_ready() -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with('Y')) {
        return false;
    }
    if knows(&std::fs::read_to_string(LOADED).unwrap_or_default()) {
        return true;
    }
    let parser = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];
    let Some(parser) = parser.iter().find(|path| Path::new(path).exists()) else {
        return false;
    };
    if let Err(error) = load(parser) {
        // Containers that want the profile do not start: the kernel names it when they try.
        tracing::warn!(error = %wharf_fault::chain(&error), "cannot load the AppArmor profile {DEFAULT}");
    }
    true
}

/// Whether the default profile is in the kernel's list.
fn knows(list: &str) -> bool {
    list.lines()
        .any(|line| line.split(' ').next() == Some(DEFAULT))
}

fn load(parser: &str) -> Result<()> {
    let failed =
        |source: std::io::Error| Error::system(format!("cannot run {parser}")).caused_by(source);
    // Not from and not into the cache: the policy is in this program, not in a file.
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(POLICY.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::system(format!("{parser}: {}", text.trim())));
    }
    Ok(())
}

/// The profile of a container that asked for `wanted` (empty for the default). None where the host
/// does not enforce any.
pub(super) fn profile(enforced: bool, privileged: bool, wanted: &str) -> Option<String> {
    match wanted {
        _ if !enforced => None,
        "" if privileged => Some(UNCONFINED.to_owned()),
        "" => Some(DEFAULT.to_owned()),
        wanted => Some(wanted.to_owned()),
    }
}

/// The profile of a container with this host side, for `inspect`; empty where there is none.
pub(super) fn shown(enforced: bool, host: &HostConfig) -> Result<String> {
    let wanted = security::parse(host)?.apparmor;
    Ok(profile(enforced, host.privileged, &wanted).unwrap_or_default())
}

/// Refuses a profile that nobody would enforce.
pub(super) fn check(enforced: bool, wanted: &str) -> Result<()> {
    if enforced || matches!(wanted, "" | UNCONFINED) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "AppArmor is not enabled on this host: --security-opt apparmor={wanted} cannot be honoured"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_follow_docker() {
        assert_eq!(profile(true, false, "").as_deref(), Some("docker-default"));
        assert_eq!(profile(true, true, "").as_deref(), Some("unconfined"));
        assert_eq!(profile(true, true, "mine").as_deref(), Some("mine"));
        assert_eq!(
            profile(true, false, "unconfined").as_deref(),
            Some("unconfined")
        );
        assert_eq!(profile(false, false, ""), None);
        assert_eq!(profile(false, false, "unconfined"), None);
        assert!(check(false, "mine").is_err());
        assert!(check(false, "unconfined").is_ok() && check(true, "mine").is_ok());
    }

    #[test]
    fn loaded_profiles_are_found() {
        assert!(knows("other (enforce)\ndocker-default (enforce)\n"));
        assert!(!knows("docker-default-2 (enforce)\n"));
    }

    /// The compiler of policies is the judge of its syntax, where it is installed.
    #[test]
    fn the_policy_compiles() {
        let parser = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];
        let Some(parser) = parser.iter().find(|path| Path::new(path).exists()) else {
            return wharf_tests::skip(
                "the_policy_compiles",
                "no apparmor_parser (package apparmor)",
            );
        };
        let mut child = Command::new(parser)
            .args(["--skip-kernel-load", "--skip-cache", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(POLICY.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
