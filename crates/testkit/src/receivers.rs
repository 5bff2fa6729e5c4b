//! Receivers of notifications: an HTTP server and mail servers in Python, with libraries that are not ours, and a check
//! of signatures in JavaScript.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{node, process::Service, python, tls::Identity};

/// Pinned, so that a failure is ours and not a new release's.
const REQUIREMENTS: &str = "standardwebhooks==1.0.1 aiosmtpd==1.4.6";
const NPM: &str = "standardwebhooks@1.0.0";
const PROGRAM: &str = include_str!("receivers.py");

/// What a webhook is signed with in tests.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Running receivers. Dropped, they end.
#[derive(Debug)]
pub struct Receivers {
    folder: TempDir,
    ports: Value,
    _service: Service,
}

impl Receivers {
    /// Starts them; the mail server with STARTTLS says that it is `identity`.
    ///
    /// # Panics
    /// When they cannot be installed or started; the message says what to do.
    pub fn start(identity: Option<&Identity>) -> Self {
        let python = python::environment("receivers-venv", REQUIREMENTS).unwrap_or_else(|error| {
            panic!(
                "the tests of notifications need Python with {REQUIREMENTS}: install python3 and python3-venv and \
                 allow pip its package index. What failed: {error}"
            )
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = folder.path().join("receivers.py");
        fs::write(&program, PROGRAM).expect("the folder was just made");
        let mut command = Command::new(python);
        command
            .arg("-I")
            .arg(&program)
            .arg(folder.path())
            .arg(SECRET);
        if let Some(identity) = identity {
            for (name, text) in identity.files() {
                let file = folder.path().join(name);
                fs::write(&file, text).expect("the folder was just made");
                command.arg(file);
            }
        }
        let service = Service::start(command, &folder.path().join("log"));
        let mut service = service.expect("Python starts");
        let ports = folder.path().join("ports");
        let ready = service.wait_until(|| ports.exists());
        ready.expect("the receivers listen");
        let ports = fs::read(&ports).expect("it is there");
        Self {
            ports: serde_json::from_slice(&ports).expect("it is JSON"),
            folder,
            _service: service,
        }
    }

    /// A port: `http`, `smtp` (with STARTTLS, if there is an identity), `plain`.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn port(&self, name: &str) -> u16 {
        let port = self.ports[name].as_u64().expect("a port of this name");
        u16::try_from(port).expect("a port")
    }

    /// A URL whose path says what is answered: `ok`, `once`, `denied`, `noends` (PagerDuty's resolve fails), `slow`, `later`, `hang`,
    /// `redirect`, `large`, `drip`, or a status.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port("http"))
    }

    /// What came so far, in order: `path`, `body`, and of HTTP `headers` and whether the signature is `verified`.
    pub fn received(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("received")).unwrap_or_default();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap_or_default()
    }

    /// What came at a path.
    pub fn at(&self, path: &str) -> Vec<Value> {
        let path = if path == "mail" {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        let mut received = self.received();
        received.retain(|one| one["path"] == path);
        received
    }
}

/// Whether the JavaScript library of Standard Webhooks takes a message as `received` has it.
///
/// # Panics
/// When Node.js or the library cannot be installed.
pub fn verified_in_javascript(received: &Value) -> bool {
    let folder = node_library();
    let check = "const { Webhook } = require('standardwebhooks'); \
        const got = JSON.parse(require('fs').readFileSync(0, 'utf8')); \
        new Webhook(process.argv[1]).verify(got.body, got.headers);";
    let mut node = Command::new("node");
    node.args(["-e", check, SECRET]).current_dir(folder);
    let given = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(given.path(), received.to_string()).expect("the file was just made");
    let given = fs::File::open(given.path()).expect("it is there");
    let done = node
        .stdin(given)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

fn node_library() -> PathBuf {
    node::installed("receivers-node", NPM).expect("npm installs standardwebhooks")
}
