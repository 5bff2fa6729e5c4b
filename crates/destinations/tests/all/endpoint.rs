//! A service that keeps objects in memory as S3 and Azure do, and has bad days: errors, late, in part, or not at all.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use rekey_destinations::{Destination, Environment, open_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Stands in what the service says and in credentials; must not stand in any error.
pub const CANARY: &str = "canary7f3a";

/// What is asked for.
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Whether what stands there may stay.
    pub create_only: bool,
    body: Vec<u8>,
}

impl Request {
    pub fn is(&self, method: &str) -> bool {
        self.method == method
    }

    /// Whether names are asked for, and not an object.
    pub fn lists(&self) -> bool {
        self.is("GET") && self.path.contains('?')
    }
}

/// What happens to a request.
pub enum Reply {
    /// What S3 and Azure do.
    Done,
    /// The same, and the object then has a version.
    DoneAsVersion,
    /// The same, and the connection is reset before an answer.
    DoneAndLost,
    /// The same, and no answer ever.
    DoneAndHanging,
    /// Not done, with this status and code.
    Refused(u16, &'static str),
    /// An answer with this body.
    Body(String),
    /// An answer that says it has so many bytes, and sends them as long as they are read.
    Long(u64),
    /// The same, and does not say how many.
    Endless,
    /// A success without an effect.
    Pretended,
    /// No answer, and the connection stays open.
    Hang,
    /// The connection is reset before an answer.
    Reset,
    /// The connection ends within the answer.
    Cut,
    /// What is no HTTP.
    Noise,
    /// Elsewhere.
    Elsewhere(String),
}

/// Who is spoken like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    S3,
    Azure,
}

impl Dialect {
    pub const BOTH: [Self; 2] = [Self::S3, Self::Azure];
}

/// A service on a port of its own, until it is dropped.
pub struct Endpoint {
    pub url: String,
    requests: Arc<AtomicUsize>,
    objects: Objects,
    serving: tokio::task::JoinHandle<()>,
}

/// By the end of their paths.
#[derive(Clone, Default)]
struct Objects(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Endpoint {
    /// `reply` is asked with the request and how many came before.
    pub async fn start(reply: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, objects) = (Arc::new(AtomicUsize::new(0)), Objects::default());
        let (reply, count, kept) = (Arc::new(reply), requests.clone(), objects.clone());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, count, kept) = (reply.clone(), count.clone(), kept.clone());
                // A client that gives up is no failure here.
                tokio::spawn(async move { serve(stream, &*reply, &count, &kept).await.ok() });
            }
        });
        Self {
            url,
            requests,
            objects,
            serving,
        }
    }

    /// Requests that came.
    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    /// Puts an object there, under a name.
    pub fn keep(&self, name: &str, bytes: &[u8]) {
        let mut objects = self.objects.0.lock().unwrap();
        for place in ["bucket/p", "account/container/p"] {
            objects.insert(format!("/{place}/{name}"), bytes.to_vec());
        }
    }

    /// The service as a destination.
    pub fn destination(&self, dialect: Dialect) -> Arc<dyn Destination> {
        destination(&self.url, dialect)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A destination at this endpoint.
pub fn destination(endpoint: &str, dialect: Dialect) -> Arc<dyn Destination> {
    let url = match dialect {
        Dialect::S3 => format!("s3://bucket/p?region=r&endpoint={endpoint}&allow-http=true"),
        Dialect::Azure => {
            format!("az://container/p?account=account&endpoint={endpoint}/account&allow-http=true")
        }
    };
    let environment = |variable: &str| match variable {
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some(CANARY.to_owned()),
        "AZURE_STORAGE_SAS_TOKEN" => Some(format!("sv=1&sig={CANARY}")),
        _ => None,
    };
    open_with(&url.parse().unwrap(), Environment::new(&environment))
        .unwrap()
        .into()
}

async fn serve(
    mut stream: TcpStream,
    reply: &(impl Fn(&Request, usize) -> Reply + Send + Sync),
    count: &AtomicUsize,
    objects: &Objects,
) -> io::Result<()> {
    loop {
        let request = read_request(&mut stream).await?;
        match reply(&request, count.fetch_add(1, SeqCst)) {
            Reply::Done => stream.write_all(&objects.take(request, "")).await?,
            Reply::DoneAsVersion => {
                let version = "x-amz-version-id: v1\r\nx-ms-version-id: v1\r\n";
                stream.write_all(&objects.take(request, version)).await?;
            }
            Reply::DoneAndLost => {
                objects.take(request, "");
                return stream.set_zero_linger();
            }
            Reply::DoneAndHanging => {
                objects.take(request, "");
                std::future::pending().await
            }
            Reply::Refused(status, code) => stream.write_all(&refused(status, code)).await?,
            Reply::Body(body) => stream.write_all(&answer(200, "", body.as_bytes())).await?,
            Reply::Long(len) => return long(stream, &format!("Content-Length: {len}"), b"").await,
            Reply::Endless => {
                return long(stream, "Transfer-Encoding: chunked", b"10000\r\n").await;
            }
            Reply::Pretended => stream.write_all(&answer(201, "", b"")).await?,
            Reply::Hang => std::future::pending().await,
            Reply::Reset => return stream.set_zero_linger(),
            Reply::Cut => {
                let whole = answer(200, "", &[b' '; 500]);
                return stream.write_all(&whole[..whole.len() - 400]).await;
            }
            Reply::Noise => return stream.write_all(CANARY.repeat(100).as_bytes()).await,
            Reply::Elsewhere(url) => {
                let to = format!("Location: {url}\r\n");
                stream.write_all(&answer(307, &to, b"")).await?;
            }
        }
    }
}

impl Objects {
    /// Does what is asked for, and answers.
    fn take(&self, request: Request, headers: &str) -> Vec<u8> {
        let mut objects = self.0.lock().unwrap();
        let path = request.path.split('?').next().unwrap().to_owned();
        match (&*request.method, objects.get(&path)) {
            ("PUT", Some(_)) if request.create_only => refused(412, "PreconditionFailed"),
            ("PUT", _) => {
                objects.insert(path, request.body);
                answer(201, headers, b"")
            }
            ("GET", Some(bytes)) => answer(200, headers, bytes),
            ("GET", None) => refused(404, "NoSuchKey"),
            ("DELETE", _) => {
                objects.remove(&path);
                answer(204, headers, b"")
            }
            _ => refused(400, "Unknown"),
        }
    }
}

/// Sends as long as anybody reads, in chunks of 64 KiB.
async fn long(mut stream: TcpStream, length: &str, before: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 X\r\n{ABOUT}{length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut chunk = before.to_vec();
    chunk.extend([7; 0x1_0000]);
    chunk.extend(if before.is_empty() { &b""[..] } else { b"\r\n" });
    loop {
        stream.write_all(&chunk).await?;
    }
}

async fn read_request(stream: &mut TcpStream) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let mut words = head.split(' ').map(str::to_owned);
    Ok(Request {
        method: words.next().unwrap(),
        path: words.next().unwrap(),
        create_only: header("if-none-match").as_deref() == Some("*"),
        body,
    })
}

/// What the library wants to know of every object.
const ABOUT: &str = "ETag: \"1\"\r\nLast-Modified: Sun, 01 Nov 2026 00:00:00 GMT\r\nContent-Type: application/xml\r\n";

fn refused(status: u16, code: &str) -> Vec<u8> {
    let body = format!("<Error><Code>{code}</Code><Message>{CANARY}</Message></Error>");
    answer(
        status,
        &format!("x-ms-error-code: {code}\r\n"),
        body.as_bytes(),
    )
}

fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} {CANARY}\r\n{ABOUT}{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
