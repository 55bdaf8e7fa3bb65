//! The commands, one file each, and their table.

pub(crate) mod checkpoint;
pub(crate) mod delete;
mod events;
pub(crate) mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod spec;
mod start;
mod state;
mod update;

use crate::flags::{Flag, option, switch};
use crate::runtime::Command;
use crate::start::{Wanted, start};

const ID: &str = "<container-id>";

/// Every command.
pub(crate) const ALL: &[&Command] = &[
    &checkpoint::CHECKPOINT,
    &CREATE,
    &delete::COMMAND,
    &events::COMMAND,
    &exec::COMMAND,
    &features::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &pause::PAUSE,
    &ps::COMMAND,
    &checkpoint::RESTORE,
    &pause::RESUME,
    &RUN,
    &spec::COMMAND,
    &start::COMMAND,
    &state::COMMAND,
    &update::COMMAND,
];

const BUNDLE: Flag = option(
    &["bundle", "b"],
    "DIR",
    "path to the bundle (default: the working directory)",
);
const CONSOLE_SOCKET: Flag = option(
    &["console-socket"],
    "PATH",
    "unix socket that gets the terminal's master",
);
const PID_FILE: Flag = option(&["pid-file"], "FILE", "file to write the process ID to");
const PIDFD_SOCKET: Flag = option(
    &["pidfd-socket"],
    "PATH",
    "unix socket that gets a pidfd of the process",
);
const PRESERVE_FDS: Flag = option(
    &["preserve-fds"],
    "N",
    "pass N descriptors from 3 on to the container",
);
const NO_PIVOT: Flag = switch(
    &["no-pivot"],
    "do not use pivot_root; for hosts on a ramdisk",
);
const NO_NEW_KEYRING: Flag = switch(&["no-new-keyring"], "keep the session keyring");

const CREATE: Command = Command {
    name: "create",
    words: ID,
    count: (1, 1),
    help: "create a container",
    flags: &[
        BUNDLE,
        CONSOLE_SOCKET,
        PID_FILE,
        PIDFD_SOCKET,
        NO_PIVOT,
        NO_NEW_KEYRING,
        PRESERVE_FDS,
    ],
    run: |runtime, flags| start(runtime, flags, Wanted::Created),
    failure: 1,
    enters: true,
};

const RUN: Command = Command {
    name: "run",
    words: ID,
    count: (1, 1),
    help: "create and run a container",
    flags: &[
        BUNDLE,
        CONSOLE_SOCKET,
        switch(&["detach", "d"], "do not wait for the container's process"),
        switch(&["keep"], "do not delete the container when it has ended"),
        PID_FILE,
        PIDFD_SOCKET,
        switch(
            &["no-subreaper"],
            "do not reap what the container leaves behind",
        ),
        NO_PIVOT,
        NO_NEW_KEYRING,
        PRESERVE_FDS,
    ],
    run: |runtime, flags| {
        let wanted = if flags.is("detach") {
            Wanted::Detached
        } else {
            Wanted::Foreground
        };
        start(runtime, flags, wanted)
    },
    failure: 1,
    enters: true,
};
