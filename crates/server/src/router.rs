//! The table of routes: method and path pattern to handler.
//!
//! A pattern is made of words, `{name}` for one segment and `{name*}` for one or more segments
//! (image names contain slashes). The first pattern that matches wins.

use std::future::Future;
use std::pin::Pin;

use hyper::Method;

use crate::reply::Reply;
use crate::request::Request;

/// A route's work on one request.
pub(crate) type Work = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// What happens to a request's work when the client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnClientGone {
    /// It goes on: half of a change would be worse than all of it.
    Finish,
    /// It is dropped: nobody is there to read the answer.
    Cancel,
}

/// An entry of the table.
pub(crate) struct Route {
    method: Method,
    segments: Vec<Segment>,
    handler: Box<dyn Fn(Request) -> Work + Send + Sync>,
    /// What happens when the client leaves. By default reads are cancelled, changes finished.
    pub(crate) on_client_gone: OnClientGone,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Word(&'static str),
    One(&'static str),
    Many(&'static str),
}

/// The route for `method` and `pattern`.
pub(crate) fn route<H, F>(method: Method, pattern: &'static str, handler: H) -> Route
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let segments = pattern.split('/').skip(1).map(Segment::parse).collect();
    let read_only = matches!(method, Method::GET | Method::HEAD);
    Route {
        method,
        segments,
        handler: Box::new(move |request| Box::pin(handler(request))),
        on_client_gone: if read_only {
            OnClientGone::Cancel
        } else {
            OnClientGone::Finish
        },
    }
}

impl Route {
    /// Work that only waits: dropped when the client leaves.
    #[must_use]
    pub(crate) fn cancelled_with_client(mut self) -> Self {
        self.on_client_gone = OnClientGone::Cancel;
        self
    }

    /// Work that outlives its HTTP connection, as everything that hijacks does.
    #[must_use]
    pub(crate) fn finished_without_client(mut self) -> Self {
        self.on_client_gone = OnClientGone::Finish;
        self
    }

    /// Begins the route's work.
    pub(crate) fn run(&self, request: Request) -> Work {
        (self.handler)(request)
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.method, self.segments)
    }
}

impl Segment {
    fn parse(text: &'static str) -> Self {
        match text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
        {
            Some(name) => name.strip_suffix('*').map_or(Self::One(name), Self::Many),
            None => Self::Word(text),
        }
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Router {
    routes: Vec<Route>,
}

/// Path parameters by name.
pub(crate) type Params = Vec<(&'static str, String)>;

impl Router {
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        Self { routes }
    }

    /// The route of a decoded path without version prefix.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<(&Route, Params)> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        self.routes
            .iter()
            .filter(|route| route.method == *method)
            .find_map(|route| Some((route, matches(&route.segments, &segments)?)))
    }
}

fn matches(pattern: &[Segment], path: &[&str]) -> Option<Params> {
    let mut params = Params::new();
    let mut rest = path;
    for (index, segment) in pattern.iter().enumerate() {
        let after = pattern.len() - index - 1;
        match segment {
            Segment::Word(word) => {
                let (first, others) = rest.split_first()?;
                if first != word {
                    return None;
                }
                rest = others;
            }
            Segment::One(name) => {
                let (first, others) = rest.split_first()?;
                if first.is_empty() {
                    return None;
                }
                params.push((*name, (*first).to_owned()));
                rest = others;
            }
            // What follows it in the pattern has one segment each.
            Segment::Many(name) => {
                let taken = rest.len().checked_sub(after).filter(|taken| *taken > 0)?;
                let (value, others) = rest.split_at(taken);
                let value = value.join("/");
                if value.is_empty() {
                    return None;
                }
                params.push((*name, value));
                rest = others;
            }
        }
    }
    rest.is_empty().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_match(pattern: &'static str, path: &str) -> Option<Params> {
        let pattern: Vec<Segment> = pattern.split('/').skip(1).map(Segment::parse).collect();
        let path: Vec<&str> = path.split('/').skip(1).collect();
        matches(&pattern, &path)
    }

    #[test]
    fn patterns_match_whole_paths() {
        assert_eq!(try_match("/info", "/info"), Some(vec![]));
        assert_eq!(try_match("/info", "/info/x"), None);
        assert_eq!(try_match("/info", "/info/"), None);
        assert_eq!(
            try_match("/containers/{id}/json", "/containers/web/json"),
            Some(vec![("id", "web".to_owned())])
        );
        assert_eq!(
            try_match("/containers/{id}/json", "/containers//json"),
            None
        );
        assert_eq!(
            try_match("/images/{name*}/json", "/images/localhost:5000/a/b:1/json"),
            Some(vec![("name", "localhost:5000/a/b:1".to_owned())])
        );
        assert_eq!(try_match("/images/{name*}/json", "/images/json"), None);
        assert_eq!(try_match("/images/{name*}", "/images/"), None);
    }
}
