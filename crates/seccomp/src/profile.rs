//! Docker's profile format, and turning a profile into the filter of one container.
//!
//! A profile is the OCI filter with conditions: a rule may be for some capabilities, machines or
//! kernels only. [`Profile::resolve`] keeps the rules whose conditions hold.

use serde::Deserialize;
use wharf_oci::runtime::{Seccomp, SeccompAction, SeccompArch, SeccompArg, SyscallRule};

/// Docker's default profile.
const DEFAULT: &str = include_str!("default_profile.json");

/// A profile as users write it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: SeccompAction,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<SeccompArch>>,
    #[serde(default)]
    arch_map: Option<Vec<Architecture>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

/// A machine's architecture with those it can execute as well.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: SeccompArch,
    #[serde(default)]
    sub_architectures: Option<Vec<SeccompArch>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: SeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<SeccompArg>>,
    #[serde(default)]
    includes: Option<Conditions>,
    #[serde(default)]
    excludes: Option<Conditions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conditions {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What a profile is resolved for.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// The architecture.
    pub arch: SeccompArch,
    /// The kernel's version, major and minor.
    pub kernel: (u32, u32),
}

impl Machine {
    /// This machine's architecture, with the kernel of `release` (`uname -r`).
    pub fn native(release: &str) -> Self {
        Self {
            arch: NATIVE,
            kernel: kernel_version(release).unwrap_or((0, 0)),
        }
    }
}

/// The architecture this is compiled for.
pub const NATIVE: SeccompArch = native();

const fn native() -> SeccompArch {
    if cfg!(target_arch = "x86_64") {
        SeccompArch::X86_64
    } else if cfg!(target_arch = "aarch64") {
        SeccompArch::Aarch64
    } else if cfg!(target_arch = "riscv64") {
        SeccompArch::Riscv64
    } else if cfg!(target_arch = "loongarch64") {
        SeccompArch::Loongarch64
    } else if cfg!(target_arch = "s390x") {
        SeccompArch::S390x
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        SeccompArch::Ppc64le
    } else if cfg!(target_arch = "powerpc64") {
        SeccompArch::Ppc64
    } else if cfg!(all(target_arch = "mips64", target_endian = "little")) {
        SeccompArch::Mipsel64
    } else if cfg!(target_arch = "mips64") {
        SeccompArch::Mips64
    } else if cfg!(target_arch = "x86") {
        SeccompArch::X86
    } else if cfg!(target_arch = "arm") {
        SeccompArch::Arm
    } else {
        panic!("no system call numbers for this architecture")
    }
}

/// What is wrong with a profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not JSON of the right form.
    #[error("decoding seccomp profile failed")]
    Decode(#[source] serde_json::Error),
    /// Both lists of architectures are given.
    #[error(
        "'architectures' and 'archMap' were specified in the seccomp profile, use either 'architectures' or 'archMap'"
    )]
    TwoArchitectureLists,
    /// Both forms of a rule's names are given.
    #[error(
        "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'"
    )]
    TwoNameLists,
    /// A kernel version cannot be read.
    #[error("invalid kernel version {0:?} in the seccomp profile")]
    KernelVersion(String),
}

impl wharf_fault::Fault for ProfileError {
    fn kind(&self) -> wharf_fault::Kind {
        wharf_fault::Kind::InvalidParameter
    }
}

impl Profile {
    /// Docker's default profile.
    pub fn docker_default() -> Self {
        match Self::parse(DEFAULT.as_bytes()) {
            Ok(profile) => profile,
            Err(error) => unreachable!("the embedded profile is valid, a test says so: {error}"),
        }
    }

    /// Reads a user's profile.
    pub fn parse(json: &[u8]) -> Result<Self, ProfileError> {
        serde_json::from_slice(json).map_err(ProfileError::Decode)
    }

    /// The filter for a container with the capabilities `capabilities` (`CAP_CHOWN`) on
    /// `machine`.
    pub fn resolve<S: AsRef<str>>(
        &self,
        capabilities: &[S],
        machine: Machine,
    ) -> Result<Seccomp, ProfileError> {
        let listed = self.architectures.as_ref().filter(|list| !list.is_empty());
        let mapped = self.arch_map.as_ref().filter(|list| !list.is_empty());
        let architectures = match (listed, mapped) {
            (Some(_), Some(_)) => return Err(ProfileError::TwoArchitectureLists),
            (Some(listed), None) => listed.clone(),
            (None, mapped) => mapped
                .into_iter()
                .flatten()
                .find(|entry| entry.architecture == machine.arch)
                .map(|entry| {
                    let sub = entry.sub_architectures.iter().flatten().copied();
                    [entry.architecture].into_iter().chain(sub).collect()
                })
                .unwrap_or_default(),
        };
        let mut syscalls = Vec::new();
        for rule in self.syscalls.iter().flatten() {
            let names = match (&rule.name, &rule.names) {
                (Some(name), None) => vec![name.clone()],
                (None, Some(names)) => names.clone(),
                (Some(name), Some(names)) if names.is_empty() => vec![name.clone()],
                (Some(_), Some(_)) => return Err(ProfileError::TwoNameLists),
                (None, None) => continue,
            };
            if !rule.applies(capabilities, machine)? {
                continue;
            }
            syscalls.push(SyscallRule {
                names,
                action: rule.action,
                errno_ret: rule.errno_ret,
                args: rule.args.clone().unwrap_or_default(),
            });
        }
        Ok(Seccomp {
            default_action: self.default_action,
            default_errno_ret: self.default_errno_ret,
            architectures,
            flags: self.flags.clone().unwrap_or_default(),
            listener_path: self.listener_path.clone(),
            listener_metadata: self.listener_metadata.clone(),
            syscalls,
        })
    }
}

impl Rule {
    fn applies<S: AsRef<str>>(
        &self,
        capabilities: &[S],
        machine: Machine,
    ) -> Result<bool, ProfileError> {
        let has = |wanted: &String| capabilities.iter().any(|held| held.as_ref() == wanted);
        let is_native = |arch: &String| go_names(machine.arch).contains(&arch.as_str());
        if let Some(excludes) = &self.excludes {
            if excludes.arches.iter().flatten().any(is_native)
                || excludes.caps.iter().flatten().any(has)
            {
                return Ok(false);
            }
            if let Some(minimum) = &excludes.min_kernel
                && machine.kernel >= minimum_version(minimum)?
            {
                return Ok(false);
            }
        }
        if let Some(includes) = &self.includes {
            let arches = includes.arches.as_ref().filter(|list| !list.is_empty());
            if arches.is_some_and(|arches| !arches.iter().any(is_native)) {
                return Ok(false);
            }
            if !includes.caps.iter().flatten().all(has) {
                return Ok(false);
            }
            if let Some(minimum) = &includes.min_kernel
                && machine.kernel < minimum_version(minimum)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What profiles call an architecture: Go's name for it, or libseccomp's.
fn go_names(arch: SeccompArch) -> &'static [&'static str] {
    match arch {
        SeccompArch::X86_64 => &["amd64"],
        SeccompArch::X86 => &["x86", "386"],
        SeccompArch::X32 => &["x32", "amd64p32"],
        SeccompArch::Aarch64 => &["arm64"],
        SeccompArch::Arm => &["arm"],
        SeccompArch::Ppc => &["ppc"],
        SeccompArch::Ppc64 => &["ppc64"],
        SeccompArch::Ppc64le => &["ppc64le"],
        SeccompArch::S390x => &["s390x"],
        SeccompArch::S390 => &["s390"],
        SeccompArch::Riscv64 => &["riscv64"],
        SeccompArch::Loongarch64 => &["loong64"],
        SeccompArch::Mips => &["mips"],
        SeccompArch::Mipsel => &["mipsel", "mipsle"],
        SeccompArch::Mips64 => &["mips64"],
        SeccompArch::Mipsel64 => &["mipsel64", "mips64le"],
        SeccompArch::Mips64n32 => &["mips64n32", "mips64p32"],
        SeccompArch::Mipsel64n32 => &["mipsel64n32", "mips64p32le"],
        SeccompArch::Sh => &["sh"],
        SeccompArch::Sheb => &["sheb"],
        SeccompArch::Parisc => &["parisc"],
        SeccompArch::Parisc64 => &["parisc64"],
        SeccompArch::M68k => &["m68k"],
    }
}

fn minimum_version(text: &str) -> Result<(u32, u32), ProfileError> {
    kernel_version(text).ok_or_else(|| ProfileError::KernelVersion(text.to_owned()))
}

/// The first two numbers of `6.18.44-x`.
fn kernel_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        arch: SeccompArch::X86_64,
        kernel: (6, 1),
    };

    fn actions<'a>(filter: &'a Seccomp, name: &'a str) -> impl Iterator<Item = SeccompAction> + 'a {
        filter
            .syscalls
            .iter()
            .filter(move |rule| rule.names.iter().any(|known| known == name))
            .map(|rule| rule.action)
    }

    #[test]
    fn conditions_are_honoured() {
        let profile = Profile::docker_default();
        let plain = profile.resolve::<&str>(&[], MACHINE).unwrap();
        assert_eq!(
            plain.architectures,
            [SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32]
        );
        assert_eq!(actions(&plain, "unshare").count(), 0);
        assert_eq!(
            actions(&plain, "clone3").collect::<Vec<_>>(),
            [SeccompAction::Errno]
        );
        assert_eq!(actions(&plain, "arch_prctl").count(), 1);
        assert_eq!(actions(&plain, "s390_runtime_instr").count(), 0);
        assert_eq!(actions(&plain, "ptrace").count(), 1);
        let admin = profile.resolve(&["CAP_SYS_ADMIN"], MACHINE).unwrap();
        assert_eq!(
            actions(&admin, "unshare").collect::<Vec<_>>(),
            [SeccompAction::Allow]
        );
        assert_eq!(
            actions(&admin, "clone3").collect::<Vec<_>>(),
            [SeccompAction::Allow]
        );
        let old = profile
            .resolve::<&str>(
                &[],
                Machine {
                    kernel: (4, 4),
                    ..MACHINE
                },
            )
            .unwrap();
        assert_eq!(actions(&old, "ptrace").count(), 0);
    }

    #[test]
    fn older_forms_are_read() {
        let profile = Profile::parse(
            br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
                "syscalls":[{"name":"chmod","action":"SCMP_ACT_ERRNO","args":null}]}"#,
        )
        .unwrap();
        let filter = profile.resolve::<&str>(&[], MACHINE).unwrap();
        assert_eq!(filter.syscalls[0].names, ["chmod"]);
    }

    #[test]
    fn wrong_profiles_say_why() {
        assert!(matches!(Profile::parse(b"{"), Err(ProfileError::Decode(_))));
        let resolve = |json: &str| {
            Profile::parse(json.as_bytes())
                .unwrap()
                .resolve::<&str>(&[], MACHINE)
                .unwrap_err()
        };
        assert!(matches!(
            resolve(
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
                    "archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#
            ),
            ProfileError::TwoArchitectureLists
        ));
        assert!(matches!(
            resolve(
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL",
                    "includes":{"minKernel":"x"}}]}"#
            ),
            ProfileError::KernelVersion(_)
        ));
    }
}
