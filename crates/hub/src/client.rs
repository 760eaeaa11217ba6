//! The three questions that are asked of a hub: which files, which content, and the bytes.
//!
//! By plain HTTP and not through the crate `hf-hub`. Measured on two cores, in CPU time of a release build of all
//! dependencies: hf-hub 1.0.0 12 min (it brings Xet, reqwest and tokio), hf-hub 0.5.0 2.1 min, this crate 1.9 min.
//! Version 0.5 uses an `ETag` or commit as a file name unchecked, compares no digest, and has no timeout.
//!
//! The hosts that this machine trusts are trusted (`SSL_CERT_FILE` included), and `HTTPS_PROXY` and `NO_PROXY` are
//! obeyed, but a hub on this machine is asked directly.

use std::io::Read;
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, Proxy, RequestBuilder};

use crate::{Error, ModelId, Settings};
use crate::{listing::Listing, names::is_plain};

const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);
const LONGEST_LISTING: u64 = 64 << 20;
const MOST_REDIRECTS: usize = 5;

/// Asks one hub about one model.
pub struct Client<'a> {
    agent: Agent,
    id: &'a ModelId,
    settings: &'a Settings,
}

/// A file on the hub.
pub struct Remote {
    /// The hub's `ETag` of the content; a SHA-256 for large files.
    pub etag: String,
    /// In bytes.
    pub size: u64,
}

/// The bytes of a file, from the asked-for place if `resumed`, or else from the start.
pub struct Bytes {
    /// The bytes that remain to be read.
    pub reader: Box<dyn Read>,
    /// Whether the beginning was left out.
    pub resumed: bool,
}

impl<'a> Client<'a> {
    /// Connects to nothing yet.
    pub fn new(id: &'a ModelId, settings: &'a Settings) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let proxy = if is_local(&settings.endpoint) {
            None
        } else {
            Proxy::try_from_env()
        };
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

    /// The commit and the files of the model.
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

    /// The hub's `ETag` for the content of a file. Its own redirects are followed; the one to a large file's store is
    /// not, as only the hub's answer has the digest.
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

    /// The bytes of a file, without the first `from` if the hub can leave them out.
    pub fn open(&self, commit: &str, name: &str, from: u64) -> Result<Bytes, Error> {
        let url = self.url(commit, name);
        let mut request = self.authorize(self.agent.get(&url));
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

    fn url(&self, commit: &str, name: &str) -> String {
        format!(
            "{}/{}/resolve/{commit}/{}",
            self.settings.endpoint,
            self.id.repository(),
            encode(name, true)
        )
    }

    /// A redirect's target, if it is on the hub itself.
    fn own(&self, location: &str) -> Option<String> {
        let endpoint = &self.settings.endpoint;
        if location.starts_with('/') && !location.starts_with("//") {
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

    fn authorize(&self, request: RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody> {
        let request = request.header("accept-encoding", "identity");
        match &self.settings.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

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

    fn unreachable(&self, error: &ureq::Error) -> Error {
        Error::Unreachable {
            id: self.id.to_string(),
            endpoint: self.settings.endpoint.clone(),
            cache: self.settings.cache.clone(),
            reason: error.to_string(),
        }
    }
}

/// Large files have their digest and size in headers of their own, as the store's would be those of its own copy.
fn described<'h>(header: &impl Fn(&str) -> Option<&'h str>) -> Result<Remote, String> {
    let etag = header("x-linked-etag")
        .or_else(|| header("etag"))
        .ok_or("it gives no ETag")?;
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    let size = header("x-linked-size")
        .or_else(|| header("content-length"))
        .and_then(|size| size.parse().ok());
    if !is_plain(etag) {
        return Err(format!("`{etag}` is not an ETag"));
    }
    Ok(Remote {
        etag: etag.to_owned(),
        size: size.ok_or("it gives no size")?,
    })
}

fn is_local(endpoint: &str) -> bool {
    let host = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, host)| host);
    ["127.", "localhost", "[::1]"]
        .iter()
        .any(|local| host.starts_with(local))
}

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
