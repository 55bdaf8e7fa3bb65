//! User namespaces and mapped binds under another runtime.

use wharf_tests::traces::{nothing_is_left, settled};
use wharf_tests::{Daemon, Output};

use crate::{kept, with_each};

/// Runs `body` with a daemon whose client is Wharf's: it has the modes that Docker's has not.
fn with_each_mapped(test: &str, body: impl Fn(&Daemon<'_>, &dyn Fn(&[&str]) -> Output)) {
    with_each(test, |daemon, _| {
        // Runtimes go to the root file system as the container's root.
        let folder = daemon.host.path().display();
        daemon.host.sh(&format!("chmod 711 {folder}")).ok();
        let run = |arguments: &[&str]| {
            let mut all = vec![
                "run",
                "--runtime",
                "other",
                "--userns",
                "private:uidmapping=0:700000:65536",
            ];
            all.extend(arguments);
            daemon.wharf(&all)
        };
        body(daemon, &run);
    });
}

#[test]
fn user_namespaces_have_their_ids_and_capabilities() {
    with_each_mapped("runtimes::user_namespaces", |daemon, run| {
        let before = settled(daemon, || kept(daemon));
        let script = "tr -s ' ' < /proc/self/uid_map; stat -c %u:%g / /etc/passwd /etc/hosts /dev/null; \
            ping -c 1 -w 5 127.0.0.1 >/dev/null && echo pinged; ip addr add 192.0.2.9/32 dev lo && echo added; \
            mount -t tmpfs x /tmp 2>/dev/null || echo no mount; \
            echo x > /dev/null; head -c 3 /dev/zero | wc -c; test -d /sys/class/net && echo sys";
        run(&[
            "--rm",
            "--cap-add",
            "NET_ADMIN",
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok()
        .is(" 0 700000 65536\n0:0\n0:0\n0:0\n65534:65534\npinged\nadded\nno mount\n3\nsys");
        daemon.docker(&["volume", "create", "data"]).ok();
        run(&[
            "-d", "--name", "mapped", "--init", "-p", "127.0.0.1:8080:80", "-v", "data:/data", "-m", "64m",
            "busybox", "sh", "-c",
            "touch /mine /data/its; chown 33:33 /mine /data/its; echo page > /index.html; exec httpd -f -p 80",
        ])
        .ok();
        daemon
            .host
            .fetch("http://127.0.0.1:8080/index.html")
            .ok()
            .is("page");
        daemon
            .docker(&[
                "exec",
                "-u",
                "nobody",
                "mapped",
                "sh",
                "-c",
                "id -u; stat -c %u /mine /data/its; echo x > /dev/stderr",
            ])
            .ok()
            .is("65534\n33\n33");
        daemon
            .docker(&["exec", "-t", "mapped", "sh", "-c", "tty"])
            .ok()
            .says("/dev/");
        daemon
            .host
            .sh(&format!(
                "ps -o uid= -p {}; stat -c %u:%g {}/volumes/data/_data/its",
                daemon
                    .docker(&["inspect", "-f", "{{.State.Pid}}", "mapped"])
                    .ok()
                    .text(),
                daemon.data_root().display(),
            ))
            .ok()
            .is("700000\n33:33");
        daemon.docker(&["cp", "mapped:/mine", "-"]).ok();
        run(&[
            "--rm",
            "-v",
            "data:/data",
            "-u",
            "33:33",
            "busybox",
            "sh",
            "-c",
            "echo more > /data/its",
        ])
        .ok();
        daemon
            .wharf(&[
                "run",
                "--rm",
                "--runtime",
                "other",
                "--userns",
                "container:mapped",
                "--network",
                "container:mapped",
                "--pid",
                "container:mapped",
                "busybox",
                "sh",
                "-c",
                "ps | grep -c httpd; wget -q -O- http://127.0.0.1/index.html",
            ])
            .ok()
            .says("page");
        run(&["-it", "--rm", "busybox", "true"]).code(1);
        run(&["-t", "--rm", "busybox", "stat", "-c", "%u", "/dev/console"])
            .ok()
            .says("0");
        daemon.docker(&["restart", "-t", "0", "mapped"]).ok();
        daemon.docker(&["rm", "-f", "mapped"]).ok();
        daemon.docker(&["volume", "rm", "data"]).ok();
        nothing_is_left(&before, || kept(daemon));
    });
}

#[test]
fn binds_are_mapped_also_for_runtimes_that_cannot() {
    with_each_mapped("runtimes::mapped_binds", |daemon, run| {
        let folder = daemon.host.join("bound");
        std::fs::create_dir(&folder).expect("scratch is writable");
        std::fs::write(folder.join("theirs"), "x").expect("scratch is writable");
        daemon
            .host
            .sh(&format!(
                "chown 5:5 {0}/theirs; chmod 777 {0}",
                folder.display()
            ))
            .ok();
        let bind = |options: &str| format!("{}:/b{options}", folder.display());
        let script = "stat -c %u /b/theirs; echo > /b/$0";
        run(&[
            "--rm",
            "-v",
            &bind(":idmap"),
            "busybox",
            "sh",
            "-c",
            script,
            "idmapped",
        ])
        .ok()
        .is("5");
        run(&[
            "--rm",
            "-v",
            &bind(""),
            "busybox",
            "sh",
            "-c",
            script,
            "plain",
        ])
        .ok()
        .is("65534");
        daemon
            .host
            .sh(&format!(
                "cd {}; stat -c %u idmapped plain",
                folder.display()
            ))
            .ok()
            .is("0\n700000");
        // Whoever may not pass the way to the root file system is told which directory it is.
        daemon
            .host
            .sh(&format!("chmod 700 {}", daemon.host.path().display()))
            .ok();
        run(&["--rm", "busybox", "true"])
            .code(125)
            .complains("enters a container in a user namespace as uid 700000, who may not pass ");
    });
}
