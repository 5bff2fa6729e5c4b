//! An endpoint that answers as AWS KMS does on its bad days: with errors, late, in part, or not at all.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What happens to a request.
pub enum Reply {
    /// An answer with this status and body.
    Json(u16, String),
    /// No answer, and the connection stays open.
    Hang,
    /// The connection is reset before an answer.
    Reset,
    /// The connection ends within the answer.
    Cut,
}

/// An endpoint on a port of its own, until it is dropped.
pub struct Endpoint {
    pub url: String,
    requests: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Endpoint {
    /// `reply` is asked with the operation's name and how many requests came before.
    pub async fn start(reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (reply, requests) = (Arc::new(reply), Arc::new(AtomicUsize::new(0)));
        let count = requests.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, count) = (reply.clone(), count.clone());
                // A client that gives up is no failure here.
                tokio::spawn(async move { serve(stream, &*reply, &count).await.ok() });
            }
        });
        Self {
            url,
            requests,
            serving,
        }
    }

    /// Requests that came.
    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    reply: &(impl Fn(&str, usize) -> Reply + Send + Sync),
    count: &AtomicUsize,
) -> io::Result<()> {
    loop {
        let operation = read_request(&mut stream).await?;
        match reply(&operation, count.fetch_add(1, SeqCst)) {
            Reply::Json(status, body) => stream.write_all(&answer(status, &body)).await?,
            Reply::Hang => std::future::pending().await,
            Reply::Reset => return stream.set_zero_linger(),
            Reply::Cut => {
                let whole = answer(200, &format!("{{{}}}", " ".repeat(500)));
                return stream.write_all(&whole[..whole.len() - 400]).await;
            }
        }
    }
}

/// Reads a request to its end, and tells the operation that it names.
async fn read_request(stream: &mut TcpStream) -> io::Result<String> {
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
    let length = header("content-length").unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).await?;
    let target = header("x-amz-target").unwrap();
    Ok(target.rsplit('.').next().unwrap().to_owned())
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    let kind = "application/x-amz-json-1.1";
    format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}
