//! What another runtime's containers are kept from, and what they share: confinement, networks,
//! namespaces of others, volumes.

use crate::with_each;

#[test]
fn confinement_reaches_the_runtime() {
    with_each("runtimes::confinement", |daemon, run| {
        let status = run(&[
            "--rm",
            "busybox",
            "grep",
            "-E",
            "Seccomp:|CapEff|NoNewPrivs",
            "/proc/self/status",
        ])
        .ok()
        .says("Seccomp:\t2")
        .stdout;
        let own = daemon
            .docker(&[
                "run",
                "--rm",
                "busybox",
                "grep",
                "-E",
                "Seccomp:|CapEff|NoNewPrivs",
                "/proc/self/status",
            ])
            .ok()
            .stdout;
        assert_eq!(status, own);
        run(&[
            "--rm",
            "--security-opt",
            "seccomp=unconfined",
            "--cap-drop",
            "ALL",
            "busybox",
            "cat",
            "/proc/self/status",
        ])
        .ok()
        .says("Seccomp:\t0")
        .says("CapEff:\t0000000000000000");
        run(&[
            "--rm",
            "-u",
            "nobody",
            "busybox",
            "grep",
            "CapEff",
            "/proc/self/status",
        ])
        .ok()
        .says("0000000000000000");
        run(&[
            "--rm",
            "--read-only",
            "--tmpfs",
            "/t",
            "busybox",
            "sh",
            "-c",
            "touch /t/x && ! touch /x",
        ])
        .ok();
        run(&[
            "--rm",
            "--privileged",
            "busybox",
            "sh",
            "-c",
            "mount -t tmpfs x /tmp && echo mounted",
        ])
        .ok()
        .is("mounted");
        run(&[
            "--rm",
            "--init",
            "busybox",
            "sh",
            "-c",
            "tr '\\0' ' ' < /proc/1/cmdline",
        ])
        .ok()
        .says("docker-init -- sh");
        run(&[
            "--rm",
            "--hostname",
            "h",
            "--ulimit",
            "nofile=123",
            "--sysctl",
            "net.ipv4.ip_forward=0",
            "busybox",
            "sh",
            "-c",
            "hostname; ulimit -n; cat /proc/sys/net/ipv4/ip_forward",
        ])
        .ok()
        .is("h\n123\n0");
    });
}

#[test]
fn networks_ports_and_volumes() {
    with_each("runtimes::networks", |daemon, run| {
        daemon.docker(&["network", "create", "net"]).ok();
        let volume = daemon.host.join("shared");
        std::fs::create_dir_all(volume.join("below")).expect("scratch is writable");
        daemon
            .host
            .sh(&format!(
                "mount --bind {0} {0} && mount --make-shared {0}",
                volume.display()
            ))
            .ok();
        run(&[
            "-d",
            "--name",
            "web",
            "--network",
            "net",
            "-p",
            "127.0.0.1:8080:80",
            "-v",
            "data:/www",
            "busybox",
            "sh",
            "-c",
            "echo page > /www/index.html; exec httpd -f -p 80 -h /www",
        ])
        .ok();
        daemon.host.fetch("http://127.0.0.1:8080/").ok().is("page");
        run(&[
            "--rm",
            "--network",
            "net",
            "busybox",
            "wget",
            "-q",
            "-O-",
            "http://web/",
        ])
        .ok()
        .is("page");
        run(&[
            "--rm",
            "--network",
            "container:web",
            "busybox",
            "wget",
            "-q",
            "-O-",
            "http://127.0.0.1/",
        ])
        .ok()
        .is("page");
        run(&["--rm", "--pid", "container:web", "busybox", "ps"])
            .ok()
            .says("httpd");
        run(&[
            "--rm",
            "-v",
            "data:/d:ro",
            "busybox",
            "cat",
            "/d/index.html",
        ])
        .ok()
        .is("page");
        run(&[
            "--rm",
            "--network",
            "host",
            "busybox",
            "wget",
            "-q",
            "-O-",
            "http://127.0.0.1:8080/",
        ])
        .ok()
        .is("page");
        // What is mounted in a shared bind reaches the host, though the root file system does not show there.
        let bind = format!("{}:/s:rshared", volume.display());
        run(&[
            "--rm",
            "--privileged",
            "-v",
            &bind,
            "busybox",
            "mount",
            "-t",
            "tmpfs",
            "x",
            "/s/below",
        ])
        .ok();
        daemon
            .host
            .sh(&format!(
                "grep -c {} /proc/self/mountinfo; umount {0}",
                volume.join("below").display()
            ))
            .ok()
            .is("1");
        daemon.host.sh("! grep -q rootfs /proc/1/mountinfo").ok();
        daemon.docker(&["rm", "-f", "web"]).ok();
        daemon.host.sh(&format!("umount {}", volume.display())).ok();
    });
}
