//! The whole engine as an ordinary user.
//!
//! `a_users_day` is the day of work of `day_of_work.rs` in rootless form. Left out there, because an
//! ordinary user cannot have them on a host that delegates no cgroups: limits that bite, `pause`,
//! memory and CPU in `stats`, `update` of limits. Builds and compose are not part of Wharf yet. nginx,
//! redis and PostgreSQL run in the rootful day only; here it is busybox.

use wharf_tests::user::{HOST_ADDRESS, NEIGHBOUR, User};
use wharf_tests::{Host, fixtures, skip};

/// Whether the programs are there that a rootless engine needs.
fn ready(test: &str) -> bool {
    let missing = ["newuidmap", "pasta", "slirp4netns", "setpriv"]
        .into_iter()
        .find(|program| !std::path::Path::new("/usr/bin").join(program).exists());
    if let Some(program) = missing {
        skip(test, &format!("{program} is not installed"));
    }
    missing.is_none()
}

fn load(user: &User<'_>, archive: &std::path::Path) {
    let bytes = std::fs::read(archive).unwrap();
    user.docker_with_input(&["load", "-q"], &bytes).ok();
}

#[test]
fn the_first_command_starts_the_users_own_engine() {
    if !ready("the_first_command_starts_the_users_own_engine") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["ps", "-q"]).ok().is("");
    let pid = user.sh("cat $XDG_RUNTIME_DIR/wharf.pid").ok().text();
    user.wharf(&["network", "ls", "--format", "{{.Name}}"])
        .ok()
        .is("bridge\nhost\nnone");
    assert_eq!(user.sh("cat $XDG_RUNTIME_DIR/wharf.pid").ok().text(), pid);
    user.docker(&[
        "info",
        "--format",
        "{{.SecurityOptions}} {{.DockerRootDir}}",
    ])
    .ok()
    .says("name=rootless")
    .says(".local/share/wharf");
    user.docker(&["info"])
        .ok()
        .complains("WARNING: Running in rootless-mode without cgroups");
    // A second daemon is told who is there and changes nothing.
    user.wharf(&["daemon"]).code(1).complains(&pid);
    // It ends in order, and everything with it: keeper, network program, namespaces, sockets.
    user.sh(&format!("kill -TERM {pid}")).ok();
    user.wait_until_gone();
    user.sh("ls $XDG_RUNTIME_DIR $XDG_RUNTIME_DIR/wharf")
        .never_says("sock")
        .never_says("wharf.pid")
        .never_says("keeper");
}

#[test]
fn a_users_day() {
    if !ready("a_users_day") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["version"]).ok().says("Server:");
    let docker = |arguments: &[&str]| user.docker(arguments);
    load(&user, &fixtures::busybox());
    docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok()
        .is("busybox:latest");

    // Runs and exit codes.
    docker(&["run", "--rm", "busybox", "echo", "hello world"])
        .ok()
        .is("hello world");
    docker(&["run", "--rm", "busybox", "sh", "-c", "exit 7"]).code(7);
    docker(&["run", "--rm", "busybox", "no-such-program"])
        .code(127)
        .complains("executable file not found in $PATH");
    user.docker_with_input(
        &["run", "--rm", "-i", "busybox", "wc", "-c"],
        b"twelve bytes",
    )
    .ok()
    .is("12");
    docker(&["run", "--rm", "-t", "busybox", "tty"])
        .ok()
        .says("/dev/pts/0");
    docker(&["run", "--rm", "-u", "www-data", "busybox", "id", "-u"])
        .ok()
        .is("33");
    docker(&[
        "run",
        "--rm",
        "--init",
        "busybox",
        "sh",
        "-c",
        "cat /proc/1/comm",
    ])
    .ok();
    docker(&["run", "--rm", "--read-only", "busybox", "touch", "/x"])
        .code(1)
        .complains("Read-only file system");
    docker(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo x > /dev/null; head -c 1 /dev/zero | wc -c",
    ])
    .ok()
    .is("1");
    // Limits are said to be none.
    docker(&["run", "--rm", "-m", "32m", "busybox", "true"])
        .ok()
        .complains("Limitation discarded");

    // In the background: logs, exec, top, cp, stats, attach.
    docker(&[
        "run",
        "-d",
        "--name",
        "job",
        "busybox",
        "sh",
        "-c",
        "echo started; exec sleep 1000",
    ])
    .ok();
    docker(&["logs", "-f", "--until", "1s", "job"]).ok();
    docker(&["exec", "job", "sh", "-c", "echo from exec; exit 3"])
        .code(3)
        .is("from exec");
    user.docker_with_input(
        &[
            "exec",
            "-i",
            "job",
            "sh",
            "-c",
            "cat > /tmp/in; cat /tmp/in",
        ],
        b"typed",
    )
    .ok()
    .is("typed");
    docker(&["top", "job"]).ok().says("sleep 1000");
    docker(&["stats", "--no-stream", "--format", "{{.Name}}"])
        .ok()
        .is("job");
    docker(&["cp", "job:/tmp/in", "-"]).ok().says("typed");
    docker(&["pause", "job"])
        .code(1)
        .complains("it has no cgroup");
    docker(&["stop", "-t", "0", "job"]).ok();
    docker(&["start", "job"]).ok();
    docker(&["rename", "job", "task"]).ok();
    docker(&["rm", "-f", "task"]).ok();

    // Files belong to whom they should: root in there is the user, others are subordinate.
    let folder = user.home().join("src");
    user.sh("mkdir ~/src; echo mine > ~/src/mine").ok();
    let bind = format!("{}:/src", folder.display());
    docker(&[
        "run",
        "--rm",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "stat -c %u /src/mine; echo new > /src/new; touch /src/theirs; chown 1000:1000 /src/theirs",
    ])
    .ok()
    .is("0");
    user.sh("stat -c %u ~/src/new ~/src/theirs")
        .ok()
        .is(&format!("{}\n{}", user.outside(0), user.outside(1000)));
    docker(&["volume", "create", "data"]).ok();
    docker(&[
        "run",
        "--rm",
        "-v",
        "data:/data",
        "busybox",
        "sh",
        "-c",
        "echo kept > /data/f; chown 33:33 /data/f",
    ])
    .ok();
    docker(&[
        "run",
        "--rm",
        "-v",
        "data:/data",
        "busybox",
        "sh",
        "-c",
        "cat /data/f; stat -c %u:%g /data/f",
    ])
    .ok()
    .is("kept\n33:33");

    // Networks and names.
    docker(&["network", "create", "back"]).ok();
    docker(&[
        "run",
        "-d",
        "--name",
        "db",
        "--network",
        "back",
        "--network-alias",
        "store",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    docker(&[
        "run",
        "--rm",
        "--network",
        "back",
        "busybox",
        "ping",
        "-c",
        "1",
        "-W",
        "5",
        "store",
    ])
    .ok()
    .says("1 packets received");
    docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "ip",
        "-o",
        "link",
    ])
    .ok()
    .never_says("eth0");
    // The host's network is the host's.
    docker(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "ip",
        "addr",
        "show",
        "out0",
    ])
    .ok()
    .says(HOST_ADDRESS);
    docker(&[
        "run", "--rm", "--pid", "host", "--ipc", "host", "--uts", "host", "busybox", "ps",
    ])
    .ok()
    .says("rootless-keeper");

    // To the outside.
    user.neighbour(
        "mkdir -p /tmp/www; echo from the other machine > /tmp/www/page; \
        cd /tmp/www; python3 -m http.server --bind 192.0.2.1 8000 > /dev/null 2>&1 &",
    )
    .ok();
    user.neighbour(
        "curl -s --retry 40 --retry-connrefused --retry-delay 0 http://192.0.2.1:8000/page",
    )
    .ok();
    docker(&[
        "run",
        "--rm",
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://192.0.2.1:8000/page",
    ])
    .ok()
    .is("from the other machine");

    // Published ports, from here and from another machine, with the client's own address.
    docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "busybox",
        "sh",
        "-c",
        "mkdir /w; echo page > /w/index.html; exec httpd -f -v -p 80 -h /w",
    ])
    .ok();
    for address in ["127.0.0.1", "[::1]", HOST_ADDRESS] {
        let page = host.fetch(&format!("http://{address}:8080/"));
        page.ok().is("page");
    }
    user.neighbour(&format!(
        "curl -s --max-time 20 http://{HOST_ADDRESS}:8080/"
    ))
    .ok()
    .is("page");
    // The server writes its line after the page.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !docker(&["logs", "web"]).ok().stderr.contains(NEIGHBOUR) {
        assert!(
            std::time::Instant::now() < deadline,
            "the server does not see its client"
        );
    }
    docker(&["port", "web", "80"]).ok().says("0.0.0.0:8080");
    docker(&["run", "--rm", "-p", "8080:80", "busybox", "true"])
        .code(125)
        .complains("port is already allocated");
    docker(&["run", "--rm", "-p", "80:80", "busybox", "true"])
        // Docker's client takes these words for those of a program.
        .code(126)
        .complains("sysctl -w net.ipv4.ip_unprivileged_port_start=80");
    docker(&["rm", "-f", "web", "db"]).ok();
    docker(&["network", "rm", "back"]).ok();

    // Restart policy.
    docker(&[
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "exit 9",
    ])
    .ok();
    docker(&["wait", "again"]).ok();
    docker(&["rm", "-f", "again"]).ok();

    // Nothing is left but what was asked for, and then nothing.
    docker(&["system", "prune", "-af", "--volumes"]).ok();
    docker(&["ps", "-aq"]).ok().is("");
    docker(&["images", "-q"]).ok().is("");
    user.sh("kill -TERM $(cat $XDG_RUNTIME_DIR/wharf.pid)").ok();
    user.wait_until_gone();
    let mounts = host.sh("cat /proc/mounts").ok();
    mounts.never_says(".local/share/wharf");
}

#[test]
fn containers_outlive_the_users_daemon() {
    if !ready("containers_outlive_the_users_daemon") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["version"]).ok();
    load(&user, &fixtures::busybox());
    user.docker(&["network", "create", "back"]).ok();
    user.docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "back",
        "-p",
        "8080:80",
        "busybox",
        "sh",
        "-c",
        "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w",
    ])
    .ok();
    let first = user
        .docker(&[
            "inspect",
            "-f",
            "{{.State.Pid}} {{.State.StartedAt}}",
            "web",
        ])
        .ok()
        .text();
    let wait = "for i in $(seq 100000); do [ -e /proc/$p ] || exit 0; done; exit 1";
    user.sh(&format!(
        "p=$(cat $XDG_RUNTIME_DIR/wharf.pid); kill -9 $p; {wait}"
    ))
    .ok();
    // The next command joins the namespaces of before.
    user.wharf(&["ps", "--format", "{{.Names}}"]).ok().is("web");
    let again = user
        .docker(&[
            "inspect",
            "-f",
            "{{.State.Pid}} {{.State.StartedAt}}",
            "web",
        ])
        .ok()
        .text();
    assert_eq!(first, again);
    host.fetch("http://127.0.0.1:8080/").ok().is("page");
    user.docker(&["exec", "web", "nslookup", "web"]).ok();
    user.docker(&[
        "run",
        "--rm",
        "--network",
        "back",
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://web/",
    ])
    .ok()
    .is("page");

    // Killed shim: nothing of the container is left after the next start, though no cgroup tells.
    user.sh(&format!(
        "p=$(cat $XDG_RUNTIME_DIR/wharf.pid); kill -9 $p; pkill -9 -f '^wharf-shim'; {wait}"
    ))
    .ok();
    user.wharf(&["ps", "-q"]).ok().is("");
    user.sh("pgrep httpd").code(1);

    // Killed keeper: the daemon notices and ends, and the next command begins anew.
    user.sh(
        "p=$(cat $XDG_RUNTIME_DIR/wharf.pid); pkill -9 -f [r]ootless-keeper; \
        for i in $(seq 100000); do [ -e /proc/$p ] || exit 0; done; exit 1",
    )
    .ok();
    user.wharf(&["start", "web"]).ok();
    host.fetch("http://127.0.0.1:8080/").ok().is("page");
    user.wharf(&["rm", "-f", "web"]).ok();
    user.sh("kill -TERM $(cat $XDG_RUNTIME_DIR/wharf.pid)").ok();
    user.wait_until_gone();
}

#[test]
fn slirp4netns_serves_where_pasta_is_missing() {
    if !ready("slirp4netns_serves_where_pasta_is_missing") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    host.sh("mount --bind /dev/null /usr/bin/pasta").ok();
    user.wharf(&["version"]).ok();
    load(&user, &fixtures::busybox());
    host.sh("pgrep slirp4netns").ok();
    user.docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "busybox",
        "sh",
        "-c",
        "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w",
    ])
    .ok();
    host.fetch("http://127.0.0.1:8080/").ok().is("page");
    // It is started again when it ends.
    user.wharf(&["rm", "-f", "web"]).ok();
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    if !ready("what_is_missing_is_named_with_its_remedy") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    let refused = |prepare: &str, remedy: &str, restore: &str| {
        host.sh(prepare).ok();
        user.wharf(&["ps"]).code(1).complains(remedy);
        user.wharf(&["daemon"]).code(1).complains(remedy);
        host.sh(restore).ok();
    };
    for program in ["newuidmap", "newgidmap"] {
        refused(
            &format!("mount --bind /dev/null /usr/bin/{program}"),
            "apt-get install uidmap",
            &format!("umount /usr/bin/{program}"),
        );
    }
    refused(
        "mount --bind /dev/null /etc/subuid",
        "usermod --add-subuids 100000-165535 ann",
        "umount /etc/subuid",
    );
    refused(
        "echo bob:100000:65536 > /run/subgid; mount --bind /run/subgid /etc/subgid",
        "usermod --add-subgids 165536-231071 ann",
        "umount /etc/subgid",
    );
    refused(
        "mount --bind /dev/null /usr/bin/pasta; mount --bind /dev/null /usr/bin/slirp4netns",
        "apt-get install passt",
        "umount /usr/bin/pasta /usr/bin/slirp4netns",
    );
    refused(
        "chmod 600 /dev/net/tun",
        "chmod 666 /dev/net/tun",
        "chmod 666 /dev/net/tun",
    );
    // Nothing of the failed attempts is left.
    user.wait_until_gone();
    // Without a session: a directory of one's own in /tmp, unless somebody else has its name.
    host.sh("mkdir /tmp/wharf-5001; mv /run/user /run/user.away")
        .ok();
    let mut ps = user.wharf_command(&["ps", "-q"]);
    ps.env_remove("XDG_RUNTIME_DIR");
    wharf_tests::run(ps, None)
        .code(1)
        .complains("export XDG_RUNTIME_DIR=");
    host.sh("rmdir /tmp/wharf-5001").ok();
    let mut ps = user.wharf_command(&["ps", "-q"]);
    ps.env_remove("XDG_RUNTIME_DIR");
    wharf_tests::run(ps, None).ok().is("");
    host.sh("stat -c %a /tmp/wharf-5001; test -S /tmp/wharf-5001/wharf.sock")
        .ok()
        .says("700");
}
