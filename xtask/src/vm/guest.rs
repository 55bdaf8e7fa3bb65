//! The guest: a Debian kernel, an initramfs that finds the root disk, and the root disk. Made once from
//! Debian packages and kept under `<target>/vm`; nothing of it is installed on the machine.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const INITRAMFS: &str = include_str!("guest/initramfs");
const RUN: &str = include_str!("guest/run");
const SERVICE: &str = include_str!("guest/wharf-vm.service");
const TARGET: &str = include_str!("guest/wharf-vm.target");

/// What is in the guest besides a minimal Debian: systemd as its first process, what tests call, and the
/// runtimes that Wharf is compared with.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "kmod",
    "iproute2",
    "nftables",
    "busybox-static",
    "tini",
    "procps",
    "util-linux",
    "e2fsprogs",
    "curl",
    "ca-certificates",
    "uidmap",
    "passt",
    "apparmor",
    "runc",
    "crun",
    "criu",
];

/// The kernel package; it depends on the one of today's version. Debian's cloud kernel would be smaller
/// but has no 9p, by which the guest sees the workspace.
const KERNEL: &str = "linux-image-amd64";

/// The parts of the kernel's modules the guest gets: no sound, no graphics, no hardware it cannot have.
const MODULES: &[&str] = &[
    "arch",
    "block",
    "crypto",
    "fs",
    "lib",
    "mm",
    "net",
    "drivers/block",
    "drivers/char/hw_random",
    "drivers/net",
    "drivers/virtio",
];

/// What must be loaded to mount the root disk; their dependencies come along. ext4 asks for a checksum
/// that no dependency names.
const ROOT_MODULES: &[&str] = &["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

/// The root disk's size; it is sparse, and what a boot writes is thrown away.
const DISK: &str = "6G";

/// The files that make a guest.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    pub(super) disk: PathBuf,
}

/// The guest, made if it is not there yet. It takes some minutes then.
pub(super) fn guest(folder: &Path) -> Result<Guest, String> {
    let mut hasher = DefaultHasher::new();
    (
        INITRAMFS,
        RUN,
        SERVICE,
        TARGET,
        PACKAGES,
        KERNEL,
        MODULES,
        ROOT_MODULES,
        DISK,
    )
        .hash(&mut hasher);
    let done = folder.join(format!("guest-{:016x}", hasher.finish()));
    let guest = Guest {
        kernel: done.join("vmlinuz"),
        initramfs: done.join("initramfs"),
        disk: done.join("root.ext4"),
    };
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let lock = File::create(folder.join("guest.lock")).map_err(|error| error.to_string())?;
    // Two runs at once make it once.
    lock.lock().map_err(|error| error.to_string())?;
    if done.exists() {
        return Ok(guest);
    }
    println!("# making the guest system (once; takes some minutes)");
    let scratch = folder.join("making");
    remove(&scratch)?;
    let made = make(&scratch);
    if let Err(error) = made {
        remove(&scratch)?;
        return Err(error);
    }
    std::fs::rename(scratch.join("guest"), &done).map_err(|error| error.to_string())?;
    remove(&scratch)?;
    Ok(guest)
}

fn remove(folder: &Path) -> Result<(), String> {
    shell("rm -rf --one-file-system \"$0\"", &[folder])
}

fn make(scratch: &Path) -> Result<(), String> {
    let (root, kernel, guest) = (
        scratch.join("root"),
        scratch.join("kernel"),
        scratch.join("guest"),
    );
    shell("mkdir -p \"$0\" \"$1\" \"$2\"", &[&root, &kernel, &guest])?;
    bootstrap(&root)?;

    shell(
        "set -e; cd \"$0\"; package=$(apt-cache depends \"$1\" | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p' | head -n 1); \
         apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=5 download \"$package\"; dpkg-deb -x linux-image-*.deb .",
        &[&kernel, Path::new(KERNEL)],
    )?;
    shell(
        "set -e; cp \"$0\"/boot/vmlinuz-* \"$1\"/vmlinuz; modules=$(echo \"$0\"/lib/modules/*); version=${modules##*/}; \
         to=\"$2/usr/lib/modules/$version\"; mkdir -p \"$to\"; cp \"$modules\"/modules.* \"$to\"; cd \"$modules\"; \
         for part in $3; do cp --parents -r \"kernel/$part\" \"$to\"; done; rm -rf \"$to\"/kernel/drivers/net/*/; \
         chroot \"$2\" depmod \"$version\"",
        &[&kernel, &guest, &root, Path::new(&MODULES.join(" "))],
    )?;
    initramfs(&root, &guest.join("initramfs"))?;

    let write = |path: &str, text: &str, mode: u32| -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = root.join(path);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
            .map_err(|error| error.to_string())
    };
    write("usr/local/lib/wharf-vm", RUN, 0o755)?;
    write("etc/systemd/system/wharf-vm.service", SERVICE, 0o644)?;
    write("etc/systemd/system/wharf-vm.target", TARGET, 0o644)?;
    write("etc/hostname", "wharf-vm\n", 0o644)?;
    write(
        "etc/hosts",
        "127.0.0.1 localhost wharf-vm\n::1 localhost\n",
        0o644,
    )?;
    write("etc/fstab", "", 0o644)?;
    shell(
        "set -e; ln -sf /dev/null \"$0\"/etc/systemd/system/systemd-journal-flush.service; \
         ln -sf /dev/null \"$0\"/etc/systemd/system/apt-daily.timer; \
         mkdir -p \"$0\"/etc/systemd/journald.conf.d; \
         printf '[Journal]\\nStorage=volatile\\n' > \"$0\"/etc/systemd/journald.conf.d/vm.conf; \
         chroot \"$0\" useradd --create-home --shell /bin/sh user",
        &[&root],
    )?;
    shell(
        "mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1 -d \"$0\" \"$1\" \"$2\"",
        &[&root, &guest.join("root.ext4"), Path::new(DISK)],
    )
}

fn bootstrap(root: &Path) -> Result<(), String> {
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .arg("--variant=minbase")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg("bookworm")
        .arg(root);
    if let Some(mirror) = wharf_tests::fixtures::debian_mirror() {
        debootstrap.arg(mirror);
    }
    run(debootstrap)?;
    shell(
        "rm -rf \"$0\"/var/cache/apt/archives/*.deb \"$0\"/var/lib/apt/lists/*",
        &[root],
    )
}

/// Packs the initramfs: busybox, the script, and the modules in the order in which they must be loaded.
fn initramfs(root: &Path, to: &Path) -> Result<(), String> {
    let modules = root.join("usr/lib/modules");
    let version = std::fs::read_dir(&modules)
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .ok_or("the kernel package has no modules")?
        .path();
    let dependencies = std::fs::read_to_string(version.join("modules.dep"))
        .map_err(|error| format!("modules.dep: {error}"))?;
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));

    let mut archive = Vec::new();
    for folder in ["bin", "dev", "modules", "root"] {
        entry(&mut archive, folder, 0o040_755, &[]);
    }
    entry(
        &mut archive,
        "bin/busybox",
        0o100_755,
        &read(&root.join("bin/busybox"))?,
    );
    entry(&mut archive, "init", 0o100_755, INITRAMFS.as_bytes());
    for (position, module) in load_order(&dependencies, ROOT_MODULES)?.iter().enumerate() {
        let name = module.rsplit('/').next().unwrap_or(module);
        entry(
            &mut archive,
            &format!("modules/{position:02}-{name}"),
            0o100_644,
            &read(&version.join(module))?,
        );
    }
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    let mut file = File::create(to).map_err(|error| error.to_string())?;
    file.write_all(&archive).map_err(|error| error.to_string())
}

/// One record of a `newc` archive (the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`).
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let padded = |archive: &mut Vec<u8>| archive.resize(archive.len().next_multiple_of(4), 0);
    // Number, mode, owner, group, links, time, size, four device numbers, length of the name, checksum.
    let fields = [
        0,
        mode,
        0,
        0,
        1,
        0,
        content.len() as u32,
        0,
        0,
        0,
        0,
        name.len() as u32 + 1,
        0,
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    padded(archive);
    archive.extend_from_slice(content);
    padded(archive);
}

/// The files of `wanted` and of all they need, out of `modules.dep`, so that each comes after its needs.
/// A module the kernel has built in is not listed there and needs no loading.
fn load_order(dependencies: &str, wanted: &[&str]) -> Result<Vec<String>, String> {
    let mut order: Vec<String> = Vec::new();
    for module in wanted {
        let file = format!("/{module}.ko");
        let line = dependencies
            .lines()
            .find(|line| {
                line.split(':')
                    .next()
                    .is_some_and(|name| name.ends_with(&file))
            })
            .ok_or_else(|| format!("the kernel has no module {module}"))?;
        let (name, needs) = line.split_once(':').unwrap_or((line, ""));
        // Each line lists everything, the deepest need last.
        for file in needs.split_ascii_whitespace().rev().chain([name]) {
            if !order.iter().any(|known| known == file) {
                order.push(file.to_owned());
            }
        }
    }
    Ok(order)
}

fn shell(script: &str, arguments: &[&Path]) -> Result<(), String> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).args(arguments);
    run(command)
}

fn run(mut command: Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!(
        "{name} ended with {}:\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let list = "kernel/a/ext4.ko: kernel/a/jbd2.ko kernel/a/crc.ko\nkernel/a/jbd2.ko: kernel/a/crc.ko\nkernel/a/crc.ko:\n";
        let order = load_order(list, &["jbd2", "ext4"]).unwrap();
        assert_eq!(
            order,
            ["kernel/a/crc.ko", "kernel/a/jbd2.ko", "kernel/a/ext4.ko"]
        );
        assert!(load_order(list, &["xfs"]).is_err());
    }

    #[test]
    fn archive_records_are_aligned() {
        let mut archive = Vec::new();
        entry(&mut archive, "init", 0o100_755, b"12345");
        assert!(archive.starts_with(b"070701"));
        assert_eq!(archive.len() % 4, 0);
        assert_eq!(&archive[110..115], b"init\0");
        assert_eq!(&archive[116..121], b"12345");
    }
}
