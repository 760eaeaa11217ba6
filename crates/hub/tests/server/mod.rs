//! A hub of a few files on 127.0.0.1, which notes what it is asked.

#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    reason = "helpers of tests"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use compress_hub::{ModelId, Settings};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the hub holds and how it misbehaves.
#[derive(Clone, Default)]
pub struct Hub {
    /// Name and content.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names that are in the list only.
    pub listed: Vec<String>,
    /// Answered to every request.
    pub status: Option<u16>,
    /// Sent instead of a file's own `ETag`.
    pub etag: Option<String>,
    /// Sent as the listing's commit.
    pub commit: Option<String>,
    /// The only token that is let in.
    pub token: Option<String>,
    /// The first answers to GET of a file stop after so many bytes.
    pub broken_answers: usize,
    pub bytes_of_a_broken_answer: usize,
    /// So many bytes are sent after a file's own.
    pub surplus: usize,
    /// Whether `Range` is ignored.
    pub no_ranges: bool,
    /// Whether files are redirected to a store under another host's name, which must not see the token.
    pub store: bool,
    /// Whether files are redirected to another path of this hub, as those of a renamed model are.
    pub moved: bool,
}

/// A running hub, and an empty cache for it.
pub struct Running {
    pub settings: Settings,
    pub cache: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
        Self {
            files: files.collect(),
            ..Self::default()
        }
    }

    pub fn run(self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let noted = requests.clone();
        let mut hub = self;
        thread::spawn(move || {
            for stream in listener.incoming() {
                hub.serve(&stream.unwrap(), port, &noted);
            }
        });
        let cache = tempfile::tempdir().unwrap();
        let settings = Settings {
            endpoint: format!("http://127.0.0.1:{port}"),
            cache: cache.path().to_path_buf(),
            token: None,
            token_from: None,
            offline: false,
        };
        Running {
            settings,
            cache,
            requests,
        }
    }

    fn serve(&mut self, stream: &TcpStream, port: u16, noted: &Mutex<Vec<String>>) {
        let lines: Vec<String> = BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        let Some((request, headers)) = lines.split_first() else {
            return;
        };
        let header = |name: &str| {
            let mut pairs = headers.iter().filter_map(|line| line.split_once(": "));
            pairs
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
        };
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let token = header("authorization");
        noted.lock().unwrap().push(format!(
            "{method} {path} {}",
            token.as_deref().unwrap_or("-")
        ));
        let range = header("range").and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        });
        let in_store = path.starts_with("/store/");
        let wanted = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let answer = if let Some(status) = self.status {
            Answer::new(status)
        } else if !in_store && wanted.is_some() && token != wanted {
            Answer::new(401)
        } else if path == "/api/models/org/model/revision/main" {
            self.listing()
        } else if let (true, Some(name)) = (
            self.moved,
            path.strip_prefix(&format!("/org/model/resolve/{COMMIT}/")),
        ) {
            let headers = vec![
                format!("Location: /moved/{name}"),
                "ETag: \"another\"".to_owned(),
            ];
            Answer {
                headers,
                ..Answer::new(307)
            }
        } else if let Some(name) = path.strip_prefix(&format!("/org/model/resolve/{COMMIT}/")) {
            self.file(
                name,
                method,
                range.filter(|_| !self.no_ranges),
                self.store.then_some(port),
            )
        } else if let Some(name) = path.strip_prefix("/moved/") {
            self.file(name, method, range, self.store.then_some(port))
        } else if let Some(name) = path.strip_prefix("/store/") {
            self.file(name, method, range, None)
        } else {
            Answer::new(404)
        };
        answer.send(stream, method == "HEAD");
    }

    fn listing(&self) -> Answer {
        let names: Vec<_> = self
            .files
            .keys()
            .chain(&self.listed)
            .map(|name| format!("{{\"rfilename\":{name:?}}}"))
            .collect();
        let commit = self.commit.as_deref().unwrap_or(COMMIT);
        let json = format!(
            "{{\"sha\":\"{commit}\",\"siblings\":[{}]}}",
            names.join(",")
        );
        Answer {
            body: json.into_bytes(),
            ..Answer::new(200)
        }
    }

    fn file(
        &mut self,
        name: &str,
        method: &str,
        from: Option<usize>,
        store: Option<u16>,
    ) -> Answer {
        let Some(content) = self.files.get(name) else {
            return Answer::new(404);
        };
        let etag = self.etag.clone().unwrap_or_else(|| sha256(content));
        if let Some(port) = store {
            let location = format!("Location: http://localhost:{port}/store/{name}");
            let linked = format!(
                "X-Linked-Size: {}\r\nX-Linked-Etag: \"{etag}\"",
                content.len()
            );
            return Answer {
                headers: vec![location, linked, "ETag: \"other\"".into()],
                ..Answer::new(302)
            };
        }
        let start = from.unwrap_or(0);
        let mut answer = Answer::new(if from.is_some() { 206 } else { 200 });
        answer.headers = vec![
            format!("ETag: \"{etag}\""),
            format!("X-Repo-Commit: {COMMIT}"),
        ];
        if from.is_some() {
            answer.headers.push(format!(
                "Content-Range: bytes {start}-{}/{}",
                content.len() - 1,
                content.len()
            ));
        }
        answer.body = content[start..].to_vec();
        if method == "GET" {
            answer.body.resize(answer.body.len() + self.surplus, 0);
        }
        if method == "GET" && self.broken_answers > 0 {
            self.broken_answers -= 1;
            answer.cut = Some(self.bytes_of_a_broken_answer);
        }
        answer
    }
}

impl Running {
    /// All requests since the last time this was asked, as `METHOD path token`.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    pub fn resolve(&self, id: &str) -> Result<std::path::PathBuf, compress_hub::Error> {
        compress_hub::resolve(&id.parse::<ModelId>()?, &self.settings, &())
    }
}

struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
        }
    }

    fn send(self, mut stream: &TcpStream, head: bool) {
        let headers: String = self
            .headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let length = self.body.len();
        let start = format!(
            "HTTP/1.1 {} -\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n",
            self.status
        );
        stream.write_all(start.as_bytes()).unwrap();
        if !head {
            stream
                .write_all(&self.body[..self.cut.unwrap_or(length).min(length)])
                .unwrap();
        }
    }
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
