//! PID 1 of a container started with `--init`.
//!
//! It starts the user's program as its child, in a process group of its own that has the
//! terminal, passes every signal on to it, reaps whatever the container's processes leave behind,
//! and ends as the program ended.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use wharf_sys::signal::{SignalSet, reset_all, set_mask, wait_for};
use wharf_sys::{clone, exec};

/// `argv[0]` under which the program that carries the runtime is run as [`init_reaper`]: its
/// `main` looks at its name first and calls it.
pub const INIT_ARGV0: &str = "/sbin/docker-init";

/// Signals the kernel sends because of what a process itself did: to be suffered, not passed on.
const OWN_FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// Stops for reading and writing the terminal from the background.
const TERMINAL_STOPS: [i32; 2] = [21, 22];

/// `SIGCHLD`.
const CHILD: i32 = 17;

/// Runs as PID 1: starts the program in `arguments` (those after `argv[0]`; an optional `--`
/// first), passes signals on to it, reaps whatever is orphaned, and returns the exit status to
/// end with. For a process with one thread.
pub fn init_reaper(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let mut program: Vec<CString> = arguments
        .into_iter()
        .filter_map(|argument| CString::new(argument.into_vec()).ok())
        .collect();
    if program
        .first()
        .is_some_and(|first| first.as_bytes() == b"--")
    {
        program.remove(0);
    }
    // What `ps` shows: the name of the file it was executed from says nothing.
    let _ = rustix::thread::set_name(c"docker-init");
    if program.is_empty() {
        return 125;
    }
    // The program was executed from a descriptor, which gives the process a meaningless name.
    // Nothing depends on the name: failing to set it is no reason to end.
    let _ = rustix::thread::set_name(c"docker-init");
    let watched: Vec<i32> = (1..=64)
        .filter(|signal| !OWN_FAULTS.contains(signal) && !TERMINAL_STOPS.contains(signal))
        .collect();
    let watched = SignalSet::of(&watched);
    if set_mask(watched).is_err() {
        return 125;
    }
    match clone::fork(|| become_program(&program)) {
        Ok(child) => watch_over(child, watched),
        Err(_) => 125,
    }
}

/// The child: takes the terminal and becomes the program.
fn become_program(program: &[CString]) -> u8 {
    // A group of its own, so that the terminal's keys signal the program alone and once.
    if rustix::process::setpgid(None, None).is_ok() {
        let group = rustix::process::getpgrp();
        // Without a terminal there is nothing to take. As long as this one is in the background,
        // taking it would stop us: those signals are blocked until `reset_all`.
        let _ = set_mask(SignalSet::all());
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group);
    }
    let _ = reset_all();
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut variable = name.into_vec();
            variable.push(b'=');
            variable.extend(value.into_vec());
            CString::new(variable).ok()
        })
        .collect();
    let errno = execute(program, &environment);
    let line = format!(
        "[FATAL init] exec {} failed: {errno}\n",
        program[0].to_string_lossy()
    );
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    if errno == Errno::NOENT { 127 } else { 126 }
}

/// As `execvp(3)`.
fn execute(program: &[CString], environment: &[CString]) -> Errno {
    let name = program[0].to_bytes();
    if name.contains(&b'/') {
        let Err(errno) = exec::execve(&program[0], program, environment);
        return errno;
    }
    let path = std::env::var_os("PATH").unwrap_or_default().into_vec();
    let mut reason = Errno::NOENT;
    for directory in path.split(|byte| *byte == b':') {
        let mut candidate = if directory.is_empty() {
            b".".to_vec()
        } else {
            directory.to_vec()
        };
        candidate.push(b'/');
        candidate.extend(name);
        if let Ok(candidate) = CString::new(candidate) {
            let Err(errno) = exec::execve(&candidate, program, environment);
            if errno != Errno::NOENT && errno != Errno::NOTDIR {
                reason = errno;
            }
        }
    }
    reason
}

fn watch_over(child: Pid, watched: SignalSet) -> i32 {
    loop {
        match wait_for(watched) {
            Ok(CHILD) => {
                if let Some(status) = reap(child) {
                    return status;
                }
            }
            Ok(signal) => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    let _ = kill_process(child, signal);
                }
            }
            Err(_) => {}
        }
    }
}

/// Reaps all that have ended; the program's own status when it is among them.
fn reap(child: Pid) -> Option<i32> {
    let mut program = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            program = status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
        }
    }
    program
}
