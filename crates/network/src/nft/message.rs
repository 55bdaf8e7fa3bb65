//! nfnetlink messages: tables, chains, sets, elements and the expressions rules are made of.
//!
//! Only what the static rule set needs. Numbers are from linux/netfilter/nf_tables.h.

use crate::netlink::Requests;
use crate::netlink::attribute::{nest, put, put_be32, put_str};
use crate::netlink::socket::CREATE;

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
/// `NFT_MSG_DELTABLE`.
pub(super) const DELETE_TABLE: u16 = SUBSYSTEM | 2;
/// `NFT_MSG_DELCHAIN`.
pub(super) const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
/// `NFT_MSG_DELRULE`.
pub(super) const DELETE_RULE: u16 = SUBSYSTEM | 8;
/// `NFT_MSG_DELSET`.
pub(super) const DELETE_SET: u16 = SUBSYSTEM | 11;
/// `NFT_MSG_DELSETELEM`.
pub(super) const DELETE_ELEMENTS: u16 = SUBSYSTEM | 14;

/// `struct nfgenmsg`.
pub(super) const GENERIC_HEADER: usize = 4;

/// `NFPROTO_INET`.
pub(crate) const INET: u8 = 1;
/// `NFPROTO_IPV4`.
pub(crate) const IPV4: u8 = 2;
/// `NFPROTO_IPV6`.
pub(crate) const IPV6: u8 = 10;

/// The fifth word of the register file (`NFT_REG32_00` is 8): registers are named by word here.
const fn register(word: u32) -> u32 {
    8 + word
}

fn generic_header(buffer: &mut Vec<u8>, family: u8, resource: u16) {
    buffer.extend_from_slice(&[family, 0]);
    buffer.extend_from_slice(&resource.to_be_bytes());
}

/// Where a base chain sits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    /// `filter` or `nat`.
    pub(super) kind: &'static str,
    /// 0 prerouting, 2 forward, 3 output, 4 postrouting.
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// A field of a set's key or data: nft's type number and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    kind: u32,
    length: u32,
}

/// `ipv4_addr`.
pub(super) const ADDRESS4: Field = Field { kind: 7, length: 4 };
/// `ipv6_addr`.
pub(super) const ADDRESS6: Field = Field {
    kind: 8,
    length: 16,
};
/// `inet_proto`.
pub(super) const PROTOCOL: Field = Field {
    kind: 12,
    length: 1,
};
/// `inet_service`.
pub(super) const PORT: Field = Field {
    kind: 13,
    length: 2,
};
/// `ifname`.
pub(super) const IFNAME: Field = Field {
    kind: 41,
    length: 16,
};

/// Several fields make one key, each padded to four bytes.
fn combined(fields: &[Field]) -> (u32, u32) {
    match fields {
        [one] => (one.kind, one.length),
        many => many.iter().fold((0, 0), |(kind, length), field| {
            (
                (kind << 6) | field.kind,
                length + field.length.next_multiple_of(4),
            )
        }),
    }
}

/// How a set is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct SetDefinition {
    pub(super) name: &'static str,
    pub(super) key: &'static [Field],
    /// Empty for a plain set.
    pub(super) data: &'static [Field],
    pub(super) interval: bool,
}

/// One entry of a set as the kernel takes it.
#[derive(Debug, Clone)]
pub(super) struct RawElement {
    pub(super) key: Vec<u8>,
    /// Last key of the interval, in sets of several fields.
    pub(super) key_end: Option<Vec<u8>>,
    pub(super) data: Option<Vec<u8>>,
    /// First key after the interval, in sets of one field.
    pub(super) interval_end: bool,
}

/// An nftables transaction in the making.
#[derive(Debug)]
pub(super) struct Transaction {
    requests: Requests,
    family: u8,
    table: String,
    sets: u32,
}

impl Transaction {
    pub(super) fn new(family: u8, table: &str) -> Self {
        let mut requests = Requests::new();
        requests.push(BATCH_BEGIN, 0, |buffer| generic_header(buffer, 0, 10));
        Self {
            requests,
            family,
            table: table.to_owned(),
            sets: 0,
        }
    }

    /// The whole batch, to be handed to `Socket::execute_transaction`.
    pub(super) fn finish(mut self) -> Requests {
        self.requests
            .push(BATCH_END, 0, |buffer| generic_header(buffer, 0, 10));
        self.requests
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    fn push(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>, &str)) {
        let (family, table) = (self.family, self.table.as_str());
        self.requests.push(kind, flags, |buffer| {
            generic_header(buffer, family, 0);
            fill(buffer, table);
        });
    }

    /// Makes the table unless it exists; `mark` is kept with it.
    pub(super) fn add_table(&mut self, mark: &[u8]) {
        self.push(NEW_TABLE, CREATE, |buffer, table| {
            put_str(buffer, 1, table);
            if !mark.is_empty() {
                put(buffer, 6, mark);
            }
        });
    }

    pub(super) fn delete_table(&mut self) {
        self.push(DELETE_TABLE, 0, |buffer, table| put_str(buffer, 1, table));
    }

    pub(super) fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        const ACCEPT: u32 = 1;
        self.push(NEW_CHAIN, CREATE, |buffer, table| {
            put_str(buffer, 1, table);
            put_str(buffer, 3, name);
            if let Some(hook) = hook {
                nest(buffer, 4, |hooks| {
                    put_be32(hooks, 1, hook.number);
                    put(hooks, 2, &hook.priority.to_be_bytes());
                });
                put_be32(buffer, 5, ACCEPT);
                put_str(buffer, 7, hook.kind);
            }
        });
    }

    /// Removes all rules of a chain.
    pub(super) fn flush_chain(&mut self, name: &str) {
        self.push(DELETE_RULE, 0, |buffer, table| {
            put_str(buffer, 1, table);
            put_str(buffer, 2, name);
        });
    }

    /// Removes all elements of a set.
    pub(super) fn flush_set(&mut self, name: &str) {
        self.push(DELETE_ELEMENTS, 0, |buffer, table| {
            put_str(buffer, 1, table);
            put_str(buffer, 2, name);
        });
    }

    pub(super) fn add_rule(&mut self, chain: &str, rule: &Rule) {
        const APPEND: u16 = 0x800;
        self.push(NEW_RULE, CREATE | APPEND, |buffer, table| {
            put_str(buffer, 1, table);
            put_str(buffer, 2, chain);
            nest(buffer, 4, |list| list.extend_from_slice(&rule.expressions));
        });
    }

    pub(super) fn add_set(&mut self, set: &SetDefinition) {
        const INTERVAL: u32 = 4;
        const MAP: u32 = 8;
        const CONCATENATED: u32 = 0x80;
        self.sets += 1;
        let id = self.sets;
        let (key_kind, key_length) = combined(set.key);
        let (data_kind, data_length) = combined(set.data);
        let several = set.key.len() > 1;
        let mut flags = 0;
        if set.interval {
            flags |= INTERVAL;
        }
        if set.interval && several {
            flags |= CONCATENATED;
        }
        if !set.data.is_empty() {
            flags |= MAP;
        }
        self.push(NEW_SET, CREATE, |buffer, table| {
            put_str(buffer, 1, table);
            put_str(buffer, 2, set.name);
            put_be32(buffer, 3, flags);
            put_be32(buffer, 4, key_kind);
            put_be32(buffer, 5, key_length);
            if !set.data.is_empty() {
                put_be32(buffer, 6, data_kind);
                put_be32(buffer, 7, data_length);
            }
            // Only sets of intervals have to know their fields.
            if set.interval && several {
                nest(buffer, 9, |description| {
                    nest(description, 2, |fields| {
                        for field in set.key {
                            nest(fields, 1, |list| put_be32(list, 1, field.length));
                        }
                    });
                });
            }
            put_be32(buffer, 10, id);
            if set.key == [IFNAME] {
                // For `nft` only: which way round the names are when it lists them.
                const HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];
                put(buffer, 13, &HOST_ORDER);
            }
        });
    }

    pub(super) fn add_elements(&mut self, set: &str, elements: &[RawElement]) {
        self.elements(NEW_ELEMENTS, CREATE, set, elements);
    }

    pub(super) fn delete_elements(&mut self, set: &str, elements: &[RawElement]) {
        self.elements(DELETE_ELEMENTS, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[RawElement]) {
        // A list is one attribute of at most 64 KiB; an element takes up to ~130 bytes.
        for part in elements.chunks(256) {
            self.push(kind, flags, |buffer, table| {
                put_str(buffer, 1, table);
                put_str(buffer, 2, set);
                nest(buffer, 3, |list| {
                    for element in part {
                        nest(list, 1, |buffer| put_element(buffer, element));
                    }
                });
            });
        }
    }
}

fn put_element(buffer: &mut Vec<u8>, element: &RawElement) {
    const INTERVAL_END: u32 = 1;
    if element.interval_end {
        put_be32(buffer, 3, INTERVAL_END);
    }
    nest(buffer, 1, |key| put(key, 1, &element.key));
    if let Some(end) = &element.key_end {
        nest(buffer, 10, |key| put(key, 1, end));
    }
    if let Some(data) = &element.data {
        nest(buffer, 2, |value| put(value, 1, data));
    }
}

/// `NFT_META_*` keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meta {
    /// The packet's mark.
    Mark = 3,
    /// Name of the interface a packet came in by.
    InputName = 6,
    /// Name of the interface it leaves by.
    OutputName = 7,
    /// IPv4 or IPv6.
    Family = 15,
    /// Transport protocol.
    Protocol = 16,
}

/// How two values compare.
#[derive(Debug, Clone, Copy)]
pub(super) enum Compare {
    Equal = 0,
    Different = 1,
}

/// `NFT_FIB`'s address type "this host".
const ADDRESS_LOCAL: u32 = 2;
/// Connection was established or is related to one.
pub(super) const STATE_KNOWN: u32 = 2 | 4;
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;
const CT_MARK: u32 = 3;
/// `IPS_DST_NAT`.
const STATUS_DNAT: u32 = 1 << 5;

/// A rule: expressions one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    expressions: Vec<u8>,
}

impl Rule {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn expression(mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        nest(&mut self.expressions, 1, |buffer| {
            put_str(buffer, 1, name);
            nest(buffer, 2, fill);
        });
        self
    }

    pub(super) fn load_meta(self, key: Meta, word: u32) -> Self {
        self.expression("meta", |buffer| {
            put_be32(buffer, 1, register(word));
            put_be32(buffer, 2, key as u32);
        })
    }

    /// Loads `length` bytes of the packet; base 1 is the network, 2 the transport header.
    pub(super) fn load_packet(self, base: u32, offset: u32, length: u32, word: u32) -> Self {
        self.expression("payload", |buffer| {
            put_be32(buffer, 1, register(word));
            put_be32(buffer, 2, base);
            put_be32(buffer, 3, offset);
            put_be32(buffer, 4, length);
        })
    }

    pub(super) fn compare(self, how: Compare, word: u32, value: &[u8]) -> Self {
        self.expression("cmp", |buffer| {
            put_be32(buffer, 1, register(word));
            put_be32(buffer, 2, how as u32);
            nest(buffer, 3, |data| put(data, 1, value));
        })
    }

    /// The registers from `word` on are in `set`, or are not.
    pub(super) fn in_set(self, set: &str, word: u32, inverted: bool) -> Self {
        self.expression("lookup", |buffer| {
            put_str(buffer, 1, set);
            put_be32(buffer, 2, register(word));
            if inverted {
                put_be32(buffer, 5, 1);
            }
        })
    }

    /// Replaces the registers from word 0 on by what `map` has for them.
    pub(super) fn map(self, map: &str) -> Self {
        self.expression("lookup", |buffer| {
            put_str(buffer, 1, map);
            put_be32(buffer, 2, register(0));
            put_be32(buffer, 3, register(0));
        })
    }

    /// Loads a constant.
    pub(super) fn load(self, word: u32, value: &[u8]) -> Self {
        self.expression("immediate", |buffer| {
            put_be32(buffer, 1, register(word));
            nest(buffer, 2, |data| put(data, 1, value));
        })
    }

    /// Destination NAT to the address in word 0, and the port in `port_word`.
    pub(super) fn dnat(self, family: u8, port_word: Option<u32>) -> Self {
        self.expression("nat", |buffer| {
            put_be32(buffer, 1, 1);
            put_be32(buffer, 2, u32::from(family));
            put_be32(buffer, 3, register(0));
            if let Some(word) = port_word {
                put_be32(buffer, 5, register(word));
            }
        })
    }

    pub(super) fn masquerade(self) -> Self {
        self.expression("masq", |_| {})
    }

    fn verdict(self, code: i32, chain: Option<&str>) -> Self {
        self.expression("immediate", |buffer| {
            put_be32(buffer, 1, 0);
            nest(buffer, 2, |data| {
                nest(data, 2, |verdict| {
                    put(verdict, 1, &code.to_be_bytes());
                    if let Some(chain) = chain {
                        put_str(verdict, 2, chain);
                    }
                });
            });
        })
    }

    pub(super) fn accept(self) -> Self {
        self.verdict(1, None)
    }

    pub(super) fn drop_packet(self) -> Self {
        self.verdict(0, None)
    }

    pub(super) fn return_to_caller(self) -> Self {
        self.verdict(-5, None)
    }

    pub(super) fn jump(self, chain: &str) -> Self {
        self.verdict(-3, Some(chain))
    }

    /// The destination is an address of this host, or is not.
    pub(super) fn destination_local(self, how: Compare) -> Self {
        self.expression("fib", |buffer| {
            put_be32(buffer, 1, register(0));
            put_be32(buffer, 2, 3);
            put_be32(buffer, 3, 2);
        })
        .compare(how, 0, &ADDRESS_LOCAL.to_ne_bytes())
    }

    /// The connection's state is one of the bits.
    pub(super) fn state(self, bits: u32) -> Self {
        self.connection(CT_STATE, bits)
    }

    /// The connection's destination has been translated.
    pub(super) fn translated(self) -> Self {
        self.connection(CT_STATUS, STATUS_DNAT)
    }

    fn connection(self, key: u32, bits: u32) -> Self {
        self.expression("ct", |buffer| {
            put_be32(buffer, 1, register(0));
            put_be32(buffer, 2, key);
        })
        .expression("bitwise", |buffer| {
            put_be32(buffer, 1, register(0));
            put_be32(buffer, 2, register(0));
            put_be32(buffer, 3, 4);
            nest(buffer, 4, |data| put(data, 1, &bits.to_ne_bytes()));
            nest(buffer, 5, |data| put(data, 1, &[0; 4]));
        })
        .compare(Compare::Different, 0, &[0; 4])
    }

    /// The packet is an answer of its connection.
    pub(super) fn only_answers(self) -> Self {
        const REPLY: u8 = 1;
        self.load_connection(CT_DIRECTION)
            .compare(Compare::Equal, 0, &[REPLY])
    }

    /// The connection has this mark.
    pub(super) fn connection_marked(self, mark: u32) -> Self {
        self.load_connection(CT_MARK)
            .compare(Compare::Equal, 0, &mark.to_ne_bytes())
    }

    fn load_connection(self, key: u32) -> Self {
        self.expression("ct", |buffer| {
            put_be32(buffer, 1, register(0));
            put_be32(buffer, 2, key);
        })
    }

    /// Marks the connection with word 0.
    pub(super) fn mark_connection(self) -> Self {
        self.expression("ct", |buffer| {
            put_be32(buffer, 2, CT_MARK);
            put_be32(buffer, 4, register(0));
        })
    }

    /// Marks the packet with word 0.
    pub(super) fn mark_packet(self) -> Self {
        self.expression("meta", |buffer| {
            put_be32(buffer, 2, Meta::Mark as u32);
            put_be32(buffer, 3, register(0));
        })
    }

    pub(super) fn family(self, family: u8) -> Self {
        self.load_meta(Meta::Family, 0)
            .compare(Compare::Equal, 0, &[family])
    }

    /// Interface names compare as sixteen bytes; a pattern compares as its prefix.
    pub(super) fn name(self, key: Meta, how: Compare, name: &str) -> Self {
        let mut bytes = [0_u8; 16];
        let length = name.len().min(15);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        self.load_meta(key, 0).compare(how, 0, &bytes)
    }

    pub(super) fn name_prefix(self, key: Meta, prefix: &str) -> Self {
        self.load_meta(key, 0)
            .compare(Compare::Equal, 0, prefix.as_bytes())
    }
}
