//! Against a real bus with somebody on it who stands in for systemd.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use wharf_systemd::{Bus, Manager, SystemdError, Value};

/// A bus of the test's own and the stand-in; both end with it.
struct Fake {
    bus: Child,
    systemd: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    _folder: tempfile::TempDir,
}

impl Fake {
    /// `None` says why not.
    fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}/bus", folder.path().display());
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1"])
            .arg(format!("--address={address}"))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("no dbus-daemon: {error}"))?;
        let mut line = String::new();
        BufReader::new(bus.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let mut systemd = Command::new("/usr/bin/python3")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fake_systemd.py"
            ))
            .env("DBUS_SESSION_BUS_ADDRESS", line.trim())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("no python3: {error}"))?;
        let lines = BufReader::new(systemd.stdout.take().unwrap()).lines();
        let mut fake = Self {
            bus,
            systemd,
            lines,
            _folder: folder,
        };
        match fake.lines.next() {
            Some(Ok(line)) if line.contains("ready") => {}
            _ => return Err("python3-dbus or python3-gi is missing".to_owned()),
        }
        ADDRESS.set(line.trim().to_owned()).unwrap();
        Ok(fake)
    }

    /// The next call the stand-in got.
    fn heard(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

static ADDRESS: std::sync::OnceLock<String> = std::sync::OnceLock::new();

impl Drop for Fake {
    fn drop(&mut self) {
        for child in [&mut self.systemd, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn units_are_made_changed_and_stopped() {
    let mut fake = match Fake::start() {
        Ok(fake) => fake,
        Err(reason) => {
            return wharf_tests::skip("units_are_made_changed_and_stopped", &reason);
        }
    };
    let connect = || Manager::connect(Bus::At(ADDRESS.get().unwrap())).unwrap();
    let properties = [
        ("Description", Value::Text("a test".into())),
        ("PIDs", Value::Numbers(vec![7, 8])),
        ("Delegate", Value::Bool(true)),
        ("MemoryMax", Value::U64(1 << 33)),
        ("AllowedCPUs", Value::Bytes(vec![3, 1])),
        ("Wants", Value::Texts(vec!["a".into(), "b".into()])),
        (
            "DeviceAllow",
            Value::Pairs(vec![
                ("/dev/char/1:3".into(), "rwm".into()),
                ("block-*".into(), "m".into()),
            ]),
        ),
    ];
    for unit in ["test-one.scope", "test-two.scope"] {
        connect().start_transient_unit(unit, &properties).unwrap();
        assert!(fake.heard().contains("Subscribe"));
        let call = fake.heard();
        for part in [
            r#""mode": "replace""#,
            r#""Description": "a test""#,
            r#""PIDs": [7, 8]"#,
            r#""Delegate": true"#,
            r#""MemoryMax": 8589934592"#,
            r#""AllowedCPUs": [3, 1]"#,
            r#""Wants": ["a", "b"]"#,
            r#""DeviceAllow": [["/dev/char/1:3", "rwm"], ["block-*", "m"]]"#,
        ] {
            assert!(call.contains(part), "{part} in {call}");
        }
    }
    // Known from before, and forgotten.
    connect()
        .start_transient_unit("test-exists.scope", &properties[..1])
        .unwrap();
    let calls: Vec<String> = (0..4).map(|_| fake.heard()).collect();
    assert!(calls[2].contains("ResetFailedUnit"), "{calls:?}");
    let error = connect()
        .start_transient_unit("test-fails.scope", &properties[..1])
        .unwrap_err();
    assert!(
        matches!(&error, SystemdError::Job { result, .. } if result == "failed"),
        "{error}"
    );
    fake.heard();
    fake.heard();
    let mut manager = connect();
    manager
        .set_unit_properties("test-one.scope", &[("TasksMax", Value::U64(u64::MAX))])
        .unwrap();
    let call = fake.heard();
    assert!(
        call.contains(r#""runtime": true"#) && call.contains("18446744073709551615"),
        "{call}"
    );
    let error = manager
        .set_unit_properties("nobody.scope", &properties[..1])
        .unwrap_err();
    assert!(error.is("NoSuchUnit"), "{error}");
    assert!(error.to_string().contains("not loaded"), "{error}");
    assert_eq!(manager.property("Version").unwrap(), "252.39-1~deb12u1");
    for unit in ["test-one.scope", "test-two.scope", "nobody.scope"] {
        connect().stop_unit(unit).unwrap();
    }
}

#[test]
fn without_systemd_it_is_said_where_it_was_looked_for() {
    let error = Manager::connect(Bus::At("unix:path=/no/such/socket")).unwrap_err();
    assert!(error.to_string().contains("/no/such/socket"), "{error}");
}
