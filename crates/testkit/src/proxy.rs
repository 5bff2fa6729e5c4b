//! A TCP proxy between a program and a service, which a test cuts, refuses and restores.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Lets everything through until told otherwise. Dropped, it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    refuses: bool,
    /// Counts the cuts; a connection ends when it changes.
    cuts: u64,
}

impl Proxy {
    /// A proxy to `target`, such as `127.0.0.1:5672`.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state = watch::Sender::new(State::default());
        let accepting = tokio::spawn(accept(listener, target.to_owned(), state.clone()));
        Self {
            address,
            state,
            accepting,
        }
    }

    /// A proxy to the service of a URL, and the URL that leads through it.
    ///
    /// # Panics
    /// When the URL names no host and port.
    pub async fn before(url: &str) -> (Self, String) {
        let (scheme, rest) = url.split_once("://").expect("a URL has a scheme");
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, target) = match place.rsplit_once('@') {
            Some((user, target)) => (format!("{user}@"), target),
            None => (String::new(), place),
        };
        assert!(target.contains(':'), "the URL names no port");
        let proxy = Self::to(target).await;
        let through = format!("{scheme}://{user}{}/{path}", proxy.address);
        (proxy, through)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection; new ones are let through.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Cuts every connection and lets none through until [`Proxy::restore`].
    pub fn refuse(&self) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.refuses = true;
        });
    }

    /// Lets new connections through again.
    pub fn restore(&self) {
        self.state.send_modify(|state| state.refuses = false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: String, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if !state.borrow().refuses {
            tokio::spawn(forward(client, target.clone(), state.subscribe()));
        }
    }
}

async fn forward(mut client: TcpStream, target: String, mut state: watch::Receiver<State>) {
    let cuts = state.borrow().cuts;
    let Ok(mut service) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut service) => {}
        _ = state.wait_for(|state| state.cuts != cuts) => {}
    }
}
