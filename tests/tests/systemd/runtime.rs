//! `wharf runtime --systemd-cgroup`: containers in scopes of the system's systemd, and of a user's own.

use serde_json::{Value, json};
use wharf_tests::Output;

use super::{USER_MANAGER, Who, ready};

/// A bundle of busybox, whose containers are `who`'s.
struct Bundle {
    who: Who,
    folder: String,
    config: Value,
}

impl Bundle {
    fn new(who: Who, name: &str) -> Self {
        let folder = format!("/tmp/{name}");
        let rootless = if who == Who::Root { "" } else { "--rootless" };
        who.sh(&format!(
            "set -e; rm -rf {folder}; mkdir -p {folder}/rootfs/bin {folder}/rootfs/proc {folder}/rootfs/sys {folder}/rootfs/dev; \
             cp /bin/busybox {folder}/rootfs/bin; for name in sh sleep head; do ln -s busybox {folder}/rootfs/bin/$name; done; \
             wharf runtime spec --bundle {folder} {rootless}"
        ))
        .ok();
        let text = std::fs::read(format!("{folder}/config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&text).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sleep", "1000"]);
        let resources = &mut config["linux"]["resources"];
        if resources.is_null() {
            *resources = json!({});
        }
        resources["memory"] = json!({"limit": 64 << 20, "swap": 64 << 20});
        resources["cpu"] = json!({"quota": 50_000, "period": 100_000});
        resources["pids"] = json!({"limit": 20});
        Self {
            who,
            folder,
            config,
        }
    }

    fn runtime(&self, words: &str) -> Output {
        let folder = &self.folder;
        self.who.sh(&format!(
            "wharf runtime --systemd-cgroup --root {folder}/state {words}"
        ))
    }

    /// Starts a container with `cgroupsPath`; answers with its cgroup.
    fn start(&self, id: &str, cgroup: Option<&str>) -> String {
        let mut config = self.config.clone();
        if let Some(cgroup) = cgroup {
            config["linux"]["cgroupsPath"] = json!(cgroup);
        }
        let folder = &self.folder;
        std::fs::write(format!("{folder}/config.json"), config.to_string()).unwrap();
        // A container that goes on must not hold our pipes open.
        self.runtime(&format!(
            "run --detach --bundle {folder} {id} </dev/null >{folder}/out 2>&1 || {{ cat {folder}/out >&2; exit 1; }}"
        ))
        .ok();
        let lines = self.who.sh(&format!("cat /proc/{}/cgroup", self.pid(id)));
        let lines = lines.ok().text();
        lines.strip_prefix("0::").unwrap().to_owned()
    }

    fn state(&self, id: &str) -> Value {
        let out = self.runtime(&format!("state {id}")).ok();
        serde_json::from_str(&out.stdout).unwrap()
    }

    fn pid(&self, id: &str) -> u64 {
        self.state(id)["pid"].as_u64().unwrap()
    }

    fn systemctl(&self, words: &str) -> Output {
        let whose = match self.who {
            Who::Root => "systemctl",
            _ => "export XDG_RUNTIME_DIR=/run/user/1000; systemctl --user",
        };
        self.who.sh(&format!("{whose} {words}"))
    }

    /// A scope's settings are these, and so are they after systemd has read everything anew.
    fn assert_settings(&self, scope: &str, expected: &str) {
        let show = format!(
            "show --property MemoryMax,CPUQuotaPerSecUSec,TasksMax,ActiveState,Slice {scope} | sort"
        );
        self.systemctl(&show).ok().is(expected);
        self.systemctl("daemon-reload").ok();
        self.systemctl(&show).ok().is(expected);
    }

    fn assert_gone(&self, scope: &str, cgroup: &str) {
        let load_state = format!("show --property LoadState --value {scope}");
        self.systemctl(&load_state).ok().is("not-found");
        assert!(!std::path::Path::new(&format!("/sys/fs/cgroup{cgroup}")).exists());
    }

    /// Limits that are set, changed, felt and reported, in a scope in `slice` below `top`, which goes with
    /// its container.
    fn try_limits(&self, top: &str, slice: &str) {
        let scope = "wharf-box.scope";
        let cgroup = self.start("box", None);
        assert_eq!(cgroup, format!("{top}/{slice}/{scope}"));
        let files = || {
            ["memory.max", "memory.swap.max", "cpu.max", "pids.max"].map(|file| {
                let text = std::fs::read_to_string(format!("/sys/fs/cgroup{cgroup}/{file}"));
                text.unwrap().trim().to_owned()
            })
        };
        let settings = |cpu: &str, memory: u64, tasks: u64| {
            format!(
                "ActiveState=active\nCPUQuotaPerSecUSec={cpu}\nMemoryMax={memory}\nSlice={slice}\nTasksMax={tasks}"
            )
        };
        self.assert_settings(scope, &settings("500ms", 64 << 20, 20));
        assert_eq!(files(), ["67108864", "0", "50000 100000", "20"]);

        self.runtime("update --memory 50331648 --memory-swap 50331648 --cpu-quota 25000 --cpu-period 100000 --pids-limit 5 box")
            .ok();
        self.assert_settings(scope, &settings("250ms", 48 << 20, 5));
        assert_eq!(files(), ["50331648", "0", "25000 100000", "5"]);
        self.runtime(
            "exec box sh -c 'for i in 1 2 3 4 5 6 7; do sleep 100 >/dev/null 2>&1 & done'",
        )
        .complains("fork");
        self.runtime("delete --force box").ok();
        self.assert_gone(scope, &cgroup);
    }
}

#[test]
fn the_runtime_puts_containers_into_scopes() {
    if ready("the_runtime_puts_containers_into_scopes") {
        Bundle::new(Who::Root, "of-root").try_limits("", "system.slice");
    }
}

#[test]
fn a_scope_has_the_place_and_the_name_it_was_given() {
    if !ready("a_scope_has_the_place_and_the_name_it_was_given") {
        return;
    }
    let bundle = Bundle::new(Who::Root, "placed");
    let node = format!("{}/rootfs/log", bundle.folder);
    Who::Root.sh(&format!("mknod {node} c 1 11")).ok();
    let scope = "test-two.scope";
    let cgroup = bundle.start("two", Some("wharftest-deep.slice:test:two"));
    let deep = "/wharftest.slice/wharftest-deep.slice";
    assert_eq!(cgroup, format!("{deep}/{scope}"));
    let figures = bundle.runtime("events --stats two").ok();
    let figures: Value = serde_json::from_str(&figures.stdout).unwrap();
    assert_eq!(figures["data"]["memory"]["usage"]["limit"], 64 << 20);
    assert_eq!(figures["data"]["pids"]["limit"], 20);
    bundle.runtime("pause two").ok();
    assert_eq!(bundle.state("two")["status"], "paused");
    bundle.runtime("resume two").ok();
    // systemd writes its own filter of devices when it reads everything anew.
    for _ in 0..2 {
        bundle
            .runtime("exec two sh -c 'head -c 1 /dev/zero > /dev/null && head -c 1 /log'")
            .code(1)
            .complains("Operation not permitted");
        bundle
            .systemctl(&format!(
                "show --property DevicePolicy --value {scope}; systemctl daemon-reload"
            ))
            .ok()
            .is("strict");
    }
    // The scope is gone before its container is deleted.
    let pid = bundle.pid("two");
    bundle.runtime("kill two KILL").ok();
    Who::Root
        .sh(&format!("tail -s 0.1 --pid {pid} -f /dev/null"))
        .ok();
    assert_eq!(bundle.state("two")["status"], "stopped");
    bundle.runtime("delete two").ok();
    bundle.assert_gone(scope, &cgroup);
    bundle.runtime("list --quiet").ok().is("");

    // The form that paths have without systemd.
    let mut config = bundle.config.clone();
    config["linux"]["cgroupsPath"] = json!("/wharf/three");
    std::fs::write(format!("{}/config.json", bundle.folder), config.to_string()).unwrap();
    bundle
        .runtime(&format!("create --bundle {} three", bundle.folder))
        .code(1)
        .complains("slice:prefix:name");
}

/// Called from outside of what the user's systemd has been given, as from a login session.
#[test]
fn an_ordinary_users_runtime_has_scopes_of_the_users_systemd() {
    if !ready("an_ordinary_users_runtime_has_scopes_of_the_users_systemd") {
        return;
    }
    Who::Root
        .sh("loginctl enable-linger user && systemctl start user@1000.service")
        .ok();
    let manager = USER_MANAGER.trim_start_matches("/sys/fs/cgroup");
    Bundle::new(Who::User, "of-user").try_limits(manager, "user.slice");
    Who::Root
        .sh("loginctl disable-linger user; systemctl stop user@1000.service")
        .ok();
}
