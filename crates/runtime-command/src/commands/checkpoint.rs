//! `checkpoint` and `restore`: a container written down by CRIU, and started from there.

use std::path::PathBuf;
use std::process::ExitCode;

use wharf_container_runtime::{CheckpointOptions, Criu};
use wharf_oci::runtime::{NamespaceKind, Spec, Status};

use super::delete::destroy;
use crate::bundle;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::flags::{Flag, Flags, option, switch};
use crate::restore;
use crate::runtime::{Command, Runtime};

const IMAGE_PATH: Flag = option(
    &["image-path"],
    "DIR",
    "where CRIU's images are (default: checkpoint)",
);
const WORK_PATH: Flag = option(
    &["work-path"],
    "DIR",
    "where CRIU's log goes (default: beside the images)",
);
const TCP_ESTABLISHED: Flag = switch(&["tcp-established"], "keep open TCP connections");
const EXT_UNIX_SK: Flag = switch(&["ext-unix-sk"], "keep unix sockets of the outside");
const SHELL_JOB: Flag = switch(&["shell-job"], "the session is one of the outside");
const FILE_LOCKS: Flag = switch(&["file-locks"], "keep file locks");
const AUTO_DEDUP: Flag = switch(&["auto-dedup"], "remove pages that later images repeat");
const EMPTY_NS: Flag = option(
    &["empty-ns"],
    "KIND",
    "leave out what is in the namespace; only network",
);
const LAZY_PAGES: Flag = switch(&["lazy-pages"], "not supported");
const MANAGE_CGROUPS: Flag = option(
    &["manage-cgroups-mode"],
    "MODE",
    "what is kept of cgroups: soft, full, strict or ignore",
);

pub(crate) const CHECKPOINT: Command = Command {
    name: "checkpoint",
    words: super::ID,
    count: (1, 1),
    help: "checkpoint a running container",
    flags: &[
        IMAGE_PATH,
        WORK_PATH,
        option(
            &["parent-path"],
            "DIR",
            "images of an earlier pre-dump, relative to the new ones",
        ),
        switch(&["leave-running"], "let the container go on"),
        TCP_ESTABLISHED,
        EXT_UNIX_SK,
        SHELL_JOB,
        FILE_LOCKS,
        switch(
            &["pre-dump"],
            "write memory only and let the container go on",
        ),
        AUTO_DEDUP,
        MANAGE_CGROUPS,
        EMPTY_NS,
        LAZY_PAGES,
        option(&["page-server"], "ADDRESS:PORT", "not supported"),
        option(&["status-fd"], "N", "not supported"),
    ],
    run: checkpoint,
    failure: 1,
    enters: true,
};

pub(crate) const RESTORE: Command = Command {
    name: "restore",
    words: super::ID,
    count: (1, 1),
    help: "restore a container from a checkpoint",
    flags: &[
        super::BUNDLE,
        IMAGE_PATH,
        WORK_PATH,
        super::PID_FILE,
        switch(&["detach", "d"], "do not wait for the container's process"),
        switch(
            &["no-subreaper"],
            "do not reap what the container leaves behind",
        ),
        super::NO_PIVOT,
        // How the checkpoint was made is known: these say it again.
        TCP_ESTABLISHED,
        EXT_UNIX_SK,
        SHELL_JOB,
        FILE_LOCKS,
        AUTO_DEDUP,
        EMPTY_NS,
        MANAGE_CGROUPS,
        super::CONSOLE_SOCKET,
        LAZY_PAGES,
        option(&["lsm-profile"], "TYPE:NAME", "not supported"),
        option(&["lsm-mount-context"], "CONTEXT", "not supported"),
    ],
    run: restore::restore,
    failure: 1,
    enters: true,
};

/// Flags that ask for what is not there.
const UNSUPPORTED: [&str; 6] = [
    "lazy-pages",
    "page-server",
    "status-fd",
    "lsm-profile",
    "lsm-mount-context",
    "no-pivot",
];

/// Refuses, by name, what cannot be done.
pub(crate) fn refuse_unsupported(flags: &Flags) -> Result<()> {
    let given = |name: &&&str| {
        flags
            .get(name)
            .is_some_and(|value| !value.is_empty() && value != "false")
    };
    if let Some(name) = UNSUPPORTED.iter().find(given) {
        return Err(Error::Refused(format!(
            "{name} is not supported for checkpoints"
        )));
    }
    if let Some(kind) = flags.all("empty-ns").find(|kind| *kind != "network") {
        return Err(Error::Refused(format!(
            "empty-ns: namespace {kind:?} cannot be left out, only network"
        )));
    }
    Ok(())
}

/// CRIU, and where it works as the flags say.
pub(crate) fn criu(flags: &Flags) -> Result<Criu> {
    let path = |name: &str| {
        let given = flags.get(name).filter(|path| !path.is_empty());
        given.map(bundle::absolute).transpose()
    };
    let images = match path("image-path")? {
        Some(images) => images,
        None => bundle::absolute("checkpoint")?,
    };
    Ok(Criu {
        program: program()?,
        environment: std::env::vars()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        work: path("work-path")?.unwrap_or_else(|| images.clone()),
        images,
    })
}

fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join("criu"))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            Error::Refused("checkpoints need the program criu, which is not in $PATH".into())
        })
}

fn checkpoint(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    refuse_unsupported(flags)?;
    let mut container = Container::open(runtime, &flags.words[0])?;
    let lock = container.directory.lock()?;
    container.refresh()?;
    let paused = match container.status_locked()? {
        Status::Running => false,
        Status::Paused => true,
        status => {
            let status = format!("{status:?}").to_lowercase();
            return Err(Error::WrongState(format!(
                "cannot checkpoint a container that is {status}"
            )));
        }
    };
    let (pid, _) = container.process().ok_or(Error::NotRunning)?;
    let spec = container.spec()?;
    if spec
        .process
        .as_ref()
        .is_some_and(|process| process.terminal)
    {
        return Err(Error::Refused(
            "a container with a terminal cannot be written down: it could not be restored".into(),
        ));
    }
    let mut options = options(flags, &spec);
    if paused {
        options.freezer = container
            .cgroup()?
            .and_then(|cgroup| Some(cgroup.freezer()?.to_owned()));
    }
    let stays = options.leave_running || options.pre_dump;
    wharf_container_runtime::checkpoint(&criu(flags)?, pid.as_raw_nonzero().get(), &options)
        .map_err(Error::Checkpoint)?;
    if !stays {
        destroy(runtime, container, Some(&spec), lock)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn options(flags: &Flags, spec: &Spec) -> CheckpointOptions {
    let text = |name: &str| flags.get(name).filter(|text| !text.is_empty());
    CheckpointOptions {
        leave_running: flags.is("leave-running"),
        tcp_established: flags.is("tcp-established"),
        external_unix_sockets: flags.is("ext-unix-sk"),
        shell_job: flags.is("shell-job"),
        file_locks: flags.is("file-locks"),
        pre_dump: flags.is("pre-dump"),
        freezer: None,
        parent: text("parent-path").map(PathBuf::from),
        auto_dedup: flags.is("auto-dedup"),
        manage_cgroups: text("manage-cgroups-mode").map(str::to_owned),
        empty_network: flags.get("empty-ns").is_some(),
        own_network: has_own_network(spec),
    }
}

/// Whether the network namespace is of nobody else's making, and goes with the container.
fn has_own_network(spec: &Spec) -> bool {
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    namespaces
        .filter(|namespace| namespace.kind == NamespaceKind::Network)
        .any(|namespace| namespace.path.as_deref().unwrap_or_default().is_empty())
}
