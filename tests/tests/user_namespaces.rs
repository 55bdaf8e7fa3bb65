//! Containers in user namespaces of their own: the daemon-wide remap, ranges of ids, and whose files
//! are whose on the host.

use serde_json::Value;
use wharf_tests::{Daemon, Host, fixtures, run};

/// A host with accounts and subordinate ids of its own.
fn host() -> Host {
    let host = Host::new();
    let folder = host.join("etc");
    host.sh(&format!(
        "mkdir -p {0}/up {0}/work && mount -t overlay etc -o lowerdir=/etc,upperdir={0}/up,workdir={0}/work /etc && \
         echo 'mapper:x:4700:4700::/:/bin/false' >> /etc/passwd && echo 'mapper:x:4700:' >> /etc/group && \
         echo 'mapper:700000:65536' > /etc/subuid && echo 'mapper:800000:65536' > /etc/subgid",
        folder.display()
    ))
    .ok();
    host
}

/// One start of a daemon that has `busybox`.
fn daemon<'h>(host: &'h Host, arguments: &[&str]) -> Daemon<'h> {
    let daemon = Daemon::start_with(host, arguments);
    daemon.load(&fixtures::busybox());
    daemon
}

/// `first:host:size` of a container's user ids, as the kernel says.
fn uid_map(daemon: &Daemon<'_>, container: &str) -> Vec<String> {
    let text = daemon
        .docker(&["exec", container, "cat", "/proc/self/uid_map"])
        .ok()
        .stdout;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(":");
    text.lines().map(words).collect()
}

/// Owner and group of a path of the host.
fn owner(host: &Host, path: &std::path::Path) -> String {
    host.sh(&format!("stat -c %u:%g {}", path.display()))
        .ok()
        .text()
}

fn inspect(daemon: &Daemon<'_>, container: &str) -> Value {
    let text = daemon.docker(&["inspect", container]).ok().stdout;
    let list: Value = serde_json::from_str(&text).unwrap();
    list[0].clone()
}

#[test]
fn the_remap_is_for_all_containers_that_do_not_opt_out() {
    let host = host();
    let daemon = daemon(&host, &["--userns-remap", "mapper"]);
    daemon
        .docker(&["info", "--format", "{{.SecurityOptions}}"])
        .ok()
        .says("name=userns");
    let open = host.join("open");
    std::fs::create_dir(&open).unwrap();
    host.sh(&format!("chmod 777 {}", open.display())).ok();
    let bind = format!("{}:/open", open.display());
    daemon
        .docker(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map; touch /open/file; ping -c 1 -w 5 127.0.0.1 >/dev/null && echo pinged; ip link add dummy0 type dummy 2>&1 | head -1"])
        .ok()
        .says("pinged")
        .says("700000")
        .says("800000");
    assert_eq!(owner(&host, &open.join("file")), "700000:800000");
    daemon
        .docker(&[
            "run",
            "--rm",
            "--userns=host",
            "busybox",
            "cat",
            "/proc/self/uid_map",
        ])
        .ok()
        .says("4294967295");
    for (flags, why) in [
        (
            &["--privileged"][..],
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        ),
        (
            &["--network", "host"],
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            &["--pid", "host"],
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ] {
        let mut words = vec!["run", "--rm"];
        words.extend(flags);
        let mut allowed = words.clone();
        words.extend(["busybox", "true"]);
        daemon.docker(&words).code(125).complains(why);
        allowed.extend(["--userns=host", "busybox", "true"]);
        daemon.docker(&allowed).ok();
    }
    // What a container keeps does not depend on the remap: no data root of its own, nothing chowned.
    daemon
        .docker(&[
            "run",
            "--name",
            "kept",
            "-v",
            "kept:/data",
            "busybox",
            "sh",
            "-c",
            "touch /mine; chown 33:33 /mine; touch /data/its",
        ])
        .ok();
    assert_eq!(
        inspect(&daemon, "kept")["State"]["IDMappings"]["UidMap"][0],
        "0:700000:65536"
    );
    let its = daemon.data_root().join("volumes/kept/_data/its");
    assert_eq!(owner(&host, &its), "0:0");
    daemon.terminate();
    drop(daemon);
    let daemon = Daemon::start(&host);
    daemon
        .docker(&["info", "--format", "{{.SecurityOptions}}"])
        .ok()
        .never_says("userns");
    daemon.docker(&["start", "-a", "kept"]).ok();
    daemon
        .docker(&[
            "run",
            "--rm",
            "--volumes-from",
            "kept",
            "busybox",
            "stat",
            "-c",
            "%u:%g",
            "/data/its",
        ])
        .ok()
        .is("0:0");
    let copied = host.join("copied.tar");
    let mut command = daemon.docker_command(&["cp", "-a", "kept:/mine", "-"]);
    command.stdout(std::fs::File::create(&copied).unwrap());
    assert!(command.status().unwrap().success());
    host.sh(&format!("tar tvf {} --numeric-owner", copied.display()))
        .ok()
        .says(" 33/33 ");
}

#[test]
fn a_wrong_remap_is_named_at_the_start() {
    let host = host();
    let folder = host.join("wrong");
    for (setting, why) in [
        (
            "nobody-there",
            "Error during uid lookup for \"nobody-there\"",
        ),
        (
            "a:b:c",
            "Invalid user/group specification in --userns-remap: \"a:b:c\"",
        ),
        (
            "daemon",
            "Can't create ID mappings: no subuid ranges found for user \"daemon\"",
        ),
    ] {
        let mut command = host.command(wharf_tests::wharf_binary());
        command
            .arg("daemon")
            .args(["--userns-remap", setting, "--pidfile"])
            .arg(folder.with_extension("pid"))
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--host")
            .arg(format!(
                "unix://{}",
                folder.with_extension("sock").display()
            ));
        let output = run(command, None);
        assert_ne!(output.code, 0, "{setting}");
        assert!(
            output.stderr.contains(why) || output.stdout.contains(why),
            "{setting}: {output:?}"
        );
    }
}

#[test]
fn automatic_ranges_differ_and_share_a_volume() {
    let host = host();
    let daemon = daemon(&host, &[]);
    for name in ["one", "two"] {
        daemon
            .wharf(&[
                "run",
                "-d",
                "--name",
                name,
                "--userns=auto",
                "-v",
                "shared:/shared",
                "busybox",
                "sleep",
                "600",
            ])
            .ok();
    }
    daemon
        .wharf(&[
            "run",
            "-d",
            "--name",
            "three",
            "--userns=auto:size=1000,uidmapping=5:4700:1",
            "busybox",
            "sleep",
            "600",
        ])
        .ok();
    let (one, two) = (uid_map(&daemon, "one"), uid_map(&daemon, "two"));
    assert_eq!(one, ["0:1879048192:65536"]);
    assert_eq!(two, ["0:1879113728:65536"]);
    assert_eq!(
        uid_map(&daemon, "three"),
        ["0:1879179264:5", "5:4700:1", "6:1879179269:994"]
    );
    assert_eq!(
        inspect(&daemon, "three")["State"]["IDMappings"]["UidMap"],
        serde_json::json!(["0:1879179264:5", "5:4700:1", "6:1879179269:994"])
    );
    // Each writes; each sees the other's files as its own ids; the host has plain ids.
    daemon.docker(&["exec", "one", "touch", "/shared/one"]).ok();
    daemon
        .docker(&["exec", "--user", "33", "two", "touch", "/shared/two"])
        .code(1)
        .complains("Permission denied");
    daemon
        .docker(&["exec", "two", "chmod", "1777", "/shared"])
        .ok();
    daemon
        .docker(&["exec", "--user", "33:33", "two", "touch", "/shared/two"])
        .ok();
    for name in ["one", "two"] {
        daemon
            .docker(&[
                "exec",
                name,
                "stat",
                "-c",
                "%u:%g",
                "/shared/one",
                "/shared/two",
            ])
            .ok()
            .is("0:0\n33:33");
    }
    let volume = daemon.data_root().join("volumes/shared/_data");
    assert_eq!(owner(&host, &volume.join("one")), "0:0");
    assert_eq!(owner(&host, &volume.join("two")), "33:33");
    // A process of the one has no rights over the other's: they are different users of the host.
    let pid = inspect(&daemon, "one")["State"]["Pid"].to_string();
    host.sh(&format!("stat -c %u /proc/{pid}"))
        .ok()
        .is("1879048192");
    daemon
        .docker(&["top", "one", "-eo", "pid,uid,comm"])
        .ok()
        .says("1879048192");
    // A range is free again with its container.
    daemon.docker(&["rm", "-f", "one"]).ok();
    daemon
        .wharf(&[
            "run",
            "-d",
            "--name",
            "four",
            "--userns=auto",
            "busybox",
            "sleep",
            "600",
        ])
        .ok();
    assert_eq!(uid_map(&daemon, "four"), one);
    // Not more than there is.
    host.sh("echo containers:5000000:100000 > /etc/subuid; cp /etc/subuid /etc/subgid")
        .ok();
    daemon
        .wharf(&[
            "run",
            "-d",
            "--name",
            "five",
            "--userns=auto",
            "busybox",
            "sleep",
            "600",
        ])
        .ok();
    assert_eq!(uid_map(&daemon, "five"), ["0:5000000:65536"]);
    daemon
        .wharf(&["run", "--rm", "--userns=auto", "busybox", "true"])
        .code(125)
        .complains(
            "not enough unused user ids for a user namespace of 65536: 34464 of 100000 are left",
        );
    daemon
        .wharf(&[
            "run",
            "--rm",
            "--userns=auto:size=34464",
            "busybox",
            "cat",
            "/proc/self/uid_map",
        ])
        .ok()
        .says("5065536");
}

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
fn binds_are_mapped_where_asked_for() {
    let host = host();
    let daemon = daemon(&host, &[]);
    let folder = host.join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("roots"), "x").unwrap();
    let shown = format!("{}", folder.display());
    let plain = format!("{shown}:/data");
    let mapped = format!("{shown}:/data:idmap");
    let stat = [
        "busybox",
        "sh",
        "-c",
        "stat -c %u:%g /data/roots; touch /data/new",
    ];
    let with = |flags: &[&str]| {
        let mut words = vec!["run", "--rm", "--userns=auto"];
        words.extend(flags);
        words.extend(stat);
        daemon.wharf(&words)
    };
    // As it is: the host's root is nobody.
    with(&["-v", &plain]).code(1).says("65534:65534");
    with(&["-v", &mapped]).ok().is("0:0");
    assert_eq!(owner(&host, &folder.join("new")), "0:0");
    host.sh(&format!("rm {shown}/new")).ok();
    with(&["--mount", &format!("type=bind,src={shown},dst=/data,idmap")])
        .ok()
        .is("0:0");
    host.sh(&format!(
        "rm {shown}/new; chown 4711:4712 {shown} {shown}/roots"
    ))
    .ok();
    // What 4711 has is root's inside, and the other way round.
    let given = format!("{shown}:/data:idmap=uids=@4711-0-1;gids=@4712-0-1");
    with(&["-v", &given]).ok().is("0:0");
    assert_eq!(owner(&host, &folder.join("new")), "4711:4712");
    // Also without a user namespace, and from the reference client.
    let given = format!("{shown}:/data:idmap=uids=4711-0-1;gids=4712-0-1");
    daemon
        .docker(&[
            "run",
            "--rm",
            "-v",
            &given,
            "busybox",
            "stat",
            "-c",
            "%u:%g",
            "/data/roots",
        ])
        .ok()
        .is("0:0");
    for (mode, why) in [
        ("idmap", "idmap needs a mapping"),
        (
            "idmap=uids=1-2",
            "invalid idmap range \"1-2\": DISK-HOST-SIZE expected",
        ),
        ("idmap=everything", "invalid idmap option \"everything\""),
    ] {
        daemon
            .docker(&[
                "run",
                "--rm",
                "-v",
                &format!("{shown}:/data:{mode}"),
                "busybox",
                "true",
            ])
            .code(125)
            .complains(why);
    }
}

#[test]
fn files_are_copied_both_ways_and_a_restart_changes_nothing() {
    let host = host();
    let daemon = daemon(&host, &["--userns-remap", "mapper"]);
    let folder = host.join("data");
    std::fs::create_dir(&folder).unwrap();
    let bind = format!("{}:/bound", folder.display());
    daemon
        .docker(&[
            "run", "-d", "--name", "box", "-v", "vol:/vol", "-v", &bind, "busybox", "sleep", "600",
        ])
        .ok();
    let before = uid_map(&daemon, "box");
    daemon.kill();
    daemon.restart();
    assert_eq!(uid_map(&daemon, "box"), before);
    assert_eq!(
        inspect(&daemon, "box")["State"]["IDMappings"]["GidMap"][0],
        "0:800000:65536"
    );
    let file = host.join("file");
    std::fs::write(&file, "text").unwrap();
    host.sh(&format!("chown 33:34 {}", file.display())).ok();
    let file = file.display().to_string();
    for running in [true, false] {
        for place in ["/root", "/vol", "/bound"] {
            daemon
                .docker(&["cp", &file, &format!("box:{place}/kept")])
                .ok();
            let archive = host.join("out.tar");
            let mut command = daemon.docker_command(&["cp", &format!("box:{place}/kept"), "-"]);
            command.stdout(std::fs::File::create(&archive).unwrap());
            assert!(command.status().unwrap().success());
            host.sh(&format!("tar tvf {} --numeric-owner", archive.display()))
                .ok()
                .says(" 33/34 ");
        }
        if running {
            daemon
                .docker(&[
                    "exec",
                    "box",
                    "stat",
                    "-c",
                    "%u:%g",
                    "/root/kept",
                    "/vol/kept",
                    "/bound/kept",
                ])
                .ok()
                .is("33:34\n33:34\n33:34");
        } else {
            daemon.docker(&["start", "box"]).ok();
            daemon
                .docker(&[
                    "exec",
                    "box",
                    "stat",
                    "-c",
                    "%u:%g",
                    "/root/kept",
                    "/vol/kept",
                    "/bound/kept",
                ])
                .ok()
                .is("33:34\n33:34\n33:34");
        }
        assert_eq!(owner(&host, &folder.join("kept")), "700033:800034");
        assert_eq!(
            owner(&host, &daemon.data_root().join("volumes/vol/_data/kept")),
            "33:34"
        );
        daemon
            .docker(&["exec", "box", "rm", "/root/kept", "/vol/kept"])
            .ok();
        // The directory is the host's root's: nothing the container's root could change.
        daemon.docker(&["exec", "box", "rm", "/bound/kept"]).code(1);
        std::fs::remove_file(folder.join("kept")).unwrap();
        daemon.docker(&["stop", "-t", "0", "box"]).ok();
    }
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

#[test]
fn everything_else_works_as_ever() {
    let host = host();
    let daemon = daemon(&host, &["--userns-remap", "default"]);
    daemon.docker(&["network", "create", "net"]).ok();
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "net",
            "-p",
            "8080:80",
            "--init",
            "--tmpfs",
            "/scratch",
            "--shm-size",
            "1m",
            "--device",
            "/dev/zero:/dev/nought",
            "--ulimit",
            "nofile=100",
            "--memory",
            "64m",
            "--health-cmd",
            "true",
            "--health-interval",
            "1s",
            "-v",
            "/www",
            "--hostname",
            "web",
            "--add-host",
            "other:10.1.2.3",
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "busybox",
            "sh",
            "-c",
            "echo hello > /www/index.html; exec httpd -f -p 80 -h /www",
        ])
        .ok();
    host.fetch("http://127.0.0.1:8080/").ok().is("hello");
    daemon
        .docker(&[
            "run",
            "--rm",
            "--network",
            "net",
            "busybox",
            "wget",
            "-qO-",
            "http://web/",
        ])
        .ok()
        .is("hello");
    let script = "set -e; cat /proc/1/comm; touch /scratch/x /dev/shm/x; grep -q 10.1.2.3 /etc/hosts; echo '10.9.9.9 added' >> /etc/hosts; \
        stat -c %u:%g /etc/hosts /etc/resolv.conf /etc/hostname /scratch /dev/shm; hostname; head -c 4 /dev/nought | wc -c; echo x > /dev/null; \
        ulimit -n; cat /proc/sys/net/ipv4/ip_forward; ls /sys/class/net; test -r /sys/fs/cgroup; nslookup web >/dev/null; mount | grep -c ' /dev/mqueue '; \
        (umount /proc 2>/dev/null && echo unmounted) || true; (mknod /scratch/null c 1 3 2>/dev/null && echo made) || true; (echo 1 > /proc/sys/kernel/panic 2>/dev/null && echo wrote) || true";
    daemon
        .docker(&["exec", "web", "sh", "-c", script])
        .ok()
        .is("docker-init\n0:0\n0:0\n0:0\n0:0\n0:0\nweb\n4\n100\n1\neth0\nlo\n1");
    wharf_tests::waiting::becomes(&"healthy".to_owned(), || {
        let health = ["inspect", "-f", "{{.State.Health.Status}}", "web"];
        daemon.docker(&health).ok().text()
    });
    // A terminal belongs to the container's root.
    daemon
        .docker(&[
            "run",
            "--rm",
            "-t",
            "busybox",
            "stat",
            "-c",
            "%u",
            "/dev/console",
        ])
        .ok()
        .is("0");
    daemon
        .docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "ls",
            "/sys/class/net",
        ])
        .ok()
        .is("lo");
    daemon
        .docker(&["run", "--rm", "--ipc", "host", "busybox", "ls", "/dev/shm"])
        .ok();
    daemon
        .docker(&["run", "--rm", "--user", "33:33", "busybox", "id", "-u"])
        .ok()
        .is("33");
    daemon
        .docker(&[
            "run",
            "--rm",
            "--cap-add",
            "NET_ADMIN",
            "busybox",
            "ip",
            "link",
            "set",
            "lo",
            "mtu",
            "1280",
        ])
        .ok();
    // The image's own files keep their owners.
    daemon
        .docker(&[
            "run",
            "--rm",
            "busybox",
            "stat",
            "-c",
            "%u:%g",
            "/bin/busybox",
        ])
        .ok()
        .is("0:0");
}

#[test]
fn ranges_survive_the_daemon_and_end_with_their_containers() {
    let host = host();
    let daemon = daemon(&host, &[]);
    let create = |daemon: &Daemon<'_>, name: &str| {
        daemon
            .wharf(&["create", "--name", name, "--userns=auto", "busybox", "true"])
            .ok();
        inspect(daemon, name)["State"]["IDMappings"]["UidMap"][0].clone()
    };
    let first = create(&daemon, "box-a");
    let second = create(&daemon, "box-b");
    assert_ne!(first, second);
    daemon.kill();
    daemon.restart();
    let third = create(&daemon, "box-c");
    assert!(third != first && third != second);
    assert_eq!(
        inspect(&daemon, "box-a")["State"]["IDMappings"]["UidMap"][0],
        first
    );
    daemon.docker(&["rm", "box-a"]).ok();
    daemon.kill();
    daemon.restart();
    assert_eq!(create(&daemon, "box-d"), first);
    // A container that could not be made holds nothing.
    daemon
        .wharf(&[
            "create",
            "--userns=auto",
            "-v",
            "/a:/b:idmap=uids=@70000-70000-1",
            "busybox",
            "true",
        ])
        .code(1)
        .complains("the container has no id 70000");
    daemon.docker(&["rm", "box-d"]).ok();
    assert_eq!(create(&daemon, "box-e"), first);
    // One that joined another's namespace may outlive its owner, and holds the range as long.
    daemon.docker(&["rm", "box-e"]).ok();
    let run = |name: &str, mode: &str| {
        daemon
            .wharf(&[
                "run", "-d", "--name", name, mode, "busybox", "sleep", "1000",
            ])
            .ok();
    };
    run("owner", "--userns=auto");
    run("guest", "--userns=container:owner");
    daemon.docker(&["rm", "-f", "owner"]).ok();
    let held = uid_map(&daemon, "guest");
    run("stranger", "--userns=auto");
    assert_ne!(uid_map(&daemon, "stranger"), held);
    daemon.docker(&["rm", "-f", "guest"]).ok();
    run("heir", "--userns=auto");
    assert_eq!(uid_map(&daemon, "heir"), held);
    // The host's root is part of what is needed.
    daemon
        .wharf(&[
            "create",
            "--userns=private:uidmapping=5:100000:10",
            "busybox",
            "true",
        ])
        .code(1)
        .complains("needs a mapping of the container's id 0");
}

/// A container made under one setting must not become the host's root under the next.
#[test]
fn a_remapped_container_stays_remapped() {
    let host = host();
    let mut daemon = daemon(&host, &["--userns-remap", "mapper"]);
    let run = |daemon: &Daemon<'_>, name: &str| {
        let arguments = ["run", "-d", "--name", name, "busybox", "sleep", "1000"];
        daemon.wharf(&arguments).ok();
    };
    run(&daemon, "mine");
    let mapped = ["0:700000:65536"];
    assert_eq!(uid_map(&daemon, "mine"), mapped);
    daemon.kill();
    daemon.restart_with(&[]);
    daemon.docker(&["restart", "-t", "0", "mine"]).ok();
    assert_eq!(uid_map(&daemon, "mine"), mapped);
    run(&daemon, "other");
    assert_eq!(uid_map(&daemon, "other"), ["0:0:4294967295"]);
}

#[test]
fn options_that_need_rights_work_or_say_why() {
    let host = host();
    let daemon = daemon(&host, &["--userns-remap", "mapper"]);
    let folder = host.join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "x").unwrap();
    let bind = |mode: &str| format!("{}:/data:{mode}", folder.display());
    let run = |flags: &[&str], command: &str| {
        let mut words = vec!["run", "--rm"];
        words.extend(flags);
        words.extend(["busybox", "sh", "-c", command]);
        daemon.docker(&words)
    };
    run(&["-v", &bind("ro")], "cat /data/file; touch /data/x")
        .code(1)
        .complains("Read-only file system");
    host.sh(&format!(
        "mount --bind {0} {0} && mount --make-rshared {0}",
        folder.display()
    ))
    .ok();
    run(&["-v", &bind("rslave")], "cat /data/file").ok().is("x");
    run(&["-v", &bind("rshared")], "cat /data/file")
        .ok()
        .is("x");
    run(&["-v", &bind("ro,idmap")], "stat -c %u /data/file")
        .ok()
        .is("0");
    run(
        &["--read-only", "--tmpfs", "/tmp:uid=33,mode=700"],
        "stat -c %u /tmp; touch /x",
    )
    .code(1)
    .says("33");
    run(
        &["--cgroupns", "private"],
        "cat /proc/self/cgroup > /dev/null",
    )
    .ok();
    run(&["--uts", "host"], "hostname > /dev/null").ok();
    run(&["--cap-add", "ALL"], "mount -t tmpfs none /mnt 2>/dev/null || mkdir /mnt; mount -t tmpfs none /mnt && echo mounted")
        .ok()
        .says("mounted");
    run(
        &["--security-opt", "no-new-privileges", "--user", "33"],
        "id -u",
    )
    .ok()
    .is("33");
    run(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj")
        .ok()
        .is("500");
    run(&["--security-opt", "seccomp=unconfined"], "unshare -U true").ok();
    daemon
        .docker(&[
            "volume",
            "create",
            "-o",
            "type=tmpfs",
            "-o",
            "device=tmpfs",
            "-o",
            "o=size=1m,uid=33",
            "memory",
        ])
        .ok();
    run(&["-v", "memory:/memory"], "stat -c %u /memory")
        .ok()
        .is("33");
    let device = format!("device={}", folder.display());
    daemon
        .docker(&[
            "volume",
            "create",
            "-o",
            "type=none",
            "-o",
            &device,
            "-o",
            "o=bind",
            "bound",
        ])
        .ok();
    // A bind by another name: the host's ids, unless asked for.
    run(&["-v", "bound:/data"], "stat -c %u /data/file")
        .ok()
        .is("65534");
    run(&["-v", "bound:/data:idmap"], "stat -c %u /data/file")
        .ok()
        .is("0");
    daemon
        .docker(&["run", "-d", "--name", "box", "busybox", "sleep", "600"])
        .ok();
    daemon
        .docker(&[
            "exec",
            "--privileged",
            "box",
            "mount",
            "-t",
            "tmpfs",
            "none",
            "/root",
        ])
        .ok();
    daemon.docker(&["network", "create", "later"]).ok();
    daemon.docker(&["network", "connect", "later", "box"]).ok();
    daemon
        .docker(&["exec", "box", "ip", "addr", "show", "eth1"])
        .ok();
    daemon.docker(&["update", "--memory", "64m", "--memory-swap", "64m", "box"]);
    daemon.docker(&["pause", "box"]).ok();
    daemon.docker(&["unpause", "box"]).ok();
    daemon.docker(&["restart", "-t", "0", "box"]).ok();
    daemon.docker(&["exec", "box", "true"]).ok();
}

#[test]
fn a_server_keeps_its_data_whoever_runs_it() {
    let host = host();
    let daemon = Daemon::start_with(&host, &["--userns-remap", "mapper"]);
    daemon.load(&fixtures::postgres());
    let sql = |text: &str| {
        host.eventually("pg_isready -q -h 127.0.0.1 -U postgres");
        host.sh(&format!("psql -h 127.0.0.1 -U postgres -Atc '{text}'"))
            .ok()
            .text()
    };
    // The volume is filled from the image; the server insists on owning its files.
    let modes: [&[&str]; 3] = [&[], &["--userns=auto"], &["--userns=host"]];
    for (round, mode) in modes.into_iter().enumerate() {
        let mut words = vec![
            "run",
            "-d",
            "--name",
            "db",
            "-p",
            "5432:5432",
            "-v",
            "pg:/var/lib/postgresql",
        ];
        words.extend(mode);
        words.push("postgres:15");
        daemon.wharf(&words).ok();
        if round == 0 {
            sql("create table t (n int)");
        }
        sql("insert into t values (1)");
        assert_eq!(sql("select count(*) from t"), (round + 1).to_string());
        daemon.docker(&["stop", "db"]).ok();
        daemon.docker(&["rm", "db"]).ok();
    }
}
