//! From a query's bytes to an answer, or to the decision to forward it. Does no input or output.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::directory::{Directory, Scope};

/// Seconds an answer of ours may be kept, as Docker's.
const TTL: u32 = 600;
/// What a client without EDNS can take over UDP.
const UDP_MIN: u16 = 512;
/// The most we send in one UDP packet.
const UDP_MAX: u16 = 4096;

/// What becomes of a query.
#[derive(Debug)]
pub(super) enum Outcome {
    /// This is the answer.
    Answer(Vec<u8>),
    /// Other servers may know.
    Forward(Forward),
    /// Not even worth an error.
    Ignore,
}

/// A query for other servers.
#[derive(Debug)]
pub(super) struct Forward {
    query: Message,
}

/// Decides about a query.
pub(super) fn answer(directory: &Directory, scope: &Scope, bytes: &[u8], udp: bool) -> Outcome {
    let query = match Message::from_vec(bytes) {
        Ok(query) => query,
        Err(_) => return malformed(bytes),
    };
    // A response sent to us must never make us send one: two servers would keep each other busy.
    if query.metadata.message_type != MessageType::Query {
        return Outcome::Ignore;
    }
    if query.metadata.op_code != OpCode::Query {
        return encode(&empty(&query, ResponseCode::NotImp), udp);
    }
    let [question] = query.queries.as_slice() else {
        return encode(&empty(&query, ResponseCode::FormErr), udp);
    };
    if question.query_class() == DNSClass::IN
        && let Some(records) = local(directory, scope, question)
    {
        let mut response = empty(&query, ResponseCode::NoError);
        response.add_answers(records);
        return encode(&response, udp);
    }
    let forward = Forward { query };
    if scope.servers.is_empty() {
        Outcome::Answer(forward.failure(udp))
    } else {
        Outcome::Forward(forward)
    }
}

/// The records of a name of ours; empty where the name is known and the type is not.
fn local(directory: &Directory, scope: &Scope, question: &Query) -> Option<Vec<Record>> {
    let name = question.name();
    let record = |data: RData| Record::from_rdata(name.clone(), TTL, data);
    match question.query_type() {
        RecordType::A | RecordType::AAAA | RecordType::MX => {
            let text = name.to_utf8();
            let Some(found) = directory.resolve(scope, &text) else {
                let single = name.num_labels() <= 1;
                let address = question.query_type() != RecordType::MX;
                return (single && address && scope.keep_single_labels).then(Vec::new);
            };
            let mut records: Vec<Record> = match question.query_type() {
                RecordType::A => found
                    .ipv4
                    .into_iter()
                    .map(|ip| record(RData::A(A(ip))))
                    .collect(),
                RecordType::AAAA => found
                    .ipv6
                    .into_iter()
                    .map(|ip| record(RData::AAAA(AAAA(ip))))
                    .collect(),
                _ => Vec::new(),
            };
            shuffle(&mut records);
            Some(records)
        }
        RecordType::PTR => {
            let net = name.parse_arpa_name().ok()?;
            if net.prefix_len() != net.max_prefix_len() {
                return None;
            }
            let host = directory.reverse(scope, net.addr())?;
            let target = Name::from_ascii(format!("{host}.")).ok()?;
            Some(vec![record(RData::PTR(PTR(target)))])
        }
        _ => None,
    }
}

/// Puts the records in a random order, which spreads clients over a name's containers.
fn shuffle(records: &mut [Record]) {
    if records.len() < 2 {
        return;
    }
    for last in (1..records.len()).rev() {
        let random = u32::from_ne_bytes(wharf_ids::random_bytes::<4>()) as usize;
        records.swap(last, random % (last + 1));
    }
}

/// A response without records.
fn empty(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_queries(query.queries.iter().take(1).cloned());
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        // Carried along for `encode`, which replaces it by ours.
        edns.set_max_payload(asked.max_payload());
        response.set_edns(edns);
    }
    response
}

fn encode(response: &Message, udp: bool) -> Outcome {
    let limit = if udp {
        udp_limit(response.edns.as_ref())
    } else {
        usize::from(u16::MAX)
    };
    let mut response = response.clone();
    if let Some(edns) = &mut response.edns {
        edns.set_max_payload(UDP_MAX);
    }
    match response.to_vec() {
        Ok(bytes) if bytes.len() <= limit => Outcome::Answer(bytes),
        Ok(_) => response
            .truncate()
            .to_vec()
            .map_or(Outcome::Ignore, Outcome::Answer),
        Err(_) => Outcome::Ignore,
    }
}

fn udp_limit(edns: Option<&Edns>) -> usize {
    usize::from(edns.map_or(UDP_MIN, |edns| edns.max_payload().clamp(UDP_MIN, UDP_MAX)))
}

/// FORMERR for what has a header at least.
fn malformed(bytes: &[u8]) -> Outcome {
    let (Some(id), Some(flags)) = (bytes.get(0..2), bytes.get(2)) else {
        return Outcome::Ignore;
    };
    if bytes.len() < 12 || flags & 0x80 != 0 {
        return Outcome::Ignore;
    }
    let id = u16::from_be_bytes([id[0], id[1]]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)
        .to_vec()
        .map_or(Outcome::Ignore, Outcome::Answer)
}

impl Forward {
    /// The query's bytes under another id, which only the server that is asked learns.
    pub(super) fn request(&self, id: u16) -> Option<Vec<u8>> {
        let mut request = self.query.clone();
        request.metadata.id = id;
        request.to_vec().ok()
    }

    /// The client's answer made of a server's, if that is one to this query.
    pub(super) fn response(&self, bytes: &[u8], id: u16, udp: bool) -> Option<Vec<u8>> {
        let response = Message::from_vec(bytes).ok()?;
        let same = response.metadata.id == id
            && response.metadata.message_type == MessageType::Response
            && response.queries == self.query.queries;
        if !same {
            return None;
        }
        let mut own = bytes.to_vec();
        own[0..2].copy_from_slice(&self.query.metadata.id.to_be_bytes());
        if udp && own.len() > udp_limit(self.query.edns.as_ref()) {
            let mut short = response.truncate();
            short.metadata.id = self.query.metadata.id;
            return short.to_vec().ok();
        }
        Some(own)
    }

    /// Whether another server should be asked after this answer.
    pub(super) fn is_failure(bytes: &[u8]) -> bool {
        const SERVER_FAILURE: u8 = 2;
        const REFUSED: u8 = 5;
        bytes
            .get(3)
            .is_some_and(|flags| matches!(flags & 0xf, SERVER_FAILURE | REFUSED))
    }

    /// SERVFAIL.
    pub(super) fn failure(&self, udp: bool) -> Vec<u8> {
        match encode(&empty(&self.query, ResponseCode::ServFail), udp) {
            Outcome::Answer(bytes) => bytes,
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::directory::{Member, ScopeNetwork};
    use super::*;
    use crate::files::ExtServer;

    fn directory(count: u8) -> Arc<Directory> {
        let directory = Directory::new();
        for n in 0..count {
            let member = Member {
                ipv4: Some([10, 0, 0, n].into()),
                ipv6: None,
                names: vec![format!("c{n}"), "all".to_owned()],
            };
            directory.insert("n1", &format!("id{n}"), member);
        }
        directory
    }

    fn scope(servers: bool) -> Scope {
        let server = ExtServer {
            address: "192.0.2.1".parse().unwrap(),
            from_host: true,
        };
        Scope {
            networks: vec![ScopeNetwork {
                id: "n1".to_owned(),
                name: "net".to_owned(),
                links: Vec::new(),
            }],
            servers: if servers { vec![server] } else { Vec::new() },
            keep_single_labels: false,
        }
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.id = 77;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn ask(message: &Message, servers: bool, udp: bool) -> Outcome {
        answer(
            &directory(100),
            &scope(servers),
            &message.to_vec().unwrap(),
            udp,
        )
    }

    fn answered(outcome: Outcome) -> Message {
        match outcome {
            Outcome::Answer(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("not answered: {other:?}"),
        }
    }

    #[test]
    fn known_names_are_answered_and_never_forwarded() {
        let response = answered(ask(&query("C1.", RecordType::A), true, true));
        assert_eq!(response.metadata.id, 77);
        assert_eq!(response.answers[0].data, RData::A(A([10, 0, 0, 1].into())));
        assert_eq!(response.answers[0].ttl, 600);
        for kind in [RecordType::AAAA, RecordType::MX] {
            let response = answered(ask(&query("c1.", kind), true, true));
            assert_eq!(
                (response.metadata.response_code, response.answers.len()),
                (ResponseCode::NoError, 0)
            );
        }
        let response = answered(ask(
            &query("1.0.0.10.in-addr.arpa.", RecordType::PTR),
            true,
            true,
        ));
        assert_eq!(
            response.answers[0].data,
            RData::PTR(PTR(Name::from_ascii("c1.net.").unwrap()))
        );
    }

    #[test]
    fn unknown_names_go_on_or_fail() {
        assert!(matches!(
            ask(&query("example.com.", RecordType::A), true, true),
            Outcome::Forward(_)
        ));
        let response = answered(ask(&query("example.com.", RecordType::A), false, true));
        assert_eq!(response.metadata.response_code, ResponseCode::ServFail);
        let mut kept = scope(true);
        kept.keep_single_labels = true;
        let single = query("printer.", RecordType::A).to_vec().unwrap();
        let response = answered(answer(&directory(1), &kept, &single, true));
        assert_eq!(
            (response.metadata.response_code, response.answers.len()),
            (ResponseCode::NoError, 0)
        );
    }

    #[test]
    fn big_answers_are_cut_for_udp_only() {
        let mut message = query("all.", RecordType::A);
        let response = answered(ask(&message, true, true));
        assert!(response.metadata.truncation && response.answers.is_empty());
        assert_eq!(answered(ask(&message, true, false)).answers.len(), 100);
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        message.set_edns(edns);
        assert_eq!(answered(ask(&message, true, true)).answers.len(), 100);
    }

    #[test]
    fn only_the_right_response_is_passed_on() {
        let Outcome::Forward(forward) = ask(&query("example.com.", RecordType::A), true, true)
        else {
            panic!()
        };
        let mut response = query("example.com.", RecordType::A);
        response.metadata.message_type = MessageType::Response;
        response.metadata.id = 9;
        let bytes = response.to_vec().unwrap();
        assert_eq!(
            &forward.response(&bytes, 9, true).unwrap()[..2],
            &77_u16.to_be_bytes()
        );
        assert!(forward.response(&bytes, 10, true).is_none());
        let mut other = query("example.org.", RecordType::A);
        other.metadata.message_type = MessageType::Response;
        other.metadata.id = 9;
        assert!(
            forward
                .response(&other.to_vec().unwrap(), 9, true)
                .is_none()
        );
    }

    #[test]
    fn responses_are_not_answered() {
        let mut response = query("c1.", RecordType::A);
        response.metadata.message_type = MessageType::Response;
        assert!(matches!(ask(&response, true, true), Outcome::Ignore));
    }

    proptest! {
        #[test]
        fn any_packet_has_an_outcome(bytes: Vec<u8>) {
            if let Outcome::Answer(answer) = answer(&directory(1), &scope(false), &bytes, true) {
                prop_assert!(answer.len() <= 4096);
                prop_assert!(Message::from_vec(&answer).is_ok());
            }
        }
    }
}
