//! User namespaces that are somebody's: the caller's ids kept (`keep-id`), another container's
//! namespace joined (`container:`).

use wharf_tests::run;

use crate::{daemon, host, inspect, owner};

#[test]
fn a_kept_id_is_the_callers_on_both_sides() {
    let host = host();
    let daemon = daemon(&host, &[]);
    let home = host.join("home");
    std::fs::create_dir(&home).unwrap();
    host.sh(&format!(
        "chown 4711:4712 {}; chmod 700 {0}; chmod 755 {} {}; chmod 666 {}",
        home.display(),
        host.path().display(),
        host.join("engine").display(),
        daemon.url().trim_start_matches("unix://"),
    ))
    .ok();
    let as_user = |arguments: &[&str]| {
        let mut command = host.command("setpriv");
        command
            .args(["--reuid", "4711", "--regid", "4712", "--clear-groups", "--"])
            .arg(wharf_tests::wharf_binary())
            .env("DOCKER_HOST", daemon.url())
            .args(arguments);
        run(command, None)
    };
    let bind = format!("{}:/home/me", home.display());
    as_user(&[
        "run",
        "--rm",
        "--userns=keep-id",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "id -u; id -g; touch /home/me/mine",
    ])
    .ok()
    .is("4711\n4712");
    assert_eq!(owner(&host, &home.join("mine")), "4711:4712");
    // As somebody else inside: root, say.
    as_user(&[
        "run",
        "--rm",
        "--userns=keep-id:uid=0,gid=0",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "id -u; touch /home/me/roots; chown 33 /home/me/roots",
    ])
    .ok()
    .is("0");
    assert_eq!(
        owner(&host, &home.join("roots")),
        format!("{}:4712", 0x7000_0000_u32 + 32)
    );
    // A client that does not say who it is: the socket does.
    let request =
        r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"UsernsMode":"keep-id:uid=5"}}"#;
    let mut command = host.command("setpriv");
    command
        .args(["--reuid", "4711", "--regid", "4712", "--clear-groups", "--"])
        .args(["curl", "--silent", "--show-error", "--unix-socket"])
        .arg(daemon.url().trim_start_matches("unix://"))
        .args(["-H", "Content-Type: application/json", "-d", request])
        .arg("http://wharf/v1.44/containers/create?name=asked");
    run(command, None).ok().says("\"Id\"");
    let asked = inspect(&daemon, "asked");
    assert_eq!(asked["Config"]["User"], "5:4712");
    assert_eq!(asked["State"]["IDMappings"]["UidMap"][1], "5:4711:1");
    assert_eq!(asked["State"]["IDMappings"]["GidMap"][1], "4712:4712:1");
    daemon
        .wharf(&["run", "--rm", "--userns=keep-id", "busybox", "true"])
        .code(125)
        .complains("cannot be used by root");
}

#[test]
fn namespaces_are_joined_together_or_not_at_all() {
    let host = host();
    let daemon = daemon(&host, &["--userns-remap", "mapper"]);
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "first",
            "--ipc",
            "shareable",
            "busybox",
            "sleep",
            "600",
        ])
        .ok();
    let link = |words: &[&str]| {
        let mut all = vec!["run", "--rm"];
        all.extend(words);
        all.extend(["busybox", "readlink", "/proc/self/ns/user"]);
        daemon.wharf(&all)
    };
    let first = daemon
        .docker(&["exec", "first", "readlink", "/proc/self/ns/user"])
        .ok()
        .text();
    // Docker: who shares a network shares the user namespace.
    for sharing in ["--network", "--pid", "--ipc"] {
        link(&[sharing, "container:first"]).ok().is(&first);
    }
    link(&["--userns", "container:first"]).ok().is(&first);
    link(&["--userns", "container:first", "--network", "none"])
        .ok()
        .is(&first);
    assert_ne!(link(&[]).ok().text(), first);
    link(&["--userns", "auto", "--network", "container:first"])
        .code(125)
        .complains("use --userns=container:NAME");
    link(&["--userns", "container:nothing"])
        .code(125)
        .complains("No such container: nothing");
    daemon
        .docker(&[
            "run", "-d", "--name", "free", "--userns", "host", "busybox", "sleep", "600",
        ])
        .ok();
    link(&["--network", "container:free"]).code(125).complains(
        "cannot share the network namespace of a container in the host's user namespace",
    );
    link(&["--userns", "bogus"])
        .code(125)
        .complains("invalid USER mode");
    link(&["--userns", "auto:size=none"])
        .code(125)
        .complains("invalid user namespace mode: auto:size=none: \"none\" is not a number of ids");
}
