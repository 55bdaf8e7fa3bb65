//! Attacks on the runtime by way of its own command line.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use serde_json::json;
use wharf_tests::{Bundle, Host};

/// CVE-2019-5736 on `wharf runtime`: the container's program is the runtime's own, by way of
/// `/proc/self/exe`, and what it is can be kept open and written when nobody executes it any more.
/// Guard: the runtime runs from a read-only file system (`wharf/program.rs`, `sys/unwritable.rs`); the
/// file `wharf` on the disk is not executed by the time there is a container.
#[test]
fn cve_2019_5736_the_runtimes_program_cannot_be_overwritten() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "");
    // It becomes what called it, which knows no such command and ends; or, with an interpreter, it
    // is the interpreter.
    bundle.config["process"]["args"] = json!(["/proc/self/exe", "init"]);
    bundle.write();
    bundle.runtime(&["run", "c1"]);
    bundle.runtime(&["delete", "--force", "c1"]);

    // A container that waits to be started is still our program; its file in hand.
    bundle.config["process"]["args"] = json!(["true"]);
    bundle.write();
    bundle.runtime(&["create", "c2"]).ok();
    let pid = bundle.state("c2")["pid"].to_string();
    let path = format!("/proc/{}/root/proc/{pid}/exe", host.init_pid());
    let program = File::open(&path).unwrap();
    bundle.runtime(&["delete", "--force", "c2"]).ok();
    let again = format!("/proc/self/fd/{}", program.as_raw_fd());
    let written = loop {
        match File::options().write(true).open(&again) {
            // Whoever executed it is on its way out.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::yield_now();
            }
            Err(error) => break Err(error),
            Ok(mut file) => break file.write_all(b"overwritten"),
        }
    };
    let error = written.unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::ReadOnlyFilesystem,
        "{error}"
    );
    assert!(
        program
            .set_permissions(program.metadata().unwrap().permissions())
            .is_err()
    );
}
