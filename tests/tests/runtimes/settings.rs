//! Which runtimes there are: the daemon's settings and their reload.

use wharf_tests::waiting::becomes;
use wharf_tests::{Daemon, fixtures};

use crate::host_for;

#[test]
fn runtimes_are_configured_as_in_docker() {
    let Some((host, _)) = host_for("runtimes::configuration", "runc") else {
        return;
    };
    let file = host.join("daemon.json");
    let write = |text: &str| std::fs::write(&file, text).expect("scratch is writable");
    write(r#"{"runtimes":{"slow":{"path":"runc"},"gone":{"path":"/no/such/runc"}}}"#);
    let daemon = Daemon::start_with(&host, &["--config-file", &file.display().to_string()]);
    daemon.load(&fixtures::busybox());
    daemon
        .docker(&["run", "--rm", "--runtime", "nosuch", "busybox", "true"])
        .code(125)
        .complains("unknown or invalid runtime name: nosuch");
    daemon
        .docker(&["run", "--rm", "--runtime", "gone", "busybox", "true"])
        .code(127)
        .complains("fork/exec /no/such/runc: no such file or directory");
    for built_in in ["runc", "io.containerd.runc.v2", "wharf"] {
        daemon
            .docker(&["run", "--rm", "--runtime", built_in, "busybox", "echo", "x"])
            .ok()
            .is("x");
    }
    daemon
        .docker(&[
            "info",
            "--format",
            "{{.DefaultRuntime}} {{range $k, $v := .Runtimes}}{{$k}}={{$v.Path}} {{end}}",
        ])
        .ok()
        .is("runc gone=/no/such/runc io.containerd.runc.v2=wharf runc=wharf slow=runc wharf=wharf");
    daemon
        .docker(&[
            "create",
            "--name",
            "sleeper",
            "--runtime",
            "slow",
            "busybox",
            "true",
        ])
        .ok();
    // A script is a runtime, too.
    let script = host.join("wrapped");
    std::fs::write(
        &script,
        "#!/bin/sh\necho \"$@\" >> $(dirname $0)/called\nexec runc \"$@\"\n",
    )
    .expect("scratch is writable");
    host.sh(&format!("chmod 755 {}", script.display())).ok();
    write(&format!(
        r#"{{"default-runtime":"mine","runtimes":{{"mine":{{"path":"{}","runtimeArgs":["--debug"]}}}}}}"#,
        script.display()
    ));
    host.sh(&format!(
        "kill -HUP $(cat {})",
        host.join("engine/wharf.pid").display()
    ))
    .ok();
    becomes(&"mine".to_owned(), || {
        let format = "{{.DefaultRuntime}}";
        daemon.docker(&["info", "-f", format]).ok().text()
    });
    daemon
        .docker(&["run", "--name", "wrapped-one", "busybox", "echo", "y"])
        .ok()
        .is("y");
    daemon
        .docker(&["inspect", "-f", "{{.HostConfig.Runtime}}", "wrapped-one"])
        .ok()
        .is("mine");
    host.sh(&format!(
        "cut -d' ' -f1,2 {} | sort -u",
        host.join("called").display()
    ))
    .ok()
    .is("--debug --root");
    daemon
        .docker(&["start", "sleeper"])
        .code(1)
        .complains("unknown or invalid runtime name: slow");
    daemon.docker(&["rm", "sleeper", "wrapped-one"]).ok();
}
