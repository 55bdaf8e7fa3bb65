//! When a container that ended is started again, and how long to wait before.

use std::time::Duration;

use wharf_api_types::container::RestartPolicy;
use wharf_fault::{Error, Result};

/// Delay before the first restart; doubles with every further one.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// The delay never gets longer than this.
const DELAY_MAX: Duration = Duration::from_secs(60);
/// A run of this length puts the delay back to the beginning.
const RUN_RESETS_DELAY: Duration = Duration::from_secs(10);

/// How the last run ended, as far as the policy cares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// The exit code.
    pub exit_code: i64,
    /// A user asked for the end.
    pub manually_stopped: bool,
    /// Restarts so far.
    pub restart_count: u32,
}

/// Whether the policy starts the container again after it ended by itself.
pub(super) fn should_restart(policy: &RestartPolicy, ending: Ending) -> bool {
    match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !ending.manually_stopped,
        "on-failure" => {
            let within = policy.maximum_retry_count == 0
                || i64::from(ending.restart_count) < policy.maximum_retry_count;
            within && ending.exit_code != 0
        }
        _ => false,
    }
}

/// The delay before a restart, given the one before.
pub(super) fn next_delay(last: Option<Duration>, ran: Duration) -> Duration {
    match last {
        Some(last) if ran < RUN_RESETS_DELAY => (last * 2).min(DELAY_MAX),
        _ => DELAY_MIN,
    }
}

/// Refuses what is no policy, in Docker's words.
pub(super) fn validate(policy: &RestartPolicy) -> Result<()> {
    match policy.name.as_str() {
        "always" | "unless-stopped" | "no" if policy.maximum_retry_count != 0 => {
            let mut message =
                "invalid restart policy: maximum retry count can only be used with 'on-failure'"
                    .to_owned();
            if policy.maximum_retry_count < 0 {
                message.push_str(" and cannot be negative");
            }
            Err(Error::invalid(message))
        }
        "on-failure" if policy.maximum_retry_count < 0 => Err(Error::invalid(
            "invalid restart policy: maximum retry count cannot be negative",
        )),
        "" | "no" | "always" | "unless-stopped" | "on-failure" => Ok(()),
        other => Err(Error::invalid(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}

/// Whether the policy ever restarts.
pub(super) fn is_none(policy: &RestartPolicy) -> bool {
    matches!(policy.name.as_str(), "" | "no")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, max: i64) -> RestartPolicy {
        RestartPolicy {
            name: name.to_owned(),
            maximum_retry_count: max,
        }
    }

    fn ending(exit_code: i64, restart_count: u32) -> Ending {
        Ending {
            exit_code,
            manually_stopped: false,
            restart_count,
        }
    }

    #[test]
    fn policies_decide_as_dockers() {
        assert!(!should_restart(&policy("no", 0), ending(1, 0)));
        assert!(!should_restart(&policy("", 0), ending(1, 0)));
        assert!(should_restart(&policy("always", 0), ending(0, 100)));
        assert!(should_restart(&policy("on-failure", 2), ending(1, 1)));
        assert!(!should_restart(&policy("on-failure", 2), ending(1, 2)));
        assert!(!should_restart(&policy("on-failure", 0), ending(0, 0)));
        assert!(should_restart(&policy("unless-stopped", 0), ending(0, 0)));
        let stopped = Ending {
            manually_stopped: true,
            ..ending(0, 0)
        };
        assert!(!should_restart(&policy("unless-stopped", 0), stopped));
    }

    #[test]
    fn delay_doubles_to_a_minute_and_resets_after_a_long_run() {
        let mut delay = None;
        let mut seen = Vec::new();
        for _ in 0..12 {
            let next = next_delay(delay, Duration::from_secs(1));
            seen.push(next.as_millis());
            delay = Some(next);
        }
        assert_eq!(
            seen,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        assert_eq!(next_delay(delay, Duration::from_secs(10)), DELAY_MIN);
    }

    #[test]
    fn bad_policies_are_named() {
        assert!(
            validate(&policy("always", 3))
                .unwrap_err()
                .to_string()
                .contains("maximum retry count")
        );
        assert!(
            validate(&policy("on-failure", -1))
                .unwrap_err()
                .to_string()
                .ends_with("cannot be negative")
        );
        assert!(
            validate(&policy("sometimes", 0))
                .unwrap_err()
                .to_string()
                .contains("unknown policy 'sometimes'")
        );
        assert!(validate(&policy("on-failure", 3)).is_ok());
    }
}
