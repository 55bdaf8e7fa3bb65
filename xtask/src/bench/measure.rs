//! Samples and the figures made of them.

use std::time::{Duration, Instant};

/// Durations in milliseconds, a list per engine.
pub(crate) struct Samples(Vec<Vec<f64>>);

impl Samples {
    pub(crate) fn new(engines: usize) -> Self {
        Self(vec![Vec::new(); engines])
    }

    pub(crate) fn add(&mut self, engine: usize, milliseconds: f64) {
        self.0[engine].push(milliseconds);
    }

    /// The `share` quantile (0.5: median) of an engine's samples; NaN without any.
    pub(crate) fn quantile(&self, engine: usize, share: f64) -> f64 {
        let mut sorted = self.0[engine].clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        #[allow(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "an index between 0 and last"
        )]
        sorted
            .get(((last as f64) * share).round() as usize)
            .copied()
            .unwrap_or(f64::NAN)
    }
}

/// How long `work` takes.
pub(crate) fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Lets the machine come to rest, so that what one engine writes late, or still takes down after
/// its answer, does not slow the next one.
pub(crate) fn settle() {
    rustix::fs::sync();
    std::thread::sleep(REST);
}

/// Long enough for network namespaces and mounts that the kernel takes down by and by.
const REST: Duration = Duration::from_millis(150);
