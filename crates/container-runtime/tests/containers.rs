//! Real containers through the library, as root, in namespaces and cgroups of their own.
//!
//! The library belongs into a process with one thread, which the standard test harness is not:
//! this file has its own, which runs one test after the other.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test, with its own harness"
)]

#[path = "containers/basic.rs"]
mod basic;
#[path = "containers/confinement.rs"]
mod confinement;
#[path = "containers/escapes/mod.rs"]
mod escapes;
#[path = "containers/exec.rs"]
mod exec;
#[path = "containers/limits.rs"]
mod limits;
#[path = "containers/mapped.rs"]
mod mapped;
#[path = "containers/mounts.rs"]
mod mounts;
#[path = "containers/placement.rs"]
mod placement;
#[path = "containers/sandbox.rs"]
mod sandbox;
#[path = "containers/seccomp.rs"]
mod seccomp;
#[path = "containers/systemd.rs"]
mod systemd;
#[path = "containers/unified.rs"]
mod unified;
#[path = "containers/users.rs"]
mod users;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use sandbox::Sandbox;
use wharf_sys::mount::{AttributeChange, Propagation, change_attributes};

/// Asks for the tests that make sense on cgroup v2 alone.
const UNIFIED: &str = "--unified";

/// Asks for the tests with systemd.
const SYSTEMD: &str = "--systemd";

/// A test's name and body.
type Test = (&'static str, fn(&Sandbox));

fn main() -> ExitCode {
    // Containers started with `init` run this program under that name.
    let mut arguments = std::env::args_os();
    if arguments
        .next()
        .is_some_and(|name| name == wharf_container_runtime::INIT_ARGV0)
    {
        let status = wharf_container_runtime::init_reaper(arguments);
        return ExitCode::from(u8::try_from(status).unwrap_or(255));
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if !rustix::process::geteuid().is_root() {
        skip_all(basic::TESTS, &wanted, "containers need root");
        return ExitCode::SUCCESS;
    }
    // What tests mount is nobody else's business.
    wharf_sys::namespace::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
    let private = AttributeChange {
        propagation: Some(Propagation::Private),
        ..AttributeChange::default()
    };
    change_attributes(rustix::fs::CWD, c"/", true, private).unwrap();
    // Once more on the unified hierarchy, as far as this machine has it: in a process of its own,
    // because the library looks only once what there is.
    let unified = std::env::args().any(|argument| argument == UNIFIED);
    if unified {
        let all = wharf_sys::mount::new_filesystem(
            "cgroup2",
            &[],
            rustix::mount::MountAttrFlags::empty(),
        );
        wharf_sys::mount::attach_at(all.unwrap(), c"/sys/fs/cgroup").unwrap();
    }
    let sandbox = Sandbox::new();
    let mut failed = Vec::new();
    let mut everything = vec![
        basic::TESTS,
        confinement::TESTS,
        exec::TESTS,
        limits::TESTS,
        mapped::TESTS,
        mounts::TESTS,
        placement::TESTS,
        seccomp::TESTS,
        users::TESTS,
    ];
    everything.extend(escapes::TESTS);
    let mut in_both = vec![basic::TESTS, exec::TESTS, unified::TESTS, mapped::UNIFIED];
    in_both.extend(escapes::TESTS);
    let pure = wharf_container_runtime::Cgroup::at("/x").is_ok_and(|cgroup| cgroup.is_unified());
    if pure {
        everything.extend([unified::TESTS, mapped::UNIFIED]);
    }
    let with_systemd = std::env::args().any(|argument| argument == SYSTEMD);
    let all = if unified {
        &in_both
    } else if with_systemd {
        &vec![systemd::TESTS]
    } else {
        &everything
    };
    let mut passed = 0;
    for (name, test) in all.iter().copied().flatten() {
        if !is_wanted(name, &wanted) {
            continue;
        }
        // The name comes first: a test that hangs or takes everything down is known then.
        print!("test {name} ... ");
        std::io::stdout().flush().unwrap();
        match catch_unwind(AssertUnwindSafe(|| test(&sandbox))) {
            Ok(()) => {
                println!("ok");
                passed += 1;
            }
            Err(_) => {
                println!("FAILED");
                failed.push(name);
            }
        }
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; 0 ignored",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len()
    );
    drop(sandbox);
    let program = std::env::current_exe().unwrap();
    let alone = !unified && !with_systemd;
    let systemd = !alone || systemd::run_with_systemd(&program, SYSTEMD, &wanted);
    let again = alone
        && !pure
        && !std::process::Command::new(&program)
            .arg(UNIFIED)
            .args(&wanted)
            .status()
            .unwrap()
            .success();
    if failed.is_empty() && systemd && !again {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn is_wanted(name: &str, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str()))
}

/// Notes that none of `tests` can run, and why. They count as a test does that finds that out itself.
fn skip_all(tests: &[Test], wanted: &[String], reason: &str) {
    let wanted = tests.iter().filter(|(name, _)| is_wanted(name, wanted));
    let count = wanted
        .inspect(|(name, _)| wharf_tests::skip(name, reason))
        .count();
    println!("\ntest result: ok. {count} passed; 0 failed; 0 ignored");
}
