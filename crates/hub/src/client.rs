//! The three requests to a hub: the list of files, the digest and size of a file, and its bytes.
//!
//! ```text
//! GET  ENDPOINT/api/models/ORG/NAME/revision/REVISION
//! HEAD ENDPOINT/ORG/NAME/resolve/COMMIT/FILE
//! GET  ENDPOINT/ORG/NAME/resolve/COMMIT/FILE             with Range where a download continues
//! ```
//!
//! Plain HTTP rather than the crate `hf-hub`. Measured on two cores, in CPU time of a release build
//! of all dependencies: hf-hub 1.0.0 12 min (it brings Xet, reqwest and tokio), hf-hub 0.5.0 2.1
//! min, this crate 1.9 min. Version 0.5 uses an `ETag` or commit as a file name unchecked, compares
//! no digest, and has no timeout.
//!
//! Certificates are checked against the system's store (`SSL_CERT_FILE` included). `HTTPS_PROXY`
//! and `NO_PROXY` are obeyed, except for a hub on this machine, which is asked directly.

use std::io::Read;
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, Proxy, RequestBuilder};

use crate::{Error, ModelId, Settings};
use crate::{listing::Listing, names::is_plain};

/// Limit to name resolution, and to connecting.
const CONNECT: Duration = Duration::from_secs(10);
/// Limit to waiting for an answer, and for each read of a body. There is none to a whole download,
/// which may take hours.
const SILENCE: Duration = Duration::from_secs(30);
/// Limit to the size of a listing in bytes, so that a wrong endpoint cannot fill the memory.
const LONGEST_LISTING: u64 = 64 << 20;
/// Limit to redirects within the hub (a renamed model gives one).
const MOST_REDIRECTS: usize = 5;

/// A client for one model on one hub.
pub struct Client<'a> {
    agent: Agent,
    id: &'a ModelId,
    settings: &'a Settings,
}

/// Digest and size of a file on the hub.
pub struct Remote {
    /// The `ETag`: for large files the SHA-256 of the content, in hexadecimal.
    pub etag: String,
    /// The size in bytes.
    pub size: u64,
}

/// The body of a file, from the requested offset if `resumed`, else from its start.
pub struct Bytes {
    /// The body, not read yet.
    pub reader: Box<dyn Read>,
    /// Whether the server has honoured the range.
    pub resumed: bool,
}

impl<'a> Client<'a> {
    /// Sets the client up without connecting.
    pub fn new(id: &'a ModelId, settings: &'a Settings) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let proxy = if is_local(&settings.endpoint) {
            None
        } else {
            Proxy::try_from_env()
        };
        // Statuses are judged by `check`. The token goes to the host of the endpoint only, not to
        // the store that it redirects to.
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(proxy)
            .user_agent(concat!("compress/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        Self {
            agent: config.build().new_agent(),
            id,
            settings,
        }
    }

    /// The commit of the revision, and the files of the model. Fails where the hub cannot be
    /// reached or refuses, and where the answer has names that would leave the cache folder.
    pub fn listing(&self) -> Result<Listing, Error> {
        let (model, revision) = (self.id.repository(), encode(self.id.revision(), false));
        let url = format!(
            "{}/api/models/{model}/revision/{revision}",
            self.settings.endpoint
        );
        let answer = self
            .authorize(self.agent.get(&url))
            .call()
            .map_err(|e| self.unreachable(&e))?;
        let mut body = self.check(answer, &url)?.into_body();
        let json = body
            .with_config()
            .limit(LONGEST_LISTING)
            .read_to_vec()
            .map_err(|e| self.unreachable(&e))?;
        Listing::parse(&json, &url, self.id)
    }

    /// Digest and size of a file. Redirects within the hub are followed; the one to the store of
    /// large files is not, since the headers of the hub's own answer have the digest.
    pub fn describe(&self, commit: &str, name: &str) -> Result<Remote, Error> {
        let mut url = self.url(commit, name);
        for _ in 0..MOST_REDIRECTS {
            let request = self
                .authorize(self.agent.head(&url))
                .config()
                .max_redirects(0)
                .max_redirects_will_error(false);
            let answer = request.build().call().map_err(|e| self.unreachable(&e))?;
            let answer = self.check(answer, &url)?;
            let header = |name: &str| answer.headers().get(name)?.to_str().ok();
            match header("location").and_then(|location| self.own(location)) {
                Some(next) if answer.status().is_redirection() => url = next,
                _ => {
                    return described(&header).map_err(|problem| Error::BadAnswer { url, problem });
                }
            }
        }
        Err(Error::BadAnswer {
            url,
            problem: "it redirects in a circle".to_owned(),
        })
    }

    /// Starts the download of a file at offset `from`. A server without ranges sends all of it, as
    /// `resumed` says. A connection that fails is [`Error::Interrupted`], which may be retried.
    pub fn open(&self, commit: &str, name: &str, from: u64) -> Result<Bytes, Error> {
        let url = self.url(commit, name);
        let mut request = self.authorize(self.agent.get(&url));
        // Without the header a server answers 200 and the whole file.
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let broken = |e: ureq::Error| Error::Interrupted {
            file: name.to_owned(),
            reason: e.to_string(),
        };
        let answer = self.check(request.call().map_err(broken)?, &url)?;
        let range = answer
            .headers()
            .get("content-range")
            .and_then(|range| range.to_str().ok());
        let resumed = answer.status() == 206;
        // Appending another range than requested would give a file that is wrong in its middle.
        if resumed && !range.is_some_and(|range| range.starts_with(&format!("bytes {from}-"))) {
            return Err(Error::BadAnswer {
                url,
                problem: format!("it sends another range than from {from}"),
            });
        }
        Ok(Bytes {
            reader: Box::new(answer.into_body().into_reader()),
            resumed,
        })
    }

    /// The address of a file of a commit.
    fn url(&self, commit: &str, name: &str) -> String {
        format!(
            "{}/{}/resolve/{commit}/{}",
            self.settings.endpoint,
            self.id.repository(),
            encode(name, true)
        )
    }

    /// The target of a redirect, if it lies on the hub itself.
    fn own(&self, location: &str) -> Option<String> {
        let endpoint = &self.settings.endpoint;
        if location.starts_with('/') && !location.starts_with("//") {
            // A target without a host is relative to the endpoint's host, not to its path.
            let host_end = endpoint.find("://").map_or(0, |at| at + 3);
            let host_end = endpoint[host_end..]
                .find('/')
                .map_or(endpoint.len(), |at| host_end + at);
            return Some(format!("{}{location}", &endpoint[..host_end]));
        }
        location
            .starts_with(&format!("{endpoint}/"))
            .then(|| location.to_owned())
    }

    /// Adds the token, if there is one, and refuses compression: sizes and ranges are those of the
    /// stored file.
    fn authorize(&self, request: RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody> {
        let request = request.header("accept-encoding", "identity");
        match &self.settings.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Turns status codes of failure into errors. The hub answers 401 for models that do not exist
    /// as well, if there is no token.
    fn check(&self, answer: Response<Body>, url: &str) -> Result<Response<Body>, Error> {
        let status = answer.status().as_u16();
        let (id, endpoint) = (self.id.to_string(), self.settings.endpoint.clone());
        match status {
            200..=399 => Ok(answer),
            401 | 403 => Err(Error::Refused {
                id,
                endpoint,
                status,
                token_sent: self.settings.token.is_some(),
            }),
            404 => Err(Error::NotFound { id, endpoint }),
            _ => Err(Error::Failed {
                url: url.to_owned(),
                status,
            }),
        }
    }

    /// The error of a request that got no answer.
    fn unreachable(&self, error: &ureq::Error) -> Error {
        Error::Unreachable {
            id: self.id.to_string(),
            endpoint: self.settings.endpoint.clone(),
            cache: self.settings.cache.clone(),
            reason: error.to_string(),
        }
    }
}

/// Digest and size from the headers. Large files have theirs in `x-linked-*`; the plain ones
/// describe the redirect.
fn described<'h>(header: &impl Fn(&str) -> Option<&'h str>) -> Result<Remote, String> {
    let etag = header("x-linked-etag")
        .or_else(|| header("etag"))
        .ok_or("it gives no ETag")?;
    // A weak `ETag` has the prefix `W/`.
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    let size = header("x-linked-size")
        .or_else(|| header("content-length"))
        .and_then(|size| size.parse().ok());
    // The `ETag` becomes a file name in the cache.
    if !is_plain(etag) {
        return Err(format!("`{etag}` is not an ETag"));
    }
    Ok(Remote {
        etag: etag.to_owned(),
        size: size.ok_or("it gives no size")?,
    })
}

/// Whether an endpoint is on this machine, where no proxy is wanted.
fn is_local(endpoint: &str) -> bool {
    let host = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, host)| host);
    ["127.", "localhost", "[::1]"]
        .iter()
        .any(|local| host.starts_with(local))
}

/// Percent-encodes a text; a revision's `/` too, as it is one segment of the address.
fn encode(text: &str, keep_slash: bool) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep_slash && byte == b'/'
    };
    let one = |byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}
