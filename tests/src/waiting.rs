//! Waiting for what comes by itself a moment later: always with an end, and with words for when it does not come.

use std::time::{Duration, Instant};

use crate::output::Output;

/// How long anything may take that a test waits for. Nothing usually takes a hundredth of it; a machine
/// with much else to do is given its time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks: long enough that looking is not what keeps the machine busy.
pub const PAUSE: Duration = Duration::from_millis(10);

/// Runs a command again and again until it succeeds.
#[track_caller]
pub fn succeeds(what: &str, mut run: impl FnMut() -> Output) -> Output {
    eventually(what, || {
        let out = run();
        if out.code == 0 {
            Ok(out)
        } else {
            Err(format!("{} {} {}", out.code, out.stdout, out.stderr))
        }
    })
}

/// Asks again and again until there is an answer. What is said meanwhile is told when none comes.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(said) => assert!(
                Instant::now() < end,
                "not within {} s: {what}: {said}",
                PATIENCE.as_secs()
            ),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until `now` is what is expected.
#[track_caller]
pub fn becomes<T: PartialEq + std::fmt::Debug>(expected: &T, now: impl Fn() -> T) {
    eventually(&format!("{expected:?}"), || {
        let now = now();
        if now == *expected {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
}
