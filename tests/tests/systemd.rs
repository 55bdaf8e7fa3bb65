//! Cgroups with a real systemd: its driver, and what it delegates to an ordinary user. A user's network where
//! AppArmor confines the program for it. These change the machine they run on, so they run in the guest only
//! (`cargo xtask vm test`).

use std::path::Path;
use std::process::Command;

use wharf_tests::{Output, fixtures, run, skip, wharf_binary};

#[path = "systemd/runtime.rs"]
mod runtime;

/// An account of the guest's.
const USER: &str = "user";

/// That account's systemd.
const USER_MANAGER: &str = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service";

/// Part of the guest, and of no other machine.
const GUEST: &str = "/usr/local/lib/wharf-vm";

/// Somebody at a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    /// A process of the user's outside of all sessions.
    User,
    /// Somebody who has just logged in.
    Session,
}

impl Who {
    /// Runs a shell line, in which `wharf` is the program under test.
    fn sh(self, line: &str) -> Output {
        let line = format!("wharf() {{ {} \"$@\"; }}; {line}", wharf_binary().display());
        let mut command = match self {
            Self::Root => Command::new("sh"),
            Self::User => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", USER, "--regid", USER, "--init-groups", "sh"]);
                command.env("HOME", "/home/user").env("USER", USER);
                command
            }
            Self::Session => {
                let mut command = Command::new("su");
                command.args(["--login", USER]);
                command
            }
        };
        command.args(["-c", &line]);
        for name in ["XDG_RUNTIME_DIR", "DOCKER_HOST", "DOCKER_CONTEXT"] {
            command.env_remove(name);
        }
        run(command, None)
    }

    /// The same again and again until it prints `expected`, for what goes a moment later.
    #[track_caller]
    fn becomes(self, line: &str, expected: &str) {
        wharf_tests::waiting::becomes(&expected.to_owned(), || self.sh(line).text());
    }

    fn load_busybox(self) {
        let archive = fixtures::busybox();
        let bytes = std::fs::read(archive).unwrap();
        let copy = Path::new("/tmp/busybox.tar");
        std::fs::write(copy, bytes).unwrap();
        self.sh("wharf load --quiet --input /tmp/busybox.tar").ok();
    }

    /// Waits until a container's shim is inside its ring (`ring.rs`), as it is a moment after the start.
    fn wait_for_ring(self, container: &str) {
        let inspect = format!("wharf inspect --format '{{{{.State.Pid}}}}' {container}");
        self.sh(&format!(
            "shim=$(ps -o ppid= -p $({inspect})); shim=${{shim##* }}; \
             until grep -q '^Seccomp:.2' /proc/$shim/status; do sleep 0.1; done; cat /proc/$shim/status"
        ))
        .ok()
        .says("NoNewPrivs:\t1");
    }

    /// Limits that are set, changed, felt and reported, in whatever cgroup.
    fn try_limits(self) {
        self.sh(
            "wharf run --detach --name one --network none --memory 64m --memory-swap 64m --cpus 0.5 \
             --pids-limit 20 busybox sleep 1000",
        )
        .ok();
        self.wait_for_ring("one");
        let files = "wharf exec one sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.max pids.max'";
        self.sh(files).ok().is("67108864\n0\n50000 100000\n20");
        self.sh("wharf update --memory 48m --memory-swap 48m --cpus 0.25 one")
            .ok();
        self.sh(files).ok().is("50331648\n0\n25000 100000\n20");
        self.sh("wharf stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' one")
            .ok()
            .says("/ 48MiB 1");
        self.sh("wharf pause one && wharf inspect --format '{{.State.Status}}' one && wharf unpause one")
            .ok()
            .says("paused");
        self.sh("wharf run --rm --network none --pids-limit 3 busybox sh -c 'sleep 9 & sleep 9 & sleep 9 & sleep 9'")
            .complains("fork");
        self.sh(
            "wharf run --name hungry --network none --memory 16m --memory-swap 16m busybox \
             dd if=/dev/zero of=/dev/null bs=64M count=1",
        )
        .code(137);
        self.sh("wharf inspect --format '{{.State.OOMKilled}}' hungry && wharf rm hungry")
            .ok()
            .says("true");
    }

    /// What is left to do when a daemon was killed: everything, for the next one.
    fn try_after_a_crash(self, pid_file: &str) {
        self.sh(&format!("pid=$(cat {pid_file}); kill -KILL $pid; tail -s 0.1 --pid $pid -f /dev/null; wharf ps --quiet"))
            .ok();
        self.sh("wharf exec one cat /sys/fs/cgroup/memory.max")
            .ok()
            .is("50331648");
        self.sh("wharf run --rm --network none --memory 32m busybox cat /sys/fs/cgroup/memory.max")
            .ok()
            .is("33554432");
    }

    fn stop_daemon(self, pid_file: &str) {
        self.sh(&format!(
            "pid=$(cat {pid_file}); kill $pid; tail -s 0.1 --pid $pid -f /dev/null"
        ))
        .ok();
    }
}

fn ready(test: &str) -> bool {
    let guest = Path::new(GUEST).exists();
    if !guest {
        skip(test, "it runs in the guest (cargo xtask vm test systemd)");
    }
    guest
}

/// The scope of the container `one`.
fn scope_of_one(who: Who) -> String {
    let id = who.sh("wharf inspect --format '{{.Id}}' one").ok().text();
    format!("wharf-{id}.scope")
}

#[test]
fn systemds_driver_puts_containers_into_scopes() {
    if !ready("systemds_driver_puts_containers_into_scopes") {
        return;
    }
    let (who, pid_file) = (Who::Root, "/run/wharf.pid");
    std::fs::create_dir_all("/etc/wharf").unwrap();
    let settings = r#"{"exec-opts": ["native.cgroupdriver=systemd"]}"#;
    std::fs::write("/etc/wharf/daemon.json", settings).unwrap();
    who.sh("wharf info --format '{{.CgroupDriver}} {{.CgroupVersion}}'")
        .ok()
        .is("systemd 2");
    who.load_busybox();
    who.try_limits();
    let scope = scope_of_one(who);
    let settings = format!(
        "systemctl show --property MemoryMax,CPUQuotaPerSecUSec,TasksMax,ActiveState,Slice {scope} | sort"
    );
    let expected = "ActiveState=active\nCPUQuotaPerSecUSec=250ms\nMemoryMax=50331648\nSlice=system.slice\nTasksMax=20";
    who.sh(&settings).ok().is(expected);
    // systemd writes all its settings anew, and they are ours.
    who.sh(&format!("systemctl daemon-reload; {settings}"))
        .ok()
        .is(expected);
    who.try_after_a_crash(pid_file);
    who.sh("wharf rm --force one").ok();
    let left = format!(
        "systemctl show --property LoadState --value {scope}; ls -d /sys/fs/cgroup/system.slice/{scope}"
    );
    who.becomes(&left, "not-found");
    who.stop_daemon(pid_file);
    std::fs::remove_file("/etc/wharf/daemon.json").unwrap();
}

#[test]
fn a_confined_pasta_connects_a_users_containers() {
    if !ready("a_confined_pasta_connects_a_users_containers") {
        return;
    }
    // What udev does on other machines.
    Who::Root.sh("modprobe tun; chmod 666 /dev/net/tun").ok();
    Who::Root
        .sh("cat /sys/kernel/security/apparmor/profiles")
        .ok()
        .says("passt (enforce)");
    // Another machine, and the way to it.
    Who::Root
        .sh("set -e; ip netns add there; ip link add out0 type veth peer name eth0 netns there; \
             ip addr add 192.0.2.10/24 dev out0; ip link set out0 up; ip route add default via 192.0.2.1; \
             ip -n there addr add 192.0.2.1/24 dev eth0; ip -n there link set eth0 up; \
             mkdir /tmp/there; echo page > /tmp/there/page; \
             ip netns exec there busybox httpd -p 8000 -h /tmp/there")
        .ok();
    Who::User
        .sh("wharf info")
        .ok()
        .never_complains("no network to the outside");
    Who::User.sh("pgrep -f '[p]asta --quiet'").ok();
    Who::User.load_busybox();
    Who::User
        .sh("wharf run --rm busybox wget -q -O - http://192.0.2.1:8000/page")
        .ok()
        .is("page");
    Who::User.sh("keeper=$(pgrep -o -f rootless-keeper); kill $(cat /tmp/wharf-1000/wharf.pid); tail -s 0.1 --pid $keeper -f /dev/null").ok();
    Who::Root
        .sh("pkill -f '[b]usybox httpd -p 8000'; ip link del out0; ip netns del there")
        .ok();
}

#[test]
fn a_users_limits_bite_where_systemd_delegates() {
    if !ready("a_users_limits_bite_where_systemd_delegates") {
        return;
    }
    // What udev does on other machines.
    Who::Root.sh("modprobe tun; chmod 666 /dev/net/tun").ok();
    let reason = "WARNING: Running in rootless-mode without cgroups. Limits are discarded: this user's systemd does not answer";
    Who::User
        .sh("wharf info")
        .ok()
        .says("Cgroup Driver: none")
        .complains(reason)
        .complains("root starts it with: loginctl enable-linger user");
    Who::User.sh("pid=$(cat /tmp/wharf-1000/wharf.pid); keeper=$(pgrep -o -f rootless-keeper); kill $pid; tail -s 0.1 --pid $keeper -f /dev/null").ok();

    Who::Root
        .sh("loginctl enable-linger user && systemctl start user@1000.service")
        .ok();
    let pid_file = "/run/user/1000/wharf.pid";
    // A session is no part of what systemd has delegated.
    Who::Session
        .sh("cat /proc/self/cgroup; wharf info")
        .ok()
        .says("/session-")
        .says("Cgroup Driver: cgroupfs")
        .complains("keeps these cgroup controllers from ordinary users: cpuset io.")
        .complains("user@.service.d/delegate.conf");
    Who::User.load_busybox();
    Who::User.try_limits();
    Who::User.try_after_a_crash(pid_file);
    let id = Who::User
        .sh("wharf inspect --format '{{.Id}}' one")
        .ok()
        .text();
    let mut places = [id.as_str(), "daemon", "keeper"];
    places.sort_unstable();
    // One place for each container, beside those of the engine's own processes. The next container's is
    // there already, and noted.
    let list = format!(
        "cd {USER_MANAGER}/app.slice/wharf-*.scope && for name in *; do \
         test ! -d $name || test -e /run/user/1000/wharf/next-ids/$name || echo $name; done | sort"
    );
    Who::Root.becomes(&list, &places.join("\n"));
    Who::User.sh("wharf rm --force one").ok();
    let keeper = Who::User.sh("pgrep -o -f rootless-keeper").ok().text();
    Who::User.stop_daemon(pid_file);
    // With the last process everything goes.
    Who::User
        .sh(&format!("tail -s 0.1 --pid {keeper} -f /dev/null"))
        .ok();

    // systemd's driver, with the user's systemd.
    Who::User
        .sh("mkdir -p ~/.config/wharf; echo '{\"exec-opts\": [\"native.cgroupdriver=systemd\"]}' > ~/.config/wharf/daemon.json")
        .ok();
    Who::User
        .sh("wharf info --format '{{.CgroupDriver}}'")
        .ok()
        .is("systemd");
    Who::User.try_limits();
    let of_container = scope_of_one(Who::User);
    Who::User
        .sh(&format!(
            "export XDG_RUNTIME_DIR=/run/user/1000; systemctl --user show --property MemoryMax,TasksMax {of_container}"
        ))
        .ok()
        .says("MemoryMax=50331648")
        .says("TasksMax=20");
    Who::User.try_after_a_crash(pid_file);
    Who::User.sh("wharf rm --force one").ok();
    Who::User.stop_daemon(pid_file);
}
