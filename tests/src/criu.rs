//! A CRIU that works on the running kernel: Debian's own where it does, else that of a newer
//! Debian, unpacked beside the other fixtures.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::Host;
use crate::output::run;

/// The release that is asked when the installed one is too old for the kernel.
const NEWER: &str = "trixie";

/// Puts a working `criu` in place inside `host`, or says why there is none.
pub fn provide(host: &Host) -> Result<(), String> {
    // Its cache of what the kernel can do lies in /run, which is the host's own.
    if host.sh("criu check >/dev/null 2>&1").code == 0 {
        return Ok(());
    }
    let installed = host.sh("command -v criu").text();
    if installed.is_empty() {
        return Err("criu is not installed".to_owned());
    }
    let complaint = host.sh("criu check 2>&1 | head -1").text();
    let newer = unpacked().map_err(|error| format!("{complaint}; and no newer one: {error}"))?;
    host.sh(&format!("mount --bind {} {installed}", newer.display()))
        .ok();
    let check = host.sh("criu check 2>&1");
    if check.code == 0 {
        Ok(())
    } else {
        Err(format!("{complaint}; {}", check.text()))
    }
}

/// A script that runs the unpacked program with the libraries it was made for.
fn unpacked() -> Result<PathBuf, String> {
    let folder = crate::fixture_folder().join("criu");
    let script = folder.join("criu");
    let lock = std::fs::File::create(folder.with_extension("lock")).map_err(|e| e.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if !script.exists() {
        drop(std::fs::remove_dir_all(&folder));
        unpack(&folder)?;
        let root = folder.join("root").display().to_string();
        let text = format!(
            "#!/bin/sh\nexec {root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu \
             {root}/usr/sbin/criu \"$@\"\n"
        );
        std::fs::write(&script, text).map_err(|error| error.to_string())?;
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;
    }
    Ok(script)
}

/// Downloads the package and its libraries, through apt with lists of its own.
fn unpack(folder: &Path) -> Result<(), String> {
    let script = r#"
set -eu
mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial" "$1/debs" "$1/root"
touch "$1/state/status"
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $2 main" > "$1/sources.list"
set -- "$1" -o "Dir::Etc::sourcelist=$1/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$1/state" \
  -o "Dir::State::status=$1/state/status" -o "Dir::Cache=$1/cache" -o APT::Sandbox::User=root -o Acquire::Retries=5
folder=$1; shift
apt-get "$@" -qq update
cd "$folder/debs"
libraries=$(apt-cache "$@" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
  --no-enhances criu | grep '^lib' | sort -u)
apt-get "$@" -qq download criu $libraries
for package in *.deb; do dpkg -x "$package" "$folder/root"; done
rm -rf "$folder/debs" "$folder/state" "$folder/cache"
"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(folder).arg(NEWER);
    let output = run(command, None);
    if output.code == 0 {
        return Ok(());
    }
    drop(std::fs::remove_dir_all(folder));
    Err(output
        .stderr
        .lines()
        .last()
        .unwrap_or("apt failed")
        .to_owned())
}
