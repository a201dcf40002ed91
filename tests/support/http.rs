use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Request};

use super::wait::BOUND;

/// A client of one server's HTTP.
#[derive(Clone)]
pub(crate) struct Http {
    agent: ureq::Agent,
    base: String,
    /// Sent with each request.
    headers: Vec<(String, String)>,
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Http {
    /// Of the server at `base`, such as `http://127.0.0.1:8080/`.
    pub(crate) fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(BOUND))
            // Each request shows that the server takes connections; none is kept that a stop would have to wait for.
            .max_idle_connections(0)
            .build();
        Self { agent: config.new_agent(), base: base.trim_end_matches('/').to_owned(), headers: Vec::new() }
    }

    /// From now on with this header on each request.
    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where the server is, without a slash at the end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Asks, and panics if there is no answer at all.
    pub(crate) fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.try_call(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Asks.
    pub(crate) fn try_call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Reply, ureq::Error> {
        let mut response = self.run(method, path, headers, body, BOUND)?;
        let body = response.body_mut().read_to_string()?;
        Ok(Reply { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    /// Asks for something that goes on for as long as `bound`.
    pub(crate) fn stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        bound: Duration,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        self.run("GET", path, headers, "", bound)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "")
    }

    fn run(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
        bound: Duration,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in self.headers.iter().map(|(name, value)| (&**name, &**value)).chain(headers.iter().copied())
        {
            request = request.header(name, value);
        }
        // A request without a body must not have one of length 0 either.
        if body.is_empty() && !matches!(method, "POST" | "PATCH" | "PUT") {
            self.run_one(request.body(()), bound)
        } else {
            self.run_one(request.body(body.to_owned()), bound)
        }
    }

    fn run_one<B: ureq::AsSendBody>(
        &self,
        request: ureq::http::Result<Request<B>>,
        bound: Duration,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let request = request.expect("the test asks for something that can be asked for");
        self.agent.run(self.agent.configure_request(request).timeout_global(Some(bound)).build())
    }
}

impl Reply {
    /// The value of a header that is there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().expect("headers are ASCII"));
        assert!(values.next().is_none(), "{name} is there more than once: {:?}", self.headers);
        value
    }

    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().expect("headers are ASCII")).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// The detail of a problem body (RFC 9457), after a look at the rest of it.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        problem["detail"].as_str().expect("a problem has a detail").to_owned()
    }
}
