//! Signals the client receives while it stands in front of a container.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The signals passed on, by the name the API takes. Not among them: those that cannot be caught,
/// and CHLD, PIPE and URG, which concern the client itself.
const FORWARDED: &[(i32, &str)] = &[
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (27, "PROF"),
    (29, "IO"),
    (30, "PWR"),
];

/// Starts catching the forwarded signals; their names arrive in order.
pub(crate) fn catch() -> std::io::Result<UnboundedReceiver<&'static str>> {
    let (sender, receiver) = unbounded_channel();
    for (number, name) in FORWARDED {
        let mut stream = signal(SignalKind::from_raw(*number))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && sender.send(*name).is_ok() {}
        });
    }
    Ok(receiver)
}
