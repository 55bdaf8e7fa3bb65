//! Who has which host port: the containers of this daemon among themselves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::attach::Protocol;

/// Longer than a process that is being spawned needs to its program.
const MOMENT: Duration = Duration::from_secs(1);

/// Entries that are remembered at a time; forgetting one costs little.
const FREED_MAX: usize = 1024;

/// Reserved ports.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    taken: HashMap<(Protocol, u16), Vec<IpAddr>>,
    /// When ports were given back, for a moment.
    freed: HashMap<(Protocol, u16), Instant>,
    /// Where the search for a free port goes on.
    next: HashMap<Protocol, u16>,
}

/// Whether a program listening on one address keeps another from the other.
fn collide(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
        && (one == other || one.is_unspecified() || other.is_unspecified())
}

impl Ledger {
    /// Whether all of `addresses` have the port free.
    pub(super) fn is_free(&self, protocol: Protocol, port: u16, addresses: &[IpAddr]) -> bool {
        self.taken.get(&(protocol, port)).is_none_or(|taken| {
            !taken
                .iter()
                .any(|one| addresses.iter().any(|other| collide(*one, *other)))
        })
    }

    pub(super) fn take(&mut self, protocol: Protocol, port: u16, address: IpAddr) {
        self.taken
            .entry((protocol, port))
            .or_default()
            .push(address);
    }

    pub(super) fn give_back(&mut self, protocol: Protocol, port: u16, address: IpAddr) {
        if let Some(taken) = self.taken.get_mut(&(protocol, port)) {
            if let Some(place) = taken.iter().position(|one| *one == address) {
                taken.swap_remove(place);
            }
            if taken.is_empty() {
                self.taken.remove(&(protocol, port));
            }
            if self.freed.len() >= FREED_MAX {
                self.freed.clear();
            }
            self.freed.insert((protocol, port), Instant::now());
        }
    }

    /// Whether one of ours had the port a moment ago.
    pub(super) fn just_freed(&self, protocol: Protocol, port: u16) -> bool {
        self.freed
            .get(&(protocol, port))
            .is_some_and(|when| when.elapsed() < MOMENT)
    }

    /// The ports of `range` in the order to try them: after the last one chosen, then around.
    pub(super) fn candidates(
        &self,
        protocol: Protocol,
        range: &RangeInclusive<u16>,
    ) -> impl Iterator<Item = u16> + use<> {
        let start = self
            .next
            .get(&protocol)
            .copied()
            .filter(|next| range.contains(next))
            .unwrap_or(*range.start());
        (start..=*range.end()).chain(*range.start()..start)
    }

    /// Remembers where a search ended.
    pub(super) fn chosen(&mut self, protocol: Protocol, port: u16) {
        self.next.insert(protocol, port.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_collides_with_each() {
        let mut ledger = Ledger::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        ledger.take(Protocol::Tcp, 80, ip("127.0.0.1"));
        let free =
            |ledger: &Ledger, address: &str| ledger.is_free(Protocol::Tcp, 80, &[ip(address)]);
        assert!(!free(&ledger, "0.0.0.0"));
        assert!(!free(&ledger, "127.0.0.1"));
        assert!(free(&ledger, "127.0.0.2"));
        assert!(free(&ledger, "::"));
        assert!(ledger.is_free(Protocol::Udp, 80, &[ip("0.0.0.0")]));
        ledger.give_back(Protocol::Tcp, 80, ip("127.0.0.1"));
        assert!(free(&ledger, "0.0.0.0"));
    }

    #[test]
    fn the_search_goes_on_where_it_ended() {
        let mut ledger = Ledger::default();
        ledger.chosen(Protocol::Tcp, 101);
        assert_eq!(
            ledger
                .candidates(Protocol::Tcp, &(100..=103))
                .collect::<Vec<_>>(),
            [102, 103, 100, 101]
        );
        assert_eq!(
            ledger
                .candidates(Protocol::Tcp, &(200..=201))
                .collect::<Vec<_>>(),
            [200, 201]
        );
    }
}
