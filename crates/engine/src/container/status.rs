//! The `STATUS` column of `ps`, and durations in words.

use jiff::Timestamp;

use super::record::{Phase, State};

/// `Up 2 minutes (healthy)`, `Exited (0) 3 seconds ago`, `Created`, ….
pub(super) fn text(state: &State, health: Option<&str>, now: Timestamp) -> String {
    let ago = |at: Option<Timestamp>| human_duration(seconds_since(at, now));
    match state.phase {
        _ if state.removing => "Removal In Progress".to_owned(),
        _ if state.restarting => format!(
            "Restarting ({}) {} ago",
            state.exit_code,
            ago(state.finished_at)
        ),
        Phase::Running if state.paused => format!("Up {} (Paused)", ago(state.started_at)),
        Phase::Running => match health {
            Some("starting") => format!("Up {} (health: starting)", ago(state.started_at)),
            Some(health) => format!("Up {} ({health})", ago(state.started_at)),
            None => format!("Up {}", ago(state.started_at)),
        },
        Phase::Dead => "Dead".to_owned(),
        Phase::Created => "Created".to_owned(),
        Phase::Exited => match state.finished_at {
            Some(_) => format!(
                "Exited ({}) {} ago",
                state.exit_code,
                ago(state.finished_at)
            ),
            None => String::new(),
        },
    }
}

fn seconds_since(at: Option<Timestamp>, now: Timestamp) -> i64 {
    at.map_or(0, |at| (now.as_second() - at.as_second()).max(0))
}

/// A duration as Docker words it.
pub fn human_duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn durations_read_as_dockers() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 24 * 3600, "2 weeks"),
            (60 * 24 * 3600, "2 months"),
            (2 * 365 * 24 * 3600, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn states_read_as_dockers() {
        let now = at(1000).unwrap();
        let running = State {
            phase: Phase::Running,
            started_at: at(880),
            ..State::default()
        };
        assert_eq!(text(&running, None, now), "Up 2 minutes");
        assert_eq!(
            text(&running, Some("healthy"), now),
            "Up 2 minutes (healthy)"
        );
        assert_eq!(
            text(&running, Some("starting"), now),
            "Up 2 minutes (health: starting)"
        );
        assert_eq!(
            text(
                &State {
                    paused: true,
                    ..running
                },
                None,
                now
            ),
            "Up 2 minutes (Paused)"
        );
        let exited = State {
            phase: Phase::Exited,
            exit_code: 137,
            finished_at: at(997),
            ..State::default()
        };
        assert_eq!(text(&exited, None, now), "Exited (137) 3 seconds ago");
        assert_eq!(
            text(
                &State {
                    restarting: true,
                    ..exited
                },
                None,
                now
            ),
            "Restarting (137) 3 seconds ago"
        );
        assert_eq!(text(&State::default(), None, now), "Created");
    }
}
