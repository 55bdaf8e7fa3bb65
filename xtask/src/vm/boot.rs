//! One boot of the guest: a command goes in, its output and exit status come out, nothing stays.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::guest::Guest;

/// The last line of a guest's output: the command's exit status.
const STATUS: &str = "wharf-vm: exit ";

/// What a boot is to do.
#[derive(Debug)]
pub(crate) struct Boot {
    /// A shell script, run as root.
    pub(crate) script: String,
    /// Host folders that the guest sees, read-only, under the same path.
    pub(crate) shares: Vec<PathBuf>,
    /// Programs put on the guest's `PATH`, with the names they get.
    pub(crate) programs: Vec<(PathBuf, &'static str)>,
    /// All of it must be done by then.
    pub(crate) timeout: Duration,
    /// Both memory and swap of the guest in MiB.
    pub(crate) memory_mib: u32,
    /// More of the kernel's command line.
    pub(crate) kernel_arguments: String,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The command's exit status.
    pub(crate) status: i32,
    /// Seconds until the command began, for those who wonder where the time goes.
    pub(crate) booted_after: Duration,
    /// A folder the guest could write (`/mnt/wharf-vm` there); it goes with this value.
    pub(crate) folder: RunFolder,
}

/// What a boot leaves for the caller.
#[derive(Debug)]
pub(crate) struct RunFolder(PathBuf);

impl RunFolder {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The emulator; it ends with this value, and with us if we are killed.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Boots, runs, and gives each line of output to `line` as it comes.
pub(super) fn boot(
    guest: &Guest,
    folder: &Path,
    boot: &Boot,
    mut line: impl FnMut(&str),
) -> Result<Outcome, String> {
    let run = RunFolder(folder.join(format!("run-{}", std::process::id())));
    prepare(run.path(), boot).map_err(|error| format!("{}: {error}", run.path().display()))?;
    let console = run.path().join("console");
    let mut emulator = Emulator(
        emulator(guest, run.path(), &console, boot)
            .spawn()
            .map_err(|error| format!("qemu-system-x86_64: {error}"))?,
    );
    let stdout = emulator
        .0
        .stdout
        .take()
        .ok_or("the emulator has no output")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for text in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&text).into_owned())
                .is_err()
            {
                break;
            }
        }
    });

    let begun = Instant::now();
    let (mut status, mut booted_after) = (None, None);
    loop {
        let left = boot.timeout.saturating_sub(begun.elapsed());
        match lines.recv_timeout(left) {
            Ok(text) => {
                booted_after.get_or_insert_with(|| begun.elapsed());
                match text.strip_prefix(STATUS) {
                    Some(number) => status = number.trim().parse().ok(),
                    None if text == BEGIN => {}
                    None => line(&text),
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(format!(
                    "the guest was not done after {} s\n{}",
                    boot.timeout.as_secs(),
                    tail(&console)
                ));
            }
        }
    }
    match status {
        Some(status) => Ok(Outcome {
            status,
            booted_after: booted_after.unwrap_or_default(),
            folder: run,
        }),
        None => Err(format!("the guest ended early\n{}", tail(&console))),
    }
}

/// Printed by the guest when the command begins.
const BEGIN: &str = "wharf-vm: begin";

fn prepare(run: &Path, boot: &Boot) -> std::io::Result<()> {
    let programs = run.join("bin");
    std::fs::create_dir_all(&programs)?;
    for (program, name) in &boot.programs {
        std::fs::copy(program, programs.join(name))?;
    }
    let shares: String = boot
        .shares
        .iter()
        .enumerate()
        .map(|(number, path)| format!("share{number} {}\n", path.display()))
        .collect();
    std::fs::write(run.join("shares"), shares)?;
    std::fs::write(
        run.join("command"),
        format!("echo '{BEGIN}'\n{}\n", boot.script),
    )?;
    let swap = std::fs::File::create(run.join("swap"))?;
    swap.set_len(u64::from(boot.memory_mib) << 20)
}

fn emulator(guest: &Guest, run: &Path, console: &Path, boot: &Boot) -> Command {
    // Without a hypervisor two cores of a guest are two threads here; no sound, no network, no screen.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    command.args([
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=multi,tb-size=512",
        "-cpu",
        "max,la57=off",
        "-smp",
        "2",
    ]);
    command.args([
        "-m",
        &boot.memory_mib.to_string(),
        "-device",
        "virtio-rng-pci",
    ]);
    command
        .arg("-kernel")
        .arg(&guest.kernel)
        .arg("-initrd")
        .arg(&guest.initramfs);
    command.args([
        "-append",
        &format!(
            "console=ttyS0 panic=-1 loglevel=5 mitigations=off psi=1 no_timer_check tsc=reliable \
             systemd.unit=wharf-vm.target systemd.show_status=0 {}",
            boot.kernel_arguments
        ),
    ]);
    // What the guest writes goes to a nameless temporary file.
    for (name, file, mode) in [
        ("root", guest.disk.as_path(), "snapshot=on"),
        ("swap", &run.join("swap"), "cache=unsafe"),
    ] {
        command.arg("-drive").arg(format!(
            "if=none,id={name},format=raw,{mode},discard=unmap,file={}",
            file.display().to_string().replace(',', ",,")
        ));
        command.args(["-device", &format!("virtio-blk-pci,drive={name}")]);
    }
    let shares = boot.shares.iter().enumerate();
    let shares = shares.map(|(number, path)| (format!("share{number}"), path.as_path(), "on"));
    for (tag, path, read_only) in shares.chain([("run".to_owned(), run, "off")]) {
        command.arg("-fsdev").arg(format!(
            "local,id={tag},security_model=none,multidevs=remap,readonly={read_only},path={}",
            path.display().to_string().replace(',', ",,")
        ));
        command.args([
            "-device",
            &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
        ]);
    }
    command
        .arg("-serial")
        .arg(format!("file:{}", console.display()));
    command.args(["-serial", "stdio"]);
    command.env("TMPDIR", run);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

/// The end of what the kernel and systemd said.
fn tail(console: &Path) -> String {
    let text = std::fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
