//! Containers that another OCI runtime runs: which program that is, and what of it a dead shim
//! leaves behind.

use std::path::{Path, PathBuf};

use wharf_fault::{Error, Result};
use wharf_shim_protocol::{Reply, Request, RuntimeProgram};

use super::live::{Container, RunRecord};
use crate::Engine;
use crate::config::{BUILT_IN_RUNTIMES, Runtime};

/// Variables of the daemon's environment that runtimes get: programs of theirs are found by
/// `PATH`, the others say where a user's things are. Nothing else of ours is their business.
const PASSED_ON: [&str; 5] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// Where programs are looked for when the daemon has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's answer to a runtime nobody knows.
pub(super) fn unknown(name: &str) -> Error {
    Error::invalid(format!("unknown or invalid runtime name: {name}"))
}

impl Engine {
    /// The program that runs containers of the runtime `name`; `None` for the built-in runtime.
    /// Its state is kept in the run directory, with which it goes.
    pub(super) fn runtime_program(
        &self,
        name: &str,
        run_dir: &Path,
    ) -> Result<Option<RuntimeProgram>> {
        let settings = self.settings();
        let name = if name.is_empty() {
            &settings.default_runtime
        } else {
            name
        };
        match settings.runtimes.get(name) {
            Some(runtime) => program(runtime, settings.systemd_cgroup, run_dir).map(Some),
            None if BUILT_IN_RUNTIMES.contains(&name) => Ok(None),
            None => Err(unknown(name)),
        }
    }

    /// Freezes or thaws a container through its runtime's program; `false` if it has none.
    pub(super) async fn freeze_by_program(
        &self,
        container: &Container,
        frozen: bool,
    ) -> Result<bool> {
        let link = match &container.read().run {
            Some(run) if run.kept.runtime.is_some() => run.link.clone(),
            _ => return Ok(false),
        };
        let request = if frozen {
            Request::Pause
        } else {
            Request::Resume
        };
        link.command(request, &[]).await?;
        Ok(true)
    }

    /// A container's processes as its runtime's program lists them; `None` if it has none.
    pub(super) async fn processes_by_program(
        &self,
        container: &Container,
    ) -> Result<Option<Vec<i32>>> {
        let link = match &container.read().run {
            Some(run) if run.kept.runtime.is_some() => run.link.clone(),
            _ => return Ok(None),
        };
        match link.request(Request::Processes, &[]).await? {
            (Reply::Processes { pids }, _) => Ok(Some(pids)),
            _ => Err(Error::system("the shim gave a wrong answer")),
        }
    }
}

fn program(runtime: &Runtime, systemd_cgroup: bool, run_dir: &Path) -> Result<RuntimeProgram> {
    let path = find(&runtime.path, &search_path()).ok_or_else(|| {
        Error::system(format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to \
             run the OCI runtime: exec: {:?}: executable file not found in $PATH: unknown",
            runtime.path.display().to_string()
        ))
    })?;
    let mut arguments = runtime.arguments.clone();
    if systemd_cgroup {
        arguments.push("--systemd-cgroup".to_owned());
    }
    Ok(RuntimeProgram {
        path,
        arguments,
        environment: environment(),
        root: run_dir.join("runtime"),
    })
}

/// Opens the way to a run directory for the root of a user namespace: other runtimes look for the
/// root file system there as that root, not as the host's. Our own needs no way.
pub(super) fn let_through(
    run_dir: &Path,
    (uid, gid): (u32, u32),
    runtime: &RuntimeProgram,
) -> Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let failed = |path: &Path, source: std::io::Error| {
        Error::system(format!("cannot let uid {uid} through {}", path.display())).caused_by(source)
    };
    std::os::unix::fs::chown(run_dir, None, Some(gid)).map_err(|error| failed(run_dir, error))?;
    std::fs::set_permissions(run_dir, std::fs::Permissions::from_mode(0o710))
        .map_err(|error| failed(run_dir, error))?;
    // Our own directories are `exec-root/containers`; nobody may list them still.
    for (height, directory) in run_dir.ancestors().skip(1).enumerate() {
        let status = std::fs::metadata(directory).map_err(|error| failed(directory, error))?;
        let mode = status.permissions().mode();
        let is_theirs =
            status.uid() == uid && mode & 0o100 != 0 || status.gid() == gid && mode & 0o010 != 0;
        if mode & 0o001 != 0 || is_theirs {
            continue;
        }
        if height < 2 {
            std::fs::set_permissions(
                directory,
                std::fs::Permissions::from_mode(mode & 0o7777 | 0o001),
            )
            .map_err(|error| failed(directory, error))?;
            continue;
        }
        return Err(Error::invalid(format!(
            "{} enters a container in a user namespace as uid {uid}, who may not pass {} (mode {:04o}): let others search it, choose another exec-root, or use the built-in runtime",
            runtime.path.display(),
            directory.display(),
            mode & 0o7777
        )));
    }
    Ok(())
}

/// What other programs get of our environment.
pub(super) fn environment() -> Vec<String> {
    let mut environment: Vec<String> = PASSED_ON
        .iter()
        .filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)))
        .collect();
    if std::env::var_os("PATH").is_none() {
        environment.push(format!("PATH={PATH_DEFAULT}"));
    }
    environment
}

/// Where programs are looked for.
pub(super) fn search_path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| PATH_DEFAULT.to_owned())
}

/// The program, by `search` if its name has no slash.
pub(super) fn find(program: &Path, search: &str) -> Option<PathBuf> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return Some(program.to_owned());
    }
    std::env::split_paths(search)
        .map(|folder| folder.join(program))
        .find(|path| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::metadata(path).is_ok_and(|metadata| {
                metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
            })
        })
}

/// A shim that carried a container of another runtime is dead: lets the runtime remove what it
/// keeps beside the cgroup. Called with the container's processes killed.
pub(super) async fn delete_remains(kept: &RunRecord) {
    let Some(runtime) = &kept.runtime else { return };
    let mut command = std::process::Command::new(&runtime.path);
    command
        .args(&runtime.arguments)
        .arg("--root")
        .arg(&runtime.root)
        .args(["delete", "--force", &kept.container_id])
        .env_clear()
        .envs(
            runtime
                .environment
                .iter()
                .filter_map(|variable| variable.split_once('=')),
        )
        .stdin(std::process::Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    match ran.map_err(std::io::Error::other).flatten() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            tracing::debug!(container.id = kept.container_id, status = %output.status, "a runtime did not delete its container: {}", words.trim());
        }
        Err(error) => {
            tracing::warn!(%error, container.id = kept.container_id, program = %runtime.path.display(), "cannot run a container's runtime to delete it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_slash_are_looked_up() {
        assert_eq!(find(Path::new("/no/such"), ""), Some("/no/such".into()));
        assert_eq!(find(Path::new("sh"), "/no:/bin"), Some("/bin/sh".into()));
        assert_eq!(find(Path::new("sh"), "/no"), None);
        assert_eq!(find(Path::new("passwd"), "/etc"), None);
    }
}
