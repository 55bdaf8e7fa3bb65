//! The table in the kernel and the elements that should be in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::element::Element;
use super::message::{
    DELETE_CHAIN, DELETE_ELEMENTS, DELETE_RULE, DELETE_SET, DELETE_TABLE, GENERIC_HEADER, INET,
    RawElement, Transaction,
};
use super::ruleset::{self, Options, USER};
use crate::netlink::Socket;
use crate::netlink::attribute::{find, text};

/// A send over this many bytes goes in parts; the kernel's limit is ~200 kB.
const TRANSACTION_MAX: usize = 100 * 1024;
/// `1 << (NFNLGRP_NFTABLES - 1)`.
const NFTABLES_EVENTS: u32 = 1 << 6;
/// A flush is many events; the table is put back after the last of them.
const SETTLE: Duration = Duration::from_millis(50);

/// Our nftables table.
#[derive(Debug)]
pub(crate) struct Firewall {
    table: String,
    state: Mutex<State>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct State {
    socket: Socket,
    options: Options,
    elements: BTreeSet<Element>,
}

impl Firewall {
    /// Takes over or makes the table `name` in the calling thread's network namespace with
    /// exactly `elements`.
    pub(crate) fn open(
        name: &str,
        options: Options,
        elements: BTreeSet<Element>,
    ) -> io::Result<Arc<Self>> {
        let mut state = State {
            socket: Socket::netfilter()?,
            options,
            elements,
        };
        rebuild(name, &mut state)?;
        Ok(Arc::new(Self {
            table: name.to_owned(),
            state: Mutex::new(state),
            watcher: Mutex::new(None),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The set of elements is changed in one step, so it is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds elements in one transaction: all of them or, on failure, none.
    pub(crate) fn add(&self, elements: &[Element]) -> io::Result<()> {
        self.replace(&[], elements)
    }

    /// Removes elements; those that are not there do not matter.
    pub(crate) fn remove(&self, elements: &[Element]) -> io::Result<()> {
        self.replace(elements, &[])
    }

    /// Removes `old` and adds `new`.
    pub(crate) fn replace(&self, old: &[Element], new: &[Element]) -> io::Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        let kept: BTreeSet<&Element> = new.iter().collect();
        let old: Vec<&Element> = old
            .iter()
            .filter(|element| state.elements.contains(element) && !kept.contains(element))
            .collect();
        let new: Vec<&Element> = kept
            .into_iter()
            .filter(|element| !state.elements.contains(element))
            .collect();
        if old.is_empty() && new.is_empty() {
            return Ok(());
        }
        for element in &old {
            state.elements.remove(element);
        }
        state
            .elements
            .extend(new.iter().map(|element| (*element).clone()));
        let result = execute(&self.table, &mut state.socket, &old, &new);
        let Err(error) = result else { return Ok(()) };
        // The table is not as we left it, or a part of a big change was carried out: put back
        // everything that should be there.
        tracing::warn!(table = %self.table, error = %error, "nftables table differs from what it should be; rebuilding it");
        rebuild(&self.table, state).inspect_err(|_| {
            for element in new {
                state.elements.remove(element);
            }
        })
    }

    /// Replaces all elements.
    pub(crate) fn reset(&self, elements: BTreeSet<Element>) -> io::Result<()> {
        let mut state = self.state();
        state.elements = elements;
        rebuild(&self.table, &mut state)
    }

    /// Changes the rules' options.
    pub(crate) fn set_options(&self, options: Options) -> io::Result<()> {
        let mut state = self.state();
        if state.options == options {
            return Ok(());
        }
        state.options = options;
        rebuild(&self.table, &mut state)
    }

    /// Watches the ruleset from here on and puts the table back when somebody else removes
    /// something from it. The calling thread's namespace must be the table's.
    pub(crate) fn watch(self: &Arc<Self>, runtime: &tokio::runtime::Handle) -> io::Result<()> {
        let events = Socket::subscribe(true, NFTABLES_EVENTS)?;
        let entered = runtime.enter();
        #[allow(
            deprecated,
            reason = "its replacement is unsafe; a Socket keeps its one descriptor for life, which is all that asks for"
        )]
        let events = AsyncFd::with_interest(events, Interest::READABLE)?;
        drop(entered);
        let firewall = Arc::downgrade(self);
        let (table, ours) = (self.table.clone(), self.state().socket.port());
        let task = runtime.spawn(async move {
            let mut damaged = false;
            loop {
                let ready = if damaged {
                    tokio::time::timeout(SETTLE, events.readable()).await
                } else {
                    Ok(events.readable().await)
                };
                match ready {
                    Ok(Ok(mut guard)) => {
                        match events.get_ref().drain(|kind, port, body| {
                            damaged |= port != ours && is_damage(kind, body, &table);
                        }) {
                            // Events were lost: assume the worst.
                            Ok(true) => damaged = true,
                            Ok(false) => {}
                            Err(_) => return,
                        }
                        guard.clear_ready();
                    }
                    Ok(Err(_)) => return,
                    Err(_settled) => {
                        damaged = false;
                        let Some(firewall) = firewall.upgrade() else { return };
                        let result = rebuild(&firewall.table, &mut firewall.state());
                        match result {
                            Ok(()) => tracing::info!(table = %firewall.table, "nftables table was changed; put back"),
                            Err(error) => {
                                tracing::error!(table = %firewall.table, error = %error, "cannot put nftables table back");
                            }
                        }
                    }
                }
            }
        });
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(())
    }

    /// Removes the table. For an instance that goes away for good.
    pub(crate) fn delete(&self) -> io::Result<()> {
        self.stop_watching();
        let mut state = self.state();
        state.elements.clear();
        let mut transaction = Transaction::new(INET, &self.table);
        transaction.add_table(&[]);
        transaction.delete_table();
        state.socket.execute_transaction(transaction.finish())?;
        Ok(())
    }

    fn stop_watching(&self) {
        if let Some(task) = self
            .watcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            task.abort();
        }
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        self.stop_watching();
    }
}

/// Whether a notification tells of something of ours being removed.
fn is_damage(kind: u16, body: &[u8], table: &str) -> bool {
    const RULE_CHAIN: u16 = 2;
    if !matches!(
        kind,
        DELETE_TABLE | DELETE_CHAIN | DELETE_RULE | DELETE_SET | DELETE_ELEMENTS
    ) {
        return false;
    }
    let attributes = body.get(GENERIC_HEADER..).unwrap_or(&[]);
    // The table's name is attribute 1 of all these messages.
    let ours =
        body.first() == Some(&INET) && find(attributes, 1).is_some_and(|name| text(name) == table);
    let users_rule = kind == DELETE_RULE
        && find(attributes, RULE_CHAIN).is_some_and(|chain| text(chain) == USER);
    ours && !users_rule
}

fn by_set<'a>(
    elements: impl IntoIterator<Item = &'a Element>,
) -> BTreeMap<&'static str, Vec<RawElement>> {
    let mut sets: BTreeMap<&'static str, Vec<RawElement>> = BTreeMap::new();
    for element in elements {
        let (set, raw) = element.raw();
        sets.entry(set).or_default().extend(raw);
    }
    sets
}

fn execute(table: &str, socket: &mut Socket, old: &[&Element], new: &[&Element]) -> io::Result<()> {
    let mut transaction = Transaction::new(INET, table);
    for (set, raw) in by_set(old.iter().copied()) {
        for part in raw.chunks(256) {
            transaction.delete_elements(set, part);
            if transaction.len() > TRANSACTION_MAX {
                let full = std::mem::replace(&mut transaction, Transaction::new(INET, table));
                socket.execute_transaction(full.finish())?;
            }
        }
    }
    add_in_parts(table, socket, transaction, by_set(new.iter().copied()))
}

fn add_in_parts(
    table: &str,
    socket: &mut Socket,
    mut transaction: Transaction,
    sets: BTreeMap<&'static str, Vec<RawElement>>,
) -> io::Result<()> {
    for (set, raw) in sets {
        // An interval's two ends stay together: 256 is even.
        for part in raw.chunks(256) {
            transaction.add_elements(set, part);
            if transaction.len() > TRANSACTION_MAX {
                let full = std::mem::replace(&mut transaction, Transaction::new(INET, table));
                socket.execute_transaction(full.finish())?;
            }
        }
    }
    socket.execute_transaction(transaction.finish())?;
    Ok(())
}

/// Makes the table what it should be, in one transaction, so no packet meets a gap. The
/// administrator's chain stays unless the table has a form that can not be kept (an older
/// version's).
fn rebuild(table: &str, state: &mut State) -> io::Result<()> {
    let mut rebuild = |afresh: bool| {
        let mut transaction = Transaction::new(INET, table);
        transaction.add_table(&[]);
        if afresh {
            transaction.delete_table();
            transaction.add_table(&[]);
        }
        ruleset::build(&mut transaction, state.options);
        add_in_parts(
            table,
            &mut state.socket,
            transaction,
            by_set(&state.elements),
        )
    };
    rebuild(false).or_else(|error| {
        tracing::warn!(table, error = %error, "nftables table can not be repaired; making it anew");
        rebuild(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::Protocol;
    use crate::netlink::attribute::put_str;
    use crate::netns;

    /// Whether the table exists in the calling thread's network namespace.
    fn exists(table: &str) -> bool {
        const GET_TABLE: u16 = 10 << 8 | 1;
        let name = |buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(&[INET, 0, 0, 0]);
            put_str(buffer, 1, table);
        };
        Socket::netfilter()
            .unwrap()
            .query(GET_TABLE, 0, name, |_, _| {})
            .is_ok()
    }

    fn port(host: &str, container: &str) -> Element {
        Element::Port {
            protocol: Protocol::Tcp,
            host: host.parse().unwrap(),
            container: container.parse().unwrap(),
        }
    }

    #[test]
    fn the_kernel_takes_every_element_and_gives_it_back() {
        let worked = netns::in_new_namespace(|| {
            let options = Options {
                direct_routing: false,
                guard4: true,
                guard6: true,
                relayed: false,
            };
            let firewall = Firewall::open("wharf-test", options, BTreeSet::new()).unwrap();
            let elements = [
                Element::Bridge("docker0".to_owned()),
                Element::Internal("br-0123456789ab".to_owned()),
                Element::Within("docker0".to_owned()),
                Element::Subnet("172.17.0.0/16".parse().unwrap()),
                Element::Subnet("172.18.0.0/16".parse().unwrap()),
                Element::Masquerade("172.17.0.0/16".parse().unwrap()),
                Element::Masquerade("fd00::/64".parse().unwrap()),
                port("0.0.0.0:80", "172.17.0.2:8080"),
                port("127.0.0.1:81", "172.17.0.2:8080"),
                port("[::]:80", "[fd00::2]:8080"),
                port("[fd01::1]:80", "[fd00::2]:8080"),
                Element::PortRange {
                    protocol: Protocol::Udp,
                    first: 20000,
                    last: 60000,
                    container: "172.17.0.2".parse().unwrap(),
                },
            ];
            firewall.add(&elements).unwrap();
            firewall.add(&elements).unwrap();
            assert!(exists("wharf-test"));
            firewall
                .replace(&elements[7..8], &[port("0.0.0.0:82", "172.17.0.3:80")])
                .unwrap();
            firewall.remove(&elements).unwrap();
            firewall.remove(&elements).unwrap();
            let many: Vec<Element> = (1..=10_000)
                .map(|n| port(&format!("0.0.0.0:{n}"), "172.17.0.2:80"))
                .collect();
            firewall.add(&many).unwrap();
            firewall.remove(&many).unwrap();
            firewall.delete().unwrap();
            assert!(!exists("wharf-test"));
        });
        assert!(worked.is_some() || !netns::allowed());
    }
}
