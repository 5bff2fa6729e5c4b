//! What stands between an application and a service, and cuts it off for good.

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Lets everything through until it is cut.
pub struct Proxy {
    cut: CancellationToken,
}

impl Proxy {
    /// A proxy to the service of a URL, and the URL that leads through it.
    pub async fn before(url: &str) -> anyhow::Result<(Self, String)> {
        let (start, path) = url.rsplit_once('/').context("a URL has a path")?;
        let at = start.rfind(['@', '/']).context("a URL names a place")? + 1;
        let (start, target) = start.split_at(at);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let through = format!("{start}{}/{path}", listener.local_addr()?);
        let cut = CancellationToken::new();
        tokio::spawn(accept(listener, target.to_owned(), cut.clone()));
        Ok((Self { cut }, through))
    }

    /// Cuts every connection, and lets none through any more.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

/// What comes after the cut is taken and dropped, as by a service that is there and does not answer.
async fn accept(listener: TcpListener, target: String, cut: CancellationToken) {
    while let Ok((client, _)) = listener.accept().await {
        if !cut.is_cancelled() {
            tokio::spawn(forward(client, target.clone(), cut.clone()));
        }
    }
}

async fn forward(mut client: TcpStream, target: String, cut: CancellationToken) {
    let Ok(mut service) = TcpStream::connect(target).await else {
        return;
    };
    let copied = tokio::io::copy_bidirectional(&mut client, &mut service);
    let _ = cut.run_until_cancelled(copied).await;
}
